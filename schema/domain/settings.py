"""Stored settings as they pass between the catalogue and the parts that keep them."""

from __future__ import annotations

from pydantic import Field

from schema.domain.base import Shape

SettingValue = str | int | float | bool


class KeptSetting(Shape):
    """A setting where it is kept. The value may be a secret in the clear: never log or return it.

    `value` None means that none is set, or, where `is_readable` is false, that it does not open.
    """

    value: SettingValue | None = Field(repr=False)
    is_stored: bool
    is_readable: bool = True
