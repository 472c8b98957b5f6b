"""/api/v1/files: bytes in, bytes out, and who may have them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from api.app import create_app
from conclave.container import Core
from conclave.db import Database
from conclave.settings import AuthMode, Settings
from schema.domain.conversations import ConversationKind
from schema.domain.tools import ToolPlace
from schema.tables.files import FileRow
from tests.api.conftest import local_client
from tests.api.live import serving
from tests.fakes.callers import bearer
from tests.harness.task_rows import a_conversation, a_task

FILES = "/api/v1/files"
CONTENT = os.urandom(3 * 1024 * 1024 + 17)


async def uploaded(
    client: httpx.AsyncClient,
    content: bytes = CONTENT,
    name: str = "data.bin",
    kind: str = "application/x-data",
) -> dict[str, Any]:
    answer = await client.post(f"{FILES}/upload", files={"file": (name, content, kind)})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def set_to(client: httpx.AsyncClient, key: str, value: object) -> None:
    answer = await client.put(f"/api/v1/settings/storage/{key}", json={"value": value})
    assert answer.status_code == 200, answer.text


def stored(settings: Settings) -> list[str]:
    """Every file in the store, by its path."""
    root = settings.conclave_data_dir / "files"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def empty_store(api_settings: Settings) -> None:
    for name in stored(api_settings):
        (api_settings.conclave_data_dir / "files" / name).unlink()


async def test_what_is_uploaded_is_what_is_downloaded(
    client: httpx.AsyncClient, api_settings: Settings
):
    """Three megabytes, where other bodies are refused beyond one."""
    assert len(CONTENT) > api_settings.max_body_bytes
    file = await uploaded(client)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert file == {
        "id": 1,
        "filename": "data.bin",
        "content_type": "application/x-data",
        "size_bytes": len(CONTENT),
        "sha256": digest,
        "task_id": None,
        "tags": [],
        "metadata": {},
        "uploaded_by_user_id": 13,
        "uploaded_by_agent_id": None,
        "created_at": file["created_at"],
    }
    assert (await client.get(f"{FILES}/1")).json() == file
    listed = await client.get(f"{FILES}/")
    assert (listed.json(), listed.headers["x-total-count"]) == ([file], "1")

    answer = await client.get(f"{FILES}/1/download")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "application/x-data"
    assert answer.headers["etag"] == f'"{digest}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert stored(api_settings) == [f"blobs/{digest[:2]}/{digest}"]


async def test_a_file_of_no_bytes_is_a_file(client: httpx.AsyncClient):
    file = await uploaded(client, b"", "empty.txt", "text/plain")
    assert file["size_bytes"] == 0
    answer = await client.get(f"{FILES}/1/download")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "0"
    assert (await client.get(f"{FILES}/1/download", headers={"range": "bytes=0-"})).status_code == (
        416
    )


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\plan.docx", "plan.docx"),
        ("a/b/.", "file"),
        ("..", "file"),
        ("one\ttwo\u0085\u2028.txt", "onetwo.txt"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("Öl & 价格 🚀.pdf", "Öl & 价格 🚀.pdf"),
        (".gitignore", ".gitignore"),
        ("x" * 300 + ".tar", "x" * 251 + ".tar"),
    ],
)
async def test_only_the_base_name_is_kept(client: httpx.AsyncClient, sent: str, kept: str):
    boundary = "limit"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="'.encode()
        + sent.replace("\\", "\\\\").encode()
        + f'"\r\n\r\nhello\r\n--{boundary}--\r\n'.encode()
    )
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    answer = await client.post(f"{FILES}/upload", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["filename"] == kept
    told = (await client.get(f"{FILES}/1/download")).headers["content-disposition"]
    assert told.startswith('attachment; filename="')
    assert told.endswith(f"filename*=UTF-8''{quote(kept, safe='')}")
    assert told.isascii()


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=1048570-2097160", 1048570, 2097161),
        (f"bytes={len(CONTENT) - 3}-", len(CONTENT) - 3, len(CONTENT)),
        ("bytes=-7", len(CONTENT) - 7, len(CONTENT)),
        ("bytes=10-99999999999", 10, len(CONTENT)),
        (f"bytes=-{len(CONTENT) * 2}", 0, len(CONTENT)),
    ],
)
async def test_a_range_is_answered_with_that_part(
    client: httpx.AsyncClient, asked: str, start: int, stop: int
):
    await uploaded(client)
    answer = await client.get(f"{FILES}/1/download", headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0", f"bytes={len(CONTENT)}-"])
async def test_a_range_beyond_the_end_is_refused_with_the_size(
    client: httpx.AsyncClient, asked: str
):
    await uploaded(client)
    answer = await client.get(f"{FILES}/1/download", headers={"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert answer.json()["error_name"] == "RANGE_UNSATISFIABLE"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "x"])
async def test_what_is_no_single_range_is_answered_with_the_whole(
    client: httpx.AsyncClient, asked: str
):
    await uploaded(client, b"0123456789")
    answer = await client.get(f"{FILES}/1/download", headers={"range": asked})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


async def test_a_range_of_another_content_and_a_known_content(client: httpx.AsyncClient):
    file = await uploaded(client, b"0123456789")
    etag = f'"{file["sha256"]}"'
    path = f"{FILES}/1/download"
    same = await client.get(path, headers={"range": "bytes=1-2", "if-range": etag})
    other = await client.get(path, headers={"range": "bytes=1-2", "if-range": '"x"'})
    known = await client.get(path, headers={"if-none-match": f'"x", {etag}'})
    assert (same.status_code, same.content) == (206, b"12")
    assert (other.status_code, other.content) == (200, b"0123456789")
    assert (known.status_code, known.content) == (304, b"")
    head = await client.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")


async def chunks(size: int, seen: list[int]) -> AsyncIterator[bytes]:
    """A form whose file goes on and on, without saying how long."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
    for number in range(size):
        seen.append(number)
        yield os.urandom(64 * 1024)
    yield b"\r\n--b--\r\n"


