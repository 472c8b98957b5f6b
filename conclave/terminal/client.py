"""The REST side of a server: chats, profiles, permissions and approvals."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError, field_validator

from conclave.terminal.errors import ServerRefused, ServerUnreachable
from conclave.terminal.server import Server
from conclave.terminal.wire import (
    ActiveProfile,
    ChatInfo,
    ChatList,
    Compacted,
    ContextUse,
    PermissionState,
    Profiles,
    Transcript,
    Turn,
    Waiting,
)

ANSWER_SECONDS = 30.0
COMPACTION_SECONDS = 600.0
"""A compaction is a model call."""
_PAGE = 200
_WAITING = TypeAdapter(list[Waiting])
Answer = TypeVar("Answer", bound=BaseModel)


class Client:
    """Calls as the token's owner. All raise `ServerRefused` and `ServerUnreachable`."""

    def __init__(self, server: Server) -> None:
        self._http = httpx.AsyncClient(
            base_url=server.url.rstrip("/"),
            headers={"Authorization": f"Bearer {server.token}"},
            timeout=ANSWER_SECONDS,
            trust_env=not server.is_loopback,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def create_chat(
        self, *, agent_id: int | None, profile: str | None, project_id: int | None
    ) -> ChatInfo:
        """Make a chat; what is None is left to the server."""
        wanted: dict[str, JsonValue] = {
            "agent_id": agent_id,
            "profile": profile,
            "project_id": project_id,
        }
        body: JsonValue = {name: value for name, value in wanted.items() if value is not None}
        return await self._ask(ChatInfo, "POST", "/api/chats", body)

    async def chats(self, limit: int) -> list[ChatInfo]:
        """Return the latest chats."""
        return (await self._ask(ChatList, "GET", f"/api/chats?limit={limit}")).chats

    async def turns(self, chat_id: str) -> list[Turn]:
        """Return a chat's transcript."""
        return (await self._ask(Transcript, "GET", _chat(chat_id))).turns

    async def context(self, chat_id: str) -> ContextUse:
        """Return how full the window is."""
        return await self._ask(ContextUse, "GET", _chat(chat_id, "/context"))

    async def compact(self, chat_id: str) -> Compacted:
        """Let the model summarise what is old."""
        return await self._ask(
            Compacted, "POST", _chat(chat_id, "/compact"), timeout=COMPACTION_SECONDS
        )

    async def profiles(self) -> Profiles:
        """Return all profiles and which is the default."""
        return await self._ask(Profiles, "GET", "/api/profiles")

    async def profile(self, chat_id: str) -> str | None:
        """Return a chat's profile."""
        return (await self._ask(ActiveProfile, "GET", _chat(chat_id, "/profile"))).profile_name

    async def set_profile(self, chat_id: str, name: str) -> str | None:
        """Change a chat's profile; it holds from the next model call on."""
        body: JsonValue = {"profile_name": name}
        answer = await self._ask(ActiveProfile, "PUT", _chat(chat_id, "/profile"), body)
        return answer.profile_name

    async def permissions(self) -> PermissionState:
        """Return the rules of all chats."""
        return await self._ask(PermissionState, "GET", "/api/permissions")

    async def set_mode(self, mode: str) -> PermissionState:
        """Change the mode of all chats."""
        return await self._ask(PermissionState, "PUT", "/api/permissions", {"mode": mode})

    async def waiting(self) -> list[Waiting]:
        """Return every pending approval, the oldest first."""
        found: dict[int, Waiting] = {}
        while True:
            path = f"/api/v1/approvals?status=pending&limit={_PAGE}&offset={len(found)}"
            page = _read(_WAITING, await self._call("GET", path))
            before = len(found)
            found.update((approval.id, approval) for approval in page)
            if len(page) < _PAGE or len(found) == before:
                return sorted(found.values(), key=lambda one: (one.requested_at, one.id))

    async def approval(self, approval_id: int) -> Waiting:
        """Return one approval, whatever its status."""
        return await self._ask(Waiting, "GET", f"/api/v1/approvals/{approval_id}")

    async def approve(
        self, approval_id: int, *, note: str | None, arguments: dict[str, JsonValue] | None
    ) -> Waiting:
        """Say yes; `arguments` replace the tool's and are what runs."""
        wanted: dict[str, JsonValue] = {"note": note, "arguments": arguments}
        body: JsonValue = {name: value for name, value in wanted.items() if value is not None}
        return await self._ask(Waiting, "POST", f"/api/v1/approvals/{approval_id}/approve", body)

    async def reject(self, approval_id: int, *, reason: str | None) -> Waiting:
        """Say no."""
        body: JsonValue = {} if reason is None else {"reason": reason}
        return await self._ask(Waiting, "POST", f"/api/v1/approvals/{approval_id}/reject", body)

    async def _ask(
        self,
        shape: type[Answer],
        method: str,
        path: str,
        body: JsonValue = None,
        timeout: float = ANSWER_SECONDS,
    ) -> Answer:
        return _read(TypeAdapter(shape), await self._call(method, path, body, timeout))

    async def _call(
        self, method: str, path: str, body: JsonValue = None, timeout: float = ANSWER_SECONDS
    ) -> bytes:
        try:
            response = await self._http.request(method, path, json=body, timeout=timeout)
        except httpx.TimeoutException:
            raise ServerUnreachable("The server did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise ServerUnreachable("The server cannot be reached: does it run?") from None
        if not response.is_success:
            raise ServerRefused(_reason(response), response.status_code)
        return response.content


class _Flaw(BaseModel):
    msg: str


class _Problem(BaseModel):
    """The gateway's errors and the platform's: a sentence, or what is wrong with each field."""

    detail: str

    @field_validator("detail", mode="before")
    @classmethod
    def _in_a_sentence(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return "; ".join(flaw.msg for flaw in TypeAdapter(list[_Flaw]).validate_python(value))


T = TypeVar("T")


def _read(shape: TypeAdapter[T], content: bytes) -> T:
    try:
        return shape.validate_json(content)
    except ValidationError:
        raise ServerUnreachable("What answers there does not answer as Conclave does") from None


def _reason(response: httpx.Response) -> str:
    """Return the server's own sentence, or what its status says."""
    try:
        detail = _Problem.model_validate_json(response.content).detail
    except ValidationError:
        detail = ""
    if response.status_code == 401:
        return "The token does not hold"
    return detail or f"The server answered {response.status_code}"


def _chat(chat_id: str, what: str = "") -> str:
    return f"/api/chats/{quote(chat_id, safe='')}{what}"
