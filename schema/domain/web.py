"""HTTP as tools use it: what is sent, and what comes back of the answer."""

from __future__ import annotations

from pydantic import Field

from schema.domain.base import Shape


class WebRequest(Shape):
    """One request. Nothing is sent with it that does not stand here, but what HTTP itself needs."""

    method: str = "GET"
    url: str
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    body: str | None = Field(default=None, repr=False)


class WebAnswer(Shape):
    """An answer, after redirects. `size` is in bytes, as far as it was read."""

    status: int
    reason: str
    url: str
    """Where it came from in the end."""
    headers: dict[str, str]
    """Those that help to understand it; their names are in small letters."""
    content_type: str
    text: str | None
    """None for what is no text."""
    size: int
    is_cut: bool = False
    """There was more than is read at all."""
