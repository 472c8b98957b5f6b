"""What a sandboxed command cannot do, on every backend of this host."""

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
from pydantic import ValidationError

from conclave.adapters.sandbox.host import HostSandbox
from conclave.adapters.sandbox.plan import Limits
from conclave.errors import Invalid, SandboxRefused
from schema.domain.sandbox import (
    KilledBy,
    SandboxBackend,
    SandboxCommand,
    SandboxConfig,
    SandboxResult,
    SandboxStatus,
    WorkspaceMode,
)
from tests.waiting import until

ROOT = Path(__file__).parents[2]
LIMITS = Limits(
    processes=64,
    file_bytes=20_000_000,
    disk_bytes=50_000_000,
    disk_files=2_000,
    output_kept=1000,
    output_flood=5_000_000,
)
SECRET = "the-secret-of-the-host"


@pytest.fixture(scope="module")
def hidden() -> Iterator[Path]:
    """A data directory, with the workspace of the test inside, as in the product."""
    with tempfile.TemporaryDirectory(prefix="conclave-sandbox-test-") as name:
        directory = Path(name).resolve()
        (directory / "secrets.env").write_text(SECRET)
        yield directory


@pytest.fixture
def workspace(hidden: Path, request: pytest.FixtureRequest) -> Path:
    return Path(tempfile.mkdtemp(dir=hidden))


@pytest.fixture(scope="module", params=["bubblewrap", "namespaces"])
def sandbox(request: pytest.FixtureRequest, hidden: Path) -> HostSandbox:
    backend: SandboxBackend = request.param
    return HostSandbox(hidden=[hidden], limits=LIMITS, backends=[backend])


class Shell:
    """Runs scripts in one workspace."""

    def __init__(self, sandbox: HostSandbox, workspace: Path) -> None:
        self.sandbox = sandbox
        self.workspace = workspace

    async def argv(
        self,
        *argv: str,
        stdin: bytes | None = None,
        cwd: str = ".",
        env: dict[str, str] | None = None,
        read_only: tuple[str, ...] = (),
        timeout: int = 20,
        memory: str = "512m",
        quota: float = 4.0,
        mode: WorkspaceMode = WorkspaceMode.READ_WRITE,
    ) -> SandboxResult:
        command = SandboxCommand(
            argv=argv,
            workspace=str(self.workspace),
            stdin=stdin,
            cwd=cwd,
            env=env or {},
            read_only=read_only,
        )
        config = SandboxConfig(
            timeout_seconds=timeout, memory_limit=memory, cpu_quota=quota, workspace_mode=mode
        )
        return await self.sandbox.run(command, config)

    async def sh(self, script: str, **options: object) -> SandboxResult:
        return await self.argv("sh", "-c", script, **options)  # pyright: ignore[reportArgumentType]

    async def python(self, program: str, **options: object) -> SandboxResult:
        return await self.argv("python3", "-c", program, **options)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def shell(sandbox: HostSandbox, workspace: Path) -> Shell:
    return Shell(sandbox, workspace)


async def test_both_backends_work_here(sandbox: HostSandbox):
    status = await sandbox.status()
    assert status.available, status.reason
    assert status.backend in {"bubblewrap", "namespaces"}


# What comes back


async def test_a_command_gets_its_workspace_and_nothing_else_writable(shell: Shell):
    result = await shell.sh("pwd; echo made >here; mkdir -p a/b; cat here; ls /")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[:2] == ["/workspace", "made"]
    assert not {"home", "root", "run", "sys", "srv", "var", "opt"} & set(result.stdout.split())
    assert (shell.workspace / "here").read_text() == "made\n"
    assert (shell.workspace / "a/b").is_dir()
    assert (shell.workspace / "here").stat().st_uid == os.geteuid()
    (shell.workspace / "here").write_text("ours")
    assert (await shell.sh("cat here; rm here")).stdout == "ours"


async def test_a_read_only_workspace_stays_as_it_is(shell: Shell):
    (shell.workspace / "file").write_text("old")
    result = await shell.sh("cat file; echo new >file; touch other", mode=WorkspaceMode.READ_ONLY)
    assert result.stdout == "old"
    assert result.exit_code != 0
    assert [path.name for path in shell.workspace.iterdir()] == ["file"]
    assert (shell.workspace / "file").read_text() == "old"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("nonesuch-program", 127)]
)
async def test_exit_codes_come_back(shell: Shell, script: str, code: int):
    result = await shell.sh(script)
    assert (result.exit_code, result.killed_by, result.timed_out) == (code, None, False)


async def test_a_signal_is_told(shell: Shell):
    result = await shell.sh("kill -SEGV $$")
    assert result.exit_code == 128 + signal.SIGSEGV
    assert result.killed_by is KilledBy.SIGNAL


