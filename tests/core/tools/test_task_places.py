"""Where a call runs: a task's calls know whose they are, as read or as handed on."""

from __future__ import annotations

import pytest

from conclave.db import Database
from conclave.events import EventLog
from conclave.tools.ledger import ToolLedger
from conclave.tools.repository import JudgedCall, ToolRepository
from schema.domain.conversations import ConversationKind
from schema.domain.tools import Effect, ExecutionStatus, StepPlace, ToolVerdict
from tests.core.workspaces.conftest import Silent
from tests.harness.task_rows import a_conversation, a_task

CALL = JudgedCall(
    position=0,
    tool_use_id="call-1",
    tool_name="read_file",
    arguments={},
    effect=Effect.READ,
    verdict=ToolVerdict.ALLOW,
    rule="default",
    binding="",
    status=ExecutionStatus.READY,
)


@pytest.mark.parametrize("kind", [ConversationKind.TASK, ConversationKind.CHAT])
async def test_a_call_knows_its_task(clean_database: Database, kind: ConversationKind):
    db, repository = clean_database, ToolRepository()
    task_id = None
    if kind is ConversationKind.TASK:
        await a_task(db)
        task = await a_task(db, project_id=5)
        conversation, task_id = task.conversation_id, task.id
    else:
        conversation = await a_conversation(db, kind, project_id=5)
    place = StepPlace(conversation_id=conversation, execution=1, turn=1, step=1)
    async with db.transaction() as tx:
        (line,) = await repository.insert(tx, place, 1, [CALL])
        around = await repository.surroundings(tx, conversation)
    ledger = ToolLedger(EventLog(Silent()))  # pyright: ignore[reportArgumentType]  # poked alone
    for lock in (False, True):
        async with db.transaction() as tx:
            opened = await ledger.opened(tx, line.id, lock=lock)
        assert opened is not None
        assert (opened.project_id, opened.task_id) == (5, task_id)
    assert (around.project_id, around.task_id) == (5, task_id)
