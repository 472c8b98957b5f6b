"""The composition root's second half: what makes work and sees it to its end.

Built by `conclave.container` alone. Each part is a field of `Workforce`, and an attribute of
`Core`.
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave.adapters.store.blobs import blob_store
from conclave.files.service import FileService
from conclave.files.signing import DownloadSigner
from conclave.ground import Ground
from conclave.ports.blobs import BlobStore


@dataclass(frozen=True)
class Workforce:
    """Tasks, pipelines, triggers, budgets and what they need."""

    files: FileService
    blobs: BlobStore


def build_workforce(ground: Ground) -> Workforce:
    """Build the services of work on what the rest of the core is."""
    blobs = blob_store(
        ground.settings.object_store_url, ground.settings.conclave_data_dir, ground.environment
    )
    return Workforce(
        files=FileService(
            ground.db, ground.audit, blobs, ground.plain, DownloadSigner(ground.keys)
        ),
        blobs=blobs,
    )
