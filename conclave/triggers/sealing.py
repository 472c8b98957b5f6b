"""The secrets of triggers: sealed apart from config and action, which show a mask for them.

A value that is `secret://name` is no secret: it stays where it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from conclave.crypto import UndecipherableSecret
from conclave.errors import EncryptionKeyMissing, Invalid
from conclave.ports.secrets import SecretBox
from conclave.resealing import SealedColumn
from schema.domain.secrets import referenced_name
from schema.domain.trigger_configs import MASK, CallWebhookConfig
from schema.tables.triggers import TriggerRow


def secret_context(trigger_id: int | str) -> str:
    """Return what the secret of what comes in is bound to."""
    return f"trigger:{trigger_id}:secret"


def action_context(trigger_id: int | str) -> str:
    """Return what the secrets of an action are bound to."""
    return f"trigger:{trigger_id}:action"


SEALED_PLACES = (
    SealedColumn(TriggerRow, TriggerRow.id, TriggerRow.secret, secret_context),
    SealedColumn(TriggerRow, TriggerRow.id, TriggerRow.action_secrets, action_context),
)


class CallSecrets(BaseModel):
    """What a call to a webhook needs and nobody is shown."""

    secret: str | None = None
    headers: dict[str, str] = {}

    def __bool__(self) -> bool:
        return self.secret is not None or bool(self.headers)


@dataclass(frozen=True)
class Parted:
    """A call's config as it is shown, its secrets, and the vault's secrets it refers to."""

    shown: CallWebhookConfig
    secrets: CallSecrets
    references: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(field, reference)."""


def part(config: CallWebhookConfig, stored: CallSecrets) -> Parted:
    """Take the secrets out; a mask keeps what is stored. Raises `Invalid` where nothing is."""
    secrets, references = CallSecrets(), list[tuple[str, str]]()
    shown: dict[str, str] = {}
    for name, value in config.headers.items():
        place = f"action.config.headers.{name}"
        if referenced_name(value) is not None:
            references.append((place, value))
            shown[name] = value
        else:
            secrets.headers[name] = _kept(value, stored.headers.get(name), place)
            shown[name] = MASK
    secret = config.secret
    if secret is not None and referenced_name(secret) is not None:
        references.append(("action.config.secret", secret))
    elif secret is not None:
        secrets.secret = _kept(secret, stored.secret, "action.config.secret")
        secret = MASK
    shown_config = config.model_copy(update={"headers": shown, "secret": secret})
    return Parted(shown_config, secrets, references)


def _kept(value: str, stored: str | None, place: str) -> str:
    if value != MASK:
        return value
    if stored is None:
        raise Invalid(place, "is a mask, and nothing is stored that it could stand for")
    return stored


def names_in(references: Iterable[str]) -> list[str]:
    """Return the names of the vault's secrets."""
    return sorted({name for one in references if (name := referenced_name(one)) is not None})


class TriggerBox:
    """Seals and opens. Without ENCRYPTION_KEY it raises `EncryptionKeyMissing`."""

    def __init__(self, box: SecretBox | None) -> None:
        self._given = box

    @property
    def _box(self) -> SecretBox:
        if self._given is None:
            raise EncryptionKeyMissing("Secrets are stored encrypted: ENCRYPTION_KEY is not set.")
        return self._given

    def seal_secret(self, trigger_id: int, secret: str) -> bytes:
        """Seal what verifies deliveries."""
        return self._box.seal(secret, context=secret_context(trigger_id))

    def open_secret(self, trigger_id: int, sealed: bytes) -> str:
        """Open it. Raises `UndecipherableSecret`."""
        return self._box.open(sealed, context=secret_context(trigger_id))

    def seal_call(self, trigger_id: int, secrets: CallSecrets) -> bytes | None:
        """Seal the secrets of a call; None where there are none."""
        if not secrets:
            return None
        return self._box.seal(secrets.model_dump_json(), context=action_context(trigger_id))

    def open_call(self, trigger_id: int, sealed: bytes | None) -> CallSecrets:
        """Open them. Raises `UndecipherableSecret`."""
        if sealed is None:
            return CallSecrets()
        text = self._box.open(sealed, context=action_context(trigger_id))
        return CallSecrets.model_validate_json(text)

    def open_call_if_possible(self, trigger_id: int, sealed: bytes | None) -> CallSecrets:
        """Open them for a change; what does not open any more is not there to be kept."""
        try:
            return self.open_call(trigger_id, sealed)
        except (UndecipherableSecret, EncryptionKeyMissing):
            return CallSecrets()


def headers_of(shown: Mapping[str, str], secrets: CallSecrets) -> dict[str, str]:
    """Return the headers of a call, references as they are."""
    return {
        name: secrets.headers.get(name, "") if value == MASK else value
        for name, value in shown.items()
    }
