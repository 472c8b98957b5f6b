"""Tasks that ask for capabilities go to agents that have all of them."""

from __future__ import annotations

import pytest

from conclave.agents.commands import CreateAgent
from conclave.agents.errors import AgentNotFound
from conclave.container import Core
from schema.domain.agents import Agent
from schema.domain.events import EventType
from schema.domain.providers import ProviderName
from schema.domain.tasks import NewTask, Task, TaskStatus
from tests.waiting import until


async def agent(core: Core, name: str, *capabilities: str) -> Agent:
    made = await core.agents.create(CreateAgent(name=name, provider=ProviderName.OPENAI, model="m"))
    for capability in capabilities:
        await core.capabilities.add(made.id, capability)
    return made


async def settled(core: Core, task: Task) -> Task:
    await until(lambda: core.errands.is_idle, what="the dispatcher")
    return await core.tasks.get(task.id)


async def events(core: Core, task: Task) -> list[EventType]:
    async with core.db.transaction() as tx:
        found = await core.events.of_stream(tx, f"task-{task.id}", after_seq=0)
    return [event.type for event in found]


async def test_a_task_goes_to_an_agent_that_has_all_it_asks_for(core: Core):
    await agent(core, "Ada", "law")
    bob = await agent(core, "Bob", "law", "tax")
    task = await core.tasks.create(NewTask(title="t", required_capabilities=["tax", "law"]))
    assert (await settled(core, task)).agent_id == bob.id


async def test_a_task_that_nobody_can_do_says_so_and_goes_on_when_somebody_can(core: Core):
    ada = await agent(core, "Ada", "law")
    task = await core.tasks.create(NewTask(title="t", required_capabilities=["tax"]))
    waiting = await settled(core, task)
    assert (waiting.status, waiting.agent_id) == (TaskStatus.PENDING, None)
    assert waiting.pending_reason == "No agent fits that takes work"
    assert (await events(core, task)).count(EventType.TASK_UNROUTABLE) == 1
    await core.capabilities.add(ada.id, "tax")
    assert (await settled(core, task)).agent_id == ada.id


async def test_a_named_agent_is_not_asked_for_capabilities(core: Core):
    ada = await agent(core, "Ada")
    task = await core.tasks.create(
        NewTask(title="t", agent_id=ada.id, required_capabilities=["tax"])
    )
    assert (await settled(core, task)).status is TaskStatus.ASSIGNED


async def test_an_agent_has_a_capability_once_until_it_is_removed(core: Core):
    ada, bob = await agent(core, "Ada", "law"), await agent(core, "Bob", "law")
    law = await core.capabilities.add(ada.id, "law")
    assert await core.capabilities.list(ada.id) == [law]
    assert not await core.capabilities.remove(bob.id, law.id), "it is another agent's"
    assert await core.capabilities.remove(ada.id, law.id)
    assert not await core.capabilities.remove(ada.id, law.id)
    assert await core.capabilities.list(ada.id) == []
    with pytest.raises(AgentNotFound):
        await core.capabilities.add(99, "law")
