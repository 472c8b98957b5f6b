"""What can be asked of identities, in the core's own words. Passwords never show in a repr."""

from __future__ import annotations

from pydantic import Field

from schema.domain.base import Shape
from schema.domain.identity import Role


class Login(Shape):
    """`code` is a TOTP code or a backup code."""

    email: str
    password: str = Field(repr=False)
    code: str | None = Field(default=None, repr=False)


class Register(Shape):
    """A person makes an account; without a name it is the email's local part."""

    email: str
    password: str = Field(repr=False)
    full_name: str | None = None


class CreateUser(Shape):
    """An administrator makes an account."""

    email: str
    password: str = Field(repr=False)
    full_name: str
    role: Role = Role.VIEWER


class UpdateProfile(Shape):
    """Changes to one's own account: only fields that were set count."""

    full_name: str = ""
    email: str = ""
    current_password: str | None = Field(default=None, repr=False)


class UpdateUser(Shape):
    """An administrator's changes to an account: only fields that were set count."""

    full_name: str = ""
    email: str = ""
    role: Role = Role.VIEWER
    is_active: bool = True
    password: str = Field(default="", repr=False)
