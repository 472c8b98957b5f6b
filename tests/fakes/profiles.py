"""Profiles without a database."""

from __future__ import annotations

from dataclasses import dataclass, field

from schema.domain.profiles import ProfileAccess
from schema.domain.providers import ProviderName


def profile(name: str, model: str, window: int | None = None, **fields: object) -> ProfileAccess:
    """Return a profile of OpenAI's, which an administrator made."""
    values = {
        "name": name,
        "provider": ProviderName.OPENAI,
        "model": model,
        "api_key": None,
        "base_url": None,
        "is_url_trusted": True,
        "context_window": window,
        "max_output_tokens": None,
        **fields,
    }
    return ProfileAccess.model_validate(values)


@dataclass
class Profiles:
    """Implements `conclave.ports.models.ProfileDirectory`."""

    known: dict[str, ProfileAccess] = field(default_factory=dict[str, ProfileAccess])

    def add(self, *profiles: ProfileAccess) -> None:
        """Make profiles known."""
        self.known |= {one.name: one for one in profiles}

    async def access(self, name: str) -> ProfileAccess | None:
        return self.known.get(name)

    async def default_name(self) -> str | None:
        return None
