"""Calling somebody else's webhook: behind the guard, signed where there is a secret.

`webhook-id` is the firing's and the same at every try, so that the receiver can tell a call that
was cut and is made again from another one (platform.md, section 21).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from pydantic import JsonValue

from conclave.errors import ConclaveError
from conclave.ports.secrets import SecretReferences
from conclave.ports.urls import WebClient
from conclave.triggers.actions import Done, origin_key
from conclave.triggers.sealing import CallSecrets, TriggerBox, headers_of
from conclave.triggers.signatures import sign
from conclave.triggers.templates import fill, fill_all, fill_url
from schema.domain.secrets import referenced_name
from schema.domain.trigger_configs import MASK, CallWebhookConfig
from schema.domain.triggers import RunStatus, Trigger, TriggerRun
from schema.domain.web import WebRequest

CALL_SECONDS = 15.0
_MOST_BODY = 500


class WebhookCaller:
    """Makes the calls of firings."""

    def __init__(
        self,
        web: WebClient,
        references: SecretReferences,
        box: TriggerBox,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._web = web
        self._references = references
        self._box = box
        self._clock = clock

    async def call(self, trigger: Trigger, run: TriggerRun, sealed: bytes | None) -> Done:
        """Make one call. What goes wrong with it is its outcome, not an error."""
        config = CallWebhookConfig.model_validate(trigger.action.config)
        # Before this call the firing had that many.
        result: dict[str, JsonValue] = {} if run.attempts == 0 else {"attempts": run.attempts + 1}
        try:
            secrets = self._box.open_call(trigger.id, sealed)
            request = await self._request(config, secrets, run)
            answer = await self._web.send(request, timeout=CALL_SECONDS)
        except ConclaveError as error:
            return Done(RunStatus.FAILURE, result, error.message)
        result |= {
            "status_code": answer.status,
            "response_body": (answer.text or "")[:_MOST_BODY].replace("\x00", ""),
        }
        if 200 <= answer.status < 300:
            return Done(RunStatus.SUCCESS, result)
        return Done(RunStatus.FAILURE, result, f"The receiver answered {answer.status}")

    async def _request(
        self, config: CallWebhookConfig, secrets: CallSecrets, run: TriggerRun
    ) -> WebRequest:
        body = None if config.method == "GET" else _body(config.body, run)
        headers = {
            name: await self._value(value, run)
            for name, value in headers_of(config.headers, secrets).items()
        }
        names = {name.lower() for name in headers}
        if body is not None and "content-type" not in names:
            headers["content-type"] = "application/json"
        message_id, now = origin_key(run.id), int(self._clock())
        headers["webhook-id"], headers["webhook-timestamp"] = message_id, str(now)
        secret = secrets.secret if config.secret == MASK else config.secret
        if secret is not None:
            secret = await self._references.resolve(secret)
            headers["webhook-signature"] = sign(secret, message_id, now, (body or "").encode())
        url = fill_url(config.url, run.event_data)
        return WebRequest(method=config.method, url=url, headers=headers, body=body)

    async def _value(self, value: str, run: TriggerRun) -> str:
        if referenced_name(value) is not None:
            return await self._references.resolve(value)
        return fill(value, run.event_data)


def _body(given: JsonValue, run: TriggerRun) -> str:
    """Return what is sent: a text as it is, anything else as JSON."""
    if given is None:
        return json.dumps(run.event_data, ensure_ascii=False)
    if isinstance(given, str):
        return fill(given, run.event_data)
    return json.dumps(fill_all(given, run.event_data), ensure_ascii=False)
