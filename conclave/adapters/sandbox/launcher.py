"""The process between the service and a sandboxed command: makes the sandbox, watches, ends it.

Started by `runner.py` as `python -I -S` with an empty environment. Standard input, output and
error are the command's; the plan comes on one descriptor and what became of it is told on another.
It dies with the service, the sandbox dies with it, and it ends only when nothing of the sandbox is
left. Its modules import next to nothing: every command waits for it.
"""

from __future__ import annotations

import marshal
import os
import select
import time

from conclave.adapters.sandbox import bubblewrap, kernel, limiting, namespaces, staging
from conclave.adapters.sandbox.watch import Watch, descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conclave.adapters.sandbox.plan import Plan

_LOOK_EVERY_SECONDS = 0.05
_SCRATCH = ("tmp", "dev/shm")


def main(plan_handle: int, report_handle: int, stop_handle: int, parent: int) -> None:
    """Run one command; the exit code is always 0, the report says the rest."""
    for handle in (report_handle, stop_handle):
        os.set_inheritable(handle, False)
    with os.fdopen(plan_handle, "rb") as file:
        plan: Plan = marshal.loads(file.read())
    try:
        report = _run(plan, stop_handle, parent)
    except OSError as error:
        report = {"error": error.strerror or str(error)}
    os.write(report_handle, marshal.dumps(report))


def _run(plan: Plan, stop_handle: int, parent: int) -> dict[str, object]:
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    if plan["become"] >= 0:
        plan["mounts"] = staging.stage(plan["mounts"], plan["become"])
        staging.become(plan["become"])
    kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was arranged
        os._exit(1)
    run = Running(plan)
    run.start()
    return run.until_gone(stop_handle)


class Running:
    """A started sandbox."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        workspace = plan["mounts"][-1][0]
        self._watch = Watch(plan, _open(workspace))
        self._child = -1
        """The process whose end is the command's."""
        self._first = -1
        """The sandbox's first process, where that is another one."""
        self._proc = -1
        self._scratch: list[int] = []
        self._ended_by: str | None = None

    def start(self) -> None:
        """Start the command."""
        backend = self._plan["backend"]
        if backend == "bubblewrap":
            self._child, self._first = bubblewrap.start(self._plan)
        elif backend == "namespaces":
            self._child = namespaces.start(self._plan)
            self._enter_view("/")  # the root is the sandbox's by now
        else:
            self._proc = _open("/proc")
            self._child = self._start_bare()

    def until_gone(self, stop_handle: int) -> dict[str, object]:
        """Watch the command to its end and return when nothing of it is left.

        The other end of `stop_handle` is closed to end it, or because the service is no more.
        """
        deadline = time.monotonic() + self._plan["wall_seconds"]
        handle = os.pidfd_open(self._child)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.register(stop_handle, select.POLLIN)
        while handle not in (happened := dict(poll.poll(_LOOK_EVERY_SECONDS * 1000))):
            if stop_handle in happened:
                poll.unregister(stop_handle)
                self._end("asked")
            elif time.monotonic() >= deadline:
                self._end("time")
            elif (passed := self._judge()) is not None:
                self._end(passed)
        _, status = os.waitpid(self._child, 0)
        self._reap_the_rest()
        code = os.waitstatus_to_exitcode(status)
        return {"exit_code": code if code >= 0 else 128 - code, "killed_by": self._ended_by}

    def _end(self, reason: str) -> None:
        self._ended_by = self._ended_by or reason
        if self._child > 0:
            os.kill(self._child, kernel.SIGKILL)

    def _judge(self) -> str | None:
        if self._plan["backend"] == "unsandboxed":
            return self._watch.verdict(self._proc, descendants(self._proc, os.getpid()), [])
        if self._proc < 0 and not self._look_into_bubblewrap():
            return None
        names = [name for name in os.listdir(self._proc) if name.isdigit()]
        return self._watch.verdict(self._proc, names, self._scratch)

    def _look_into_bubblewrap(self) -> bool:
        """Open the sandbox's own /proc, once bubblewrap has changed the root."""
        root = f"/proc/{self._first}/root/"
        try:
            here, there = os.stat("/"), os.stat(root)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return False
            self._enter_view(root)
        except OSError:
            return False
        return True

    def _enter_view(self, root: str) -> None:
        self._scratch = [_open(root + name) for name in _SCRATCH]
        self._proc = _open(f"{root}proc")

    def _start_bare(self) -> int:
        child = os.fork()
        if child == 0:
            limiting.limit_self(self._plan)
            limiting.close_all()
            limiting.execute(self._plan)
        return child

    def _reap_the_rest(self) -> None:
        """Wait for everything that is left; orphans come to us."""
        while True:
            if self._plan["backend"] == "unsandboxed":
                for name in descendants(self._proc, os.getpid()):
                    try:
                        os.kill(int(name), kernel.SIGKILL)
                    except ProcessLookupError:
                        continue
            try:
                os.wait()
            except ChildProcessError:
                return


def _open(directory: str) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
