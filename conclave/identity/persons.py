"""Who of the callers is a person with an account."""

from __future__ import annotations

from conclave.identity.errors import NoAccount
from schema.domain.identity import Principal, PrincipalKind

_INSTEAD = {
    PrincipalKind.API_KEY: "An API key cannot do this: sign in as its owner",
    PrincipalKind.LOCAL: "The local caller has no account: sign in as a user",
    PrincipalKind.GATEWAY: "The gateway token has no account: sign in as a user",
}


def person(principal: Principal) -> int:
    """Return the user's id. Raises `NoAccount` for whoever did not sign in."""
    if principal.kind is PrincipalKind.USER and principal.user_id is not None:
        return principal.user_id
    raise NoAccount(_INSTEAD.get(principal.kind, "Only a user can do this"))


def person_or_owner(principal: Principal) -> int:
    """Return the user's id, or the id of an API key's owner. Raises `NoAccount`."""
    if principal.kind is PrincipalKind.API_KEY and principal.user_id is not None:
        return principal.user_id
    return person(principal)
