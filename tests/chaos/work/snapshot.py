"""All that there is at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.ledger_checks import Row
from tests.chaos.work.load import Told


@dataclass
class Snapshot:
    """The tables, whole and in order, and the world outside: files, the model, what was told."""

    tasks: list[Row]
    attempts: list[Row]
    letters: list[Row]
    approvals: list[Row]
    executions: list[Row]
    conversations: list[Row]
    messages: list[Row]
    inbox: list[Row]
    outbox: list[Row]
    calls: list[Row]
    events: list[Row]
    streams: list[Row]
    agents: list[Row]
    """As the API shows them: their status is derived."""
    lines: list[str]
    """What calls of the tool appended, in all workspaces."""
    received: int
    sent: set[int]
    told: Told
    runs: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Temporal's runs: the statuses found under each workflow id."""
    more: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])
    """Tables of other kinds of work, by name."""
