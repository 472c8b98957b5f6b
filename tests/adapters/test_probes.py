"""Probes of mail, Redis and storage against real servers: what works, what does not, and why."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conclave.adapters.bus.probe import RedisProbe
from conclave.adapters.mail import probe as mail_probe
from conclave.adapters.mail.probe import SmtpProbe
from conclave.adapters.store.probe import DirectoryProbe, store_probe
from conclave.errors import Unavailable
from schema.domain.mail import MailSettings
from tests.fakes.s3 import FakeS3, running_s3
from tests.fakes.smtp_server import SmtpServer
from tests.harness.servers import free_port
from tests.waiting import until

PASSWORD = "the right password"


def mail(server: SmtpServer, **changes: object) -> MailSettings:
    return MailSettings.model_validate({"host": "127.0.0.1", "port": server.port, **changes})


async def test_a_mail_server_that_takes_the_password_is_well() -> None:
    async with SmtpServer() as server:
        await SmtpProbe().check(mail(server, user="mailer", password=PASSWORD))

    verbs = [line.split()[0].upper() for line in server.heard]
    assert verbs == ["EHLO", "AUTH", "QUIT"]


async def test_without_a_user_nobody_logs_in() -> None:
    async with SmtpServer() as server:
        await SmtpProbe().check(mail(server))

    assert [line.split()[0].upper() for line in server.heard] == ["EHLO", "QUIT"]


async def test_a_refused_password_is_not_repeated() -> None:
    async with SmtpServer() as server:
        with pytest.raises(
            Unavailable, match=r"refused the user or the password \(535\)"
        ) as caught:
            await SmtpProbe().check(mail(server, user="mailer", password="wr0ng-secret"))

    assert "wr0ng-secret" not in str(caught.value)


async def test_a_password_that_smtp_cannot_carry_is_said_and_not_repeated() -> None:
    async with SmtpServer() as server:
        with pytest.raises(Unavailable, match="characters") as caught:
            await SmtpProbe().check(mail(server, user="mailer", password="pässwörd"))

    assert "pässwörd" not in str(caught.value)


async def test_a_closed_port_and_a_server_that_is_none_are_unhealthy() -> None:
    closed = MailSettings(host="127.0.0.1", port=free_port())
    with pytest.raises(Unavailable, match="cannot be reached"):
        await SmtpProbe().check(closed)
    async with SmtpServer(banner="554 go away") as server:
        with pytest.raises(Unavailable, match="answered 554"):
            await SmtpProbe().check(mail(server))


async def test_a_silent_server_is_left_at_once_when_the_caller_gives_up() -> None:
    async with SmtpServer(is_silent=True) as server:
        look = asyncio.create_task(SmtpProbe().check(mail(server)))
        await until(lambda: server.open_connections == 1, what="the connection")
        look.cancel()
        # Far sooner than the socket's own timeout: the thread is cut loose.
        await until(
            lambda: server.open_connections == 0,
            timeout=mail_probe.SOCKET_SECONDS / 2,
            what="the end of the connection",
        )
        with pytest.raises(asyncio.CancelledError):
            await look


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake.test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


async def test_starttls_is_spoken_where_it_is_offered_and_its_certificate_is_verified(
    tmp_path: Path,
) -> None:
    certificate_file, key_file = certificate(tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate_file, key_file)
    trusting = ssl.create_default_context(cafile=str(certificate_file))
    async with SmtpServer(tls=served) as server:
        await SmtpProbe(trusting).check(mail(server, user="mailer", password=PASSWORD))
        assert [line.split()[0].upper() for line in server.heard] == [
            "EHLO",
            "STARTTLS",
            "EHLO",
            "AUTH",
            "QUIT",
        ]
        with pytest.raises(Unavailable, match=r"TLS .*CERTIFICATE_VERIFY_FAILED"):
            await SmtpProbe().check(mail(server, user="mailer", password=PASSWORD))


async def test_no_password_is_sent_in_the_clear_beyond_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(host: str) -> bool:
        return False

    monkeypatch.setattr(mail_probe, "is_loopback", never)
    async with SmtpServer() as server:
        with pytest.raises(Unavailable, match="no TLS"):
            await SmtpProbe().check(mail(server, user="mailer", password=PASSWORD))

    assert not any("AUTH" in line.upper() for line in server.heard)


@pytest.fixture(scope="session")
def locked_redis_port() -> Iterator[int]:
    """A Redis or Valkey that wants the password `right-one`."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    command = [program, *arguments, "--requirepass", "right-one"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        yield port
        server.terminate()


