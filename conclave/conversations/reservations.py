"""Storing a model call before it is sent, covered by every budget that applies."""

from __future__ import annotations

from decimal import Decimal

from conclave.conversations.turn_repository import StoredCall, TurnRepository
from conclave.db import Transaction
from conclave.ports.costs import Budgets
from conclave.ports.models import ModelGateway
from schema.domain.base import Shape
from schema.domain.costs import ModelPrice, Reservation, TaskLimits
from schema.domain.llm import ModelReply, ModelRequest
from schema.domain.providers import ProviderAccess
from schema.payloads.agent_turn import CompleteInput


class Reserved(Shape):
    """A stored call."""

    call_id: int
    price: ModelPrice | None
    """Where the price map knows none and an administrator set one."""

    def priced(self, reply: ModelReply) -> ModelReply:
        """Return the reply at what it costs."""
        if self.price is None:
            return reply
        cost = self.price.cost(reply.tokens_in, reply.tokens_out)
        return reply.model_copy(update={"cost_usd": cost})


class Reservations:
    """Reserves for turns and for what compacts them; to be called inside `Budgets.within`."""

    def __init__(self, gateway: ModelGateway, budgets: Budgets) -> None:
        self._gateway = gateway
        self._budgets = budgets
        self._turns = TurnRepository()

    async def make(
        self,
        tx: Transaction,
        call: CompleteInput,
        attempt: int,
        request: ModelRequest,
        access: ProviderAccess,
        *,
        prompts: int,
        context_tokens: int,
        context_window: int,
        fallback_for: str | None = None,
    ) -> Reserved:
        """Store a call and take the fence; the rest as `TurnRepository.reserve`.

        Raises `BudgetExhausted`: nothing of the transaction may be kept then.
        """
        day = self._budgets.today()
        worst_case, price = await self._worst_case(tx, request, access)
        stored = await self._turns.reserve(
            tx,
            call,
            attempt=attempt,
            provider=request.provider,
            model=request.model,
            worst_case=worst_case or Decimal(0),
            is_unpriced=worst_case is None,
            reserved_tokens=context_tokens + request.max_tokens,
            day=day,
            prompts=prompts,
            context_tokens=context_tokens,
            context_window=context_window,
            fallback_for=fallback_for,
        )
        task = await self._of_task(tx, call, stored, request, access)
        if stored.is_budgeted or task is not None:
            await self._budgets.cover(
                tx,
                Reservation(
                    agent_id=call.agent_id,
                    day=day,
                    provider=request.provider,
                    model=request.model,
                    worst_case=worst_case or Decimal(0),
                    is_unpriced=worst_case is None,
                    is_budgeted=stored.is_budgeted,
                    task=task,
                ),
            )
        return Reserved(call_id=stored.call_id, price=price)

    async def _worst_case(
        self, tx: Transaction, request: ModelRequest, access: ProviderAccess
    ) -> tuple[Decimal | None, ModelPrice | None]:
        known = self._gateway.worst_case_usd(request, access)
        if known is not None:
            return known, None
        price = await self._budgets.price(tx, request.provider, request.model)
        if price is None:
            return None, None
        return price.cost(request.token_bound, request.max_tokens), price

    async def _of_task(
        self,
        tx: Transaction,
        call: CompleteInput,
        stored: StoredCall,
        request: ModelRequest,
        access: ProviderAccess,
    ) -> TaskLimits | None:
        """Return what limits a task. Its calls are one conversation's, whose lock is held."""
        if stored.task_id is None or (stored.budget_usd is None and not stored.max_tokens):
            return None
        used = needed = 0
        if stored.max_tokens:
            await self._gateway.load_tokenizer(request, access)
            needed = self._gateway.count_tokens(request, access) + request.max_tokens
            used = await self._turns.used_tokens(tx, call.conversation_id)
        return TaskLimits(
            task_id=stored.task_id,
            budget_usd=stored.budget_usd,
            spent_usd=stored.spent_usd,
            max_tokens=stored.max_tokens,
            used_tokens=used,
            needed_tokens=needed,
        )
