"""What root does before it stops being root: it lets the sandbox's user reach the workspace.

A command must not be root outside its sandbox, where files of its making could carry root's
set-user-id bit. So the launcher becomes an ordinary user, to whom root's workspace would be
closed: an id-mapped mount shows root's files as that user's, and stores that user's as root's.
Where the file system has no such mounts, the workspace is given to that user. Runs in the
launcher: nothing heavy is imported.
"""

from __future__ import annotations

import os
import stat

from conclave.adapters.sandbox import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conclave.adapters.sandbox.plan import Mount

_STAGE = "/tmp"  # of a mount namespace of our own, where nobody else sees it


def stage(mounts: list[Mount], uid: int) -> list[Mount]:
    """Copy the mounts that root alone may reach to where `uid` reaches them."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    trees = {source: _mapped(source, writable, uid) for source, _, writable, own in mounts if own}
    kernel.mount("stage", _STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    places: dict[str, str] = {}
    for number, (source, (tree, is_directory)) in enumerate(trees.items()):
        place = f"{_STAGE}/{number}"
        if is_directory:
            os.mkdir(place, 0o755)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        kernel.attach(tree, place)
        places[source] = place
    return [
        (places.get(source, source), target, writable, own)
        for source, target, writable, own in mounts
    ]


def become(uid: int) -> None:
    """Stop being root."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # or our own /proc entries would stay root's


def _mapped(source: str, writable: bool, uid: int) -> tuple[int, bool]:
    tree = kernel.clone_tree(source, recursive=False)
    status = os.stat(tree)
    attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
    kernel.set_mount(tree, attributes, recursive=False)
    if status.st_uid != uid:
        try:
            _map_owner(tree, status.st_uid, status.st_gid, uid)
        except OSError:
            if writable:
                _give(tree, uid)
    return tree, stat.S_ISDIR(status.st_mode)


def _map_owner(tree: int, owner: int, group: int, uid: int) -> None:
    holder, started, hold = _hold_namespace()
    try:
        os.read(started, 1)
        for name, inside in (("uid_map", owner), ("gid_map", group)):
            with open(f"/proc/{holder}/{name}", "w") as file:
                file.write(f"{inside} {uid} 1\n")
        userns = os.open(f"/proc/{holder}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.set_mount(tree, kernel.MOUNT_ATTR_IDMAP, recursive=False, userns=userns)
        finally:
            os.close(userns)
    finally:
        os.close(hold)
        os.close(started)
        os.waitpid(holder, 0)


def _hold_namespace() -> tuple[int, int, int]:
    """Start a process that holds a user namespace until the last descriptor is closed."""
    started, say_started = os.pipe()
    held, hold = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            os.close(hold)
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(say_started, b"1")
            os.read(held, 1)
        finally:
            os._exit(0)
    os.close(say_started)
    os.close(held)
    return holder, started, hold


def _give(tree: int, uid: int) -> None:
    """Make `uid` the owner of a workspace; a file with other names may be more than that."""
    start = os.open(f"/proc/self/fd/{tree}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for _, directories, files, handle in os.fwalk(".", dir_fd=start):
        os.fchown(handle, uid, uid)
        for name in (*files, *directories):
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            is_shared = status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)
            if status.st_uid != uid and not is_shared:
                os.chown(name, uid, uid, dir_fd=handle, follow_symlinks=False)
    os.close(start)
