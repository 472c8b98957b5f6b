"""Calls judged a moment ago: kept from the commit on, for a second, once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from conclave.db import Database
from conclave.tools import handoffs as module
from conclave.tools.handoffs import FRESH_SECONDS, Handoffs
from conclave.tools.ledger import OpenedExecution
from schema.domain.conversations import ConversationKind
from schema.domain.tools import Effect, ExecutionStatus, ToolAsker, ToolExecution, ToolVerdict


class Clock:
    """A time that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def line(execution_id: int) -> OpenedExecution:
    execution = ToolExecution(
        id=execution_id,
        conversation_id=1,
        execution=1,
        turn=1,
        step=1,
        position=0,
        tool_use_id="call",
        tool_name="list_files",
        arguments={},
        effect=Effect.READ,
        verdict=ToolVerdict.ALLOW,
        rule="reading",
        binding="",
        status=ExecutionStatus.READY,
        approval_id=None,
        agent_id=1,
        attempt=0,
        result=None,
        is_error=False,
        created_at=datetime.now(UTC),
        started_at=None,
        ended_at=None,
    )
    asker = ToolAsker(
        conversation_id=1,
        kind=ConversationKind.CHAT,
        owner="local",
        circle_id=None,
        agent_id=1,
        agent_name="Ada",
    )
    return OpenedExecution(
        execution=execution, asker=asker, project_id=None, is_granted=False, is_over=False
    )


async def test_a_line_is_there_after_the_commit_and_for_one_taker(database: Database):
    kept, left = Handoffs(Clock()), line(7)
    async with database.transaction() as tx:
        kept.leave(tx, left)
        assert kept.take(7) is None
    assert kept.take(7) is left
    assert kept.take(7) is None


async def test_what_was_rolled_back_is_not_there(database: Database):
    kept = Handoffs(Clock())

    async def fail() -> None:
        async with database.transaction() as tx:
            kept.leave(tx, line(7))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert kept.take(7) is None


@pytest.mark.parametrize(("later", "is_there"), [(FRESH_SECONDS, True), (1.01, False)])
async def test_a_line_is_fresh_for_a_second(database: Database, later: float, *, is_there: bool):
    clock = Clock()
    kept = Handoffs(clock)
    async with database.transaction() as tx:
        kept.leave(tx, line(7))
    clock.now += later
    assert (kept.take(7) is not None) is is_there


async def test_lines_that_nobody_takes_make_room(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_MOST", 2)
    kept = Handoffs(Clock())
    async with database.transaction() as tx:
        for number in (1, 2, 3):
            kept.leave(tx, line(number))
    assert [number for number in (1, 2, 3) if kept.take(number)] == [2, 3]
