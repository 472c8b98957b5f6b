"""The payload codec: what crosses the workflow boundary is encrypted, failures included.

Format: metadata `encoding: binary/encrypted`, `conclave-key-id` (hex) for rotation; the data is
a payload sealed by `conclave.crypto`. Payloads without that encoding pass as they are, so that
what a person types into Temporal's CLI is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
)

from conclave.crypto import Keyring, key_id_of

ENCODING = b"binary/encrypted"
KEY_ID = "conclave-key-id"
_CONTEXT = b"temporal payload"


class EncryptionCodec(PayloadCodec):
    """Seals every payload with the first key; opens with whichever sealed it."""

    def __init__(self, keys: Keyring) -> None:
        super().__init__()
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt payloads."""
        return [self._sealed(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted. Raises `UndecipherableSecret`."""
        return [
            Payload.FromString(self._keys.open_bytes(payload.data, _CONTEXT))
            if payload.metadata.get("encoding") == ENCODING
            else payload
            for payload in payloads
        ]

    def _sealed(self, payload: Payload) -> Payload:
        data = self._keys.seal_bytes(payload.SerializeToString(), _CONTEXT)
        # Of what was sealed, not of the keyring: that may have learnt a new key in between.
        metadata = {"encoding": ENCODING, KEY_ID: key_id_of(data).hex().encode()}
        return Payload(metadata=metadata, data=data)


def data_converter(keys: Keyring | None) -> DataConverter:
    """Return the converter of every client, worker and replayer."""
    converter = dataclasses.replace(
        pydantic_data_converter,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
    if keys is None:
        return converter
    return dataclasses.replace(converter, payload_codec=EncryptionCodec(keys))
