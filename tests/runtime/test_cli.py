"""The `conclave` command: what it prints, what it refuses, what it must not load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conclave.runtime.postgres import Postgres
from tests.harness.servers import free_port

_ROOT = Path(__file__).parents[2]


def _conclave(*arguments: str, cwd: Path = _ROOT, **environment: str):
    return subprocess.run(
        [sys.executable, "-P", "-m", "conclave.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(_ROOT), **environment},
        check=False,
    )


def test_the_token_stands_alone_on_the_last_line_and_stays_the_same(tmp_path: Path):
    first, second = (_conclave("token", "--data-dir", str(tmp_path / "data")) for _ in range(2))
    assert first.returncode == 0, first.stderr
    token = first.stdout.splitlines()[-1]
    assert len(token) >= 40
    assert " " not in token
    assert second.stdout == first.stdout


@pytest.mark.parametrize(
    ("command", "status"), [("['conclave', '--help']", 0), ("['conclave', 'no-such']", 2)]
)
def test_a_process_that_used_temporal_ends_before_the_interpreter_is_taken_down(
    command: str, status: int
):
    code = f"""
import atexit, sys
import temporalio.client
from conclave.cli import main
atexit.register(print, "taken down")
sys.argv = {command}
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == status, result.stderr
    assert "Usage:" in result.stdout + result.stderr
    assert "taken down" not in result.stdout


def test_a_database_url_of_another_kind_is_refused_by_name():
    result = _conclave("migrate", DATABASE_URL="mysql://x")
    assert result.returncode == 1
    assert result.stderr.startswith("DATABASE_URL: ")
    assert "Traceback" not in result.stderr


def test_anonymous_access_beyond_loopback_is_refused():
    result = _conclave("api", AUTH_MODE="local", API_HOST="0.0.0.0")
    assert result.returncode == 1
    assert "AUTH_MODE=required" in result.stderr


def test_a_setting_that_does_not_fit_is_named():
    result = _conclave("api", API_PORT="many")
    assert result.returncode == 1
    assert "API_PORT" in result.stderr
    assert "Traceback" not in result.stderr


def test_another_package_of_the_same_name_is_refused(tmp_path: Path):
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "__init__.py").touch()
    result = _conclave("token", PYTHONPATH=f"{tmp_path}{os.pathsep}{_ROOT}")
    assert result.returncode == 1
    assert "`schema`" in result.stderr


def test_a_package_of_the_same_name_in_the_working_directory_does_no_harm(tmp_path: Path):
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "__init__.py").touch()
    result = _conclave("token", "--data-dir", str(tmp_path / "data"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_migrate_brings_both_stores_to_this_build(postgres: Postgres, temporal_address: str):
    postgres.create_database("by_command")
    url = postgres.url("by_command")
    result = _conclave("migrate", DATABASE_URL=url, TEMPORAL_ADDRESS=temporal_address)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["Database: current.", "Temporal: registered before."]


def test_migrate_says_in_a_sentence_that_there_is_no_database():
    result = _conclave("migrate", DATABASE_URL=f"postgresql://x@127.0.0.1:{free_port()}/x")
    assert result.returncode == 1
    assert "Database: " in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_fails_when_a_server_that_was_named_is_silent(tmp_path: Path):
    where = ["--data-dir", str(tmp_path)]
    assert _conclave("doctor", *where).returncode == 0
    result = _conclave("doctor", *where, TEMPORAL_ADDRESS=f"127.0.0.1:{free_port()}")
    assert result.returncode == 1
    assert "FAIL  Temporal" in result.stdout


@pytest.mark.parametrize(
    ("module", "unwanted"), [("api.app", "litellm"), ("worker.main", "fastapi")]
)
def test_a_process_does_not_load_what_is_the_others(module: str, unwanted: str):
    check = f"import sys, {module}; sys.exit({unwanted!r} in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    result = subprocess.run([sys.executable, "-c", check], env=environment, check=False)
    assert result.returncode == 0
