"""What can be wrong with a setting."""

from __future__ import annotations

from conclave.errors import NotFound


class SettingNotFound(NotFound):
    """Not in the catalogue."""

    code = "setting_not_found"
