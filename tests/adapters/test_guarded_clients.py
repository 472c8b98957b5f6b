"""httpx, httpx2 and aiohttp behind the guard, against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import httpx2
import pytest
from aiohttp import web

from conclave.adapters.net.guard import Errand, OutgoingGuard
from conclave.adapters.net.redirects import Origin, judge_redirect
from conclave.adapters.net.sessions import guarded_session
from conclave.adapters.net.transport import guarded_client
from conclave.adapters.net.transport_httpx2 import guarded_httpx2_client
from conclave.errors import UrlRefused

SECRETS = {
    "Authorization": "Bearer secret",
    "X-Api-Key": "secret",
    "Cookie": "session=secret",
    "Private-Token": "secret",
}


class Outside(OutgoingGuard):
    """Takes this machine for the internet under some names: judged else as anywhere."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    async def pin(self, host: str, port: int, errand: Errand) -> str:
        return "127.0.0.1" if host in self.names else await super().pin(host, port, errand)


class Send(Protocol):
    """Sends a request by one of the clients and follows redirects."""

    async def __call__(
        self,
        guard: OutgoingGuard,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        administrator: bool = False,
    ) -> str: ...


async def by_httpx(
    guard: OutgoingGuard,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    administrator: bool = False,
) -> str:
    async with guarded_client(guard, administrator=administrator) as client:
        answer = await client.request(
            method, url, headers=headers, content=body, follow_redirects=True
        )
        return answer.text


async def by_httpx2(
    guard: OutgoingGuard,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    administrator: bool = False,
) -> str:
    async with guarded_httpx2_client(guard, administrator=administrator) as client:
        answer = await client.request(
            method, url, headers=headers, content=body, follow_redirects=True
        )
        return answer.text


async def by_aiohttp(
    guard: OutgoingGuard,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    administrator: bool = False,
) -> str:
    async with (
        guarded_session(guard, administrator=administrator) as session,
        session.request(method, url, headers=headers, data=body) as answer,
    ):
        return await answer.text()


clients = pytest.mark.parametrize("send", [by_httpx, by_httpx2, by_aiohttp])


@dataclass
class Server:
    """Answers anything, and redirects to `locations` in turn where it has some."""

    port: int
    locations: list[str] = field(default_factory=list[str])
    status: int = 302
    header: str = "Location"
    seen: list[web.Request] = field(default_factory=list[web.Request])

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        if self.locations:
            return web.Response(status=self.status, headers={self.header: self.locations.pop(0)})
        return web.Response(text="ok")

    def at(self, host: str) -> str:
        return f"http://{host}:{self.port}/"


@pytest.fixture
async def server(unused_tcp_port: int) -> AsyncIterator[Server]:
    server = Server(unused_tcp_port)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield server
    await runner.cleanup()


@clients
async def test_a_connection_goes_to_the_judged_address_under_its_own_name(
    send: Send, server: Server
):
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.255.255.1"]

    guard = OutgoingGuard(resolver=rebinding)

    assert await send(guard, server.at("models.example"), administrator=True) == "ok"
    assert [one.headers["Host"] for one in server.seen] == [f"models.example:{server.port}"]
    assert asked == ["models.example"]


