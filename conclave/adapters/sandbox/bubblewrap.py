"""The sandbox made by bubblewrap: the launcher starts it and adds the limits it does not have.

Runs in the launcher: nothing heavy is imported.
"""

from __future__ import annotations

import os

from conclave.adapters.sandbox import limiting, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conclave.adapters.sandbox.plan import Plan

# So that a program that is not there ends with 127, as it does in a shell.
_RUN = ("/bin/sh", "-c", 'exec "$@"', "sh")


def start(plan: Plan) -> tuple[int, int]:
    """Start bubblewrap; return its process and the sandbox's first one."""
    info, say_info = os.pipe()
    blocked, release = os.pipe()
    handles = [say_info, blocked]
    options = _options(plan, handles)
    options += ["--info-fd", str(say_info), "--block-fd", str(blocked)]
    arguments = _memory_file("\0".join(options).encode(errors="surrogateescape"))
    handles.append(arguments)
    command = [plan["bwrap"], "--args", str(arguments), "--", *_RUN, *plan["argv"]]
    outer = os.fork()
    if outer == 0:
        try:
            limiting.limit_self(plan)
            for handle in handles:
                os.set_inheritable(handle, True)
            os.execve(plan["bwrap"], command, {})
        finally:
            os._exit(1)
    for handle in handles:
        os.close(handle)
    with os.fdopen(info, "rb") as messages:
        text = messages.read().decode()  # JSON, of which the first member is wanted
    digits = text.partition('"child-pid":')[2].partition(",")[0].strip(" \n}")
    if not digits.isdigit():
        os.waitpid(outer, 0)
        raise OSError(0, "bubblewrap could not make its namespaces")
    first = int(digits)
    limiting.limit_processes(first, plan["processes"])
    os.write(release, b"1")
    os.close(release)
    return outer, first


def _options(plan: Plan, handles: list[int]) -> list[str]:
    inside = str(plan["inside_id"])
    options = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    options += ["--uid", inside, "--gid", inside, "--cap-drop", "ALL", "--clearenv"]
    if plan["disable_userns"]:
        options += ["--disable-userns"]
    for name, value in plan["env"].items():
        options += ["--setenv", name, value]
    size = str(plan["tmp_bytes"])
    options += ["--proc", "/proc", "--dev", "/dev"]
    for path in ("/dev/shm", "/tmp"):
        options += ["--perms", "1777", "--size", size, "--tmpfs", path]
    for source, target, writable, _ in plan["mounts"]:
        options += ["--bind" if writable else "--ro-bind", source, target]
    for target, link in plan["links"]:
        options += ["--symlink", target, link]
    for path, content in plan["files"]:
        handles.append(_memory_file(content))
        options += ["--file", str(handles[-1]), path]
    for path in plan["hidden"]:
        options += ["--perms", "0755", "--size", "4096", "--tmpfs", path, "--remount-ro", path]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", plan["cwd"]]
    program = seccomp.program()
    if program is not None:
        handles.append(_memory_file(program))
        options += ["--seccomp", str(handles[-1])]
    return options


def _memory_file(content: bytes) -> int:
    handle = os.memfd_create("sandbox")
    with os.fdopen(os.dup(handle), "wb") as file:
        file.write(content)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle
