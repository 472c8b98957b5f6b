"""What can be wrong with provider settings."""

from __future__ import annotations

from conclave.errors import NotFound, Unavailable


class ProviderNotFound(NotFound):
    """Not one of the providers known by name."""

    code = "provider_not_found"


class EncryptionKeyMissing(Unavailable):
    """A key cannot be stored or read: ENCRYPTION_KEY is not set."""

    code = "encryption_key_missing"
