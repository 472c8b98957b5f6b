"""What comes in at /webhook/{slug}: verified, stored once with the firing it makes, answered.

The firing is started by the outbox. Built-in sources have their addresses here and take nothing
until they have a secret.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from conclave.crypto import UndecipherableSecret
from conclave.db import Database
from conclave.errors import EncryptionKeyMissing, SecretNotUsable
from conclave.failpoints import Failpoint, reach
from conclave.ports.secrets import SecretReferences
from conclave.triggers.commands import NewFiring
from conclave.triggers.dispatch import TriggerDispatch
from conclave.triggers.errors import (
    DeliveryTooLarge,
    DeliveryUnreadable,
    SourceClosed,
    SourceUnknown,
)
from conclave.triggers.inbound_repository import InboundRepository, NewInbound
from conclave.triggers.reading import is_built_in
from conclave.triggers.repository import Sealed, TriggerRepository
from conclave.triggers.run_repository import RunRepository
from conclave.triggers.sealing import TriggerBox
from conclave.triggers.signatures import is_signed, verify
from schema.domain.base import Shape
from schema.domain.secrets import referenced_name
from schema.domain.trigger_configs import WebhookConfig
from schema.domain.triggers import Trigger

MOST_BYTES: Final = 5 * 1024 * 1024
_SLUG = re.compile(r"[a-z0-9-]{3,64}")
_DELIVERY_IDS = (
    "webhook-id",
    "x-github-delivery",
    "x-gitlab-event-uuid",
    "x-atlassian-webhook-identifier",
    "x-plane-delivery",
    "idempotency-key",
)
_EVENT_NAMES = ("x-github-event", "x-gitlab-event", "x-event-type")
_HIDDEN = re.compile(r"auth|cookie|secret|token|signature|api-?key|password|forwarded", re.I)
_SAME_CONTENT_SECONDS = 600
_SAME_BODY_SECONDS = 86_400
"""Of deliveries without an id: senders try again for hours, and send the same another day."""
_MOST_HEADERS = 64
_LONGEST_HEADER = 1000
_LONGEST_NAME = 255


class Received(Shape):
    """What a sender is told."""

    event_id: int
    is_new: bool


class Ingress:
    """Takes deliveries."""

    def __init__(
        self,
        db: Database,
        dispatch: TriggerDispatch,
        box: TriggerBox,
        references: SecretReferences,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._dispatch = dispatch
        self._box = box
        self._references = references
        self._clock = clock
        self._triggers = TriggerRepository()
        self._inbound = InboundRepository()
        self._runs = RunRepository()

    async def require(self, slug: str) -> None:
        """Raise `SourceUnknown` or `SourceClosed` before a body is read for it."""
        if is_built_in(slug):
            raise SourceClosed(slug)
        async with self._db.autocommit() as tx:
            await self._trigger(slug, await self._triggers.by_slug(tx, slug))

    async def receive(
        self,
        slug: str,
        headers: Mapping[str, str],
        body: bytes,
        judge: Callable[[JsonValue], str | None],
    ) -> Received:
        """Store a delivery. Header names are in small letters.

        `judge` says what of a body cannot be stored. Raises `SourceUnknown`, `SourceClosed`,
        `DeliveryTooLarge`, `SignatureRefused` and `DeliveryUnreadable`: then nothing is stored.
        """
        if is_built_in(slug):
            raise SourceClosed(slug)
        if len(body) > MOST_BYTES:
            raise DeliveryTooLarge(MOST_BYTES)
        async with self._db.transaction() as tx:
            trigger = await self._trigger(slug, await self._triggers.by_slug(tx, slug))
            sealed = await self._triggers.sealed(tx, trigger.id)
        await self._verify(trigger, sealed, headers, body)
        delivery = _delivery(trigger, slug, headers, body, _parsed(body, judge))
        async with self._db.transaction() as tx:
            event_id, is_new = await self._inbound.store(tx, delivery)
            if is_new and trigger.is_active:
                firing = NewFiring(
                    trigger_id=trigger.id,
                    firing_key=f"webhook-{event_id}",
                    event_data={},
                    inbound_id=event_id,
                )
                run_id = await self._runs.insert(tx, firing)
                assert run_id is not None
                await self._dispatch.owe_firings(tx, [run_id])
        reach(Failpoint.IN_WEBHOOK_DELIVERY, "delivery", event_id)
        return Received(event_id=event_id, is_new=is_new)

    async def _trigger(self, slug: str, found: Trigger | None) -> Trigger:
        if found is None or not _SLUG.fullmatch(slug):
            raise SourceUnknown
        return found

    async def _verify(
        self, trigger: Trigger, sealed: Sealed, headers: Mapping[str, str], body: bytes
    ) -> None:
        config = WebhookConfig.model_validate(trigger.config)
        if not config.require_signature and not is_signed(headers):
            return
        secret = config.secret or ""
        try:
            if sealed.secret is not None:
                secret = self._box.open_secret(trigger.id, sealed.secret)
            elif referenced_name(secret) is not None:
                secret = await self._references.resolve(secret)
        except (SecretNotUsable, UndecipherableSecret, EncryptionKeyMissing):
            raise SourceClosed(f"of trigger {trigger.id}") from None
        verify(secret, headers, body, self._clock())


def _parsed(body: bytes, judge: Callable[[JsonValue], str | None]) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(body)
    except (ValueError, RecursionError):
        raise DeliveryUnreadable("The body is not JSON") from None
    flaw = judge(parsed)
    if flaw is not None:
        raise DeliveryUnreadable(f"The body cannot be stored: {flaw}")
    return parsed


def _delivery(
    trigger: Trigger, slug: str, headers: Mapping[str, str], body: bytes, parsed: JsonValue
) -> NewInbound:
    fields = parsed if isinstance(parsed, dict) else {}
    name = next((headers[one] for one in _EVENT_NAMES if one in headers), None)
    name = name or _name(fields.get("event")) or _name(fields.get("type"))
    action = _name(fields.get("action"))
    sent_id = next((headers[one].strip() for one in _DELIVERY_IDS if headers.get(one)), "")
    identity, same_seconds = _content(name, action, fields), _SAME_CONTENT_SECONDS
    delivery_id = _short(sent_id)
    if not sent_id:
        identity, same_seconds = hashlib.sha256(body).hexdigest(), _SAME_BODY_SECONDS
        delivery_id = f"{identity}@{secrets.token_hex(8)}"
    return NewInbound(
        source=slug,
        delivery_id=delivery_id,
        identity=identity,
        same_seconds=same_seconds,
        event_name=None if name is None else name[:_LONGEST_NAME],
        action=None if action is None else action[:_LONGEST_NAME],
        status="accepted" if trigger.is_active else "inactive",
        trigger_id=trigger.id,
        headers=shown_headers(headers),
        body=parsed,
        body_bytes=len(body),
    )


def _content(name: str | None, action: str | None, fields: Mapping[str, JsonValue]) -> str | None:
    """Return what tells the same content: event, action, the object's id and when it changed.

    None where the body names no object with both: then ids alone tell deliveries apart.
    """
    for one in (fields, *(value for value in fields.values() if isinstance(value, dict))):
        key, changed = one.get("id"), one.get("updated_at")
        if isinstance(key, str | int) and isinstance(changed, str | int):
            told = json.dumps([name, action, key, changed])
            return hashlib.sha256(told.encode()).hexdigest()
    return None


def shown_headers(headers: Mapping[str, str]) -> dict[str, JsonValue]:
    """Return the headers without what may be secret or is a proxy's."""
    kept = [(name, value) for name, value in headers.items() if not _HIDDEN.search(name)]
    return {name[:128]: value[:_LONGEST_HEADER] for name, value in kept[:_MOST_HEADERS]}


def _short(text: str) -> str:
    return text if len(text) <= 200 else hashlib.sha256(text.encode()).hexdigest()


def _name(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None
