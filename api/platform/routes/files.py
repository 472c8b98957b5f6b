"""/api/v1/files."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.deps import CoreDep, OptionalPrincipalDep, PrincipalDep
from api.downloads import asked_piece, headers_of, is_known
from api.errors import documented
from api.input import CheckedRouter
from api.platform.listing import Slice, slice_of
from api.platform.schemas.fields import PathId
from api.platform.schemas.files import DownloadOut, FileOut
from api.uploads import UploadedForm, check_announced
from conclave.errors import Unauthenticated

UPLOAD_PATH = "/api/v1/files/upload"
"""It counts bytes by `storage.max_file_size_mb`, not by MAX_BODY_BYTES."""
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        }
    },
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
TaskId = Annotated[int | None, Query(ge=1, le=2**63 - 1)]

router = CheckedRouter(prefix="/api/v1/files", tags=["Files"])


@router.get("", summary="List files", responses=documented(401, 403, 422, 429, 503))
async def list_files(
    core: CoreDep,
    principal: PrincipalDep,
    response: Response,
    piece: Annotated[Slice, Depends(slice_of())],
    task_id: TaskId = None,
) -> list[FileOut]:
    """Newest first; with `task_id` those of one task, what was uploaded for it and its output."""
    found, total = await core.files.list(task_id, principal, piece.limit, piece.offset)
    return piece.answer([FileOut.from_domain(one) for one in found], total, response)


@router.post(
    "/upload",
    status_code=201,
    summary="Upload a file",
    responses=documented(400, 401, 403, 404, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": _FORM},
)
async def upload_file(
    core: CoreDep, principal: PrincipalDep, request: Request, task_id: TaskId = None
) -> FileOut:
    """One part named `file`; it may be as large as `storage.max_file_size_mb` says. Of its name
    the last part of the path is kept, without control characters."""
    check_announced(request, await core.files.most_bytes())
    sent = await UploadedForm(request, "file").file()
    stored = await core.files.upload(
        sent.filename, sent.content_type, sent.pieces, principal, task_id=task_id
    )
    return FileOut.from_domain(stored)


@router.get("/{file_id}", summary="Get a file", responses=documented(401, 403, 404, 422, 429, 503))
async def get_file(core: CoreDep, principal: PrincipalDep, file_id: PathId) -> FileOut:
    """What is known of it; its bytes are at `/download`."""
    return FileOut.from_domain(await core.files.get(file_id, principal))


@router.get(
    "/{file_id}/download",
    summary="Download a file",
    response_class=StreamingResponse,
    responses={
        **documented(401, 403, 404, 416, 422, 429, 500, 503),
        200: {"description": "The bytes", "content": _BYTES},
        206: {"description": "The range that was asked for", "content": _BYTES},
        304: {"description": "The caller has it already (If-None-Match)"},
    },
)
async def download_file(
    core: CoreDep,
    principal: OptionalPrincipalDep,
    request: Request,
    file_id: PathId,
    expires: str | None = None,
    signature: str | None = None,
) -> Response:
    """Always an attachment. One `Range` is heeded; the ETag is the content's SHA-256. With a
    signature (`GET /files/{id}/url`) no credentials are needed."""
    if expires is not None or signature is not None:
        file = await core.files.download_signed(file_id, expires, signature)
    elif principal is not None:
        file = await core.files.download(file_id, principal)
    else:
        raise Unauthenticated("Not authenticated")
    etag = f'"{file.sha256}"'
    if is_known(request.headers, etag):
        return Response(status_code=304, headers={"ETag": etag})
    piece = asked_piece(request.headers, file.size_bytes, etag)
    return StreamingResponse(
        core.files.bytes_of(file, piece.start, piece.stop),
        status_code=206 if piece.is_part else 200,
        headers=headers_of(file.filename, file.size_bytes, etag, piece),
        media_type=file.content_type,
    )


@router.get(
    "/{file_id}/url",
    summary="Get an address for a download",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def file_url(
    core: CoreDep, principal: PrincipalDep, request: Request, file_id: PathId
) -> DownloadOut:
    """Valid for an hour, for everybody who has it."""
    file, grant = await core.files.signed(file_id, principal)
    return DownloadOut.from_domain(file, grant, str(request.base_url))


@router.delete(
    "/{file_id}",
    status_code=204,
    summary="Delete a file",
    responses=documented(401, 403, 404, 422, 429, 503),
)
async def delete_file(core: CoreDep, principal: PrincipalDep, file_id: PathId) -> None:
    """Its bytes go too, unless another file has the same content."""
    await core.files.delete(file_id, principal)
