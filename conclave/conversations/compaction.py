"""Use cases of compaction, as every dialect calls them: how full a window is, and emptying it.

The work is the worker's (`compactor`): a person's wish to compact is a request in the
conversation's inbox, done between two turns in the order in which it came.
"""

from __future__ import annotations

import uuid

from conclave.conversations.compaction_repository import CompactionRepository, ContextFacts
from conclave.conversations.dispatch import TARGET_KIND
from conclave.conversations.errors import (
    CompactionFailed,
    ConversationEnded,
    ConversationNotFound,
    TurnNotCalled,
)
from conclave.conversations.model_choice import ModelChooser
from conclave.conversations.repository import ConversationRepository
from conclave.conversations.service import ConversationService
from conclave.conversations.turns import TOO_FEW_TURNS
from conclave.db import Database
from conclave.errors import BadRequest, BudgetExhausted, Unavailable
from conclave.mailbox import Letter, Mailbox
from schema.domain.compaction import TURNS_KEPT, Compacted, ContextUse
from schema.domain.events import conversation_stream
from schema.domain.identity import Principal
from schema.domain.inbox import InboxKind, InboxStatus


class CompactionService:
    """A `ports.Compaction`."""

    def __init__(
        self,
        db: Database,
        mailbox: Mailbox,
        conversations: ConversationService,
        models: ModelChooser,
    ) -> None:
        self._db = db
        self._mailbox = mailbox
        self._service = conversations
        self._models = models
        self._conversations = ConversationRepository()
        self._compactions = CompactionRepository()

    async def context(self, conversation_id: int) -> ContextUse:
        """Return how full the window of the model in use is.

        The tokens are those of the last prompt, or of what a compaction left of it: counted by the
        worker. Before the first one they are estimated. Raises `ConversationNotFound`.
        """
        async with self._db.autocommit() as tx:
            facts = await self._compactions.facts(tx, conversation_id)
        if facts is None:
            raise ConversationNotFound(conversation_id)
        model, window = facts.context_model or "", facts.context_window or 0
        if facts.provider is not None and facts.model is not None:
            choice = await self._models.choose(facts.profile, facts.provider, facts.model)
            model, window = choice.model, choice.window
        return ContextUse(
            current_tokens=_tokens(facts),
            context_window=window,
            turns=facts.turns,
            model=model,
        )

    async def compact(self, conversation_id: int, principal: Principal) -> Compacted:
        """Have all but the last exchanges summarised; queued behind a turn that runs.

        Raises `BadRequest` where there are no more than those, `ConversationEnded`,
        `ConversationPaused`, `BudgetExhausted`, `CompactionFailed` where the model could not do
        it, `Unavailable` where it was not done in the time that a request may wait.
        """
        async with self._db.transaction() as tx:
            stored = await self._service.open_for(tx, conversation_id, principal)
            facts = await self._compactions.facts(tx, conversation_id)
            if facts is None or facts.turns <= TURNS_KEPT:
                raise BadRequest(f"{TOO_FEW_TURNS}: the last {TURNS_KEPT} are always kept")
            letter = Letter(
                target=conversation_stream(stored.id),
                principal=principal.key,
                idempotency_key=uuid.uuid4().hex,
                prompt=None,
                agent_id=None,
                mentions=[],
                kind=InboxKind.COMPACT,
            )
            entry = await self._mailbox.put(tx, letter, TARGET_KIND, stored.id)
        await self._service.wait_until_answered(stored, entry)
        return await self._answer(conversation_id, entry.id)

    async def _answer(self, conversation_id: int, inbox_id: int) -> Compacted:
        async with self._db.autocommit() as tx:
            answer = await self._conversations.answer(tx, conversation_id, inbox_id)
        if answer is None:
            raise ConversationNotFound(conversation_id)
        if not answer.is_answered:
            raise Unavailable("The conversation is compacted once its turn is over.")
        if answer.inbox_status is InboxStatus.DONE:
            return Compacted.model_validate(answer.snapshot)
        error = str(answer.snapshot.get("error"))
        if error == "ended":
            raise ConversationEnded(conversation_id, answer.conversation.status)
        if error == TOO_FEW_TURNS:
            raise BadRequest(f"{TOO_FEW_TURNS}: the last {TURNS_KEPT} are always kept")
        if (not_called := TurnNotCalled.told_by(answer.snapshot)) is not None:
            raise not_called
        if answer.snapshot.get("code") == BudgetExhausted.code:
            raise BudgetExhausted(error)
        raise CompactionFailed(f"The conversation was not compacted: {error}")


def _tokens(facts: ContextFacts) -> int:
    """Return the last count, else an estimate: a token for four bytes and a tenth more."""
    if facts.context_tokens is not None:
        return facts.context_tokens
    return facts.bytes * 11 // 40
