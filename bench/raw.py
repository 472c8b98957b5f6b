"""The raw arm: the plain SDK, an Update that runs one activity which makes the same litellm call
and one commit. Same server, converter, sandbox, queue settings and worker process shape.

Run as a program it is that arm's worker: `python -m bench.raw` with the product's environment.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from sqlalchemy import text

    from conclave.adapters.llm.gateway import LiteLLMGateway
    from conclave.container import temporal_client
    from conclave.db import Database
    from conclave.settings import get_settings
    from schema.domain.conversations import MessageRole
    from schema.domain.llm import ModelRequest, PromptMessage
    from schema.domain.providers import ProviderAccess, ProviderName
    from worker.sandbox import sandboxed_runner
    from workflows import policies

QUEUE = "bench-raw"
MODEL = "gpt-4o-mini"


class Ask(BaseModel):
    """One turn of the raw arm."""

    number: int
    more: int = 0
    """How many activities besides, which do nothing."""


class Answer(BaseModel):
    """Its result."""

    number: int


@workflow.defn(name="BenchRaw")
class RawWorkflow:
    """Waits for Updates; each runs one activity."""

    @workflow.run
    async def run(self) -> None:
        """Live until cancelled."""
        await workflow.wait_condition(lambda: False)

    @workflow.update(name="ask")
    async def ask(self, asked: Ask) -> Answer:
        """Run the one activity, and those besides."""
        answer = await workflow.execute_activity(
            "bench.complete",
            asked,
            result_type=Answer,
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
        )
        for _ in range(asked.more):
            await workflow.execute_activity(
                "bench.nothing",
                asked,
                result_type=Answer,
                start_to_close_timeout=timedelta(seconds=60),
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            )
        return answer


@workflow.defn(name="BenchTask")
class RawTask:
    """Runs as many model calls, one after the other, and is over."""

    @workflow.run
    async def run(self, asked: Ask) -> Answer:
        """Make the calls."""
        answer = Answer(number=asked.number)
        for _ in range(asked.more):
            answer = await workflow.execute_activity(
                "bench.complete",
                asked,
                result_type=Answer,
                start_to_close_timeout=timedelta(seconds=60),
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            )
        return answer


class RawActivities:
    """The same model call, one commit."""

    def __init__(self, db: Database, gateway: LiteLLMGateway, base_url: str) -> None:
        self._db = db
        self._gateway = gateway
        self._access = ProviderAccess(
            provider=ProviderName.OPENAI,
            api_key="sk-bench",
            base_url=base_url,
            default_model=MODEL,
        )

    @activity.defn(name="bench.complete")
    async def complete(self, asked: Ask) -> Answer:
        """Call the model and commit its reply."""
        request = ModelRequest(
            provider="openai",
            model=MODEL,
            messages=[
                PromptMessage(role=MessageRole.SYSTEM, content="You are an agent of a bench."),
                PromptMessage(role=MessageRole.USER, content=f"question {asked.number}"),
            ],
            temperature=0.7,
            max_tokens=4096,
            timeout=60,
            speaker="raw",
        )
        reply = await self._gateway.complete(request, self._access, _ignore)
        async with self._db.transaction() as tx:
            await tx.conn.execute(
                text("INSERT INTO bench_replies (content) VALUES (:content)"),
                {"content": reply.text},
            )
        return Answer(number=asked.number)


@activity.defn(name="bench.nothing")
async def nothing(asked: Ask) -> Answer:
    """Make the round trip and nothing else."""
    return Answer(number=asked.number)


async def _ignore(offset: int, text: str) -> None:
    """Nobody watches the raw arm."""


async def main() -> None:
    """Work for the raw arm until killed."""
    settings = get_settings()
    gateway = LiteLLMGateway()
    gateway.load()
    db = Database.connect(settings.sqlalchemy_url, pool_size=settings.database_pool_size)
    async with db.transaction() as tx:
        await tx.conn.execute(
            text(
                "CREATE TABLE IF NOT EXISTS bench_replies "
                "(id bigint GENERATED ALWAYS AS IDENTITY, content text)"
            )
        )
    worker = Worker(
        await temporal_client(settings),
        task_queue=QUEUE,
        workflows=[RawWorkflow, RawTask],
        activities=[
            RawActivities(db, gateway, os.environ["OPENAI_BASE_URL"]).complete,
            nothing,
        ],
        workflow_runner=sandboxed_runner(),
        max_cached_workflows=settings.worker_max_cached_workflows,
        max_concurrent_activities=settings.worker_max_activities,
        sticky_queue_schedule_to_start_timeout=policies.STICKY_TIMEOUT,
    )
    async with worker:
        Path(os.environ["CONCLAVE_READY_FILE"]).write_text(str(os.getpid()))
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
