"""The kinds of kills, and what was in flight when each struck."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import psutil

from tests.chaos.model import Model
from tests.chaos.product import Product, kill

_RESTART_SECONDS = 180.0


class Kind(StrEnum):
    """What is killed with SIGKILL."""

    WORKER = "a worker in mid-call"
    API = "the API in mid-request"
    POSTGRES = "PostgreSQL"
    BACKEND = "a PostgreSQL backend"
    TEMPORAL = "the Temporal server"
    CHILDREN = "all of these at once"
    SUPERVISOR = "the supervisor"


class Clients(Protocol):
    """A load, as far as kills look at it."""

    @property
    def open_requests(self) -> int:
        """Requests that wait for their answer at this moment."""
        ...


@dataclass(frozen=True)
class Kill:
    """One kill. `at` is Unix time, `in_flight` counts model calls at that moment: those of the
    victim where it is a worker. `requests` counts clients that waited for the API."""

    kind: Kind
    at: float
    in_flight: int
    requests: int
    ready_after: float
    """Seconds until everything was ready again."""
    hurried: bool
    """Whether the next kill came without waiting for the turns that were in flight at this one."""

    @property
    def counts(self) -> bool:
        """Whether anything was there to be lost."""
        return self.in_flight > 0 and (self.kind is not Kind.API or self.requests > 0)


async def strike(
    kind: Kind,
    product: Product,
    model: Model,
    load: Clients,
    dice: random.Random,
    *,
    hurried: bool,
) -> Kill:
    """Kill, and wait until what was killed is there and ready again."""
    pids = product.pids()
    flight = model.in_flight([pids[name] for name in product.workers])
    victims = _victims(kind, product, pids, flight, dice)
    in_flight = flight[victims[0]] if kind is Kind.WORKER else flight.total()
    requests = load.open_requests
    at = time.time()
    for pid in victims:
        kill(pid)
    if kind is Kind.SUPERVISOR:
        await product.restart()
    else:
        killed = [name for name in product.children if pids[name] in victims]
        await product.up.has_replaced(*killed, old=pids, timeout=_RESTART_SECONDS)
    return Kill(kind, at, in_flight, requests, time.time() - at, hurried)


def _victims(
    kind: Kind,
    product: Product,
    pids: dict[str, int],
    flight: Counter[int],
    dice: random.Random,
) -> list[int]:
    match kind:
        case Kind.WORKER:
            workers = [pids[name] for name in product.workers]
            return [max(workers, key=lambda pid: flight[pid])]
        case Kind.API:
            return [pids["api"]]
        case Kind.POSTGRES:
            return [pids["postgres"]]
        case Kind.BACKEND:
            return [dice.choice(_backends(pids["postgres"]))]
        case Kind.TEMPORAL:
            return [pids["temporal"]]
        case Kind.CHILDREN:
            return [pids[name] for name in product.children]
        case Kind.SUPERVISOR:
            return [pids["supervisor"]]


def _backends(postmaster: int) -> list[int]:
    """Return the processes that serve connections to the product's database."""
    return [
        child.pid
        for child in psutil.Process(postmaster).children()
        if " conclave [local]" in " ".join(child.cmdline())
    ]
