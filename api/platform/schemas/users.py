"""Accounts as this dialect writes them."""

from __future__ import annotations

import unicodedata
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, field_validator

from api.platform.schemas.fields import Name, Timestamp, refuse_null
from conclave.identity.commands import CreateUser, UpdateUser
from conclave.identity.emails import MAX_EMAIL, normal_email
from conclave.identity.passwords import MAX_PASSWORD
from schema.domain.identity import Role
from schema.domain.users import User


def _one_line(text: str) -> str:
    """Names end in headers, mails and logs: nothing in them may start a line or hide."""
    if any(unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp"} for letter in text):
        raise ValueError("must not contain control characters")
    return text


Email: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=3, max_length=MAX_EMAIL + 2),
    AfterValidator(normal_email),
    Field(examples=["ada@example.org"]),
]
"""Lower case from here on."""
FullName: TypeAlias = Annotated[Name, AfterValidator(_one_line)]
Password: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_PASSWORD),
    Field(json_schema_extra={"format": "password"}),
]


class UserOut(BaseModel):
    """An account."""

    id: int
    email: str
    full_name: str
    role: Role
    is_active: bool
    mfa_enabled: bool
    last_login_at: Timestamp | None
    password_changed_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_domain(cls, user: User) -> UserOut:
        """Return it as this dialect writes it."""
        return cls.model_validate(user.model_dump())


class UserIn(BaseModel):
    """An account that an administrator makes."""

    email: Email
    password: Password
    full_name: FullName
    role: Role = Role.VIEWER

    def to_command(self) -> CreateUser:
        """Return it in the core's words."""
        return CreateUser(
            email=self.email, password=self.password, full_name=self.full_name, role=self.role
        )


class UserPatch(BaseModel):
    """An administrator's changes: what is left out stays."""

    full_name: FullName | None = None
    email: Email | None = None
    role: Role | None = None
    is_active: bool | None = None
    password: Password | None = None

    _not_null = field_validator("*", mode="before")(refuse_null)

    def to_command(self) -> UpdateUser:
        """Return it in the core's words."""
        return UpdateUser.model_validate(self.model_dump(exclude_unset=True))
