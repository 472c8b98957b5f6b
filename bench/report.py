"""The figures: each with its bound, written between marks in docs/performance.md."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- figures -->", "<!-- /figures -->"


@dataclass(frozen=True)
class Figure:
    """One measured value against its bound."""

    name: str
    value: float
    bound: float
    at_most: bool
    detail: str
    unit: str = "×"

    @property
    def is_met(self) -> bool:
        """Whether the bound holds."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def row(self) -> str:
        """The figure as a row of the table."""
        sign = "≤" if self.at_most else "≥"
        met = "yes" if self.is_met else "**no**"
        return (
            f"| {self.name} | {self.value:.2f} {self.unit} | {sign} {self.bound:g} {self.unit} "
            f"| {met} | {self.detail} |"
        )


def table(figures: list[Figure]) -> str:
    """Return the figures as Markdown."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    head = (
        f"Measured {day} on {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{platform.system()}; five interleaved runs, medians.\n\n"
        "| figure | measured | bound | met | of it |\n|---|---|---|---|---|\n"
    )
    return head + "\n".join(figure.row for figure in figures) + "\n"


def write(figures: list[Figure]) -> None:
    """Put the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n{table(figures)}{_END}{after}", encoding="utf-8")
