"""The dispatcher: gives tasks agents and slots, begins their attempts, and tells whom that and
their ends made busy or idle.

A pass is one transaction under one lock for all processes: of two passes the second sees what the
first did. It is asked for after every commit that may let something begin (`TaskWakes.soon`), by
an outbox row, so that a crash loses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from conclave.db import Database, Transaction
from conclave.events import EventLog
from conclave.ports.agents import AgentRecord
from conclave.ports.settings import NamedSettings
from conclave.ports.threads import Attempt, TaskThreads
from conclave.tasks.dispatch_repository import AssignedTask, Claimed, DispatchRepository
from conclave.tasks.endings import TaskEndings
from conclave.tasks.matching import FreeAgent, Match, match
from conclave.tasks.rendering import note_of, task_event
from conclave.tasks.repository import TaskRepository
from conclave.tasks.wakes import DISPATCH_TARGET, TaskWakes
from schema.domain.events import EventDraft, EventType
from schema.domain.tasks import TaskErrorType

_BATCH = 50


@dataclass
class _Pass:
    """What a pass did; `left_out`: somebody was changing a task just then."""

    begun: int = 0
    left_out: bool = False
    drafts: list[EventDraft] = field(default_factory=list[EventDraft])


class Dispatcher:
    """Hands out work."""

    def __init__(
        self,
        db: Database,
        events: EventLog,
        threads: TaskThreads,
        wakes: TaskWakes,
        endings: TaskEndings,
        settings: NamedSettings,
    ) -> None:
        self._db = db
        self._events = events
        self._threads = threads
        self._wakes = wakes
        self._endings = endings
        self._settings = settings
        self._dispatch = DispatchRepository()
        self._tasks = TaskRepository()
        self.agents: AgentRecord | None = None
        """Set by the composition root."""

    async def hand_out(self, _target: int = 0) -> None:
        """Begin everything that can begin. Raises `Unavailable`."""
        while await self._pass():
            pass

    async def _pass(self) -> bool:
        """Begin a batch; True where there may be more."""
        name = "general.auto_assign_tasks"
        assigns = bool((await self._settings.current(name))[name].value)
        async with self._db.transaction() as tx:
            await self._dispatch.hold(tx)
            owed = await self._dispatch.owed_passes(tx, DISPATCH_TARGET)
            free = await self._dispatch.free_agents(tx)
            done = await self._begin(tx, free, assigns=assigns) if free else _Pass()
            if done.begun == 0 and assigns:
                done.drafts = await self._explain(tx)
            untold = [] if self.agents is None else await self.agents.untold(tx)
            if not (done.left_out or untold) and owed:
                await self._dispatch.forget(tx, owed)
            await self._events.append(tx, done.drafts)
        if self.agents is not None and untold:
            async with self._db.transaction() as tx:
                await self.agents.tell(tx, untold)
        return done.begun > 0 or bool(untold)

    async def _begin(self, tx: Transaction, free: Sequence[FreeAgent], *, assigns: bool) -> _Pass:
        own = await self._dispatch.assigned(tx, free, _BATCH)
        tools = {agent.id: agent.tools for agent in free}
        mismatched = [task for task in own if not task.required_tools <= tools[task.agent_id]]
        matches = [
            Match(task_id=task.id, agent_id=task.agent_id) for task in own if task not in mismatched
        ]
        taken = {agent.id: sum(one.agent_id == agent.id for one in matches) for agent in free}
        left = [
            agent.model_copy(update={"running": agent.running + taken[agent.id]})
            for agent in free
            if agent.running + taken[agent.id] < agent.most
        ]
        if assigns and left:
            waiting = await self._dispatch.unassigned(tx, left, _BATCH)
            matches += match(waiting, left)
        claimed = await self._claim(tx, matches) if matches else []
        refused = [await self._refuse(tx, task, tools[task.agent_id]) for task in mismatched]
        begun = len(claimed) + sum(refused)
        return _Pass(
            begun=begun,
            left_out=begun < len(matches) + len(mismatched),
            drafts=await self._told(tx, {task.id for task in own}, claimed),
        )

    async def _claim(self, tx: Transaction, matches: Sequence[Match]) -> list[Claimed]:
        """Lock threads, then tasks; those that somebody changes just now are left for later."""
        threads = await self._dispatch.threads(tx, [one.task_id for one in matches])
        held = await self._threads.lock(tx, threads.values())
        wanted = [one for one in matches if threads.get(one.task_id) in held]
        claimed = await self._dispatch.claim(tx, wanted) if wanted else []
        if not claimed:
            return []
        begun = await self._threads.begin(
            tx,
            [
                Attempt(
                    conversation_id=task.conversation_id,
                    agent_id=task.agent_id,
                    note=note_of(task.error) if task.workflow_run > 1 else None,
                )
                for task in claimed
            ],
        )
        await self._dispatch.begin_attempts(
            tx,
            {task.id: (begun[task.conversation_id].execution, task.agent_id) for task in claimed},
        )
        standings = await self._dispatch.standings(tx, [task.id for task in claimed])
        starts = [await self._wakes.input_of(one) for one in standings]
        await self._wakes.owe_starts(tx, starts)
        return claimed

    async def _refuse(self, tx: Transaction, task: AssignedTask, tools: frozenset[str]) -> bool:
        """End a task whose agent was named and lacks a tool it requires; False: not just now."""
        if not await self._threads.lock(tx, [task.conversation_id]):
            return False
        found = await self._tasks.get(tx, task.id)
        if found is not None:
            lacks = ", ".join(sorted(task.required_tools - tools))
            reason = f"The agent lacks a tool the task requires: {lacks}"
            await self._endings.fail(tx, found, TaskErrorType.TOOL_MISMATCH.value, reason)
        return True

    async def _told(
        self, tx: Transaction, own: set[int], claimed: Sequence[Claimed]
    ) -> list[EventDraft]:
        """Return the events of tasks that were given an agent just now."""
        drafts: list[EventDraft] = []
        for one in claimed:
            if one.id in own:
                continue
            task = await self._tasks.get(tx, one.id)
            if task is not None:
                changed = ["agent_id", "status"]
                drafts.append(task_event(task, EventType.TASK_UPDATED, changed=changed))
        return drafts

    async def _explain(self, tx: Transaction) -> list[EventDraft]:
        """Say why what waits does wait, where that has changed."""
        drafts: list[EventDraft] = []
        for task_id, fits in (await self._dispatch.explain(tx)).items():
            task = await self._tasks.get(tx, task_id)
            if task is None:
                continue
            drafts.append(task_event(task, EventType.TASK_UPDATED, changed=["status"]))
            if not fits:
                drafts.append(task_event(task, EventType.TASK_UNROUTABLE))
        return drafts
