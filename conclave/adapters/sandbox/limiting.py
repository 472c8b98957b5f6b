"""What a process takes upon itself before it becomes the command.

Runs in the launcher: nothing heavy is imported.
"""

from __future__ import annotations

import os
import resource

from conclave.adapters.sandbox import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from conclave.adapters.sandbox.plan import Plan

_NICENESS = 5
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as a shell has it


def limit_processes(pid: int, count: int) -> None:
    """Bound the processes of a sandbox: the kernel counts them by user namespace and user.

    The watch ends a command at `count`; this holds it until then.
    """
    count *= 2
    resource.prlimit(pid, resource.RLIMIT_NPROC, (count, count))


def limit_self(plan: Plan) -> None:
    """Take on the limits that children inherit."""
    seconds = int(plan["cpu_seconds"]) + 1
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, plan["memory_bytes"]),
        (resource.RLIMIT_FSIZE, plan["file_bytes"]),
        (resource.RLIMIT_NOFILE, plan["open_files"]),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_MEMLOCK, 1 << 16),
    ):
        _, hard = resource.getrlimit(limit)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    os.sched_setaffinity(0, _processors(plan["cpus"]))
    os.nice(_NICENESS)
    os.umask(0o022)
    for number in (kernel.SIGPIPE, kernel.SIGXFSZ):
        kernel.restore_signal(number)


def execute(plan: Plan) -> NoReturn:
    """Become the command, or end as a shell ends that cannot find it."""
    program, code = plan["argv"][0], _NOT_FOUND
    try:
        os.chdir(plan["cwd"])
        # os.execvpe would import more of the library, which is out of reach by now.
        directories = [""] if "/" in program else plan["env"]["PATH"].split(":")
        for directory in directories:
            try:
                os.execve(os.path.join(directory, program), plan["argv"], plan["env"])
            except (FileNotFoundError, NotADirectoryError):
                continue
        _say(f"{program}: not found\n")
    except OSError as error:
        code = _NOT_EXECUTABLE
        _say(f"{program}: {error.strerror}\n")
    finally:
        os._exit(code)


def close_all() -> None:
    """Close every descriptor but the three standard ones."""
    os.closerange(3, 1024)


def _say(text: str) -> None:
    os.write(2, text.encode(errors="surrogateescape"))


def _processors(count: int) -> set[int]:
    """Pick some of the processors we may use, others each time."""
    mine = sorted(os.sched_getaffinity(0))
    first = int.from_bytes(os.urandom(2), "little") % len(mine)
    return {mine[(first + step) % len(mine)] for step in range(min(count, len(mine)))}
