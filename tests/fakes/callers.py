"""One caller of each kind, each with a token of its own, and an authenticator that knows them."""

from __future__ import annotations

from collections.abc import Mapping

from conclave.errors import ConclaveError
from conclave.identity.errors import InvalidToken
from schema.domain.identity import GATEWAY_PRINCIPAL, Principal, PrincipalKind, Role, Scope


def user(user_id: int, role: Role, **more: object) -> Principal:
    fields = {"kind": PrincipalKind.USER, "id": user_id, "user_id": user_id, "role": role}
    return Principal.model_validate(fields | more)


def api_key(owner_id: int, role: Role | None, *scopes: Scope) -> Principal:
    """A key as the authenticator gives it out: `role` is its owner's, cut to its scopes."""
    return Principal(
        kind=PrincipalKind.API_KEY,
        id=1000 + owner_id,
        user_id=owner_id,
        role=role,
        scopes=frozenset(scopes),
    )


CALLERS: Mapping[str, Principal] = {
    "viewer": user(11, Role.VIEWER),
    "operator": user(12, Role.OPERATOR),
    "admin": user(13, Role.ADMIN),
    "other operator": user(14, Role.OPERATOR),
    "limited admin": user(15, Role.ADMIN, limited="password_expired"),
    "gateway": GATEWAY_PRINCIPAL,
    "reading key": api_key(13, Role.VIEWER, Scope.READ),
    "writing key": api_key(13, Role.OPERATOR, Scope.READ, Scope.WRITE),
    "admin key": api_key(13, Role.ADMIN, Scope.ADMIN),
    "workers key": api_key(13, None, Scope.WORKERS),
    "worker node": Principal(kind=PrincipalKind.WORKER_NODE, id=3),
}


def token_of(caller: str) -> str:
    return f"token-of-{caller.replace(' ', '-')}"


def bearer(caller: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token_of(caller)}"}


class FakeAuthenticator:
    """Knows the callers above; `known` may be changed while a test runs."""

    def __init__(self) -> None:
        self.known: dict[str, Principal | ConclaveError] = {}
        self.asked: list[str] = []
        self.reset()

    def reset(self) -> None:
        self.known.clear()
        self.known |= {token_of(name): principal for name, principal in CALLERS.items()}
        self.asked.clear()

    async def authenticate(self, credential: str) -> Principal:
        self.asked.append(credential)
        found = self.known.get(credential)
        if isinstance(found, ConclaveError):
            raise found
        if found is None:
            raise InvalidToken("The credentials do not hold")
        return found

    def recognise(self, credential: str) -> str | None:
        found = self.known.get(credential)
        return found.key if isinstance(found, Principal) else None