async def test_a_file_over_the_limit_is_refused_while_it_comes(
    client: httpx.AsyncClient, api_settings: Settings, database: Database
):
    await set_to(client, "max_file_size_mb", 1)
    seen: list[int] = []
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await client.post(f"{FILES}/upload", content=chunks(64, seen), headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (413, "STG_003")
    assert stored(api_settings) == []
    async with database.transaction() as tx:
        assert (await tx.conn.execute(select(FileRow.id))).all() == []
    exact = await uploaded(client, b"x" * 1024 * 1024)
    assert exact["size_bytes"] == 1024 * 1024
    announced = await client.post(
        f"{FILES}/upload", files={"file": ("big", b"x" * (2 * 1024 * 1024))}
    )
    assert announced.status_code == 413


async def test_only_types_that_are_allowed_are_taken(client: httpx.AsyncClient):
    await set_to(client, "allowed_file_types", "image/*, .PDF, text/plain")
    for name, kind in (("a.png", "image/png"), ("b.pdf", "x/y"), ("c", "text/plain; charset=x")):
        assert await uploaded(client, b"x", name, kind)
    for name, kind in (("a.exe", "application/x-msdownload"), ("pdf", "x/y"), ("d", "text/html")):
        answer = await client.post(f"{FILES}/upload", files={"file": (name, b"x", kind)})
        assert (answer.status_code, answer.json()["error_code"]) == (415, "STG_001"), name


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 422),
        ({}, b"", 422),
        ({"content-type": "multipart/form-data"}, b"", 422),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b--\r\n", 422),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
            422,
        ),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nx'
            b"\r\n--b--\r\n",
            422,
        ),
        ({"content-type": "multipart/form-data; boundary=b"}, b"nonsense", 400),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut o',
            400,
        ),
        ({"content-type": "multipart/form-data; boundary=" + "b" * 300}, b"x", 400),
    ],
)
async def test_a_body_without_a_whole_file_stores_nothing(
    client: httpx.AsyncClient,
    api_settings: Settings,
    headers: dict[str, str],
    body: bytes,
    status: int,
):
    answer = await client.post(f"{FILES}/upload", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["details"]["errors"][0]["field"] == "body.file"
    assert (await client.get(FILES)).json() == []
    assert stored(api_settings) == []


async def test_what_stands_around_the_file_is_limited(client: httpx.AsyncClient):
    form = {"other": "x" * 70_000}
    answer = await client.post(f"{FILES}/upload", data=form, files={"file": ("a", b"x")})
    assert answer.status_code == 413
    fine = {"other": "x" * 1000}
    answer = await client.post(f"{FILES}/upload", data=fine, files={"file": ("a", b"x")})
    assert answer.status_code == 201


async def test_a_task_that_is_not_there_is_told_with_its_field(
    client: httpx.AsyncClient, api_settings: Settings
):
    answer = await client.post(f"{FILES}/upload?task_id=9", files={"file": ("a", b"x")})
    assert answer.status_code == 404
    assert answer.json()["details"]["field"] == "task_id"
    assert stored(api_settings) == []
    assert (await client.get(f"{FILES}?task_id=9")).json() == []


async def test_a_deleted_file_is_gone_with_its_bytes(
    client: httpx.AsyncClient, api_settings: Settings
):
    await uploaded(client)
    assert (await client.delete(f"{FILES}/1")).status_code == 204
    for path in ("", "/download", "/url"):
        assert (await client.get(f"{FILES}/1{path}")).status_code == 404
    assert (await client.delete(f"{FILES}/1")).status_code == 404
    assert stored(api_settings) == []


async def test_two_files_of_one_content_share_its_bytes(
    client: httpx.AsyncClient, api_settings: Settings
):
    await uploaded(client, name="a")
    await uploaded(client, name="b")
    assert len(stored(api_settings)) == 1
    assert (await client.delete(f"{FILES}/1")).status_code == 204
    assert (await client.get(f"{FILES}/2/download")).content == CONTENT
    assert (await client.delete(f"{FILES}/2")).status_code == 204
    assert stored(api_settings) == []


async def test_bytes_that_somebody_removed_are_told_as_gone(
    client: httpx.AsyncClient, api_settings: Settings
):
    await uploaded(client)
    (api_settings.conclave_data_dir / "files" / stored(api_settings)[0]).unlink()
    answer = await client.get(f"{FILES}/1/download")
    assert answer.status_code == 500
    assert answer.json()["detail"] == "The file's content is not in the store any more"


async def test_a_signed_address_needs_no_credentials_for_an_hour(
    client: httpx.AsyncClient, app: FastAPI, core: Core, monkeypatch: pytest.MonkeyPatch
):
    await uploaded(client, b"0123456789", "ö.txt", "text/plain")
    await uploaded(client, b"other")
    signed = (await client.get(f"{FILES}/1/url")).json()
    assert (signed["filename"], signed["expires_in"]) == ("ö.txt", 3600)
    assert signed["url"].startswith("http://127.0.0.1:8000/api/v1/files/1/download?expires=")
    url = signed["url"]
    async with local_client(app) as anybody:
        answer = await anybody.get(url, headers={"range": "bytes=2-4"})
        assert (answer.status_code, answer.content) == (206, b"234")
        assert (await anybody.get(f"{FILES}/1/download")).status_code == 401
        for other in (
            url.replace("/1/", "/2/"),
            url.replace("expires=", "expires=1"),
            url[:-1] + ("0" if url[-1] != "0" else "1"),
            url.partition("&")[0],
            url.replace("expires=", "expires=x"),
            url + "é",
        ):
            refused = await anybody.get(other)
            assert (refused.status_code, refused.json()["error_name"]) == (
                403,
                "SIGNATURE_REFUSED",
            ), other
        now = core.files._signer._clock()
        monkeypatch.setattr(core.files._signer, "_clock", lambda: now + 3601)
        assert (await anybody.get(url)).status_code == 403


async def test_a_viewer_reads_and_does_not_write(
    client: httpx.AsyncClient, core: Core, api_settings: Settings
):
    await uploaded(client)
    settings = api_settings.model_copy(update={"auth_mode": AuthMode.REQUIRED})
    async with local_client(create_app(settings, core), "https://conclave.example") as viewer:
        viewer.headers.update(bearer("viewer"))
        for path in ("", "/1", "/1/url", "/1/download"):
            assert (await viewer.get(f"{FILES}{path}")).status_code == 200
        url = (await viewer.get(f"{FILES}/1/url")).json()["url"]
        assert url.startswith("https://conclave.example/")
        assert (await viewer.delete(f"{FILES}/1")).status_code == 403
        refused = await viewer.post(f"{FILES}/upload", files={"file": ("a", b"x")})
        assert refused.status_code == 403


async def test_the_store_is_closed_to_others(client: httpx.AsyncClient, api_settings: Settings):
    await uploaded(client)
    root = api_settings.conclave_data_dir / "files"
    found = [root, *root.rglob("*")]
    assert len(found) >= 4
    for path in found:
        assert path.stat().st_mode & 0o077 == 0, path


async def test_over_a_real_socket_a_client_that_is_still_sending_gets_its_answer(
    client: httpx.AsyncClient, core: Core, api_settings: Settings
):
    """The rest is read and thrown away: a connection that is cut would lose the answer."""
    await set_to(client, "max_file_size_mb", 1)
    headers = {"content-type": "multipart/form-data; boundary=b", **bearer("admin")}
    async with serving(core, api_settings) as live, httpx.AsyncClient(timeout=30) as sender:
        path = f"{live.http}{FILES}/upload"
        for _ in range(2):
            answer = await sender.post(path, content=chunks(400, []), headers=headers)
            assert (answer.status_code, answer.json()["error_code"]) == (413, "STG_003")
        answer = await sender.post(
            path, files={"file": ("a", CONTENT[:1000])}, headers=bearer("admin")
        )
        assert answer.status_code == 201
        answer = await sender.get(f"{live.http}{FILES}/1/download", headers=bearer("admin"))
        assert answer.content == CONTENT[:1000]
    assert len(stored(api_settings)) == 1


async def test_what_a_private_chat_hands_in_is_not_there_for_others(
    outside: httpx.AsyncClient, core: Core, database: Database
):
    """The file of user 12, who is the operator; a task's file beside it is everybody's."""
    chat = await a_conversation(database, ConversationKind.CHAT, owner="user:12")
    place = ToolPlace(conversation_id=chat, agent_id=1)
    await core.files.publish(place, "diary.txt", chunks(1, []))
    task = await a_task(database)
    await core.files.publish(task.place, "plan.txt", chunks(1, []))
    for caller, seen in (("operator", 2), ("admin", 2), ("other operator", 1), ("viewer", 1)):
        outside.headers.update(bearer(caller))
        assert len((await outside.get(FILES)).json()) == seen
        for path in ("", "/download", "/url"):
            status = (await outside.get(f"{FILES}/1{path}")).status_code
            assert status == (200 if seen == 2 else 404), (caller, path)
        assert len((await outside.get(f"{FILES}?task_id={task.id}")).json()) == 1
    outside.headers.update(bearer("other operator"))
    assert (await outside.delete(f"{FILES}/1")).status_code == 404
    outside.headers.update(bearer("operator"))
    assert (await outside.delete(f"{FILES}/1")).status_code == 204
