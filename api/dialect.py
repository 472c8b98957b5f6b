"""Dialects: each owns the shapes of its paths, and none of the rules behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue


@dataclass(frozen=True)
class Flaw:
    """One thing wrong with a request: where, why, and pydantic's name for it."""

    loc: tuple[str | int, ...]
    msg: str
    type: str


@dataclass(frozen=True)
class Problem:
    """An error on its way to a client, before a dialect gives it its envelope."""

    status: int
    message: str
    code: str = ""
    flaws: Sequence[Flaw] = ()
    details: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Dialect:
    """A family of paths and how it tells errors."""

    name: str
    prefixes: tuple[str, ...]
    """Paths that are one of these, or lie below one, are the dialect's."""
    render: Callable[[Problem], JsonValue]
    invalid_status: int = 422
    """The status of a request whose values do not fit."""

    def owns(self, path: str) -> bool:
        """Whether `path` speaks this dialect."""
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self.prefixes)


def dialect_of(path: str, dialects: Sequence[Dialect]) -> Dialect:
    """Return the dialect of a path; the first one answers for what nobody owns."""
    return next((dialect for dialect in dialects if dialect.owns(path)), dialects[0])