async def test_programs_are_found_by_name_and_by_path(shell: Shell):
    tool = shell.workspace / "tool"
    tool.write_text("#!/bin/sh\necho ran\n")
    assert (await shell.argv("./tool")).exit_code == 126
    tool.chmod(0o755)
    assert (await shell.argv("./tool")).stdout == "ran\n"
    assert (await shell.argv("tool")).exit_code == 127
    assert (await shell.argv("echo", "--", "-n", "; ls")).stdout == "-- -n ; ls\n"
    assert "not found" in (await shell.argv("nonesuch")).stderr


async def test_input_and_binary_output(shell: Shell):
    result = await shell.argv("cat", stdin="grüße\n".encode() + b"\xff\x00end")
    assert result.stdout == "grüße\n\ufffd\ufffdend"
    assert (await shell.argv("cat")).stdout == ""
    large = b"x" * 1024**2
    assert (await shell.argv("wc", "-c", stdin=large)).stdout.strip() == str(len(large))
    assert (await shell.argv("true", stdin=large)).exit_code == 0


async def test_broken_pipes_end_a_producer(shell: Shell):
    result = await shell.sh("yes | head -1")
    assert (result.exit_code, result.stdout) == (0, "y\n")


async def test_a_working_directory_in_the_workspace(shell: Shell):
    (shell.workspace / "sub/deep").mkdir(parents=True)
    assert (await shell.argv("pwd", cwd="sub/deep")).stdout == "/workspace/sub/deep\n"


async def test_extra_paths_are_seen_and_not_written(shell: Shell, tmp_path: Path):
    (tmp_path / "skill.txt").write_text("skill")
    result = await shell.sh(
        f"cat {tmp_path}/skill.txt; echo >{tmp_path}/skill.txt", read_only=(str(tmp_path),)
    )
    assert result.stdout == "skill"
    assert "Read-only" in result.stderr
    assert (tmp_path / "skill.txt").read_text() == "skill"


async def test_the_environment_is_only_what_was_asked_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PLANTED", SECRET)
    result = await shell.sh("env; cat /proc/*/environ", env={"MINE": "a=b c"})
    names = {line.partition("=")[0] for line in result.stdout.split("\n")}
    assert "MINE=a=b c" in result.stdout
    assert SECRET not in result.stdout
    assert {"PATH", "HOME", "LANG", "TMPDIR"} <= names
    assert not {"PLANTED", "VIRTUAL_ENV", "DATABASE_URL"} & names


# Commands that are refused


@pytest.mark.parametrize("argv", [(), ("",), ("-x",), ("ls", "a\0b"), ("x" * 200_000,)])
def test_argv_that_cannot_be_run_is_invalid(argv: tuple[str, ...]):
    with pytest.raises(ValidationError):
        SandboxCommand(argv=argv, workspace="/w")


@pytest.mark.parametrize("cwd", ["/etc", "..", "a/../../b", "a\0"])
def test_a_directory_outside_is_invalid(cwd: str):
    with pytest.raises(ValidationError):
        SandboxCommand(argv=("ls",), workspace="/w", cwd=cwd)


@pytest.mark.parametrize("name", ["", "A=B", "1A", "A B", "A\0"])
def test_names_that_are_no_variables_are_invalid(name: str):
    with pytest.raises(ValidationError):
        SandboxCommand(argv=("ls",), workspace="/w", env={name: "x"})


@pytest.mark.parametrize(
    "change",
    [
        {"memory_limit": "15m"},
        {"memory_limit": "65g"},
        {"memory_limit": "lots"},
        {"memory_limit": "-512m"},
        {"cpu_quota": 0.05},
        {"cpu_quota": 65},
        {"timeout_seconds": 0},
        {"timeout_seconds": 601},
        {"workspace_mode": "rwx"},
    ],
)
def test_configuration_out_of_range_is_invalid(change: dict[str, object]):
    with pytest.raises(ValidationError):
        SandboxConfig.model_validate(change)


def test_memory_is_read_with_its_unit():
    sizes = {
        text: SandboxConfig(memory_limit=text).memory_bytes for text in ("16m", "1G", "20000k")
    }
    assert sizes == {"16m": 16 * 1024**2, "1G": 1024**3, "20000k": 20_000 * 1024}


async def test_a_directory_that_leads_out_by_a_link_is_refused(shell: Shell):
    (shell.workspace / "out").symlink_to("/etc")
    (shell.workspace / "loop").symlink_to("loop")
    for cwd in ("out", "loop", "missing"):
        with pytest.raises(Invalid) as refused:
            await shell.argv("ls", cwd=cwd)
        assert refused.value.field == "cwd"


