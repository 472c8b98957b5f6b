"""What can go wrong with profiles."""

from __future__ import annotations

from conclave.errors import Conflict, Forbidden, NotFound


class ProfileNotFound(NotFound):
    """No profile of that name."""

    code = "profile_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no profile {name[:64]!r}", field="profile")


class ProfileTaken(Conflict):
    """The name belongs to another profile."""

    code = "name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is a profile {name!r} already")


class ProfileInUse(Conflict):
    """It is the default, or chats use it."""

    code = "profile_in_use"


class SecretNotYours(Forbidden):
    """Only administrators may have a key read from the vault."""

    code = "secret_not_yours"
