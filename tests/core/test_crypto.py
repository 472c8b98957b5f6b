"""The keyring: what it opens, what it seals with, and how it learns new keys."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from conclave.crypto import (
    KeyFile,
    Keyring,
    UndecipherableSecret,
    blank_out,
    key_id_of,
    new_key,
    parse_keys,
)

OLD, NEW = new_key(), new_key()


def write(path: Path, keys: str) -> None:
    """As the runtime does: the file is replaced, never half written."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"# a comment\nGATEWAY_TOKEN=x=y\nENCRYPTION_KEY={keys}\n")
    fresh.replace(path)


def ring(path: Path) -> Keyring:
    """A process that was started with the old key alone."""
    return Keyring(parse_keys(OLD), KeyFile(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets.env"


def test_what_a_new_key_sealed_opens_at_once_in_a_process_with_the_old_one(path: Path):
    write(path, OLD)
    running = ring(path)
    assert running.open(running.seal("a", context="c"), context="c") == "a"

    write(path, f"{NEW},{OLD}")

    assert running.open(Keyring.parse(NEW).seal("b", context="c"), context="c") == "b"


def test_it_seals_with_the_files_first_key_at_once(path: Path):
    write(path, OLD)
    running = ring(path)
    before = running.seal("a", context="c")
    write(path, f"{NEW},{OLD}")
    after = running.seal("a", context="c")
    assert key_id_of(after) == Keyring.parse(NEW).writing_key_id
    assert running.open(before, context="c") == "a"


def test_a_process_that_starts_with_an_outdated_environment_seals_with_the_new_key(path: Path):
    write(path, f"{NEW},{OLD}")
    started = ring(path)
    assert started.writing_key_id == Keyring.parse(NEW).writing_key_id


@pytest.mark.parametrize("content", ["", "ENCRYPTION_KEY=", "ENCRYPTION_KEY=broken", "OTHER=1"])
def test_a_file_without_keys_changes_nothing(path: Path, content: str):
    path.write_text(content)
    running = ring(path)
    assert running.writing_key_id == Keyring.parse(OLD).writing_key_id
    with pytest.raises(UndecipherableSecret):
        running.open(Keyring.parse(NEW).seal("b", context="c"), context="c")


def test_a_missing_file_changes_nothing(path: Path):
    running = ring(path)
    assert running.open(running.seal("a", context="c"), context="c") == "a"


def test_an_unknown_key_reads_the_file_only_where_it_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(path, OLD)
    running = ring(path)
    foreign = Keyring.parse(NEW).seal("b", context="c")
    reads: list[Path] = []
    read_text = Path.read_text

    def counted(self: Path, *arguments: str, **options: str) -> str:
        reads.append(self)
        return read_text(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    for _ in range(5):
        with pytest.raises(UndecipherableSecret):
            running.open(foreign, context="c")
    assert reads == [path]


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01abcd", bytes(range(1, 41))])
def test_what_is_no_sealed_value_does_not_open(sealed: bytes):
    with pytest.raises(UndecipherableSecret):
        Keyring.parse(OLD).open(sealed, context="c")


def test_a_value_opens_in_its_own_place_only():
    keys = Keyring.parse(OLD)
    with pytest.raises(UndecipherableSecret):
        keys.open(keys.seal("a", context="here"), context="there")


def test_keys_for_other_uses_are_learnt_too_and_none_is_forgotten(path: Path):
    write(path, OLD)
    running = ring(path)
    [before] = running.subkeys("use")
    write(path, NEW)

    assert running.subkeys("use") == [*Keyring.parse(NEW).subkeys("use"), before]
    assert running.subkeys("use") != running.subkeys("another use")
    new_id = Keyring.parse(NEW).writing_key_id
    assert ring(path).derive(new_id, b"use") == Keyring.parse(NEW).derive(new_id, b"use")
    assert running.derive(b"none", b"use") is None


@pytest.mark.parametrize("secret", ["hunter2", "a\"b/ü&c%='d", "key7Qm1VtZx9KpR4"])
def test_a_secret_is_blanked_out_of_a_text_however_it_is_written(secret: str):
    raw = secret.encode()
    for spelling in (
        secret,
        json.dumps({"message": secret}),
        repr(secret),
        quote(secret),
        quote(secret, safe=""),
        html.escape(secret),
        raw.hex(),
        base64.b64encode(raw).decode(),
    ):
        shown = blank_out(f"before {spelling} after", [None, "", secret])
        assert "***" in shown
        assert shown.startswith("before ")
        assert shown.endswith(" after")
        assert secret not in shown


def test_a_long_run_of_a_secret_is_blanked_under_any_escape():
    assert blank_out("\\x22hunter2hunter2\\x22", ['"hunter2hunter2"']) == "\\x22***\\x22"


def test_a_text_without_the_secret_stays_as_it_is():
    assert blank_out("all is well", ["hunter2", None, ""]) == "all is well"
