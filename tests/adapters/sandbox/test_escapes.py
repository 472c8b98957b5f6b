"""What a sandboxed command cannot reach."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.adapters.sandbox.host import HostSandbox
from tests.adapters.sandbox.shell import ROOT, SECRET, Shell, running
from tests.waiting import until

# What it must not read or write


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/root/.ssh", "/home", "/var", "/run", "/sys/kernel", "/proc/kcore", "/opt"],
)
async def test_the_host_is_out_of_sight(shell: Shell, path: str):
    result = await shell.sh(f"ls -A {path} && cat {path}")
    assert result.exit_code != 0
    assert result.stdout in {"", f"{path}\n"}


async def test_the_data_directory_is_out_of_sight(shell: Shell, hidden: Path):
    roots = ("", "/proc/self/root", "/proc/1/root", "/proc/self/cwd/..", "/workspace/..")
    for root in roots:
        result = await shell.sh(f"ls {root}{hidden}; cat {root}{hidden}/secrets.env")
        assert result.stdout == ""
    result = await shell.sh("cd ..; pwd; cat secrets.env /workspace/../secrets.env")
    assert result.stdout == "/\n"


async def test_a_data_directory_inside_the_workspace_is_covered(
    sandbox: HostSandbox, tmp_path: Path
):
    data = tmp_path / "data"
    data.mkdir()
    (data / "secret").write_text(SECRET)
    covering = HostSandbox(hidden=[data], backends=[(await sandbox.status()).backend])
    result = await Shell(covering, tmp_path).sh("ls data; cat data/secret; touch data/x; ls .")
    assert result.stdout == "data\n"
    assert [path.name for path in data.iterdir()] == ["secret"]


async def test_links_lead_to_the_sandbox_not_to_the_host(shell: Shell, hidden: Path):
    (shell.workspace / "link").symlink_to(hidden / "secrets.env")
    (shell.workspace / "up").symlink_to("..")
    result = await shell.sh(
        f"cat link up/secrets.env; ln -s {hidden}/secrets.env own; cat own;"
        "echo x >own; echo x >link"
    )
    assert result.stdout == ""
    assert (hidden / "secrets.env").read_text() == SECRET


async def test_no_hard_link_into_the_workspace(shell: Shell):
    result = await shell.sh("ln /usr/bin/env env || ln /etc/ld.so.cache cache")
    assert result.exit_code != 0
    assert list(shell.workspace.iterdir()) == []


@pytest.mark.parametrize(
    "script",
    [
        "touch /usr/x",
        "touch /usr/bin/x",
        "touch /etc/x",
        "touch /x",
        "touch /dev/x",
        "mount -o remount,rw /usr",
        "mount -t tmpfs none /tmp",
        "mount --bind /tmp /usr",
        "umount /workspace",
        "umount -l /proc",
        "unshare -U true",
        "unshare -r true",
        "chroot / true",
        "pivot_root / /tmp",
        "mknod device b 254 0",
        "mknod device c 1 1",
        "hostname elsewhere",
        # opened only: were they writable, writing would hurt the host
        ": >>/proc/sys/kernel/sysrq",
        ": >>/proc/sys/kernel/core_pattern",
        ": >>/proc/sysrq-trigger",
        "cat /proc/kmsg",
        "nice -n -20 true 2>&1 | grep -v cannot",
        "chmod 4755 own",
        "chmod 2755 own",
        "cp -p /usr/bin/env e && chmod u+s e",
    ],
)
async def test_what_is_forbidden_fails(shell: Shell, script: str):
    (shell.workspace / "own").write_text("")
    result = await shell.sh(script)
    assert result.exit_code != 0, result.stdout
    assert not (shell.workspace / "device").exists()
    assert all(not path.stat().st_mode & 0o6000 for path in shell.workspace.iterdir())


async def test_it_is_nobody_without_capabilities(shell: Shell):
    result = await shell.sh(
        "id -u; id -g; id -G; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status"
    )
    assert result.stdout.splitlines()[:2] == ["65534", "65534"]
    fields = dict(line.split(":\t") for line in result.stdout.splitlines()[3:])
    capabilities = {fields[name] for name in fields if name.startswith("Cap")}
    assert capabilities == {"0000000000000000"}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


async def test_outside_it_is_not_root(shell: Shell):
    task = asyncio.create_task(shell.sh("exec sleep 977"))
    pid = await until(lambda: (running("sleep\x00977") or [0])[0], what="the command")
    owner = os.stat(f"/proc/{pid}").st_uid
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert owner != 0


async def test_setuid_programs_gain_nothing(shell: Shell):
    result = await shell.sh("su -c id 2>&1; mount 2>&1 | head -1; id -u")
    assert result.stdout.splitlines()[-1] == "65534"
    assert "uid=0" not in result.stdout


async def test_calls_that_reach_past_namespaces_are_refused(shell: Shell):
    program = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
calls = {  # keyctl, bpf, perf_event_open, unshare, mount, io_uring_setup, memfd_create, shmget
    "x86_64": (250, 321, 298, 272, 165, 425, 319, 29),
    "aarch64": (219, 280, 241, 97, 40, 425, 279, 194),
}
for call in calls[os.uname().machine]:
    print(libc.syscall(call, 0, 0, 0, 0, 0), ctypes.get_errno())
for family in (40, 38, 17, 29):  # vsock, alg, packet, can
    try:
        socket.socket(family, socket.SOCK_DGRAM)
        print("made", family)
    except OSError as error:
        print(-1, error.errno)
import fcntl
try:
    fcntl.ioctl(0, 0x5412, b"x")
except OSError as error:
    print(-1, error.errno)
"""
    result = await shell.python(program)
    outcomes = [line.split() for line in result.stdout.splitlines()]
    assert [first for first, _ in outcomes] == ["-1"] * 13, result
    assert {number for _, number in outcomes} <= {"1", "38", "97"}


