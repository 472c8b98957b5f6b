"""Places to die: once per token, shared by processes, and nothing without the variable."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conclave.failpoints import LOG, Failpoint, arm, reach
from conclave.settings import AuthMode, Settings

_ROOT = Path(__file__).parents[2]
_PROGRAM = """
import sys
from pathlib import Path
from conclave.failpoints import Failpoint, arm, reach
arm(Path(sys.argv[1]))
reach(Failpoint(sys.argv[2]), "task", 7)
"""


def _start(directory: Path, place: Failpoint) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _PROGRAM, str(directory), place.value]
    return subprocess.Popen(command, cwd=_ROOT)


def _struck(directory: Path) -> list[dict[str, Any]]:
    log = directory / LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_token_kills_the_process_that_reaches_its_place_and_is_gone(tmp_path: Path):
    (tmp_path / "before_commit.1").touch()
    victim = _start(tmp_path, Failpoint.BEFORE_COMMIT)
    assert victim.wait(20) == -signal.SIGKILL
    [line] = _struck(tmp_path)
    assert (line["place"], line["pid"], line["context"]) == ("before_commit", victim.pid, "task 7")
    assert _start(tmp_path, Failpoint.BEFORE_COMMIT).wait(20) == 0
    assert len(_struck(tmp_path)) == 1


def test_a_token_kills_at_its_own_place_only(tmp_path: Path):
    (tmp_path / "before_start.1").touch()
    assert _start(tmp_path, Failpoint.BEFORE_COMMIT).wait(20) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["before_start.1"]


def test_of_many_processes_as_many_die_as_there_are_tokens(tmp_path: Path):
    for number in range(3):
        (tmp_path / f"in_tool.{number}").touch()
    processes = [_start(tmp_path, Failpoint.IN_TOOL) for _ in range(8)]
    ended = [process.wait(60) for process in processes]
    assert sorted(ended) == [-signal.SIGKILL] * 3 + [0] * 5
    killed = {one.pid for one, status in zip(processes, ended, strict=True) if status}
    assert {line["pid"] for line in _struck(tmp_path)} == killed


def test_nothing_happens_in_a_process_that_is_not_armed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(pid: int, number: int) -> None:
        raise AssertionError("would have died")

    monkeypatch.setattr(os, "kill", fail)
    (tmp_path / "before_start.1").touch()
    arm(None)
    reach(Failpoint.BEFORE_START)
    arm(tmp_path)
    with pytest.raises(AssertionError, match="would have died"):
        reach(Failpoint.BEFORE_START)
    arm(None)


def test_it_is_refused_where_others_may_call(tmp_path: Path):
    def settings(directory: Path, mode: AuthMode) -> Settings:
        return Settings(auth_mode=mode, conclave_failpoints=directory)

    assert settings(tmp_path, AuthMode.LOCAL).conclave_failpoints == tmp_path
    with pytest.raises(ValidationError, match="refused under AUTH_MODE=required"):
        settings(tmp_path, AuthMode.REQUIRED)
    with pytest.raises(ValidationError, match="must name a directory"):
        settings(tmp_path / "none", AuthMode.LOCAL)


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    arm(None)
