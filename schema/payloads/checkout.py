"""What crosses the boundary of the checkout and removal workflows: ids and states, no text but
the public reason of a failure."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel


class CheckoutInput(BaseModel):
    """Which deliberate try at a project's checkout."""

    project_id: int
    run: int


class CheckoutOutcome(StrEnum):
    """What became of it."""

    READY = "ready"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """The project is deleted, or a later run makes its checkout."""


class CheckoutResult(BaseModel):
    """How it ended."""

    outcome: CheckoutOutcome


class CheckoutSettleInput(BaseModel):
    """Store that a run will not succeed."""

    project_id: int
    run: int
    reason: str
    """A public sentence."""


class RemovalInput(BaseModel):
    """The deleted project whose files go."""

    project_id: int


class RemovalResult(BaseModel):
    """The files are gone."""
