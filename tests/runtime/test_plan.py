"""Plans, ports and files of the embedded runtime: what is decided before anything runs."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from conclave.crypto import Keyring
from conclave.runtime import files
from conclave.runtime.errors import PortTaken, StartFailed
from conclave.runtime.plan import (
    Layout,
    Ports,
    UpOptions,
    child_environment,
    own_command,
    parse_assignments,
    restart_delay,
)
from conclave.runtime.portcheck import settle_ports
from conclave.runtime.ready_file import ReadyFile, discard_if_dead
from tests.harness.servers import free_port


def _environment(inherited: dict[str, str], **given: str) -> dict[str, str]:
    options = UpOptions(data_dir=Path("/d"), environment=given)
    return child_environment(
        inherited, options, Ports(1, 2, 3), database_url="postgresql://x", secrets={"S": "file"}
    )


def test_children_learn_the_addresses_of_this_stack_whatever_was_inherited():
    environment = _environment({"DATABASE_URL": "elsewhere", "TEMPORAL_ADDRESS": "elsewhere"})
    assert environment["DATABASE_URL"] == "postgresql://x"
    assert environment["TEMPORAL_ADDRESS"] == "127.0.0.1:2"
    assert environment["TEMPORAL_UI_URL"] == "http://127.0.0.1:3"


def test_env_flags_win_over_the_environment_and_that_over_stored_secrets():
    assert _environment({})["S"] == "file"
    assert _environment({"S": "inherited"})["S"] == "inherited"
    assert _environment({"S": "inherited"}, S="flag")["S"] == "flag"


def test_anonymous_callers_are_admitted_on_loopback_only():
    assert _environment({})["AUTH_MODE"] == "local"
    assert _environment({}, API_HOST="::1")["AUTH_MODE"] == "local"
    assert _environment({}, API_HOST="0.0.0.0")["AUTH_MODE"] == "required"
    assert _environment({}, AUTH_MODE="required")["AUTH_MODE"] == "required"


def test_failpoints_are_passed_on_where_nobody_else_may_call():
    name = "CONCLAVE_FAILPOINTS"
    assert _environment({}, CONCLAVE_FAILPOINTS="/f")[name] == "/f"
    assert _environment({name: "/f"})[name] == "/f"
    with pytest.raises(StartFailed, match="refused under AUTH_MODE=required"):
        _environment({name: "/f"}, API_HOST="0.0.0.0")
    with pytest.raises(StartFailed, match="refused under AUTH_MODE=required"):
        _environment({}, CONCLAVE_FAILPOINTS="/f", AUTH_MODE="required")


def test_own_commands_do_not_import_from_the_working_directory():
    assert "-P" in own_command("api")


@pytest.mark.parametrize("text", ["A", "=b", "A B=c"])
def test_an_assignment_that_is_none_is_refused_without_its_value(text: str):
    with pytest.raises(StartFailed, match="KEY=VALUE"):
        parse_assignments([text])


def test_an_assignment_keeps_every_later_equals_sign():
    assert parse_assignments(["A=b=c", "B="]) == {"A": "b=c", "B": ""}


def test_restarts_slow_down_for_children_that_never_get_ready_or_keep_dying():
    assert restart_delay(0, 1) == 0.2
    delays = [restart_delay(early, 1) for early in range(12)]
    assert delays == sorted(delays)
    assert delays[-1] == 5.0
    assert restart_delay(0, 10) == 5.0


def test_ports_are_kept_when_free_and_replaced_when_taken_only_on_request():
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken: int = squatter.getsockname()[1]
        wanted = Ports(api=taken, temporal=free_port(), ui=0)
        with pytest.raises(PortTaken, match=rf"Port {taken} is in use by .*--api-port"):
            settle_ports(wanted, auto=False)
        settled = settle_ports(wanted, auto=True)
    assert settled.temporal == wanted.temporal
    assert len({settled.api, settled.temporal, settled.ui, taken}) == 4


def test_one_port_cannot_serve_two_parts():
    port = free_port()
    with pytest.raises(PortTaken, match="another part of Conclave"):
        settle_ports(Ports(api=port, temporal=port, ui=0), auto=False)


def test_secrets_are_made_once_and_are_their_owners_only(tmp_path: Path):
    layout = Layout(tmp_path / "data")
    files.make_directories(layout)
    first = files.installation_secrets(layout)
    Keyring.parse(first["ENCRYPTION_KEY"])
    assert files.installation_secrets(layout) == first
    assert stat.S_IMODE(layout.secrets.stat().st_mode) == 0o600


def test_a_secret_added_by_a_later_version_leaves_the_others_alone(tmp_path: Path):
    layout = Layout(tmp_path)
    layout.secrets.write_text("ENCRYPTION_KEY=old\n")
    found = files.installation_secrets(layout)
    assert found["ENCRYPTION_KEY"] == "old"
    assert files.installation_secrets(layout)[files.GATEWAY_TOKEN] == found[files.GATEWAY_TOKEN]


def test_the_ready_file_says_where_and_which_processes(tmp_path: Path):
    ready_file = ReadyFile(tmp_path / "ready.json", Ports(1, 2, 3), tmp_path)
    ready_file.write({"api": 4, "supervisor": os.getpid()})
    assert json.loads(ready_file.path.read_text()) == {
        "api": "http://127.0.0.1:1",
        "temporal": "127.0.0.1:2",
        "ui": "http://127.0.0.1:3",
        "data_dir": str(tmp_path),
        "pids": {"api": 4, "supervisor": os.getpid()},
    }
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]


def test_the_ready_file_of_a_dead_supervisor_goes_and_of_a_living_one_stays(tmp_path: Path):
    ready_file = ReadyFile(tmp_path / "ready.json", Ports(), tmp_path)
    ready_file.write({"supervisor": os.getpid()})
    discard_if_dead(ready_file.path)
    assert ready_file.path.exists()
    ready_file.write({"supervisor": 2**22 + 1})
    discard_if_dead(ready_file.path)
    assert not ready_file.path.exists()
    discard_if_dead(ready_file.path)
