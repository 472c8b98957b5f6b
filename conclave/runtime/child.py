"""One supervised process: started, watched, started again when it dies, stopped with patience."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conclave.runtime.errors import StartFailed
from conclave.runtime.launch import bound_to_us
from conclave.runtime.plan import RESTLESS_DEATHS, RESTLESS_WINDOW_SECONDS, restart_delay
from conclave.runtime.postgres import Account

_ASK_EVERY_SECONDS = 0.05
_KILL_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class ChildSpec:
    """What to run and how to treat it."""

    name: str
    title: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    is_ready: Callable[[int], Awaitable[bool]]
    """Asked with the pid, again and again, until it says yes."""
    prepare: Callable[[], Awaitable[None]] | None = None
    """Runs before every start."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    death_signal: signal.Signals = signal.SIGKILL
    account: Account | None = None


class Child:
    """Keeps one process alive until told to stop.

    `on_start` is called with each new process, `on_ready` when that one is ready.
    """

    def __init__(
        self,
        spec: ChildSpec,
        *,
        say: Callable[[str], None],
        on_start: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.pid: int | None = None
        self.last_ready_pid: int | None = None
        self.early_deaths = 0
        """Deaths in a row before it was ready."""
        self._say = say
        self._on_start = on_start
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._deaths: deque[float] = deque(maxlen=RESTLESS_DEATHS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin to keep it alive; the task ends when it was stopped, or raises what broke it."""
        self._task = asyncio.create_task(self._keep_alive(), name=self.spec.name)
        return self._task

    def forbid_restart(self) -> None:
        """Let it end when it ends."""
        self._stopping.set()

    async def stop(self) -> None:
        """Ask it to end, insist after `stop_seconds`, and return when it is gone."""
        self._stopping.set()
        if self._task is None:
            return
        for number, patience in (
            (self.spec.stop_signal, self.spec.stop_seconds),
            (signal.SIGKILL, _KILL_PATIENCE_SECONDS),
        ):
            self.signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), patience)
                return
            if number is not signal.SIGKILL:
                self._say(f"{self.spec.title} did not end in {patience:.0f} s; killing it.")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _keep_alive(self) -> None:
        while not self._stopping.is_set():
            ending = await self._run_once()
            if self._stopping.is_set():
                return
            now = asyncio.get_running_loop().time()
            self._deaths.append(now)
            recent = sum(1 for death in self._deaths if now - death < RESTLESS_WINDOW_SECONDS)
            delay = restart_delay(self.early_deaths, recent)
            again = f"started again in {delay:.1f} s"
            if recent >= RESTLESS_DEATHS:
                again = f"it keeps dying, retried every {delay:.0f} s; see {self.spec.log}"
            self._say(f"{self.spec.title} {ending}; {again}.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def _run_once(self) -> str:
        """Run it to its end and say how it ended."""
        try:
            process = await self._spawn()
        except (OSError, StartFailed) as error:
            self.early_deaths += 1
            return f"could not be started ({error})"
        self.pid = process.pid
        self._on_start()
        if self._stopping.is_set():
            self.signal(self.spec.stop_signal)
        watch = asyncio.create_task(self._watch_readiness(process.pid))
        try:
            code = await process.wait()
        finally:
            watch.cancel()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it left in its session
            self.pid = None
        self.early_deaths = 0 if self.ready.is_set() else self.early_deaths + 1
        self.ready.clear()
        return _ending(code)

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self.spec.prepare is not None:
            await self.spec.prepare()
        command = bound_to_us(
            self.spec.command, death_signal=self.spec.death_signal, account=self.spec.account
        )
        with self.spec.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.environment),
                start_new_session=True,
            )

    async def _watch_readiness(self, pid: int) -> None:
        while True:
            if await self.spec.is_ready(pid):
                self.last_ready_pid = pid
                self.ready.set()
                self._on_ready()
                return
            await asyncio.sleep(_ASK_EVERY_SECONDS)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