@clients
async def test_a_name_that_changes_its_mind_reaches_nothing(send: Send, server: Server):
    """Judged public when it was stored, it leads to loopback when it is called."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers)

    guard = OutgoingGuard(resolver=rebinding)
    url = server.at("rebinding.example")
    await guard.check(url, field="url")

    with pytest.raises(UrlRefused, match="loopback"):
        await send(guard, url)
    assert not server.seen


@clients
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://0.0.0.0:{port}/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://user:secret@public.example:{port}/",
        "//127.0.0.1:{port}/",
        "file:///etc/passwd",
        "ftp://public.example/",
    ],
)
async def test_a_redirect_to_what_is_forbidden_is_not_followed(
    send: Send, server: Server, location: str
):
    server.locations = [location.format(port=server.port)]

    with pytest.raises((UrlRefused, httpx.HTTPError, httpx2.HTTPError, ValueError)):
        await send(Outside("public.example"), server.at("public.example"))

    assert [one.host for one in server.seen] == [f"public.example:{server.port}"]


@clients
async def test_five_redirects_are_followed_and_no_more(send: Send, server: Server):
    server.locations = ["/again"] * 5
    assert await send(Outside("public.example"), server.at("public.example")) == "ok"
    assert len(server.seen) == 6

    server.locations = ["/again"] * 9
    with pytest.raises((UrlRefused, httpx.TooManyRedirects, httpx2.TooManyRedirects)):
        await send(Outside("public.example"), server.at("public.example"))
    assert len(server.seen) == 12


@clients
async def test_credentials_stay_with_their_host(send: Send, server: Server):
    guard = Outside("one.example", "two.example")
    server.locations = ["/again", server.at("two.example"), server.at("one.example")]

    await send(guard, server.at("one.example"), headers={**SECRETS, "Accept": "text/x"})

    first, again, *others = server.seen
    for name, value in SECRETS.items():
        assert first.headers[name] == value
        if name != "Cookie":  # httpx and aiohttp keep cookies to themselves after a redirect
            assert again.headers[name] == value
    assert [one.host.partition(":")[0] for one in others] == ["two.example", "one.example"]
    for other in others:
        assert "secret" not in str(other.headers)
        assert other.headers["Accept"] == "text/x"


@clients
async def test_a_redirect_under_its_older_name_takes_no_credentials_along(
    send: Send, server: Server
):
    """aiohttp follows `URI` where there is no `Location`."""
    server.header = "URI"
    server.locations = [server.at("two.example")]

    await send(Outside("one.example", "two.example"), server.at("one.example"), headers=SECRETS)

    for other in server.seen[1:]:
        assert "secret" not in str(other.headers)


@clients
@pytest.mark.parametrize("status", [307, 308])
async def test_a_body_is_not_taken_to_another_host(send: Send, server: Server, status: int):
    guard = Outside("one.example", "two.example")
    server.status = status
    server.locations = ["/again"]
    assert await send(guard, server.at("one.example"), method="POST", body=b"x") == "ok"
    assert [one.method for one in server.seen] == ["POST", "POST"]

    server.locations = [server.at("two.example")]
    with pytest.raises(UrlRefused, match="body"):
        await send(guard, server.at("one.example"), method="POST", body=b"x")
    assert len(server.seen) == 3


@clients
async def test_a_post_answered_by_see_other_is_asked_for_without_its_body(
    send: Send, server: Server
):
    guard = Outside("one.example", "two.example")
    server.status = 303
    server.locations = [server.at("two.example")]

    assert await send(guard, server.at("one.example"), method="POST", body=b"x") == "ok"
    assert [one.method for one in server.seen] == ["POST", "GET"]


@clients
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "user:secret@public.example"])
async def test_what_is_forbidden_is_refused_before_anything_is_sent(
    send: Send, server: Server, host: str
):
    with pytest.raises(UrlRefused):
        await send(Outside("public.example"), server.at(host))
    assert not server.seen


@clients
async def test_proxies_of_the_environment_are_not_used(
    send: Send, server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert await send(Outside("public.example"), server.at("public.example")) == "ok"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Origin("https", "a", 443), Origin("http", "a", 80)),
        (Origin("https", "a", 443), Origin("http", "a", 443)),
        (Origin("https", "a", 443), Origin("http", "b", 80)),
    ],
)
def test_a_redirect_out_of_https_is_refused(before: Origin, after: Origin):
    with pytest.raises(UrlRefused, match="https to http"):
        judge_redirect(before, after, {}, has_body=False, field="url")


def test_a_redirect_into_https_on_the_same_host_keeps_everything():
    headers = dict(SECRETS)
    judge_redirect(
        Origin("http", "a", 80), Origin("https", "a", 443), headers, has_body=True, field="url"
    )
    assert headers == SECRETS


@pytest.mark.parametrize(
    "after", [Origin("https", "a", 8443), Origin("https", "b", 443), Origin("https", "sub.a", 443)]
)
def test_another_port_or_host_is_another_origin(after: Origin):
    headers = dict(SECRETS)
    judge_redirect(Origin("https", "a", 443), after, headers, has_body=False, field="url")
    assert headers == {}
