"""The outgoing-URL guard against the ways around such guards."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import httpx
import pytest

from conclave.adapters.net.guard import OutgoingGuard, PinnedTarget, Resolver
from conclave.adapters.net.setup import own_endpoints
from conclave.adapters.net.transport import guarded_client
from conclave.adapters.net.urls import endpoints_of, parse_allow
from conclave.errors import UrlRefused
from conclave.settings import Settings
from schema.domain.urls import UrlPurpose

PUBLIC = "93.184.215.14"


def answering(*addresses: str) -> Resolver:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


BYPASSES: dict[str, list[str]] = {
    "loopback, plainly": ["http://127.0.0.1/", "http://127.255.255.254/", "http://[::1]/"],
    "loopback by name": ["http://localhost/", "http://LOCALHOST/", "http://ip6-localhost/"],
    "short dotted hosts": ["http://127.1/", "http://127.0.1/", "http://10.1/"],
    "decimal hosts": ["http://2130706433/", "http://2852039166/", "http://4294967296/"],
    "hexadecimal hosts": ["http://0x7f000001/", "http://0x7f.0.0.1/", "http://0x7f.0x0.0x0.0x1/"],
    "octal hosts": ["http://0177.0.0.1/", "http://017700000001/", "http://0251.0376.0251.0376/"],
    "mixed bases": ["http://0x7f.1/", "http://127.0x0.0.01/", "http://0xA9.254.0251.254/"],
    "zeros in front": ["http://127.000.000.001/", "http://0000127.0.0.1/"],
    "overflowing octets": ["http://127.0.0.257/", "http://383.0.0.1/", "http://127.65537/"],
    "the unspecified address": ["http://0/", "http://0.0.0.0/", "http://0.1.2.3/", "http://[::]/"],
    "trailing dots": ["http://127.0.0.1./", "http://localhost./", "http://127.0.0.1../"],
    "IPv6 written out": ["http://[0:0:0:0:0:0:0:1]/", "http://[0000::0001]/"],
    "IPv4-mapped IPv6": [
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[::FFFF:A9FE:A9FE]/",
    ],
    "IPv4-compatible IPv6": ["http://[::127.0.0.1]/", "http://[::a9fe:a9fe]/"],
    "IPv4-translated IPv6 (SIIT)": ["http://[::ffff:0:127.0.0.1]/"],
    "NAT64": ["http://[64:ff9b::7f00:1]/", "http://[64:ff9b::a9fe:a9fe]/"],
    "NAT64 of one's own": ["http://[64:ff9b:1::7f00:1]/"],
    "6to4": ["http://[2002:7f00:1::]/", "http://[2002:a9fe:a9fe::1]/"],
    "Teredo": ["http://[2001:0:7f00:1::]/"],
    "IPv6 with a zone": ["http://[fe80::1%25eth0]/", "http://[::1%25lo]/"],
    "IPv6 that is IPv4": ["http://[127.0.0.1]/", "http://[v1.127.0.0.1]/"],
    "text beside the brackets": ["http://[::1].example.com/", "http://a[2606:4700::1111]/"],
    "enclosed digits": ["http://①②⑦.⓪.⓪.①/", "http://⑯⑨.②⑤④.⑯⑨.②⑤④/"],
    "full-width digits": ["http://１２７.0.0.1/"],
    "other dots": ["http://127。0。0。1/", "http://127．0．0．1/", "http://127｡0｡0｡1/"],
    "letters that fold": ["http://ⓛocalhost/", "http://ｌｏｃａｌｈｏｓｔ/", "http://localhoſt/"],
    "soft hyphens and joiners": ["http://local\u00adhost/", "http://local\u200bhost/"],
    "private ranges": ["http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/"],
    "unique local IPv6": ["http://[fd00::1]/", "http://[fc00::1]/"],
    "link-local": ["http://169.254.1.1/", "http://[fe80::1]/", "http://[febf::1]/"],
    "site-local": ["http://[fec0::1]/"],
    "clouds' metadata": [
        "http://169.254.169.254/latest/meta-data/",
        "http://169.254.170.2/v2/credentials",
        "http://100.100.100.200/",
        "http://192.0.0.192/",
        "http://168.63.129.16/",
        "http://[fd00:ec2::254]/",
        "http://[fd20:ce::254]/",
    ],
    "shared and test ranges": ["http://100.64.0.1/", "http://198.18.0.1/", "http://192.0.2.1/"],
    "multicast and broadcast": [
        "http://224.0.0.1/",
        "http://[ff02::1]/",
        "http://255.255.255.255/",
    ],
    "reserved": ["http://240.0.0.1/", "http://[100::1]/", "http://[3fff::1]/", "http://[5f00::1]/"],
    "a user": ["http://user@93.184.215.14/", "http://93.184.215.14@127.0.0.1/"],
    "a user with a port": ["http://93.184.215.14:80@127.0.0.1/", "http://a:b@c@127.0.0.1/"],
    "a user, encoded": ["http://93.184.215.14%40127.0.0.1/", "http://%00@127.0.0.1/"],
    "backslashes": [
        "http://93.184.215.14\\@127.0.0.1/",
        "http://127.0.0.1\\.example.com/",
        "http:\\\\127.0.0.1/",
    ],
    "fragments and queries before the host": ["http://#@127.0.0.1/", "http://?@127.0.0.1/"],
    "controls and blanks": [
        "http://exam\tple.com/",
        "http://example.com\x00.evil/",
        "http://exa mple.com/",
        " http://example.com/",
        "http://example.com/\x7f",
    ],
    "lines of a request": ["http://example.com\r\nHost: x/", "http://example.com/\nX: y"],
    "an encoded host": [
        "http://%31%32%37.0.0.1/",
        "http://127%2e0%2e0%2e1/",
        "http://local%68ost/",
    ],
    "ports that are none": [
        "http://example.com:99999/",
        "http://example.com:0/",
        "http://example.com:-1/",
        "http://example.com:80:80/",
        "http://example.com:８０x/",
    ],
    "no host": [
        "http:///etc/passwd",
        "http://",
        "http:example.com",
        "http:/example.com",
        "http://:80/",
    ],
    "hosts that are none": ["http://.example.com/", "http://-oProxyCommand=x/", "http://a..b/"],
    "no scheme": ["//example.com/", "example.com", "", "://example.com"],
    "files": ["file:///etc/passwd", "file://localhost/etc/passwd", "FILE:///x"],
    "other protocols": [
        "ftp://example.com/",
        "gopher://127.0.0.1:70/",
        "dict://127.0.0.1:11211/",
        "ldap://127.0.0.1/",
        "jar:http://example.com!/",
        "ws://example.com/",
        "ssh://example.com/",
    ],
    "schemes of scripts": ["javascript:alert(1)", "data:text/plain,x"],
    "too long": ["http://" + "a" * 2050 + ".com/", "http://" + "a" * 64 + ".com/"],
}
"""At least one of each class of ways around such guards that is known."""
REFUSED_URLS = [url for urls in BYPASSES.values() for url in urls]
assert len(BYPASSES) >= 40


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


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with guarded_client(OutgoingGuard()) as client:
        with pytest.raises(UrlRefused):
            await client.get("http://127.0.0.1:9/")
    assert isinstance(client, httpx.AsyncClient)


async def test_a_literal_host_is_never_asked_of_a_resolver():
    async def fail(host: str, port: int) -> Sequence[str]:
        raise AssertionError(host)

    target = await OutgoingGuard(resolver=fail).resolve(f"http://{PUBLIC}/")
    assert target.address == PUBLIC


# Webhooks.


async def yes() -> bool:
    return True


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.9.9", "fd12::1"])
async def test_the_setting_opens_private_ranges_to_webhooks_alone(address: str):
    open_guard = OutgoingGuard(resolver=answering(address), private_webhooks=yes)

    await open_guard.check("http://x.example/", field="url", purpose=UrlPurpose.WEBHOOK)
    with pytest.raises(UrlRefused):
        await open_guard.check("http://x.example/", field="url")
    with pytest.raises(UrlRefused):
        await OutgoingGuard(resolver=answering(address)).check(
            "http://x.example/", field="url", purpose=UrlPurpose.WEBHOOK
        )


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "169.254.169.254",
        "fe80::1",
        "100.100.100.200",
        "fd00:ec2::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
        "fd00:100::100:200",
    ],
)
async def test_no_setting_opens_loopback_or_metadata_to_webhooks(address: str):
    guard = OutgoingGuard(resolver=answering(address), private_webhooks=yes)

    with pytest.raises(UrlRefused):
        await guard.check("http://x.example/", field="url", purpose=UrlPurpose.WEBHOOK)


# git.


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://github.com/a/b.git", ("https", "github.com", 443)),
        ("ssh://git@github.com/a/b.git", ("ssh", "github.com", 22)),
        ("ssh://github.com:2222/a/b.git", ("ssh", "github.com", 2222)),
    ],
)
async def test_git_speaks_https_and_ssh(url: str, target: tuple[str, str, int]):
    found = await OutgoingGuard(resolver=answering(PUBLIC)).resolve(url, purpose=UrlPurpose.GIT)
    assert (found.scheme, found.host, found.port) == target


@pytest.mark.parametrize(
    "url",
    [
        "http://github.com/a/b.git",
        "git://github.com/a/b.git",
        "file:///srv/repository",
        "/srv/repository",
        "../repository",
        "ext::sh -c id",
        "ext::ssh%20x",
        "fd::17",
        "https::https://github.com/a",
        "git+ssh://git@github.com/a/b",
        "ssh://-oProxyCommand=id/x",
        "ssh://git@-oProxyCommand=id/x",
        "ssh://-oProxyCommand=id@github.com/x",
        "ssh://git:secret@github.com/x",
        "ssh://git@@github.com/x",
        "https://token@github.com/a/b.git",
        "--upload-pack=id",
        "ssh://git@127.0.0.1/x",
        "ssh://git@[::1]/x",
        "ssh://git@10.0.0.1/x",
    ],
)
async def test_git_speaks_nothing_else_and_to_nobody_inside(url: str):
    with pytest.raises(UrlRefused):
        await OutgoingGuard().check(url, field="repository_url", purpose=UrlPurpose.GIT)


@pytest.mark.parametrize("url", ["git@github.com:a/b.git", "github.com:a/b.git"])
async def test_who_writes_scps_way_is_told_how_to_write_it(url: str):
    with pytest.raises(UrlRefused, match="ssh://user@host/path"):
        await OutgoingGuard().check(url, field="repository_url", purpose=UrlPurpose.GIT)


# What is this product's own.


def inside(**hosts: str) -> Resolver:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if host.replace(".", "_") not in hosts:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [hosts[host.replace(".", "_")]]

    return resolve


@pytest.mark.parametrize("administrator", [True, False])
@pytest.mark.parametrize(
    "url",
    ["http://valkey:6379/", "http://valkey.:6379/", "http://10.5.0.2:6379/", "http://x:6379/"],
)
async def test_what_the_product_stands_on_is_closed_to_everybody(url: str, administrator: bool):
    guard = OutgoingGuard(
        allow=frozenset({("10.5.0.2", 6379), ("x", 6379)}),
        own_endpoints=frozenset({("valkey", 6379)}),
        resolver=inside(valkey="10.5.0.2", x="10.5.0.2"),
    )

    with pytest.raises(UrlRefused, match="this service"):
        await guard.check(url, field="url", administrator=administrator)


async def test_only_the_port_is_closed_not_the_host():
    guard = OutgoingGuard(
        own_endpoints=frozenset({("valkey", 6379)}), resolver=inside(valkey="10.5.0.2")
    )
    target = await guard.resolve("http://valkey:8080/", administrator=True)
    assert target == PinnedTarget("http", "valkey", 8080, "10.5.0.2")


@pytest.mark.parametrize("spelling", ["127.0.0.1", "localhost", "[::1]", "127.0.0.2"])
async def test_a_part_on_this_machine_is_closed_under_each_of_its_addresses(spelling: str):
    guard = OutgoingGuard(
        own_endpoints=frozenset({("127.0.0.1", 5432)}), resolver=inside(localhost="127.0.0.1")
    )
    with pytest.raises(UrlRefused, match="this service"):
        await guard.check(f"http://{spelling}:5432/", field="base_url", administrator=True)


@pytest.mark.parametrize(
    "text",
    [
        "localhost:8080",
        "a.localhost:8080",
        "127.0.0.1:8080",
        "127.1:8080",
        "[::1]:8080",
        "[::ffff:127.0.0.1]:8080",
        "0.0.0.0:8080",
        "169.254.169.254:80",
        "2130706433:80",
        "user@host:80",
    ],
)
def test_a_list_that_would_open_loopback_or_metadata_is_refused_at_start(text: str):
    with pytest.raises(ValueError, match="OUTGOING_ALLOW"):
        parse_allow(f"git.internal:8443, {text}")


def test_a_list_that_would_open_the_products_own_is_refused_at_start():
    own = frozenset({("postgres.internal", 5432)})
    with pytest.raises(ValueError, match="belongs to this service"):
        OutgoingGuard(allow=parse_allow("Postgres.internal.:5432"), own_endpoints=own)
    OutgoingGuard(allow=parse_allow("postgres.internal:80"), own_endpoints=own)


@pytest.mark.parametrize(
    ("url", "default", "found"),
    [
        ("postgresql://u:p@db.internal/x", 5432, {("db.internal", 5432)}),
        ("postgresql://u:p%40@db.internal:6000/x", 5432, {("db.internal", 6000)}),
        ("postgresql://a:1,b:2/x", 5432, {("a", 1), ("b", 2)}),
        ("postgresql:///x?host=db&port=77", 5432, {("db", 77)}),
        ("postgresql://postgres@/x?host=/run/pg", 5432, set()),
        (
            "postgresql://db/x?hostaddr=10.0.0.5",
            5432,
            {("db", 5432), ("10.0.0.5", 5432)},
        ),
        ("postgresql://[fd00::1]:5433/x", 5432, {("fd00::1", 5433)}),
        ("rediss://:secret@valkey/0", 6379, {("valkey", 6379)}),
        ("temporal.internal:7233", 7233, {("temporal.internal", 7233)}),
        ("0.0.0.0:7233", 7233, {("127.0.0.1", 7233)}),
        ("https://s3.internal/bucket", None, {("s3.internal", 443)}),
        ("http://minio:9000", None, {("minio", 9000)}),
        ("file:///srv/objects", None, set()),
        ("", None, set()),
        (None, None, set()),
    ],
)
def test_connection_strings_name_their_hosts(
    url: str | None, default: int | None, found: set[tuple[str, int]]
):
    assert endpoints_of(url, default) == found


def test_the_product_knows_its_own():
    settings = Settings.model_validate(
        {
            "database_url": "postgresql://db:1/x",
            "redis_url": "redis://valkey:2/0",
            "temporal_address": "temporal:3",
            "temporal_ui_url": "http://ui:4",
            "object_store_url": "s3://bucket",
        }
    )
    own = own_endpoints(settings, {"AWS_ENDPOINT_URL": "http://minio:5"})
    assert own == {("db", 1), ("valkey", 2), ("temporal", 3), ("ui", 4), ("minio", 5)}