async def test_a_network_is_refused_with_a_sentence(shell: Shell):
    command = SandboxCommand(argv=("true",), workspace=str(shell.workspace))
    with pytest.raises(SandboxRefused, match="network"):
        await shell.sandbox.run(command, SandboxConfig(network_enabled=True))


async def test_switched_off_means_refused(shell: Shell):
    command = SandboxCommand(argv=("touch", "ran"), workspace=str(shell.workspace))
    with pytest.raises(SandboxRefused, match="switched off"):
        await shell.sandbox.run(command, SandboxConfig(enabled=False))
    assert not (shell.workspace / "ran").exists()


async def test_without_any_sandbox_commands_are_refused(workspace: Path):
    sandbox = HostSandbox(backends=[])
    status = await sandbox.status()
    assert (status.backend, status.available) == ("none", False)
    command = SandboxCommand(argv=("touch", "ran"), workspace=str(workspace))
    with pytest.raises(SandboxRefused, match="no sandbox works"):
        await sandbox.run(command, SandboxConfig())
    assert not (workspace / "ran").exists()


async def test_an_operator_may_allow_commands_without_a_sandbox(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PLANTED", SECRET)
    sandbox = HostSandbox(backends=[], unsandboxed="allow", limits=LIMITS)
    status = await sandbox.status()
    assert (status.backend, status.available) == ("unsandboxed", True)
    assert "WITHOUT" in status.reason
    command = SandboxCommand(
        argv=("sh", "-c", "pwd; env; setsid sleep 987 >/dev/null 2>&1 &"), workspace=str(workspace)
    )
    result = await sandbox.run(command, SandboxConfig())
    assert result.stdout.startswith(f"{workspace}\n")
    assert SECRET not in result.stdout
    assert not running("sleep\x00987")


async def test_what_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    status = await HostSandbox().status()
    assert status.backend == "namespaces"
    assert "bubblewrap: it is not installed" in status.reason


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
        f"cat link up/secrets.env; ln -s {hidden}/secrets.env own; cat own; echo x >own; echo x >link"
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
        "echo 1 >/proc/sys/kernel/sysrq",
        "echo '|/workspace/x' >/proc/sys/kernel/core_pattern",
        "echo b >/proc/sysrq-trigger",
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
    owner = Path(f"/proc/{pid}").stat().st_uid
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert owner != 0


async def test_setuid_programs_gain_nothing(shell: Shell):
    result = await shell.sh("su -c id 2>&1; mount 2>&1 | head -1; id -u")
    assert result.stdout.splitlines()[-1] == "65534"
    assert "uid=0" not in result.stdout


async def test_calls_that_reach_past_namespaces_are_refused(shell: Shell):
    program = """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
calls = {"x86_64": (250, 321, 298, 272, 165, 425, 319, 29), "aarch64": (219, 280, 241, 97, 40, 425, 279, 194)}
import os
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
        "setsid nohup sleep 967 >/dev/null 2>&1 & (setsid sh -c 'sleep 967' &) & sleep 0.1; echo done"
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
command = SandboxCommand(argv=("sh", "-c", "setsid sleep 947 & sleep 947"), workspace={str(shell.workspace)!r})
asyncio.run(HostSandbox(backends=[{backend!r}]).run(command, SandboxConfig(timeout_seconds=60)))
"""
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    await until(lambda: len(running("sleep\x00947")) == 2, what="both sleepers")
    service.kill()
    await service.wait()
    await until(lambda: not running("sleep\x00947"), what="the sleepers' end")


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
        Path(path).unlink()


async def test_a_command_may_talk_to_itself(shell: Shell):
    program = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=2)
print("reached")
"""
    assert (await shell.python(program)).stdout == "reached\n"


# Limits


async def test_time_on_the_wall_ends_it(shell: Shell):
    result = await shell.sh("trap '' TERM INT; echo begun; sleep 937", timeout=1)
    assert (result.exit_code, result.killed_by, result.timed_out) == (None, KilledBy.TIME, True)
    assert result.stdout == "begun\n"
    assert 1000 <= result.duration_ms < 5000
    assert not running("sleep\x00937")


async def test_time_of_the_processor_ends_it(shell: Shell):
    result = await shell.sh("while :; do :; done & while :; do :; done", timeout=10, quota=0.1)
    assert (result.killed_by, result.timed_out) == (KilledBy.TIME, True)
    assert result.duration_ms < 8000


async def test_processors_are_counted(shell: Shell):
    result = await shell.python("import os; print(len(os.sched_getaffinity(0)))", quota=1.0)
    assert result.stdout == "1\n"


async def test_a_fork_bomb_is_contained(shell: Shell):
    result = await shell.sh("f() { f | f & }; f; sleep 30")
    assert result.killed_by is KilledBy.PROCESSES
    result = await shell.python(
        "import os\ntry:\n  while True:\n    os.fork()\nexcept OSError: pass\nimport time; time.sleep(30)"
    )
    assert result.killed_by is KilledBy.PROCESSES


async def test_one_greedy_process_gets_no_more_memory(shell: Shell):
    result = await shell.python("x = bytearray(400_000_000); print('had it')", memory="128m")
    assert "had it" not in result.stdout
    assert "MemoryError" in result.stderr


MEMORY_BOMBS = {
    "many processes, none above the limit": """
