"""`conclave up`: starts the stack, keeps it alive, and takes it down in order.

PostgreSQL and Temporal start side by side; then the workers and the API; at the end the API goes
first, then the workers, Temporal, PostgreSQL. Killed with -9, the kernel ends the children, and
the next start waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence

from conclave.runtime import files, migrations, predecessor
from conclave.runtime.child import Child, ChildSpec
from conclave.runtime.console import LogWatcher, say, tail
from conclave.runtime.errors import StartFailed
from conclave.runtime.plan import Layout, UpOptions, child_environment, worker_names
from conclave.runtime.portcheck import settle_ports
from conclave.runtime.postgres import Postgres
from conclave.runtime.ready_file import ReadyFile
from conclave.runtime.stack import API, POSTGRES, TEMPORAL, Stack
from conclave.runtime.temporal import register_search_attributes

_START_PATIENCE_SECONDS = 300.0
_EARLY_DEATHS_ALLOWED = 5


async def up(options: UpOptions) -> None:
    """Run the stack until SIGINT or SIGTERM. Raises `StartFailed`."""
    os.umask(0o077)
    layout = Layout(options.data_dir)
    files.make_directories(layout)
    async with predecessor.sole_supervisor(layout):
        for name in await asyncio.to_thread(predecessor.outlast_children, layout):
            say(f"Ended {name}, left over from an earlier run.")
        await Supervisor(options, layout).run()


class Supervisor:
    """One run of the stack."""

    def __init__(self, options: UpOptions, layout: Layout) -> None:
        self._options = options
        self._layout = layout
        self._ports = settle_ports(options.ports, auto=options.auto_ports)
        self._stop = asyncio.Event()
        self._children: dict[str, Child] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._up = False
        path = options.ready_file
        self._ready_file = ReadyFile(path, self._ports, layout.root) if path else None

    async def run(self) -> None:
        """Start, wait to be told to stop, drain."""
        self._listen_to_signals()
        if self._ready_file is not None:
            self._ready_file.remove()
        names = [POSTGRES, TEMPORAL, API, *worker_names(self._options.workers)]
        logs = {name: self._layout.log(name) for name in names}
        watcher = LogWatcher(logs, verbose=self._options.verbose)
        watching = asyncio.create_task(watcher.run())
        try:
            await self._run_until_told()
        finally:
            watcher.look()
            if not self._options.verbose:
                watching.cancel()  # what they say of each other's end is for their logs
            await self._drain()
            watching.cancel()

    async def _run_until_told(self) -> None:
        starting = asyncio.create_task(self._start())
        told = asyncio.create_task(self._stop.wait())
        try:
            await self._first_of(starting, told)
            if starting.done():
                await starting
                await self._first_of(told)
        finally:
            for task in (starting, told):
                task.cancel()
            await asyncio.gather(starting, told, return_exceptions=True)

    async def _first_of(self, *tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
        """Wait for one of the tasks; a keeper that broke raises what broke it."""
        waiting: set[asyncio.Task[None] | asyncio.Task[bool]] = set(tasks)
        while not any(task.done() for task in tasks):
            await asyncio.wait(
                waiting | self._keepers, timeout=0.5, return_when=asyncio.FIRST_COMPLETED
            )
            for keeper in [task for task in self._keepers if task.done()]:
                self._keepers.discard(keeper)
                keeper.result()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            return
        say("Asked twice: killing what is left.")
        for child in self._children.values():
            hard = signal.SIGQUIT if child.spec.name == POSTGRES else signal.SIGKILL
            child.signal(hard)

    async def _start(self) -> None:
        began = time.monotonic()
        say(f"Conclave starts; its data is in {self._layout.root}")
        postgres = Postgres.at(self._layout.postgres)
        environment = child_environment(
            os.environ,
            self._options,
            self._ports,
            database_url=postgres.url(),
            secrets=files.installation_secrets(self._layout),
        )
        stack = Stack(self._layout, self._ports, postgres, environment)
        await asyncio.gather(self._start_postgres(stack), self._start_temporal(stack))
        workers = [stack.worker_spec(name) for name in worker_names(self._options.workers)]
        await asyncio.gather(*(self._bring_up(spec) for spec in [stack.api_spec(), *workers]))
        self._up = True
        self._on_ready()
        self._summarise(time.monotonic() - began)

    async def _start_postgres(self, stack: Stack) -> None:
        if not (stack.postgres.cluster / "PG_VERSION").exists():
            say("PostgreSQL: making a new database cluster ...")
        for note in await asyncio.to_thread(stack.postgres.prepare):
            say(f"PostgreSQL: {note}")
        await self._bring_up(stack.postgres_spec())
        began = time.monotonic()
        await asyncio.to_thread(migrations.upgrade, stack.postgres.url())
        say(f"Database schema: current after {time.monotonic() - began:.1f} s")

    async def _start_temporal(self, stack: Stack) -> None:
        await self._bring_up(stack.temporal_spec())
        added = await register_search_attributes(f"127.0.0.1:{self._ports.temporal}", "default")
        if added:
            say(f"Temporal: registered the search attributes {', '.join(added)}")

    async def _bring_up(self, spec: ChildSpec) -> None:
        """Start a child and wait for it to be ready. Raises `StartFailed`."""
        began = time.monotonic()
        child = Child(spec, say=say, on_start=self._on_start, on_ready=self._on_ready)
        self._children[spec.name] = child
        keeper = child.start()
        self._keepers.add(keeper)
        while not child.ready.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.ready.wait(), 0.5)
            if keeper.done():
                await keeper
                return
            late = time.monotonic() - began > _START_PATIENCE_SECONDS
            if late or child.early_deaths >= _EARLY_DEATHS_ALLOWED:
                raise StartFailed(
                    f"{spec.title} does not start. The end of {spec.log}:\n{tail(spec.log)}"
                )
        say(f"{spec.title}: ready in {time.monotonic() - began:.1f} s (process {child.pid})")

    def _on_start(self) -> None:
        running = {name: child.pid for name, child in self._children.items() if child.pid}
        predecessor.remember_children(self._layout, running)

    def _on_ready(self) -> None:
        """Tell scripts; a child that is being restarted stands there with its old pid."""
        if self._up and self._ready_file is not None and not self._stop.is_set():
            known = {name: child.last_ready_pid for name, child in self._children.items()}
            pids = {name: pid for name, pid in known.items() if pid is not None}
            self._ready_file.write({**pids, "supervisor": os.getpid()})

    def _summarise(self, seconds: float) -> None:
        api = f"http://127.0.0.1:{self._ports.api}"
        say("")
        say(f"Conclave is up after {seconds:.1f} s.")
        say(f"  API          {api}")
        say(f"  API pages    {api}/docs")
        say(f"  Temporal UI  http://127.0.0.1:{self._ports.ui}")
        say(f"  Temporal     127.0.0.1:{self._ports.temporal}")
        say(f"  Data, logs   {self._layout.root}, {self._layout.logs}")
        say("Ctrl-C stops it; nothing is lost.")
        say("")

    async def _drain(self) -> None:
        """Stop the children in reverse order, each group when the one before is gone."""
        if self._ready_file is not None:
            self._ready_file.remove()
        if self._children:
            say("Conclave stops ...")
        for child in self._children.values():
            child.forbid_restart()
        workers = worker_names(self._options.workers)
        order: Sequence[Sequence[str]] = ([API], workers, [TEMPORAL], [POSTGRES])
        for group in order:
            going = [self._children[name] for name in group if name in self._children]
            await asyncio.gather(*(self._stop_one(child, say) for child in going))
        self._layout.children.unlink(missing_ok=True)
        if self._children:
            say("Conclave is down.")

    async def _stop_one(self, child: Child, tell: Callable[[str], None]) -> None:
        began = time.monotonic()
        try:
            await child.stop()
        except Exception as error:  # what broke its keeper must not keep the others up
            tell(f"{child.spec.title}: {error}")
        tell(f"{child.spec.title}: stopped in {time.monotonic() - began:.1f} s")
