"""What older command-line clients call: the same use cases under other paths."""

from __future__ import annotations

import uuid

from api.deps import CoreDep, PrincipalDep
from api.gateway.schemas.chats import AllPanickedOut, CancelledOut, PanickedOut
from api.gateway.schemas.profiles import ChosenOut, ProfileChoice
from api.gateway.schemas.sandbox import BuiltOut, SandboxSwitch
from api.input import CheckedRouter
from conclave.errors import ConclaveError, PublicFailure

router = CheckedRouter(include_in_schema=False)


class NoSandbox(PublicFailure):
    """Commands are not confined on this host; the reason is told."""

    code = "no_sandbox"

    def __init__(self, reason: str) -> None:
        ConclaveError.__init__(self, reason)


@router.get("/api/profiles/default/current")
async def current_default(core: CoreDep) -> ChosenOut:
    """As GET /api/profiles/default."""
    return ChosenOut(profile_name=await core.profiles.default_name())


@router.post("/api/profiles/default/set")
async def set_default(core: CoreDep, body: ProfileChoice) -> ChosenOut:
    """As PUT /api/profiles/default."""
    return ChosenOut(profile_name=await core.profiles.set_default(body.profile_name))


@router.get("/api/chats/{chat_id}/active-profile")
async def active_profile(core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID) -> ChosenOut:
    """As GET /api/chats/{chat_id}/profile."""
    return ChosenOut(profile_name=await core.chats.profile(chat_id, principal))


@router.post("/api/chats/{chat_id}/active-profile")
async def set_active_profile(
    core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID, body: ProfileChoice
) -> ChosenOut:
    """As PUT /api/chats/{chat_id}/profile."""
    name = await core.chats.set_profile(chat_id, body.profile_name, principal)
    return ChosenOut(profile_name=name)


@router.post("/api/chats/{chat_id}/cancel")
async def cancel_chat(core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID) -> CancelledOut:
    """Stop the running turn; where none runs, nothing is to be done."""
    await core.chats.cancel(chat_id, principal)
    return CancelledOut()


@router.post("/api/chats/{chat_id}/panic")
async def panic_chat(core: CoreDep, principal: PrincipalDep, chat_id: uuid.UUID) -> PanickedOut:
    """Stop the running turn and drop what waits."""
    await core.chats.cancel(chat_id, principal, drop_queued=True)
    return PanickedOut()


@router.post("/api/panic")
async def panic(core: CoreDep, principal: PrincipalDep) -> AllPanickedOut:
    """The same for every chat of the caller; for everybody's where an administrator asks."""
    return AllPanickedOut(sessions_affected=await core.chats.panic(principal))


@router.get("/api/sandbox")
async def sandbox_switch(core: CoreDep) -> SandboxSwitch:
    """Whether commands run in a sandbox."""
    return SandboxSwitch(enabled=(await core.sandbox_config.get()).enabled)


@router.post("/api/sandbox")
async def switch_sandbox(core: CoreDep, body: SandboxSwitch) -> SandboxSwitch:
    """Switch it on or off."""
    return SandboxSwitch(
        enabled=(await core.sandbox_config.update({"enabled": body.enabled})).enabled
    )


@router.post("/api/sandbox/build")
async def build_sandbox(core: CoreDep) -> BuiltOut:
    """There is nothing to build: say whether it works."""
    status = await core.sandbox_config.status()
    if not status.available or status.backend in {"none", "unsandboxed"}:
        raise NoSandbox(status.reason)
    return BuiltOut()
