"""What every DELETE of this dialect answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Deleted(BaseModel):
    """It is gone."""

    deleted: Literal[True] = True
