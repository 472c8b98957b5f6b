"""The system calls a sandboxed command may not make, as a seccomp program.

Namespaces take away what a command can reach; this takes away what reaches past them: sockets to
the hypervisor (no network namespace holds them), the kernel's keyrings, more namespaces, memory
that no process shows, and set-user-id bits, which would outlive the sandbox. Known for x86-64 and
arm64. Runs in the launcher: nothing heavy is imported.
"""

from __future__ import annotations

import os

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_ATLEAST, _JUMP_ANY, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_BIT = 0x40000000

_NAMESPACES = 0x7E020080  # CLONE_NEW* of clone(2)
_SET_ID_BITS = 0o6000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FAMILIES = (1, 2, 10, 16)  # unix, IPv4, IPv6, netlink

# name: (x86-64, arm64), None where it does not exist
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "sched_setaffinity": (203, 122),
    "quotactl": (179, 60),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
}
# Programs fall back to something else where these do not exist.
_ABSENT: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),
    "openat2": (437, 437),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
}
# which argument is the mode
_MODES: dict[str, tuple[tuple[int | None, int | None], int]] = {
    "chmod": ((90, None), 1),
    "fchmod": ((91, 52), 1),
    "fchmodat": ((268, 53), 2),
    "fchmodat2": ((452, 452), 2),
    "creat": ((85, None), 1),
    "mknod": ((133, None), 1),
    "mknodat": ((259, 33), 2),
}
# the mode's argument follows that of the flags; without these flags it means nothing
_OPENING: dict[str, tuple[tuple[int | None, int | None], int]] = {
    "open": ((2, None), 1),
    "openat": ((257, 56), 2),
}
_CREATES = 0o20000100
_CLONE, _IOCTL, _SOCKET, _SOCKETPAIR = (56, 220), (16, 29), (41, 198), (53, 199)
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def machine() -> str:
    """Return the machine's architecture as the kernel names it."""
    return os.uname().machine


def program() -> bytes | None:
    """Return the filter for this machine, None where its call numbers are not known."""
    architecture = _ARCHITECTURES.get(machine())
    if architecture is None:
        return None
    column = list(_ARCHITECTURES).index(machine())
    steps = [
        _step(_LOAD, _ARCH_AT),
        _step(_JUMP_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
    ]
    if column == 0:
        steps += [_step(_JUMP_ATLEAST, _X32_BIT, 0, 1), _refusal(_ENOSYS)]
    for calls, number in ((_DENIED, _EPERM), (_ABSENT, _ENOSYS)):
        for numbers in calls.values():
            call = numbers[column]
            if call is not None:
                steps += [_step(_JUMP_EQUAL, call, 0, 1), _refusal(number)]
    for numbers, argument in _MODES.values():
        steps += _when(numbers[column], argument, [_step(_JUMP_ANY, _SET_ID_BITS, 0, 1)], _EPERM)
    for numbers, flags in _OPENING.values():
        tests = [
            _step(_JUMP_ANY, _SET_ID_BITS, 0, 3),
            _step(_LOAD, _ARGUMENTS_AT + 8 * flags),
            _step(_JUMP_ANY, _CREATES, 0, 1),
        ]
        steps += _when(numbers[column], flags + 1, tests, _EPERM)
    steps += _when(_CLONE[column], 0, [_step(_JUMP_ANY, _NAMESPACES, 0, 1)], _EPERM)
    for request in (_TIOCSTI, _TIOCLINUX):
        steps += _when(_IOCTL[column], 1, [_step(_JUMP_EQUAL, request, 0, 1)], _EPERM)
    families = [
        _step(_JUMP_EQUAL, family, len(_FAMILIES) - position, 0)
        for position, family in enumerate(_FAMILIES)
    ]
    for numbers in (_SOCKET, _SOCKETPAIR):
        steps += _when(numbers[column], 0, families, _EAFNOSUPPORT)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _when(call: int | None, argument: int, tests: list[bytes], number: int) -> list[bytes]:
    """Refuse a call where the tests of its argument fall through; else go on."""
    if call is None:
        return []
    inner = [
        _step(_LOAD, _ARGUMENTS_AT + 8 * argument),
        *tests,
        _refusal(number),
        _step(_LOAD, _NUMBER_AT),
    ]
    return [_step(_JUMP_EQUAL, call, 0, len(inner)), *inner]


def _refusal(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _step(code: int, operand: int, when_true: int = 0, when_false: int = 0) -> bytes:
    jumps = bytes([when_true, when_false])
    return code.to_bytes(2, "little") + jumps + operand.to_bytes(4, "little")