# Other processes


async def test_processes_outside_are_unreachable(shell: Shell):
    outside = os.getpid()
    program = f"""
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
print(sorted(int(n) for n in os.listdir("/proc") if n.isdigit())[-1] < 20)
for pid in ({outside}, os.getppid() + 100):
    try:
        os.kill(pid, 9)
        print("killed", pid)
    except ProcessLookupError:
        print("gone")
print(libc.ptrace(16, {outside}, 0, 0))
try:
    os.kill(-1, 0)
except OSError:
    pass
"""
    result = await shell.python(program)
    assert result.stdout.splitlines() == ["True", "gone", "gone", "-1"]


async def test_killing_everything_kills_only_the_sandbox(shell: Shell):
    result = await shell.sh("kill -9 -1")
    assert result.exit_code is not None
    assert (await shell.sh("echo fine")).stdout == "fine\n"


async def test_a_survivor_is_gone_when_the_command_returns(shell: Shell):
    result = await shell.sh(
        "setsid nohup sleep 967 >/dev/null 2>&1 & (setsid sh -c 'sleep 967' &) &"
        "sleep 0.1; echo done"
    )
    assert result.stdout == "done\n"
    assert not running("sleep\x00967")


async def test_a_child_that_holds_the_output_does_not_hold_us(shell: Shell):
    result = await shell.sh("setsid sleep 968 & echo done")
    assert (result.stdout, result.timed_out) == ("done\n", False)
    assert not running("sleep\x00968")


async def test_cancelling_leaves_nothing(shell: Shell):
    task = asyncio.create_task(shell.sh("setsid sleep 957 & sleep 957"))
    await until(lambda: len(running("sleep\x00957")) == 2, what="both sleepers")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running("sleep\x00957")


async def test_nothing_outlives_a_killed_service(shell: Shell):
    backend = (await shell.sandbox.status()).backend
    program = f"""
import asyncio
from conclave.adapters.sandbox.host import HostSandbox
from schema.domain.sandbox import SandboxCommand, SandboxConfig
script = "setsid sleep 947 & sleep 947"
command = SandboxCommand(argv=("sh", "-c", script), workspace={str(shell.workspace)!r})
asyncio.run(HostSandbox(backends=[{backend!r}]).run(command, SandboxConfig(timeout_seconds=60)))
"""
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    await until(lambda: len(running("sleep\x00947")) == 2, what="both sleepers")
    service.kill()
    assert await service.wait() == -signal.SIGKILL, "it had no time to end them itself"
    await until(lambda: not running("sleep\x00947"), what="the sleepers' end")
    assert not running("sleep\x00947")


# The network


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this host's loopback, both families, as the product's own are."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        yield server.getsockname()[1]


async def test_no_address_of_the_host_is_reached(shell: Shell, listening: int):
    socket.create_connection(("127.0.0.1", listening), timeout=5).close()
    program = f"""
import socket
for host, port in [("127.0.0.1", {listening}), ("::1", {listening}), ("169.254.169.254", 80),
                   ("10.0.2.2", {listening}), ("192.0.2.1", 80), ("localhost", {listening})]:
    try:
        socket.create_connection((host, port), timeout=2)
        print("reached", host)
    except OSError as error:
        print(error.errno)
print(sorted(name for _, name in socket.if_nameindex()))
"""
    result = await shell.python(program)
    lines = result.stdout.splitlines()
    assert set(lines[:-1]) <= {"111", "101", "99", "None"}, result
    assert len(lines) == 7
    assert "lo" in lines[-1]


async def test_unix_sockets_of_the_host_are_not_reached(shell: Shell, hidden: Path):
    with (
        socket.socket(socket.AF_UNIX) as in_a_file,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        path, name = str(hidden / "s"), f"conclave-{os.getpid()}"
        in_a_file.bind(path)
        abstract.bind(f"\0{name}")
        for server in (in_a_file, abstract):
            server.listen()
        program = f"""
import socket
for address in ({path!r}, "\\0{name}"):
    try:
        socket.socket(socket.AF_UNIX).connect(address)
        print("reached", address)
    except OSError as error:
        print("no")
"""
        assert (await shell.python(program)).stdout == "no\nno\n"
        os.unlink(path)


async def test_a_command_may_talk_to_itself(shell: Shell):
    program = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=2)
print("reached")
"""
    assert (await shell.python(program)).stdout == "reached\n"


async def test_commands_side_by_side_know_nothing_of_each_other(shell: Shell):
    results = await asyncio.gather(
        *(
            shell.sh(f"echo {n} >/tmp/n; sleep 0.2; cat /tmp/n; ls /proc | grep -c '^[0-9]'")
            for n in range(6)
        )
    )
    assert [result.stdout.split()[0] for result in results] == list("012345")
    assert all(int(result.stdout.split()[1]) < 6 for result in results)


async def test_no_descriptor_of_the_service_is_passed_on(shell: Shell):
    with tempfile.TemporaryFile() as held:
        os.set_inheritable(held.fileno(), True)
        result = await shell.sh("ls /proc/self/fd /proc/1/fd")
    inner = result.stdout.split("\n\n")[0].split()
    assert {"0", "1", "2"} <= set(inner)
    assert len(inner) <= 5  # with the directory's own and ls's
