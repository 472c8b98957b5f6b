"""The real `conclave up`, whole: it answers, keeps what it is given, and goes on the next time."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.harness.up import RunningUp, running_up


@pytest.fixture
def site() -> Iterator[Path]:
    with TemporaryDirectory(prefix="conclave-up-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _up(site: Path):
    flags = ["--data-dir", str(site / "data"), "--ready-file", str(site / "ready.json")]
    ports = ["--api-port", "0", "--temporal-port", "0", "--ui-port", "0"]
    return running_up(
        ["-P", "-m", "conclave.cli", "up", *flags, *ports, "--env", "LOG_LEVEL=WARNING"],
        ready_file=site / "ready.json",
        console=site / "console",
    )


def _call(running: RunningUp, path: str, body: dict[str, str] | None = None):
    ready = running.ready()
    assert ready is not None
    request = urllib.request.Request(
        f"{ready['api']}{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, json.loads(answer.read())


@pytest.mark.timeout(420)  # two starts of everything on a machine that may be busy
async def test_a_second_start_goes_on_with_the_data_of_the_first(site: Path):
    async with _up(site) as running:
        await running.is_up(timeout=150)
        assert _call(running, "/health/ready")[0] == 200
        agent = {"name": "Ada", "provider": "openai", "model": "gpt-4o-mini"}
        status, made = _call(running, "/agents", agent)
        assert status == 201
        running.process.send_signal(signal.SIGINT)
        assert await running.ends() == 0
        assert running.said().rstrip().endswith("Conclave is down.")
    async with _up(site) as running:
        await running.is_up(timeout=150)
        assert _call(running, f"/agents/{made['id']}")[1]["name"] == "Ada"
