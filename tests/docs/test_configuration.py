import inspect
import re
from pathlib import Path

from conclave import cli
from conclave.adapters.llm.gateway import LiteLLMGateway
from conclave.providers.defaults import DEFAULTS
from conclave.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


def named() -> set[str]:
    """Everything the page writes as code."""
    return {word for part in re.findall(r"`([^`]+)`", PAGE) for word in part.split()}


def test_every_setting_is_described():
    settings = {name.upper() for name in Settings.model_fields}
    providers = {name for one in DEFAULTS.values() for name in (*one.keys, *one.base_urls)}
    switches = set(re.findall(r"EXPERIMENTAL\w+", inspect.getsource(LiteLLMGateway)))
    assert switches
    assert settings | providers | switches <= named()


def test_defaults_are_those_in_force():
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)`", PAGE, re.MULTILINE))
    assert len(rows) >= 15
    for name, shown in rows.items():
        if name.startswith("EXPERIMENTAL_"):  # litellm's, not ours
            continue
        default = Settings.model_fields[name.lower()].default
        if isinstance(default, bool):
            default = str(default).lower()
        elif isinstance(default, float):
            default = f"{default:g}"
        assert str(default).replace(str(Path.home()), "~") == shown, name


def test_every_command_and_flag_is_described():
    commands = {
        command.callback.__name__ for command in cli.app.registered_commands if command.callback
    }
    assert commands <= named()
    flags = {f"--{name.replace('_', '-')}" for name in inspect.signature(cli.up).parameters}
    assert flags <= named()


def test_every_command_of_a_group_and_its_flags_are_described():
    described = set(re.findall(r"`(conclave [a-z]+ [a-z-]+)", PAGE))
    own = {"data_dir"}  # told once for all of them
    groups = cli.app.registered_groups
    assert groups
    for group in groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert f"conclave {group.name} {command.name}" in described
            assert command.callback is not None
            names = set(inspect.signature(command.callback).parameters) - own
            assert {f"--{name.replace('_', '-')}" for name in names} <= named(), command.name
