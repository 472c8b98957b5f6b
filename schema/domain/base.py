"""The base of every domain shape."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """Immutable; unknown fields are ignored, as they are in every dialect."""

    model_config = ConfigDict(frozen=True, extra="ignore")
