"""What can go wrong with secrets."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.errors import Conflict, NotFound, PublicFailure


class SecretNotFound(NotFound):
    """No such secret, or a deleted one."""

    code = "secret_not_found"

    def __init__(self, secret_id: int) -> None:
        super().__init__(f"Secret {secret_id} not found")


class SecretNameTaken(Conflict):
    """Another secret has the name."""

    code = "name_taken"

    def __init__(self) -> None:
        super().__init__("Another secret has this name", field="name")


class SecretInUse(Conflict):
    """A reference would point to nothing: the secret can be neither deleted nor renamed."""

    code = "secret_in_use"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(f"The secret is used by {', '.join(users)}", used_by=[*users])


class SecretUndecipherable(PublicFailure):
    """The stored value does not open."""

    code = "undecipherable_secret"
    sentence = (
        "The secret cannot be decrypted: the key it was sealed with is not at hand, "
        "or what is stored was altered"
    )
