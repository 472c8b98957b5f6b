"""Mail servers and how they are reached."""

from __future__ import annotations

from pydantic import Field

from schema.domain.base import Shape


class MailSettings(Shape):
    """How mail is sent. The password is in the clear: never log or return it."""

    host: str
    port: int
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    sender: str | None = None
