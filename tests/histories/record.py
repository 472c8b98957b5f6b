"""Record the histories that every later build has to replay: `python -m tests.histories.record`.

Runs scenes against real servers under a known key and writes one file a workflow run beside this
program; with names of scenes behind it, those alone. To be repeated only where workflows may break
with their past: before a release, when no run of the old build is open.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from temporalio.client import Client

from conclave.agents.commands import BusyPolicy
from conclave.circles.commands import AddMember, CreateCircle
from conclave.conversations.commands import Advance
from conclave.runtime import migrations
from schema.domain.agents import Agent
from schema.domain.conversations import Conversation, ConversationStatus
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.payloads import names
from tests.fakes.model_server import Behaviour, Failure, Received, Reply, echo
from tests.fakes.toolbox import TestTools
from tests.harness.checkouts import Yard, running_yard
from tests.harness.pipelines import running_mill
from tests.harness.runs import chain
from tests.harness.servers import running_postgres, running_temporal
from tests.harness.stack import Stack, running_stack
from tests.histories import checkouts, pipelines, tasks, tools, triggers, upkeep
from tests.histories.files import DIRECTORY, KEY, forget_place, recorded, store
from tests.waiting import until

Scene = Callable[[Stack], Awaitable[Conversation]]
Wanted = Callable[[Callable[..., object]], bool]


async def continued(stack: Stack) -> Conversation:
    """A talk in free form that is long enough to continue as new, finished."""
    agents = await stack.agents("Ada", "Bob", "Cyd")
    talk = await stack.conversation(agents, max_turns=75, turn_strategy="free_form")
    return await stack.reaches(talk.id, ConversationStatus.COMPLETED, timeout=60)


async def requests_and_retries(stack: Stack) -> Conversation:
    """Updates, a provider that fails twice, mentions, a second run; still open."""
    agents = await stack.agents("Ada", "Bob", "Cyd")
    talk = await stack.conversation(agents, auto_run=False, turn_strategy="mention_based")
    stack.model.enqueue(Failure(500), Failure(503))
    await _advance(stack, talk, "Hello")
    await asyncio.gather(*(_advance(stack, talk, f"@Cyd, {n}?") for n in range(3)))
    await _advance(stack, talk, None, agent_id=agents[1].id)
    return talk


async def completed_and_advanced(stack: Stack) -> Conversation:
    """A completed talk that takes one more turn, in an execution of its own."""
    agents = await stack.agents("Ada", "Bob")
    talk = await stack.conversation(agents, max_turns=2)
    await stack.reaches(talk.id, ConversationStatus.COMPLETED)
    await _advance(stack, talk, "And?")
    return await stack.get(talk.id)


async def failed_and_advanced(stack: Stack) -> Conversation:
    """A refused key fails the talk; a request makes it go on, in an execution of its own."""
    stack.model.enqueue(Failure(401, "no such key"))
    agents = await stack.agents("Ada", "Bob")
    talk = await stack.conversation(agents, max_turns=3)
    await stack.reaches(talk.id, ConversationStatus.FAILED)
    await _advance(stack, talk, "Again")
    return await stack.reaches(talk.id, ConversationStatus.COMPLETED)


async def ended_in_mid_turn(stack: Stack) -> Conversation:
    """A wake-up cuts the second turn."""
    talk = await _in_second_turn(stack)
    ended = await stack.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    await stack.client.get_workflow_handle(talk.workflow_id).result()
    return ended


async def cancelled_in_mid_turn(stack: Stack) -> Conversation:
    """Temporal's own cancel."""
    talk = await _in_second_turn(stack)
    await stack.client.get_workflow_handle(talk.workflow_id).cancel()
    return await stack.reaches(talk.id, ConversationStatus.CANCELLED)


async def running_in_mid_turn(stack: Stack) -> Conversation:
    """Still open, its second turn still being spoken."""
    return await _in_second_turn(stack)


async def led_paused_and_resumed(stack: Stack) -> Conversation:
    """A facilitator leads in a circle that pauses in mid-turn and resumes; finished."""
    talk, circle = await _paused(stack)
    await stack.core.circles.resume(circle)
    return await stack.reaches(talk.id, ConversationStatus.COMPLETED)


async def led_paused(stack: Stack) -> Conversation:
    """The same, still paused."""
    talk, _ = await _paused(stack)
    return talk


async def agent_gone(stack: Stack) -> Conversation:
    """One agent is deleted, then all are: the others go on, then the talk fails."""
    agents = await stack.agents("Ada", "Bob")
    talk = await stack.conversation(agents, auto_run=False)
    await _advance(stack, talk, "Hello")
    await stack.core.agents.delete(agents[1].id, BusyPolicy.REFUSE)
    await _advance(stack, talk, "Who is here?")
    await stack.core.agents.delete(agents[0].id, BusyPolicy.REFUSE)
    await stack.core.conversations.advance(
        talk.id, Advance(prompt="Nobody?"), LOCAL_PRINCIPAL, wait=False
    )
    return await stack.reaches(talk.id, ConversationStatus.FAILED)


SCENES: tuple[Scene, ...] = (
    continued,
    requests_and_retries,
    completed_and_advanced,
    failed_and_advanced,
    ended_in_mid_turn,
    cancelled_in_mid_turn,
    running_in_mid_turn,
    led_paused_and_resumed,
    led_paused,
    agent_gone,
)


