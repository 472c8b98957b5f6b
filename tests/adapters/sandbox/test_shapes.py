"""What a command and a configuration may be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schema.domain.sandbox import (
    SandboxCommand,
    SandboxConfig,
    SandboxStatus,
)


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
