"""What a sandboxed command cannot use up."""

from __future__ import annotations

import time

import pytest

from schema.domain.sandbox import (
    KilledBy,
)
from tests.adapters.sandbox.shell import LIMITS, Shell, running
from tests.waiting import until

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


async def test_a_fork_bomb_is_ended(shell: Shell):
    # Every process of the bomb sleeps on, so that only the sandbox can end it.
    program = """
import os, time
try:
    while True:
        os.fork()
except OSError:
    time.sleep(30)
"""
    result = await shell.python(program)
    assert result.killed_by is KilledBy.PROCESSES


async def test_a_fork_bomb_finds_no_room(shell: Shell):
    # The command outlives what it starts by two seconds: the bomb has that long to go off.
    result = await shell.sh("f() { f | f & }; f; sleep 2")
    assert "fork" in result.stderr or result.killed_by is KilledBy.PROCESSES
    assert not running("sh\x00-c\x00f()")
    assert (await shell.sh("echo fine")).stdout == "fine\n"


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
    # It sleeps on with what it holds, so that only the sandbox can end it.
    program = f"import mmap, os, time\n{MEMORY_BOMBS[kind]}\ntime.sleep(30)"
    result = await shell.python(program, memory="128m")
    is_refused = kind.startswith("empty") and "No space left" in result.stderr
    assert is_refused or result.killed_by is KilledBy.MEMORY, result


async def test_memory_that_is_shared_counts_once(shell: Shell):
    # The children live long enough for the sandbox, which looks each 50 ms, to see them together.
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


# What fills the disk sleeps on in both, so that only the sandbox can end it.


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


async def test_what_was_there_before_does_not_count(shell: Shell):
    for number in range(LIMITS.disk_files + 500):
        (shell.workspace / str(number)).touch()
    (shell.workspace / "shut").mkdir(mode=0o000)
    born = (shell.workspace / "shut").stat().st_ctime
    await until(lambda: time.time() > born + 0.1)
    result = await shell.sh("sleep 1.5; echo fine")
    assert result.stdout == "fine\n", result


async def test_scratch_space_is_bounded(shell: Shell):
    result = await shell.sh(
        "for n in $(seq 40); do dd if=/dev/zero of=/tmp/$n bs=1M count=10 2>&- || exit 9; done",
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