async def _advance(
    stack: Stack, talk: Conversation, prompt: str | None, agent_id: int | None = None
) -> None:
    command = Advance(prompt=prompt, agent_id=agent_id)
    answer = await stack.core.conversations.advance(talk.id, command, LOCAL_PRINCIPAL, wait=True)
    if not answer.finished:
        raise AssertionError(f"a request of conversation {talk.id} was not answered")


def _slow_second(seconds: float) -> Callable[[Received], Behaviour]:
    def respond(asked: Received) -> Behaviour:
        return Reply(text=f"word {asked.n}", delay=seconds if asked.n == 2 else 0)

    return respond


async def _in_second_turn(stack: Stack) -> Conversation:
    stack.model.responder = _slow_second(30)
    agents = await stack.agents("Ada", "Bob")
    talk = await stack.conversation(agents, turn_strategy="free_form")
    await until(lambda: len(stack.model.requests) == 2, what="the second turn")
    return talk


async def _paused(stack: Stack) -> tuple[Conversation, str]:
    """Pause a led talk in its second turn; return once its workflow has taken that in."""
    stack.model.responder = _slow_second(0.5)
    agents = await stack.agents("Ada", "Bob", "Cyd")
    circle = await _circle(stack, agents)
    talk = await stack.conversation(
        agents,
        circle_name=circle,
        turn_strategy="facilitator_led",
        facilitator_id=agents[0].id,
        max_turns=6,
    )
    await until(lambda: len(stack.model.requests) == 2, what="the second turn")
    await stack.core.circles.pause(circle)

    async def has_looked() -> bool:
        [history] = await chain(stack.client, talk.workflow_id)
        looks = [
            event
            for event in history.events
            if event.activity_task_scheduled_event_attributes.activity_type.name
            == "conversations.look"
        ]
        return len(looks) >= 2 and (await stack.get(talk.id)).turn_count == 2

    await until(has_looked, what="the pause in the workflow")
    return talk, circle


async def _circle(stack: Stack, agents: list[Agent]) -> str:
    name = f"recorded-{agents[0].id}"
    await stack.core.circles.create(CreateCircle(name=name, display_name=name))
    for agent in agents:
        await stack.core.circles.add_member(name, AddMember(agent_id=agent.id))
    await stack.core.circles.start(name)
    return name


async def _record(stack: Stack, wanted: Wanted) -> None:
    for scene in filter(wanted, SCENES):
        stack.model.reset()
        stack.model.responder = echo
        talk = await scene(stack)
        executions = range(1, talk.execution + 1)
        ids = [names.conversation_workflow_id(talk.id, number) for number in executions]
        await _store(stack.client, scene.__name__, ids)
    for scene in filter(wanted, [*upkeep.SCENES, *triggers.SCENES]):
        await _store(stack.client, scene.__name__, await scene(stack))


async def _record_tools(stack: Stack, toolbox: TestTools, wanted: Wanted) -> None:
    for scene in filter(wanted, [*tools.SCENES, *tasks.SCENES]):
        stack.model.reset()
        toolbox.reset()
        await _store(stack.client, scene.__name__, await scene(stack, toolbox))


async def _record_checkouts(yard: Yard, wanted: Wanted) -> None:
    for scene in filter(wanted, checkouts.SCENES):
        yard.server.fail.clear()
        yard.server.gate.set()
        await _store(yard.client, scene.__name__, await scene(yard))


async def _store(client: Client, scene: str, workflow_ids: list[str]) -> None:
    runs = [run for workflow_id in workflow_ids for run in await chain(client, workflow_id)]
    for path in DIRECTORY.glob(f"{scene}-*.json"):
        path.unlink()
    for number, run in enumerate(runs, 1):
        path = DIRECTORY / f"{scene}-{number}.json"
        await forget_place(run)
        store(path, run)
        print(path.name, len(run.events), "events")


async def _run(directory: Path, wanted: Wanted) -> None:
    async with (
        running_postgres(directory / "postgres") as postgres,
        running_temporal(directory) as temporal,
    ):
        migrations.upgrade(postgres.url())
        if any(
            map(wanted, [*SCENES, *upkeep.SCENES, *triggers.SCENES, *tools.SCENES, *tasks.SCENES])
        ):
            toolbox = TestTools(directory / "sent.txt")
            async with running_stack(
                postgres.url(),
                temporal.address,
                encryption_key=KEY,
                toolbox=toolbox.registry(),
            ) as stack:
                await _record(stack, wanted)
                await _record_tools(stack, toolbox, wanted)
        if any(map(wanted, checkouts.SCENES)):
            async with (
                running_yard(
                    postgres.url(), temporal.address, directory / "yard", encryption_key=KEY
                ) as yard,
                yard.worker(),
            ):
                await _record_checkouts(yard, wanted)
                yard.server.gate.set()
        if any(map(wanted, pipelines.SCENES)):
            async with (
                running_mill(postgres.url(), temporal.address, encryption_key=KEY) as mill,
                mill.worker(),
            ):
                for scene in filter(wanted, pipelines.SCENES):
                    await _store(mill.client, scene.__name__, await scene(mill))


def main() -> None:
    """Replace what is recorded, or the scenes that are named."""
    named = set(sys.argv[1:])
    if not named:
        for path in recorded():
            path.unlink()

    def wanted(scene: Callable[..., object]) -> bool:
        return not named or scene.__name__ in named

    with tempfile.TemporaryDirectory(prefix="conclave-record-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        asyncio.run(_run(directory, wanted))


if __name__ == "__main__":
    main()
