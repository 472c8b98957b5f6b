"""What can go wrong with files."""

from __future__ import annotations

from conclave.errors import ConclaveError, Forbidden, NotFound, PublicFailure


class FileNotFound(NotFound):
    """No such file, or one of somebody else's private chat."""

    code = "file_not_found"

    def __init__(self, file_id: int) -> None:
        super().__init__(f"File {file_id} not found")


class FileTypeRefused(ConclaveError):
    """`storage.allowed_file_types` does not name it."""

    code = "file_type_refused"
    status = 415

    def __init__(self, filename: str, content_type: str) -> None:
        super().__init__(f"Files like {filename} ({content_type}) are not taken")


class SignatureRefused(Forbidden):
    """The signature of a download does not hold, or not any more."""

    code = "signature_refused"


class BytesGone(PublicFailure):
    """There is a row and no bytes: somebody else removed them from the store."""

    code = "bytes_gone"
    sentence = "The file's content is not in the store any more"
