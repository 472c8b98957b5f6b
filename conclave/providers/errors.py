"""What can be wrong with provider settings."""

from __future__ import annotations

from conclave.errors import NotFound


class ProviderNotFound(NotFound):
    """Not one of the providers known by name."""

    code = "provider_not_found"
