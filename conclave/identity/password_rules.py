"""What a new password must be: the policy's rules, all flaws told at once."""

from __future__ import annotations

from collections.abc import Sequence

from conclave.identity.common_passwords import CommonPasswords
from conclave.identity.emails import local_part
from conclave.identity.errors import PasswordReused, WeakPassword
from conclave.identity.passwords import MAX_PASSWORD, PasswordHasher
from schema.domain.security import PasswordPolicy

_MIN_LOCAL_PART = 4


class PasswordRules:
    """Judges new passwords and hashes those that pass."""

    def __init__(self, hasher: PasswordHasher) -> None:
        self._hasher = hasher
        self._common = CommonPasswords()

    async def accept(
        self,
        password: str,
        policy: PasswordPolicy,
        *,
        field: str,
        email: str,
        earlier: Sequence[str] = (),
    ) -> str:
        """Return the hash of a password that may be used.

        `earlier` holds hashes of the user's passwords, the present one first; as many count as
        the policy says. Raises `WeakPassword` with every flaw, `PasswordReused`, `HashingBusy`.
        """
        flaws = _shape_flaws(password, policy)
        own = local_part(email)
        if len(own) >= _MIN_LOCAL_PART and own in password.casefold():
            flaws.append("must not contain the name of the email address")
        if await self._common.contains(password):
            flaws.append("is a common password, or one in disguise")
        if flaws:
            raise WeakPassword(field, flaws)
        for hashed in earlier[: policy.history_count]:
            if await self._hasher.matches(password, hashed):
                raise PasswordReused(policy.history_count)
        return await self._hasher.hash(password)


def _shape_flaws(password: str, policy: PasswordPolicy) -> list[str]:
    special = any(not (letter.isalnum() or letter.isspace()) for letter in password)
    rules = (
        (len(password) >= policy.min_length, f"needs at least {policy.min_length} characters"),
        (len(password) <= MAX_PASSWORD, f"needs at most {MAX_PASSWORD} characters"),
        (
            not policy.require_uppercase or any(map(str.isupper, password)),
            "needs an upper-case letter",
        ),
        (
            not policy.require_lowercase or any(map(str.islower, password)),
            "needs a lower-case letter",
        ),
        (not policy.require_numbers or any(map(str.isdigit, password)), "needs a digit"),
        (not policy.require_special or special, "needs a special character"),
    )
    return [flaw for holds, flaw in rules if not holds]
