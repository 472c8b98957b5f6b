"""The conversations of a chaos run, over HTTP only, by clients that never give up.

A client whose request fails (no connection, a cut one, 5xx, 202) sends the same request again
with the same Idempotency-Key until it has an answer: that is all a client must know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.product import Product
from tests.waiting import until

_PATIENCE_SECONDS = 180.0
_ASK_AGAIN_SECONDS = 0.3
_REQUEST_SECONDS = 15.0
Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a client was told when its prompt was answered."""

    conversation_id: int
    key: str
    prompt: str
    messages: list[Json]
    turn_count: int


@dataclass
class Load:
    """Keeps conversations going until told to finish.

    `talks` run by themselves; in `dialogues` a client advances turn by turn, sends every second
    prompt twice at once, and asks for each answer again.
    """

    product: Product
    talks: int
    dialogues: int
    turns: int
    answers: list[Answer] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    """Conversations whose creation was answered; a cut answer leaves others behind."""
    open_requests: int = 0
    """Requests to advance that wait for their answer at this moment."""
    retries: int = 0
    _agents: list[int] = field(default_factory=list)
    _finishing: bool = False
    _client: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(
            timeout=httpx.Timeout(_REQUEST_SECONDS, connect=3.0)
        )
    )

    async def run(self) -> None:
        """Talk until `finish`, then until every conversation begun is over."""
        async with self._client, asyncio.TaskGroup() as group:
            for name in ("Ada", "Grace", "Barbara"):
                made = await self._ask(
                    "POST", "/agents", {"name": name, "provider": "openai", "model": "gpt-4o-mini"}
                )
                self._agents.append(made["id"])
            for number in range(self.talks):
                group.create_task(self._repeat(self._talk, number))
            for number in range(self.dialogues):
                group.create_task(self._repeat(self._dialogue, number))

    def finish(self) -> None:
        """Begin no more conversations."""
        self._finishing = True

    async def _repeat(self, hold: Callable[[int], Awaitable[None]], number: int) -> None:
        while not self._finishing:
            await hold(number)

    async def _talk(self, number: int) -> None:
        opening = "Let us talk about tea." if number % 2 else None
        conversation_id = await self._create(number, auto_run=True, initial_prompt=opening)
        await until(
            lambda: self._is_over(conversation_id),
            timeout=_PATIENCE_SECONDS,
            every=0.5,
            what=f"the end of conversation {conversation_id}",
        )

    async def _is_over(self, conversation_id: int) -> bool:
        found = await self._ask("GET", f"/conversations/{conversation_id}")
        return found["status"] not in {"pending", "active"}

    async def _dialogue(self, number: int) -> None:
        conversation_id = await self._create(number, auto_run=False)
        for turn in range(1, self.turns + 1):
            prompt = f"prompt {turn} of {conversation_id}"
            copies = 2 if turn % 2 == 0 else 1
            told = await asyncio.gather(
                *(self._advance(conversation_id, prompt) for _ in range(copies))
            )
            told.append(await self._advance(conversation_id, prompt))
            self.answers += told
        if conversation_id % 2:
            await self._ask("POST", f"/conversations/{conversation_id}/end")

    async def _create(self, number: int, **fields: object) -> int:
        shift = number % len(self._agents)
        body = {
            "topic": f"chaos {number}",
            "agent_ids": [*self._agents[shift:], *self._agents[:shift]],
            "max_turns": self.turns,
            **fields,
        }
        made = await self._ask("POST", "/conversations", body)
        self.known.add(made["id"])
        return made["id"]

    async def _advance(self, conversation_id: int, prompt: str) -> Answer:
        self.open_requests += 1
        try:
            told = await self._ask(
                "POST",
                f"/conversations/{conversation_id}/advance",
                {"prompt": prompt},
                key=prompt,
            )
        finally:
            self.open_requests -= 1
        turn_count = told["conversation"]["turn_count"]
        return Answer(conversation_id, prompt, prompt, told["messages"], turn_count)

    async def _ask(
        self, method: str, path: str, body: Json | None = None, *, key: str | None = None
    ) -> Json:
        """Send a request until it is answered; any refusal fails the run."""

        async def attempt() -> httpx.Response | None:
            try:
                response = await self._client.request(
                    method,
                    self.product.api + path,
                    json=body,
                    headers={} if key is None else {"Idempotency-Key": key},
                )
            except httpx.TransportError:
                self.retries += 1
                return None
            if response.status_code == 202 or response.status_code >= 500:
                self.retries += 1
                return None
            return response

        response = await until(
            attempt, timeout=_PATIENCE_SECONDS, every=_ASK_AGAIN_SECONDS, what=f"{method} {path}"
        )
        assert response is not None
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    async def end_strays(self) -> None:
        """End what was created for a client that never learned of it and so never spoke."""
        listed = await self.product.rows(
            "SELECT id FROM conversations WHERE NOT auto_run AND NOT final AND turn_count = 0"
        )
        async with httpx.AsyncClient(base_url=self.product.api) as client:
            for row in listed:
                if row["id"] not in self.known:
                    response = await client.post(f"/conversations/{row['id']}/end")
                    response.raise_for_status()
