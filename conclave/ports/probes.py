"""Looking whether what the service stands on works."""

from __future__ import annotations

from typing import Protocol

from schema.domain.mail import MailSettings


class DependencyProbe(Protocol):
    """Looks at one thing the service stands on."""

    async def check(self) -> None:
        """Return when it works. Raises `Unavailable` with a reason that holds no secret.

        May be cancelled at any moment, and leaves nothing behind then.
        """
        ...


class MailProbe(Protocol):
    """Looks whether a mail server would take mail, without sending any."""

    async def check(self, mail: MailSettings) -> None:
        """As `DependencyProbe.check`."""
        ...
