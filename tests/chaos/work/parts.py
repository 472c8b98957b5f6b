"""The kinds of work a run is about: what they do, where it is stored, and what must hold of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from conclave.failpoints import Failpoint
from tests.chaos.work.load import Load, Scenario
from tests.chaos.work.snapshot import Snapshot

Check = Callable[[Snapshot], Iterator[str]]


@dataclass(frozen=True)
class Part:
    """A kind of work."""

    scenarios: tuple[Scenario, ...]
    left: str
    """A query for what is not over."""
    workflows: tuple[str, ...]
    """Types of Temporal's workflows."""
    places: tuple[Failpoint, ...] = ()
    """Where processes come by that work on it."""
    tables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Queries, by the name that their rows have in `Snapshot.more`."""
    checks: tuple[Check, ...] = ()
    prepare: Callable[[Load], Awaitable[None]] | None = None
    """Done once there are agents, before anything else."""