for _ in range(8):
    if os.fork() == 0:
        held = b"x" * 60_000_000
        break
""",
    "shared memory, which no process owns": """
held = mmap.mmap(-1, 300_000_000)
for _ in range(4):
    held.write(b"x" * 60_000_000)
""",
    "files in memory": """
for directory in ("/tmp", "/dev/shm"):
    for n in range(6):
        open(f"{directory}/{n}", "wb").write(b"x" * 18_000_000)
""",
    "empty files in memory": """
for n in range(200_000):
    open(f"/tmp/{n}", "w").close()
""",
}


@pytest.mark.parametrize("kind", MEMORY_BOMBS)
async def test_memory_of_all_together_is_limited(shell: Shell, kind: str):
    program = f"import mmap, os, time\n{MEMORY_BOMBS[kind]}\ntime.sleep(30)"
    result = await shell.python(program, memory="128m")
    is_refused = kind.startswith("empty") and "No space left" in result.stderr
    assert is_refused or result.killed_by is KilledBy.MEMORY, result


async def test_memory_that_is_shared_counts_once(shell: Shell):
    program = """
import os
data = b'x' * 100_000_000
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        import time
        time.sleep(0.5)
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
print("fine")
"""
    result = await shell.python(program, memory="256m")
    assert result.stdout == "fine\n", result


async def test_a_file_grows_only_so_far(shell: Shell):
    result = await shell.sh("dd if=/dev/zero of=big bs=1M count=10240")
    assert result.exit_code != 0
    assert (shell.workspace / "big").stat().st_size <= LIMITS.file_bytes
    result = await shell.sh("truncate -s 10G sparse")
    assert result.exit_code != 0
    result = await shell.sh("fallocate -l 10G reserved")
    assert result.exit_code != 0


async def test_many_large_files_fill_no_disk(shell: Shell):
    result = await shell.sh(
        "for n in 1 2 3 4 5 6 7 8 9; do dd if=/dev/zero of=$n bs=1M count=15 2>&-; done; sleep 30"
    )
    assert result.killed_by is KilledBy.DISK


@pytest.mark.parametrize("hide", ["", "os.chmod('d', 0);"])
async def test_many_small_files_fill_no_disk(shell: Shell, hide: str):
    program = (
        "import os, time\nos.mkdir('d')\n"
        "for n in range(5000): open(f'd/{n}', 'w').close()\n"
        f"{hide}\ntime.sleep(30)"
    )
    result = await shell.python(program)
    assert result.killed_by is KilledBy.DISK


async def test_scratch_space_is_bounded(shell: Shell):
    result = await shell.sh(
        "for n in $(seq 40); do dd if=/dev/zero of=/tmp/$n bs=1M count=10 2>/dev/null || exit 9; done",
        memory="1g",
    )
    assert result.exit_code == 9


async def test_output_is_kept_in_part_and_counted(shell: Shell):
    result = await shell.sh("head -c 100000 /dev/zero | tr '\\0' a; echo fine >&2")
    assert result.exit_code == 0
    assert result.stdout == "a" * LIMITS.output_kept
    assert (result.stdout_truncated, result.stderr_truncated) == (True, False)
    assert result.stderr == "fine\n"


async def test_a_flood_of_output_ends_it(shell: Shell):
    result = await shell.argv("yes")
    assert result.killed_by is KilledBy.OUTPUT
    assert result.exit_code is None
    assert len(result.stdout) == LIMITS.output_kept


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


def running(command_line: str) -> list[int]:
    """Return the processes of this host whose command line holds the words."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "cmdline").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if text.startswith(command_line) and state != "Z":
            found.append(int(entry.name))
    return found


def test_the_shapes_hold_what_the_contract_says():
    config = SandboxConfig()
    assert config.model_dump(mode="json") == {
        "enabled": True,
        "memory_limit": "512m",
        "cpu_quota": 1.0,
        "timeout_seconds": 30,
        "network_enabled": False,
        "workspace_mode": "rw",
    }
    assert set(SandboxStatus.model_fields) == {"backend", "available", "reason"}