@pytest.fixture
async def redis_port(locked_redis_port: int) -> int:
    async def answers() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", locked_redis_port)
        except OSError:
            return False
        writer.close()
        return True

    await until(answers, what="Redis")
    return locked_redis_port


async def pings(port: int) -> int:
    """Return how many pings the server has answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"AUTH right-one\r\nINFO commandstats\r\nQUIT\r\n")
    told = (await reader.read()).decode()
    writer.close()
    found = re.search(r"^cmdstat_ping:calls=(\d+),", told, re.MULTILINE)
    return 0 if found is None else int(found[1])


async def test_redis_answers_a_ping(redis_port: int) -> None:
    before = await pings(redis_port)
    await RedisProbe(f"redis://:right-one@127.0.0.1:{redis_port}/0").check()
    assert await pings(redis_port) > before


@pytest.mark.parametrize("credentials", [":wr0ng-secret@", "someone:wr0ng-secret@", ""])
async def test_redis_refuses_other_passwords(redis_port: int, credentials: str) -> None:
    with pytest.raises(Unavailable, match="refused") as caught:
        await RedisProbe(f"redis://{credentials}127.0.0.1:{redis_port}/0").check()

    assert "wr0ng-secret" not in str(caught.value)


async def test_redis_on_a_closed_port_cannot_be_reached() -> None:
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        await RedisProbe(f"redis://:wr0ng-secret@127.0.0.1:{free_port()}/0").check()

    assert "wr0ng-secret" not in str(caught.value)


async def test_a_directory_is_written_read_and_left_clean(tmp_path: Path) -> None:
    kind, probe = store_probe(tmp_path.as_uri(), {})

    await probe.check()

    assert kind == "file"
    assert os.listdir(tmp_path) == []


async def test_a_directory_that_is_not_there_or_is_a_file_is_unhealthy(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(Unavailable, match=r"No such file|Not a directory"):
            await DirectoryProbe(path).check()


async def test_a_directory_that_gives_back_something_else_is_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(path: Path) -> bytes:
        return b"other"

    monkeypatch.setattr(Path, "read_bytes", other)
    with pytest.raises(Unavailable, match="something else"):
        await DirectoryProbe(tmp_path).check()
    assert os.listdir(tmp_path) == []


async def test_a_directory_that_nothing_can_be_deleted_in_is_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(Unavailable, match="Permission denied"):
        await DirectoryProbe(tmp_path).check()


async def test_a_bucket_is_tried_with_its_credentials() -> None:
    async with running_s3() as s3:
        kind, probe = store_probe("s3://box", s3.environment())
        await probe.check()
        assert kind == "s3"
        assert s3.asked == ["PUT", "GET", "POST"]  # the last deletes
        assert s3.objects == {}


@pytest.mark.parametrize(
    ("url", "changes", "reason"),
    [
        ("s3://box", {"AWS_SECRET_ACCESS_KEY": "another-one"}, "credentials"),
        ("s3://box", {"AWS_ACCESS_KEY_ID": "AKIAOTHER"}, "credentials"),
        ("s3://box", {"AWS_ACCESS_KEY_ID": ""}, "not set"),
        ("s3://other", {}, "bucket"),
    ],
)
async def test_a_bucket_that_cannot_be_used_is_unhealthy_without_a_word_of_the_secret(
    url: str, changes: dict[str, str], reason: str
) -> None:
    async with running_s3() as s3:
        environment = {**s3.environment(), **changes}
        with pytest.raises(Unavailable, match=reason) as refused:
            await store_probe(url, environment)[1].check()
        assert environment["AWS_SECRET_ACCESS_KEY"] not in str(refused.value)


async def test_a_bucket_whose_server_fails_is_unhealthy() -> None:
    async with running_s3() as s3:
        s3.broken = True
        with pytest.raises(Unavailable, match="cannot be used"):
            await store_probe("s3://box", s3.environment())[1].check()


async def test_a_store_of_no_known_kind_or_behind_a_closed_port_is_unhealthy() -> None:
    for url in ("gopher://x", "file://host/x", "s3://"):
        with pytest.raises(Unavailable, match="OBJECT_STORE_URL"):
            await store_probe(url, {})[1].check()
    endpoint = {**FakeS3().environment(), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(Unavailable, match="cannot be used"):
        await store_probe("s3://box", endpoint)[1].check()
