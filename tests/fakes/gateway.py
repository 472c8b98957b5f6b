"""A model gateway that does what it is told, without a network."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal

from conclave.errors import ProviderUnavailable
from conclave.ports.models import DeltaSink
from schema.domain.llm import ModelReply, ModelRequest
from schema.domain.providers import ProviderAccess

WORST_CASE = Decimal("0.5")
COST = Decimal("0.01")


class Killed(BaseException):
    """The process dies here: nothing after the call runs, as far as the code under test goes."""


@dataclass
class Held:
    """A call that is answered with `text` once it is released."""

    text: str
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class ScriptedGateway:
    """Implements `conclave.ports.models.ModelGateway`; answers by a number what is not scripted."""

    script: deque[str | Held | BaseException] = field(
        default_factory=deque[str | Held | BaseException]
    )
    requests: list[ModelRequest] = field(default_factory=list[ModelRequest])
    dead: bool = False
    """Takes a call and never answers it, whatever is scripted."""

    def reset(self) -> None:
        """Forget everything."""
        self.script.clear()
        self.requests.clear()
        self.dead = False

    def then(self, *steps: str | BaseException) -> None:
        """Script what the next calls get."""
        self.script.extend(steps)

    def hold(self, text: str) -> Held:
        """Script a call that waits for its release."""
        held = Held(text)
        self.script.append(held)
        return held

    def worst_case_usd(self, request: ModelRequest, access: ProviderAccess) -> Decimal | None:
        return WORST_CASE

    async def load_tokenizer(self, request: ModelRequest, access: ProviderAccess) -> None:
        pass

    def count_tokens(self, request: ModelRequest, access: ProviderAccess) -> int:
        return sum(len(message.content) for message in request.messages) // 4

    async def complete(
        self, request: ModelRequest, access: ProviderAccess, on_delta: DeltaSink
    ) -> ModelReply:
        self.requests.append(request)
        if self.dead:
            await asyncio.sleep(0)
            raise ProviderUnavailable("It is dead")
        step = self.script.popleft() if self.script else f"word {len(self.requests)}"
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, Held):
            step.entered.set()
            await step.released.wait()
            step = step.text
        await on_delta(0, step)
        return ModelReply(
            model=request.model,
            text=step,
            finish_reason="stop",
            tokens_in=3,
            tokens_out=2,
            cost_usd=COST,
        )
