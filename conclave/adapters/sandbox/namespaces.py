"""The sandbox without bubblewrap: namespaces, mounts and Landlock, made by the launcher itself.

Runs in the launcher: nothing heavy is imported.
"""

from __future__ import annotations

import os

from conclave.adapters.sandbox import kernel, limiting, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from conclave.adapters.sandbox.plan import Mount, Plan

_ROOT = "/tmp"  # of our own mount namespace, until it becomes the root
_DEVICES = ("null", "zero", "full", "random", "urandom")
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read files, read directories
_WRITE_FILE = 1 << 1
_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # of Landlock's file rights, by version
_NEWEST_BITS = 16


def start(plan: Plan) -> int:
    """Start the sandbox and return its first process, confined and about to run the command."""
    _make_namespaces(plan["inside_id"])
    _build(plan)
    ready, say_ready = os.pipe()
    first = os.fork()
    if first == 0:
        _be_first(plan, say_ready)
    os.close(say_ready)
    with os.fdopen(ready, "rb") as messages:
        message = messages.read()
    if message != b"ready":
        os.waitpid(first, 0)
        raise OSError(0, message.decode(errors="replace") or "the first process died")
    return first


def _make_namespaces(inside_id: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(
        kernel.CLONE_NEWUSER
        | kernel.CLONE_NEWNS
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
        | kernel.CLONE_NEWCGROUP
    )
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside_id} {uid} 1\n"),
        ("gid_map", f"{inside_id} {gid} 1\n"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    kernel.bring_loopback_up()


def _build(plan: Plan) -> None:
    """Mount everything under `_ROOT` but /proc, which needs the new process namespace."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    trees = [(_tree(mount), mount) for mount in plan["mounts"]]
    devices = [(kernel.clone_tree(f"/dev/{name}", recursive=False), name) for name in _DEVICES]
    _tmpfs(_ROOT, 1 << 20)
    for path in ("/dev", "/dev/shm", "/proc", "/tmp"):
        os.mkdir(_ROOT + path)
    for path in ("/dev/shm", "/tmp"):
        _tmpfs(_ROOT + path, plan["tmp_bytes"], mode="1777")
    for tree, (source, target, _, _) in trees:
        _make_place(_ROOT + target, is_directory=os.path.isdir(f"/proc/self/fd/{tree}"))
        try:
            kernel.attach(tree, _ROOT + target)
        except OSError as error:
            raise OSError(error.errno, f"{source}: {error.strerror}") from error
    for target, link in plan["links"]:
        os.symlink(target, _ROOT + link)
    for path, content in plan["files"]:
        os.makedirs(os.path.dirname(_ROOT + path), exist_ok=True)
        with open(_ROOT + path, "wb") as file:
            file.write(content)
    for tree, name in devices:
        _make_place(f"{_ROOT}/dev/{name}", is_directory=False)
        kernel.attach(tree, f"{_ROOT}/dev/{name}")
    for link, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{_ROOT}/dev/{link}")
    for path in plan["hidden"]:
        _tmpfs(_ROOT + path, 4096, read_only=True)


def _tree(mount: Mount) -> int:
    source, _, writable, _ = mount
    tree = kernel.clone_tree(source, recursive=True)
    attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
    attributes |= 0 if writable else kernel.MOUNT_ATTR_RDONLY
    kernel.set_mount(tree, attributes, recursive=True)
    return tree


def _tmpfs(path: str, size: int, *, mode: str = "0755", read_only: bool = False) -> None:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | (kernel.MS_RDONLY if read_only else 0)
    kernel.mount("tmpfs", path, "tmpfs", flags, f"size={size},nr_inodes=20000,mode={mode}")


def _make_place(path: str, *, is_directory: bool) -> None:
    os.makedirs(path if is_directory else os.path.dirname(path), exist_ok=True)
    if not is_directory:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))


def _be_first(plan: Plan, say_ready: int) -> NoReturn:
    """Finish the sandbox from inside, then run the command and reap until it ends."""
    code = 1
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, kernel.SIGKILL)
        _enter(plan)
        _confine(plan)
        os.write(say_ready, b"ready")
        os.close(say_ready)
        code = _run(plan)
    except OSError as error:
        os.write(say_ready, (error.strerror or str(error)).encode())
    finally:
        os._exit(code)


def _enter(plan: Plan) -> None:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", f"{_ROOT}/proc", "proc", flags)
    os.chdir(_ROOT)
    number = seccomp.PIVOT_ROOT.get(seccomp.machine())
    if number is None:
        raise OSError(0, "this processor's system calls are not known")
    kernel.pivot_root_here(number)
    kernel.unmount(".")
    os.chdir("/")
    flags = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY
    kernel.mount("none", "/", None, flags | kernel.MS_NOSUID | kernel.MS_NODEV)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")


def _confine(plan: Plan) -> None:
    limiting.limit_self(plan)
    limiting.limit_processes(0, plan["processes"])
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    version = kernel.landlock_version()
    if version:
        writable = [target for _, target, writable, _ in plan["mounts"] if writable]
        handled = (1 << _BITS.get(version, _NEWEST_BITS)) - 1
        rules = [("/", _READ), ("/dev", _READ | _WRITE_FILE | 1 << 15 | 1 << 14)]
        rules += [("/proc", _READ | _WRITE_FILE | 1 << 14)]
        rules += [(path, handled) for path in (*writable, "/tmp", "/dev/shm")]
        kernel.landlock(rules, version, handled)
    # Or the command could open our program, and the files of the host it comes from, in /proc/1.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    program = seccomp.program()
    if program is not None:
        kernel.install_filter(program)


def _run(plan: Plan) -> int:
    command = os.fork()
    if command == 0:
        limiting.execute(plan)
    limiting.close_all()
    while True:
        child, status = os.wait()
        if child == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
