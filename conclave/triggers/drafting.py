"""From what a client says of a trigger to the columns it is stored in.

Secrets are taken out and sealed, and what is referred to must exist.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from conclave.db import Transaction
from conclave.errors import Invalid, Missing
from conclave.ports.secrets import SecretReferences
from conclave.triggers.commands import CreateTrigger, GivenAction, UpdateTrigger
from conclave.triggers.desks import Desks
from conclave.triggers.reading import read_action, read_config
from conclave.triggers.repository import Sealed, TriggerRepository
from conclave.triggers.sealing import CallSecrets, TriggerBox, names_in, part
from conclave.triggers.signatures import new_secret
from schema.domain.base import Shape
from schema.domain.secrets import referenced_name
from schema.domain.trigger_configs import (
    MASK,
    CallWebhookConfig,
    CreateTaskConfig,
    ExecuteWorkflowConfig,
    SendNotificationConfig,
    StartConversationConfig,
    ThresholdConfig,
    WebhookConfig,
)
from schema.domain.triggers import Trigger, TriggerType


@dataclass
class Draft:
    """Columns about to be stored, and what must be seen to with them."""

    columns: dict[str, object] = field(default_factory=dict[str, object])
    action: Shape | None = None
    secret: str | None = None
    """To be sealed."""
    drops_secret: bool = False
    call: CallSecrets | None = None
    """To be sealed; None: the action did not change."""
    references: dict[str, str] = field(default_factory=dict[str, str])
    """Field → `secret://name`."""
    shown_secret: str | None = None


class Drafting:
    """Judges and prepares triggers."""

    def __init__(self, references: SecretReferences, box: TriggerBox, desks: Desks) -> None:
        self._references = references
        self._box = box
        self._desks = desks
        self._triggers = TriggerRepository()

    def of_new(self, command: CreateTrigger, now: datetime) -> Draft:
        """Return what a new trigger is stored as. Raises `Invalid`."""
        draft = Draft()
        self._configure(draft, command.type, read_config(command.type, command.config, now), None)
        self._act(draft, command.action, CallSecrets())
        draft.columns["secret_names"] = names_in(draft.references.values())
        return draft

    def of_change(
        self, before: Trigger, command: UpdateTrigger, sealed: Sealed, now: datetime
    ) -> Draft:
        """Return what changes. A secret that is left out or masked stays. Raises `Invalid`."""
        draft = Draft()
        kind = command.type or before.type
        if kind is not before.type and command.config is None:
            raise Invalid("config", f"is needed with a change to the type {kind.value}")
        if command.config is not None:
            config = read_config(kind, command.config, now)
            self._configure(draft, kind, config, before if kind is before.type else None)
        if command.action is not None:
            stored = self._box.open_call_if_possible(before.id, sealed.action_secrets)
            self._act(draft, command.action, stored)
        kept = _references_of(before, config=command.config is None, action=command.action is None)
        names = names_in([*draft.references.values(), *kept])
        if command.config is not None or command.action is not None:
            draft.columns["secret_names"] = names
        return draft

    def _configure(
        self, draft: Draft, kind: TriggerType, config: Shape, before: Trigger | None
    ) -> None:
        draft.columns["type"] = kind.value
        stored = config.model_dump(mode="json", exclude={"slug", "secret"}, exclude_none=True)
        draft.columns["check_every_seconds"] = (
            config.check_every_seconds if isinstance(config, ThresholdConfig) else None
        )
        if isinstance(config, WebhookConfig):
            slug = config.slug or (None if before is None else before.slug)
            draft.columns["slug"] = slug or f"hook-{secrets.token_hex(8)}"
            shown = self._take_secret(draft, config, before)
            stored = stored if shown is None else {**stored, "secret": shown}
        else:
            draft.columns["slug"], draft.drops_secret = None, True
        draft.columns["config"] = stored

    def _take_secret(
        self, draft: Draft, config: WebhookConfig, before: Trigger | None
    ) -> str | None:
        """Return what config shows for the secret: a reference, or the mask of a sealed one."""
        given = config.secret
        stored = None if before is None else before.config.get("secret")
        if given is None or given == MASK:
            if isinstance(stored, str):
                if referenced_name(stored) is not None:
                    draft.references["config.secret"] = stored
                return stored
            if given == MASK:
                raise Invalid("config.secret", "is a mask, and nothing is stored for it")
            given = new_secret()
        if referenced_name(given) is not None:
            draft.references["config.secret"], draft.drops_secret = given, True
            return given
        draft.secret = draft.shown_secret = given
        return MASK

    def _act(self, draft: Draft, given: GivenAction, stored: CallSecrets) -> None:
        config = read_action(given.type, given.config)
        draft.call = CallSecrets()
        if isinstance(config, CallWebhookConfig):
            parted = part(config, stored)
            config, draft.call = parted.shown, parted.secrets
            draft.references |= dict(parted.references)
        draft.action = config
        draft.columns["action_type"] = given.type.value
        draft.columns["action_config"] = config.model_dump(mode="json", exclude_none=True)
        draft.columns["agent_id"] = (
            config.agent_id if isinstance(config, CreateTaskConfig) else _only_agent(config)
        )

    def sealed(self, trigger_id: int, draft: Draft) -> dict[str, object]:
        """Return the sealed columns. Raises `EncryptionKeyMissing`."""
        values: dict[str, object] = {}
        if draft.secret is not None:
            values["secret"] = self._box.seal_secret(trigger_id, draft.secret)
        elif draft.drops_secret:
            values["secret"] = None
        if draft.call is not None:
            values["action_secrets"] = self._box.seal_call(trigger_id, draft.call)
        return values

    async def require(self, tx: Transaction, draft: Draft) -> None:
        """Raise `Missing` or `Invalid` for what is referred to and is not there."""
        for place, reference in draft.references.items():
            await self._references.require(tx, reference, field=place)
        match draft.action:
            case CreateTaskConfig(agent_id=int(agent_id)):
                await self._require_agents(tx, [agent_id], "action.config.agent_id")
            case StartConversationConfig() as config:
                await self._require_agents(tx, config.agent_ids, "action.config.agent_ids")
                name = config.circle_name
                if name is not None and not await self._triggers.has_circle(tx, name):
                    raise Missing("action.config.circle_name", f"Circle {name!r} not found")
            case ExecuteWorkflowConfig(workflow_id=workflow_id):
                await self._require_pipeline(tx, workflow_id)
            case SendNotificationConfig() as config:
                await self._require_receiver(tx, config)
            case _:
                pass

    async def _require_agents(self, tx: Transaction, agent_ids: list[int], place: str) -> None:
        found = await self._triggers.has_agents(tx, agent_ids) if agent_ids else set[int]()
        for agent_id in agent_ids:
            if agent_id not in found:
                raise Missing(place, f"Agent {agent_id} not found")

    async def _require_pipeline(self, tx: Transaction, workflow_id: int) -> None:
        catalogue = self._desks.catalogue
        if catalogue is None or not await catalogue.exists(tx, workflow_id):
            raise Missing("action.config.workflow_id", f"Workflow {workflow_id} not found")

    async def _require_receiver(self, tx: Transaction, config: SendNotificationConfig) -> None:
        if config.channel_id is not None:
            raise Missing("action.config.channel_id", f"Channel {config.channel_id} not found")
        user_id = config.user_id
        if user_id is not None and not await self._triggers.has_user(tx, user_id):
            raise Missing("action.config.user_id", f"User {user_id} not found")


def _only_agent(config: Shape) -> int | None:
    if isinstance(config, StartConversationConfig) and len(config.agent_ids) == 1:
        return config.agent_ids[0]
    return None


def _references_of(before: Trigger, *, config: bool, action: bool) -> list[str]:
    """Return the references of the parts that stay as they are."""
    found: list[object] = []
    if config:
        found.append(before.config.get("secret"))
    if action:
        found.append(before.action.config.get("secret"))
        headers = before.action.config.get("headers")
        found.extend(headers.values() if isinstance(headers, dict) else [])
    return [one for one in found if isinstance(one, str) and referenced_name(one) is not None]
