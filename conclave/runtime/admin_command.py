"""What `conclave admin` does: accounts from the command line, past every login."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from conclave.container import Core, build_core
from conclave.identity.commands import CreateUser
from conclave.identity.emails import local_part, normal_email
from conclave.identity.passwords import MAX_PASSWORD
from conclave.logging import configure_logging
from conclave.runtime.errors import StartFailed
from conclave.runtime.plan import Layout
from conclave.runtime.postgres import Postgres
from conclave.settings import Settings
from schema.domain.identity import Role
from schema.domain.users import User


def create(
    settings: Settings, data_dir: Path | None, email: str, full_name: str | None, password: str
) -> User:
    """Make an administrator; in the embedded database where a data directory is named.

    Raises `StartFailed`, `WeakPassword`, `EmailTaken`, `Unavailable`.
    """
    address = _address(email)
    command = CreateUser(
        email=address,
        password=_sane(password),
        full_name=(full_name or "").strip() or local_part(address),
        role=Role.ADMIN,
    )
    return _run(settings, data_dir, lambda core: core.identity.users.create(command))


def reset_password(
    settings: Settings, data_dir: Path | None, email: str, password: str, *, disable_mfa: bool
) -> User:
    """Give somebody who is locked out a new password, and another start.

    Raises `StartFailed`, `UserNotFound`, `WeakPassword`, `PasswordReused`, `Unavailable`.
    """
    address, new = _address(email), _sane(password)
    return _run(
        settings,
        data_dir,
        lambda core: core.identity.users.reset(address, new, disable_mfa=disable_mfa),
    )


def _run(settings: Settings, data_dir: Path | None, act: Callable[[Core], Awaitable[User]]) -> User:
    if data_dir is not None:
        url = Postgres.at(Layout(data_dir).postgres).url()
        settings = settings.model_copy(update={"database_url": url})

    configure_logging("ERROR", settings.log_format)

    async def run() -> User:
        core = await build_core(settings, name="admin")
        try:
            return await act(core)
        finally:
            await core.close()

    return asyncio.run(run())


def _address(email: str) -> str:
    try:
        return normal_email(email)
    except ValueError:
        raise StartFailed(f"{email!r} is not an email address") from None


def _sane(password: str) -> str:
    """Refuse what no login could send."""
    if not password or len(password) > MAX_PASSWORD or "\x00" in password:
        raise StartFailed(f"The password must have 1 to {MAX_PASSWORD} characters")
    try:
        password.encode()
    except UnicodeEncodeError:
        raise StartFailed("The password is not UTF-8") from None
    return password
