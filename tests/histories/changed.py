"""A conversation workflow whose decisions changed: what the replay of histories has to refuse."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from schema.payloads import names
    from schema.payloads.conversations import ConversationResult, ConversationState
    from workflows.conversation import ConversationWorkflow


@workflow.defn(name=names.CONVERSATION_WORKFLOW)
class LooksFirst(ConversationWorkflow):
    """Looks at the record before anything else: one activity more than there was."""

    @workflow.init
    def __init__(self, state: ConversationState) -> None:
        super().__init__(state)

    @workflow.run
    async def run(self, state: ConversationState) -> ConversationResult:
        """Look, then talk."""
        await self._look()
        return await super().run(state)
