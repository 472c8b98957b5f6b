"""The supervisor as a process, with real servers: what it survives and what it leaves."""

import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest

from tests.harness.servers import free_port
from tests.harness.up import RunningUp, all_gone, running_up

CHILDREN = {"api", "worker-1", "worker-2", "temporal", "postgres"}


class Site:
    """A data directory on which the stack is started again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data_dir = root / "data"
        self.port = free_port()
        self.console = root / "console"

    def up(self, *, auto: bool = False) -> AbstractAsyncContextManager[RunningUp]:
        ready_file = self.root / "ready.json"
        where = [str(self.data_dir), str(ready_file), str(self.port)]
        return running_up(
            ["-m", "tests.runtime.fake_stack", *where, *(["auto"] if auto else [])],
            ready_file=ready_file,
            console=self.console,
        )

    def database_url(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
            return answer.read().decode()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with TemporaryDirectory(prefix="conclave-up-") as name:
        Path(name).chmod(0o711)
        yield Site(Path(name))


async def test_it_starts_says_where_everything_is_and_drains(site: Site):
    async with site.up() as running:
        pids = await running.is_up()
        assert set(pids) == CHILDREN | {"supervisor"}
        assert pids["supervisor"] == running.process.pid
        ready = running.ready()
        assert ready is not None
        assert ready["api"] == f"http://127.0.0.1:{site.port}"
        assert ready["data_dir"] == str(site.data_dir)
        with psycopg.connect(site.database_url()) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        running.process.send_signal(signal.SIGTERM)
        assert await running.ends() == 0
    await all_gone(list(pids.values()))
    assert running.ready() is None
    said = running.said()
    assert f"API          http://127.0.0.1:{site.port}" in said
    assert "[api] warning: the fake API starts" in said
    assert said.index("API: stopped") < said.index("Temporal: stopped")
    assert said.index("Temporal: stopped") < said.index("PostgreSQL: stopped")


async def test_what_is_killed_is_started_again_and_nothing_is_lost(site: Site):
    async with site.up() as running:
        pids = await running.is_up()
        for name in sorted(CHILDREN):
            os.kill(pids[name], signal.SIGKILL)
            await running.has_replaced(name, old=pids)
            pids = running.pids()
        for name in CHILDREN:
            os.kill(pids[name], signal.SIGKILL)
        await running.has_replaced(*CHILDREN, old=pids)
        with psycopg.connect(site.database_url()) as conn:
            assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)


async def test_killing_the_supervisor_leaves_nothing_and_the_next_start_works(site: Site):
    for _ in range(2):
        async with site.up() as running:
            pids = await running.is_up()
            backends = psutil.Process(pids["postgres"]).children(recursive=True)
            assert backends
            running.process.kill()
            await running.ends()
            await all_gone([*pids.values(), *(backend.pid for backend in backends)])


async def test_a_second_supervisor_on_the_same_data_is_refused(site: Site):
    async with site.up() as running:
        await running.is_up()
        other = Site(site.root)
        other.console = site.root / "second-console"
        ready_before = running.ready()
        async with other.up() as second:
            assert await second.ends() != 0
            assert f"already runs on {site.data_dir} (process {running.process.pid})" in (
                second.said()
            )
        assert running.ready() == ready_before


async def test_an_occupied_port_is_named_with_its_holder_unless_others_may_be_chosen(site: Site):
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        busy = Site(site.root)
        busy.port = squatter.getsockname()[1]
        busy.console = site.root / "busy-console"
        async with busy.up() as running:
            assert await running.ends() != 0
        said = running.said()
        assert f"Port {busy.port} is in use by" in said
        assert f"(process {os.getpid()})" in said
        async with busy.up(auto=True) as running:
            await running.is_up()
            ready = running.ready()
            assert ready is not None
            assert not str(ready["api"]).endswith(f":{busy.port}")
