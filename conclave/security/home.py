"""Fields of the security settings as settings of the catalogue: the same document, by path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from conclave.db import Transaction
from conclave.security.service import SecurityService
from schema.domain.security import SecurityConfig
from schema.domain.settings import KeptSetting, SettingValue


class SecuritySettingHome:
    """A `SettingHome`. Names are paths such as `session.access_token_minutes`."""

    def __init__(self, security: SecurityService) -> None:
        self._security = security

    async def check(self, name: str, value: SettingValue | None) -> None:
        """Nothing: `store` judges by the ranges of SecurityConfig."""

    async def read(self, tx: Transaction) -> Mapping[str, KeptSetting]:
        """Return every number of the configuration in force."""
        document = await self._security.document(tx)
        config = SecurityConfig.model_validate(document).model_dump(mode="json")
        sections = cast("dict[str, dict[str, SettingValue | list[int] | None]]", config)
        return {
            f"{section}.{field}": KeptSetting(
                value=value, is_stored=field in document.get(section, {})
            )
            for section, fields in sections.items()
            for field, value in fields.items()
            if not isinstance(value, list)  # of no setting of the catalogue
        }

    async def store(self, tx: Transaction, name: str, value: SettingValue | None) -> None:
        """Store one field. Raises `Invalid` where it is out of range."""
        section, _, field = name.partition(".")
        await self._security.store(tx, {section: {field: value}})
