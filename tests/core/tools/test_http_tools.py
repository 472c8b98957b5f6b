"""The HTTP tools against a real server, behind a guard that lets one name pass."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from conclave.adapters.net.web import GuardedWeb
from conclave.errors import WebFailed
from conclave.tools.builtin import http
from conclave.tools.builtin.http import HttpRequest, HttpTools
from schema.domain.tools import ToolPlace
from schema.domain.web import WebAnswer, WebRequest
from tests.core.tools.conftest import SECRET, Bench, Vault
from tests.fakes.git_server import HOST, LoopbackGuard

PLACE = ToolPlace(conversation_id=7, agent_id=1)


def text(said: str, **headers: str) -> web.Response:
    return web.Response(text=said, headers=headers)


def packed(content: bytes) -> web.Response:
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    return web.Response(body=gzip.compress(content), headers=headers)


def moved(target: str) -> web.Response:
    return web.Response(status=302, headers={"Location": target})


@dataclass
class Site:
    """A server that notes what it is sent."""

    port: int = 0
    seen: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(dict(request.headers))
        body = await request.text()
        if request.path == "/endless":
            return await self._endless(request)
        if request.path == "/slow":
            await self.gate.wait()
        told = f"{request.method} {body} {request.headers.get('Authorization')}"
        answers = {
            "/page": web.Response(text="<p>hello</p>", content_type="text/html"),
            "/long": text("0123456789" * 9_000),
            "/bomb": packed(b"y" * 3_000_000),
            "/packed": packed(b"unpacked"),
            "/image": web.Response(body=b"\x89PNG\x00", content_type="image/png"),
            "/away": moved("http://127.0.0.1:1/"),
            "/metadata": moved("http://169.254.169.254/latest"),
            "/round": moved("/round"),
            "/there": moved("/page"),
            "/echo": text(told, **{"Set-Cookie": "a=b", "ETag": '"1"'}),
        }
        return answers.get(request.path) or web.Response(status=404, text="nothing here")

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "text/plain"
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 10_000)
        return response


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site, app = Site(), web.Application()
    app.router.add_route("*", "/{path:.*}", site.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    yield site
    site.gate.set()
    await runner.cleanup()


async def test_a_page_is_fetched_as_text(bench: Bench, site: Site):
    said = await bench.said("http_get", url=site.url("/there"), headers={"X-One": "1"})
    assert said == (
        f"HTTP 200 OK\nurl: {site.url('/page')}\ncontent-type: text/html; charset=utf-8\n"
        f"{said.splitlines()[3]}\n\n<p>hello</p>"
    )
    headers = site.seen[-1]
    assert headers["X-One"] == "1"
    assert {"Cookie", "Authorization"}.isdisjoint(headers)
    assert "nothing here" in await bench.refused("http_get", url=site.url("/nowhere"))
    assert (await bench.said("http_get", url=site.url("/packed"))).endswith("\n\nunpacked")


async def test_long_answers_are_read_in_parts(bench: Bench, site: Site):
    first = await bench.said("http_get", url=site.url("/long"))
    assert first.endswith("[Characters 0 to 40000 of 90000. Read on with offset=40000.]")
    last = await bench.said("http_get", url=site.url("/long"), offset=89_995)
    assert last.endswith("\n\n56789")


@pytest.mark.parametrize("path", ["/endless", "/bomb"])
async def test_no_answer_is_read_beyond_the_limit(bench: Bench, site: Site, path: str):
    said = await bench.said("http_get", url=site.url(path), offset=99_990)
    assert "longer than the 100000 bytes" in said


async def test_what_is_no_text_does_not_come_back(bench: Bench, site: Site):
    said = await bench.said("http_get", url=site.url("/image"))
    assert said.endswith("[5 bytes that are no text: not shown.]")


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/away", "is refused"), ("/metadata", "is refused"), ("/round", "more than 5 redirects")],
)
async def test_redirects_are_judged_anew(bench: Bench, site: Site, path: str, reason: str):
    assert reason in await bench.refused("http_get", url=site.url(path))


async def test_private_addresses_are_refused(bench: Bench, site: Site):
    for url in (f"http://127.0.0.1:{site.port}/page", "http://10.0.0.1/", "file:///etc/passwd"):
        assert "url" in await bench.refused("http_get", url=url)
    assert site.seen == []


@pytest.mark.parametrize(
    "headers", [{"Host": "x"}, {"X-Forwarded-For": "1.2.3.4"}, {"a b": "c"}, {"A": "b\r\nC: d"}]
)
async def test_headers_that_are_not_theirs_are_refused(
    bench: Bench, site: Site, headers: dict[str, str]
):
    said = await bench.refused("http_get", url=site.url("/page"), headers={**headers})
    assert said.startswith("headers: ")
    assert site.seen == []


async def test_a_request_is_sent_as_given(bench: Bench, site: Site):
    said = await bench.said(
        "http_request", method="PUT", url=site.url("/echo"), body="{}",
        headers={"Authorization": "Bearer mine"},
    )  # fmt: skip
    assert said.endswith("\n\nPUT {} Bearer mine")
    assert 'etag: "1"' in said
    assert "a=b" not in said


async def test_an_answer_that_does_not_come_is_told(site: Site):
    web_client = GuardedWeb(LoopbackGuard())
    with pytest.raises(WebFailed, match=r"within 0\.3 seconds"):
        await web_client.send(WebRequest(url=site.url("/slow")), timeout=0.3)


class EchoingWeb:
    """Answers over https with what it was sent, and more: twice encoded, and cut."""

    def __init__(self, *, is_cut: bool = False) -> None:
        self.sent: list[WebRequest] = []
        self.is_cut = is_cut

    async def send(self, request: WebRequest, *, timeout: float) -> WebAnswer:
        self.sent.append(request)
        tail = SECRET[:12] if self.is_cut else ""
        text = f"you sent {request.headers['Authorization']} {SECRET.encode().hex()} {tail}"
        return WebAnswer(
            status=200, reason="OK", url=f"https://x/?k={SECRET}", headers={"link": SECRET},
            content_type="text/plain", text=text, size=len(text), is_cut=self.is_cut,
        )  # fmt: skip


@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_secret_is_put_in_and_blanked_out(is_cut: bool):
    client = EchoingWeb(is_cut=is_cut)
    tools = HttpTools(client, Vault(), {"api": frozenset({"api.example"})})
    asked = HttpRequest(
        url="https://api.example/v1", headers={"Authorization": "Bearer secret://api"}
    )
    answer = await tools.request(asked, PLACE)
    assert client.sent[0].headers == {"Authorization": f"Bearer {SECRET}"}
    assert not isinstance(answer, str)
    assert "you sent Bearer ***" in answer.content
    assert SECRET[:8] not in answer.content
    assert SECRET.encode().hex() not in answer.content
    assert SECRET not in repr(client.sent)


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/", "http://api.example/", "https://api.example.evil.example/", "x"],
)
async def test_a_secret_goes_nowhere_else(url: str):
    client = EchoingWeb()
    tools = HttpTools(client, Vault(), {"api": frozenset({"api.example"})})
    for reference in ("secret://api", "secret://other"):
        with pytest.raises(http.SecretNotForHost):
            await tools.request(HttpRequest(url=url, headers={"A": reference}), PLACE)
    assert client.sent == []


async def test_reading_sends_no_secrets(bench: Bench, site: Site):
    said = await bench.refused(
        "http_get", url=site.url("/echo"), headers={"Authorization": "Bearer secret://api"}
    )
    assert "use http_request" in said
    assert site.seen == []


def test_what_is_packed_is_unpacked_no_further_than_is_read():
    client = GuardedWeb(LoopbackGuard(), limit=1000)
    assert len(client._unpacked(gzip.compress(b"y" * 1_000_000), "gzip")) == 1001
