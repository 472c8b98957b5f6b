"""The system calls that Python's library lacks. Runs in the launcher: nothing heavy is imported."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

# The same numbers on every architecture that Linux gained after 5.0.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

AT_FDCWD = -100
_AT_EMPTY_PATH, _AT_RECURSIVE, _AT_SYMLINK_NOFOLLOW = 0x1000, 0x8000, 0x100
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, 0o2000000
_MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
MOUNT_ATTR_IDMAP = 0x100000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 2, 4, 8, 32, 4096
MS_RDONLY, MS_REC, MS_PRIVATE = 1, 16384, 1 << 18
MNT_DETACH = 2

# The library's signal module costs more to import than all the rest.
SIGKILL, SIGPIPE, SIGXFSZ = 9, 13, 25

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_LAST_CAPABILITY = 63
_CAPABILITY_VERSION_3 = 0x20080522


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(what: str, number: int, *arguments: object) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), what)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """See mount(2)."""
    kind_bytes = None if kind is None else kind.encode()
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind_bytes, ctypes.c_ulong(flags), data.encode()
    )
    _checked(result, f"mounting {target}")


def unmount(target: str) -> None:
    """Detach the mount; see umount2(2)."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmounting {target}")


def pivot_root_here(number: int) -> None:
    """Make the working directory the root, the old root stacked upon it."""
    _syscall("pivot_root", number, b".", b".")


def unshare(flags: int) -> None:
    """See unshare(2)."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "making namespaces")


def prctl(option: int, value: int) -> None:
    """See prctl(2)."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), f"prctl({option})")


def restore_signal(number: int) -> None:
    """Let a signal do what it does by default: Python ignores some, and children inherit that."""
    _libc.signal(number, None)


def clone_tree(path: str, *, recursive: bool) -> int:
    """Return a detached copy of the mount at `path`, which must not be a link."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_SYMLINK_NOFOLLOW
    flags |= _AT_RECURSIVE if recursive else 0
    return _syscall(f"reaching {path}", _OPEN_TREE, AT_FDCWD, os.fsencode(path), flags)


def set_mount(tree: int, attributes: int, *, recursive: bool, userns: int = 0) -> None:
    """Add attributes to a detached mount; `userns` is for MOUNT_ATTR_IDMAP."""
    attr = _MountAttr(attr_set=attributes, userns_fd=userns)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    _syscall("mount_setattr", _MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attr), size)


def attach(tree: int, target: str) -> None:
    """Put a detached mount at `target` and close it."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH
    path = os.fsencode(target)
    _syscall(f"mounting {target}", _MOVE_MOUNT, tree, b"", AT_FDCWD, path, flags)
    os.close(tree)


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # the kernel knows no more of them
            break
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(nothing)), "dropping capabilities")


def install_filter(program: bytes) -> None:
    """Install a seccomp program for this process and its children."""
    held = _Filter(len(program) // 8, program)
    result = _libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(held), 0, 0)
    _checked(result, "installing the system call filter")


def bring_loopback_up() -> None:
    """Raise `lo` of the present network namespace: it reaches nothing but itself."""
    up_and_running = 0x41
    handle = _checked(_libc.socket(2, 2, 0), "socket")
    try:
        request = b"lo".ljust(16, b"\0") + up_and_running.to_bytes(2, "little").ljust(24, b"\0")
        _checked(_libc.ioctl(handle, ctypes.c_ulong(0x8914), request), "raising lo")
    finally:
        os.close(handle)


def landlock_version() -> int:
    """Return the kernel's Landlock version, 0 where there is none."""
    number = ctypes.c_long(_LANDLOCK_CREATE)
    version: int = _libc.syscall(number, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(version, 0)


def landlock(rules: list[tuple[str, int]], version: int, handled: int) -> None:
    """Allow `rules` (path, access) and nothing else of `handled`, for good."""
    words = [handled, 0, 3][: 3 if version >= 6 else 1]  # 3: abstract sockets and signals
    attr = (ctypes.c_uint64 * len(words))(*words)
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    ruleset = _syscall("landlock", _LANDLOCK_CREATE, ctypes.byref(attr), size, ctypes.c_uint32(0))
    try:
        for path, access in rules:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = _PathBeneath(access & handled, handle)
            _syscall("landlock rule", _LANDLOCK_ADD, ruleset, 1, ctypes.byref(rule), 0)
            os.close(handle)
        _syscall("landlock", _LANDLOCK_RESTRICT, ruleset, ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
