"""The outgoing-URL guard against the ways around such guards."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import httpx
import pytest
from aiohttp import web

from conclave.adapters.net.guard import OutgoingGuard, Resolver, parse_allow
from conclave.adapters.net.transport import guarded_client
from conclave.errors import UrlRefused

PUBLIC = "93.184.215.14"


def answering(*addresses: str) -> Resolver:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


REFUSED_URLS = [
    # loopback, spelled in every way
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.1./",
    "http://127.255.255.254/",
    "http://0/",
    "http://0.0.0.0/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://①②⑦.⓪.⓪.①/",
    "http://１２７.0.0.1/",
    "http://127。0。0。1/",
    "http://ⓛocalhost/",
    # private, link-local, shared and other ranges that are no business of agents
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fec0::1]/",
    "http://100.64.0.1/",
    "http://100.100.100.200/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://[ff02::1]/",
    "http://255.255.255.255/",
    "http://240.0.0.1/",
    "http://192.0.0.192/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    # what parsers read differently
    "http://user@93.184.215.14/",
    "http://93.184.215.14:80@127.0.0.1/",
    "http://93.184.215.14\\@127.0.0.1/",
    "http://127.0.0.1\\.example.com/",
    "http://exam\tple.com/",
    "http://example.com\r\nHost: x/",
    "http://example.com\x00.evil/",
    "http:///etc/passwd",
    "http://%31%32%37.0.0.1/",
    "http://[fe80::1%25eth0]/",
    "http://[127.0.0.1]/",
    "http://example.com:99999/",
    "http://example.com:0/",
    "http://example.com:-1/",
    "http://.example.com/",
    "http://exa mple.com/",
    "//example.com/",
    "example.com",
    "",
    # schemes
    "file:///etc/passwd",
    "ftp://example.com/",
    "gopher://127.0.0.1:70/",
    "dict://127.0.0.1:11211/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "http://" + "a" * 2050 + ".com/",
]


@pytest.mark.parametrize("url", REFUSED_URLS)
async def test_a_way_around_is_refused(url: str):
    with pytest.raises(UrlRefused) as caught:
        await OutgoingGuard().check(url, field="webhook_url")

    assert caught.value.field == "webhook_url"
    assert caught.value.message


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254", "::ffff:192.168.0.1", "fe80::1%eth0", "x"],
)
async def test_a_name_that_leads_inside_is_refused_even_beside_a_public_address(address: str):
    guard = OutgoingGuard(resolver=answering(PUBLIC, address))

    with pytest.raises(UrlRefused):
        await guard.check("https://rebinding.example/", field="url")


async def test_a_public_address_passes_and_is_pinned():
    guard = OutgoingGuard(resolver=answering(PUBLIC))

    target = await guard.resolve("https://Bücher.example:8443/path?q=1#f")

    assert target.host == "xn--bcher-kva.example"
    assert (target.scheme, target.port, target.address) == ("https", 8443, PUBLIC)


async def test_nat64_of_a_public_address_passes():
    guard = OutgoingGuard(resolver=answering("64:ff9b::5db8:d70e"))

    assert (await guard.resolve("https://example.com/")).address == "64:ff9b::5db8:d70e"


async def test_a_name_that_does_not_resolve_is_refused():
    async def fail(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    for resolver in (fail, answering()):
        with pytest.raises(UrlRefused, match="cannot be resolved"):
            await OutgoingGuard(resolver=resolver).check("http://nowhere.example/", field="url")


async def test_an_operator_opens_one_host_and_port_in_a_private_range():
    guard = OutgoingGuard(
        allow=parse_allow("git.internal:8443, 10.0.0.9:80"), resolver=answering("10.0.0.9")
    )

    await guard.check("https://git.internal:8443/", field="url")
    await guard.check("http://10.0.0.9/", field="url")
    for url in ("https://git.internal/", "https://other.internal:8443/"):
        with pytest.raises(UrlRefused):
            await guard.check(url, field="url")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0"])
async def test_no_list_opens_loopback_or_metadata(address: str):
    guard = OutgoingGuard(allow=parse_allow("git.internal:80"), resolver=answering(address))

    with pytest.raises(UrlRefused):
        await guard.check("http://git.internal/", field="url")


@pytest.mark.parametrize("text", ["host", "host:x", ":80", "host:99999"])
def test_an_allow_list_that_cannot_be_read_is_an_error(text: str):
    with pytest.raises(ValueError):
        parse_allow(text)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.9", "192.168.0.2", "fd00::1"])
async def test_an_administrator_may_use_loopback_and_private_ranges(address: str):
    guard = OutgoingGuard(resolver=answering(address))

    target = await guard.resolve("http://models.internal:11434/", administrator=True)
    assert target.address == address


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"])
async def test_nobody_reaches_what_is_no_destination(address: str):
    guard = OutgoingGuard(resolver=answering(address))

    with pytest.raises(UrlRefused):
        await guard.check("http://x.example/", field="base_url", administrator=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0"])
async def test_own_ports_are_closed_to_administrators_too(address: str):
    guard = OutgoingGuard(own_ports=frozenset({8000}), resolver=answering(address))

    with pytest.raises(UrlRefused, match="port of this service"):
        await guard.check("http://x.example:8000/", field="base_url", administrator=True)


async def test_redirects_are_judged_again(unused_tcp_port: int):
    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/latest")

    app = web.Application()
    app.router.add_get("/", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    guard = OutgoingGuard()
    try:
        async with guarded_client(guard, administrator=True) as client:
            with pytest.raises(UrlRefused):
                await client.get(f"http://127.0.0.1:{unused_tcp_port}/", follow_redirects=True)
    finally:
        await runner.cleanup()


async def test_a_connection_goes_to_the_judged_address_under_its_own_name(unused_tcp_port: int):
    answers = iter([["127.0.0.1"], ["10.255.255.1"]])

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers)

    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Host"])
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    guard = OutgoingGuard(resolver=rebinding)
    try:
        async with guarded_client(guard, administrator=True) as client, asyncio.timeout(5):
            response = await client.get(f"http://models.example:{unused_tcp_port}/")
    finally:
        await runner.cleanup()

    assert response.text == "ok"
    assert seen == [f"models.example:{unused_tcp_port}"]


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with guarded_client(OutgoingGuard()) as client:
        with pytest.raises(UrlRefused):
            await client.get("http://127.0.0.1:9/")
    assert isinstance(client, httpx.AsyncClient)
