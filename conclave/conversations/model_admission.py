"""Which model a call is made with just now: the wanted one, or a fallback whose circuit admits.

A chat's profile, or the agent's own model, is wanted. An agent's fallbacks are asked in their order
while its circuit is open, and for the rest of a step after it could not answer there. Every step
begins with the wanted one again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from conclave.conversations.model_choice import ModelChoice, ModelChooser
from conclave.conversations.turn_repository import Opening
from conclave.db import Transaction
from conclave.errors import (
    CircuitOpen,
    CircuitStaysOpen,
    ConclaveError,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
)
from conclave.logging import get_logger
from conclave.ports.breakers import Breakers, Permit, Verdict
from schema.domain.conversations import ConversationKind
from schema.payloads.agent_turn import CompleteInput

PATIENCE_SECONDS = 5.0
"""A person waits for a circuit that may let a call through within so long, and no longer..."""
PATIENT_ATTEMPTS = 3
"""...and so often. Tasks wait until it closes."""
_MARGIN_SECONDS = 30.0
"""On top of a call's own time: a probe whose worker was killed gives its place back after it."""
_log = get_logger(__name__)


class Admitted(NamedTuple):
    """A model, and leave to call it once."""

    choice: ModelChoice
    permit: Permit


class ModelAdmission:
    """Asked at every model call, inside the transaction that stores it."""

    def __init__(self, models: ModelChooser, breakers: Breakers) -> None:
        self._models = models
        self._breakers = breakers

    async def admit(
        self, tx: Transaction, call: CompleteInput, opening: Opening, attempt: int
    ) -> Admitted:
        """Return the first model that may be called, those first that failed least at this step.

        Raises what `ModelChooser.choose` raises for the wanted model, and where no circuit admits
        `CircuitOpen` or, where that is not waited for, `CircuitStaysOpen`.
        """
        tries = tries_of(opening, attempt)
        closed: list[CircuitOpen] = []
        async for choice in self._in_turn(opening, tries):
            lasts = call.timeout + _MARGIN_SECONDS
            try:
                permit = await self._breakers.admit(choice.circuit, lasts=lasts, tx=tx)
            except CircuitOpen as error:
                closed.append(error)
            else:
                return Admitted(choice, permit)
        raise _waited_for(min(closed, key=lambda one: one.retry_after), opening, attempt)

    async def _in_turn(self, opening: Opening, tries: list[str]) -> AsyncIterator[ModelChoice]:
        """Yield the models in the order in which they are to be asked."""
        if opening.provider is None or opening.model is None:
            raise AssertionError("an agent row lacks what every agent has")
        wanted = await self._models.choose(opening.profile, opening.provider, opening.model)
        if wanted.label not in tries:
            yield wanted
            tried: list[ModelChoice] = []
        else:
            tried = [wanted]
        async for fallback in self._fallbacks(opening, wanted):
            if fallback.label in tries:
                tried.append(fallback)
            else:
                yield fallback
        for choice in sorted(tried, key=lambda choice: tries.count(choice.label)):
            yield choice

    async def _fallbacks(self, opening: Opening, wanted: ModelChoice) -> AsyncIterator[ModelChoice]:
        """Yield those that can be used: without a key, the demo would answer in their place."""
        known = {wanted.label}
        for named in opening.fallback_models or ():
            try:
                choice = await self._models.choose(None, named.provider, named.model)
            except ConclaveError as error:
                _log.warning("fallback cannot be used", model=named.model, error=error.message)
                continue
            if choice.access.is_configured and choice.label not in known:
                known.add(choice.label)
                yield choice.model_copy(update={"fallback_for": wanted.label})


def tries_of(opening: Opening, attempt: int) -> list[str]:
    """Return the models that failed at this step for this request.

    Tries of an earlier request that failed at this turn are not this one's.
    """
    return opening.failed[-(attempt - 1) :] if attempt > 1 else []


def verdict_of(error: Exception) -> Verdict:
    """Say what a failed call tells of its provider.

    Where it does not answer in time, cannot be reached or says 5xx, it is not there. A refusal
    (400, 401, 404) is an answer: asking less often would change nothing. A rate limit is neither:
    it says when to come again, and its own retry waits for that.
    """
    if not isinstance(error, ProviderUnavailable):
        return Verdict.ANSWERED if isinstance(error, ProviderRefused) else Verdict.NONE
    status = error.details.get("status")
    if isinstance(status, int) and status < 500 and not isinstance(error, ProviderTimeout):
        return Verdict.NONE
    return Verdict.FAILED


def _waited_for(error: CircuitOpen, opening: Opening, attempt: int) -> CircuitOpen:
    """Return the error that says whether this call is tried again by itself."""
    if opening.kind == ConversationKind.TASK:
        return error
    if error.retry_after <= PATIENCE_SECONDS and attempt <= PATIENT_ATTEMPTS:
        return error
    return CircuitStaysOpen(error.circuit, error.retry_after)
