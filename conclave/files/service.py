"""Files: taking them in, telling of them, giving them out, deleting them.

Bytes first, then the row: a row is committed once its bytes are safe. What a crash leaves between
the two are bytes without a row, which `conclave.files.upkeep` removes. Bytes go while their
content is held, so that nobody adds a row for it meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Collection, Sequence

from conclave.auditing import AuditLog
from conclave.db import Database, Transaction
from conclave.errors import ConclaveError, Missing
from conclave.files.errors import BytesGone, FileNotFound
from conclave.files.repository import FileRepository
from conclave.files.rules import StorageSettings, rules_in_force, type_of
from conclave.files.signing import DownloadGrant, DownloadSigner
from conclave.logging import get_logger
from conclave.ports.blobs import BlobStore, StagedBlob
from schema.domain.files import FileRef, NewFile, StoredFile, base_name
from schema.domain.identity import SYSTEM_PRINCIPAL, Principal
from schema.domain.tools import ToolPlace

_log = get_logger(__name__)


class FileService:
    """The use cases of files. A `FileDesk`, and `OutputFiles` for what agents hand in."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        blobs: BlobStore,
        settings: StorageSettings,
        signer: DownloadSigner,
    ) -> None:
        self._db = db
        self._audit = audit
        self._blobs = blobs
        self._settings = settings
        self._signer = signer
        self._files = FileRepository()

    async def most_bytes(self) -> int:
        """Return how large a file may be."""
        return (await rules_in_force(self._settings)).limit

    async def upload(
        self,
        filename: str,
        content_type: str | None,
        pieces: AsyncIterable[bytes],
        principal: Principal,
        *,
        task_id: int | None = None,
    ) -> StoredFile:
        """Take a file in as it comes.

        Raises `Missing` for an unknown task, `FileTypeRefused`, and `TooLarge` as soon as it is.
        """
        if task_id is not None:
            async with self._db.transaction() as tx:
                await self._require_task(tx, task_id)
        wanted = _named(filename, content_type).model_copy(
            update={"task_id": task_id, "uploaded_by_user_id": principal.user_id}
        )
        staged = await self._staged(wanted, pieces)
        async with _Cleared(self, staged), self._db.transaction() as tx:
            if task_id is not None:
                await self._require_task(tx, task_id)
            stored = await self._add(tx, wanted, staged)
            await self._audit.record(
                tx, "file_uploaded", "file", stored.id, details=stored.filename
            )
        return stored

    async def publish(
        self,
        place: ToolPlace,
        path: str,
        pieces: AsyncIterable[bytes],
        *,
        filename: str | None = None,
        description: str | None = None,
    ) -> StoredFile:
        """Store a file of a workspace; the same path and content again is the same file."""
        wanted = _named(filename or path, None)
        staged = await self._staged(wanted, pieces)
        publication = hashlib.sha256(f"{path}\x00{staged.sha256}".encode()).hexdigest()
        async with _Cleared(self, staged), self._db.transaction() as tx:
            await self._files.hold(tx, staged.sha256)
            task_id = await self._files.task_of(tx, place.conversation_id)
            stored = await self._files.published(tx, place.conversation_id, publication)
            if stored is None:
                about = {} if description is None else {"description": description}
                wanted = wanted.model_copy(
                    update={
                        "task_id": task_id,
                        "conversation_id": place.conversation_id,
                        "publication": publication,
                        "owner": await self._files.private_owner(tx, place.conversation_id),
                        "uploaded_by_agent_id": place.agent_id or None,
                        "metadata": {"path": path, **about},
                    }
                )
                stored = await self._add(tx, wanted, staged)
            if task_id is not None:
                await self._files.add_output(tx, task_id, stored.id)
        return stored

    async def get(self, file_id: int, principal: Principal) -> StoredFile:
        """Return one the caller may see. Raises `FileNotFound`."""
        async with self._db.transaction() as tx:
            return await self._visible(tx, file_id, principal)

    async def list(
        self, task_id: int | None, principal: Principal, limit: int, offset: int
    ) -> tuple[Sequence[StoredFile], int]:
        """Return a page, newest first; what is private to others is left out."""
        owner = None if principal.is_admin else principal.key
        async with self._db.transaction() as tx:
            return await self._files.list(tx, task_id, owner, limit, offset)

    async def signed(self, file_id: int, principal: Principal) -> tuple[StoredFile, DownloadGrant]:
        """Return a file and what lets anybody fetch it for an hour. Raises `FileNotFound`."""
        return await self.get(file_id, principal), self._signer.grant(file_id)

    async def download(self, file_id: int, principal: Principal) -> StoredFile:
        """Return a file whose bytes are there. Raises `FileNotFound`, `BytesGone`."""
        return await self._whole(await self.get(file_id, principal))

    async def download_signed(
        self, file_id: int, expires: str | None, signature: str | None
    ) -> StoredFile:
        """The same, by a signature. Raises `SignatureRefused` before anything is looked up."""
        self._signer.check(file_id, expires, signature)
        return await self._whole(await self.get(file_id, SYSTEM_PRINCIPAL))

    def bytes_of(self, file: StoredFile, start: int, stop: int) -> AsyncIterator[bytes]:
        """Return its bytes from `start` up to but without `stop`."""
        return self._blobs.read(file.sha256, start, stop)

    async def delete(self, file_id: int, principal: Principal) -> None:
        """Delete row and bytes, the latter unless another row has them. Raises `FileNotFound`."""
        async with self._db.transaction() as tx:
            file = await self._visible(tx, file_id, principal, lock=True)
            await self.remove_row(tx, file)
        await self.let_go(file.sha256)

    async def remove_row(
        self, tx: Transaction, file: StoredFile, *, principal: Principal | None = None
    ) -> None:
        """Delete a row and note who did; its bytes are `let_go` after the commit."""
        await self._files.delete(tx, file.id)
        await self._audit.record(
            tx, "file_deleted", "file", file.id, details=file.filename, principal=principal
        )

    async def let_go(self, sha256: str) -> bool:
        """Remove bytes that no row names; say whether there is nothing of them left to do.

        A store that is away is no failure of the caller's: upkeep comes back to it.
        """
        try:
            async with self._db.transaction() as tx:
                await self._files.hold(tx, sha256)
                if not await self._files.named(tx, [sha256]):
                    await self._blobs.delete(sha256)
        except ConclaveError as error:
            _log.warning("bytes are left to upkeep", error=error.code)
            return False
        return True

    async def clear(self, staged: StagedBlob, *, failed: bool) -> None:
        """Remove what was taken in and is not needed, as far as the store can be reached."""
        try:
            await self._blobs.discard(staged)
        except ConclaveError as error:
            _log.warning("staged bytes are left to upkeep", error=error.code)
        if failed:
            await self.let_go(staged.sha256)

    async def refs(self, tx: Transaction, ids: Sequence[int]) -> list[FileRef]:
        """Return files in the order asked for; those that are gone are left out."""
        found = await self._files.refs(tx, ids) if ids else {}
        return [found[one] for one in ids if one in found]

    async def exists(self, tx: Transaction, ids: Collection[int]) -> frozenset[int]:
        """Return which of these there are and everybody may see."""
        return await self._files.public_ids(tx, ids) if ids else frozenset()

    async def _staged(self, wanted: NewFile, pieces: AsyncIterable[bytes]) -> StagedBlob:
        rules = await rules_in_force(self._settings)
        rules.check(wanted.filename, wanted.content_type)
        return await self._blobs.stage(pieces, limit=rules.limit)

    async def _add(self, tx: Transaction, wanted: NewFile, staged: StagedBlob) -> StoredFile:
        await self._files.hold(tx, staged.sha256)
        await self._blobs.keep(staged)
        return await self._files.insert(
            tx, wanted, sha256=staged.sha256, size_bytes=staged.size_bytes
        )

    async def _require_task(self, tx: Transaction, task_id: int) -> None:
        if not await self._files.has_task(tx, task_id):
            raise Missing("task_id", f"Task {task_id} not found")

    async def _visible(
        self, tx: Transaction, file_id: int, principal: Principal, *, lock: bool = False
    ) -> StoredFile:
        file = await self._files.get(tx, file_id, lock=lock)
        is_seen = file is not None and (
            principal.is_admin or file.owner is None or file.owner == principal.key
        )
        if file is None or not is_seen:
            raise FileNotFound(file_id)
        return file

    async def _whole(self, file: StoredFile) -> StoredFile:
        if await self._blobs.size(file.sha256) != file.size_bytes:
            _log.error("a file's bytes are gone", file_id=file.id, sha256=file.sha256)
            raise BytesGone
        return file


class _Cleared:
    """Takes staged bytes away, and kept ones too where the block raises that should name them."""

    def __init__(self, files: FileService, staged: StagedBlob) -> None:
        self._files = files
        self._staged = staged

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self._files.clear(self._staged, failed=error is not None)


def _named(filename: str, content_type: str | None) -> NewFile:
    name = base_name(filename)
    return NewFile(filename=name, content_type=type_of(name, content_type))
