"""Tokens that kill processes at named places (`conclave.failpoints`), and who died of them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conclave.failpoints import LOG, Failpoint


@dataclass
class Tokens:
    """A directory of tokens."""

    directory: Path
    _given: int = 0

    def give(self, place: Failpoint) -> None:
        """Let the next process that reaches the place die there."""
        self._given += 1
        (self.directory / f"{place}.{self._given}").touch()

    @property
    def are_taken(self) -> bool:
        """Whether every token was taken."""
        return all(path.name == LOG for path in self.directory.iterdir())

    def struck(self) -> list[dict[str, Any]]:
        """Return who died, in order."""
        log = self.directory / LOG
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def counted(self) -> Counter[Failpoint]:
        """Return how many died at each place."""
        return Counter(Failpoint(line["place"]) for line in self.struck())
