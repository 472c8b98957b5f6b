"""What the settings keep sealed: values that are secrets, `{"sealed": base64}` in their rows."""

from __future__ import annotations

from conclave.resealing import SealedDocument
from schema.tables.settings import SettingRow


def setting_context(name: int | str) -> str:
    """Return what a sealed setting is bound to: `category.key`."""
    return f"setting:{name}"


SEALED_PLACES = (SealedDocument(SettingRow, SettingRow.key, SettingRow.value, setting_context),)
