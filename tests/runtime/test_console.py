"""What of the children's logs reaches the person in front of `conclave up`."""

from pathlib import Path

import pytest

from conclave.runtime.console import LogWatcher, tail


def _shown(path: Path, text: str, capsys: pytest.CaptureFixture[str], *, verbose: bool = False):
    path.write_text("before\n")
    watcher = LogWatcher({"api": path}, verbose=verbose)
    with path.open("a") as log:
        log.write(text)
    watcher.look()
    return capsys.readouterr().out.splitlines()


def test_complaints_are_shown_and_chatter_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    text = (
        "2026 [info     ] up and running [uvicorn.error]\n"
        "2026 [warning  ] running low [worker]\n"
        '{"event": "x", "level": "error"}\n'
        "2026 UTC [1] FATAL:  out of disk\n"
        'time=1 level=ERROR msg="Frontend is not healthy yet"\n'
        "time=1 level=WARN msg=slow\n"
    )
    shown = _shown(tmp_path / "log", text, capsys)
    assert [line.split()[-1] for line in shown] == ["[worker]", '"error"}', "disk", "msg=slow"]


def test_of_a_traceback_the_last_line_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = "Traceback (most recent call last):\n  File x\n    error: y\nKeyError: 'z'\nnext\n"
    assert _shown(tmp_path / "log", text, capsys) == ["[api] KeyError: 'z'"]


def test_verbose_shows_everything_new_and_nothing_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert _shown(tmp_path / "log", "a\nb\n", capsys, verbose=True) == ["[api] a", "[api] b"]


def test_the_end_of_a_log_is_at_hand_and_a_missing_one_is_empty(tmp_path: Path):
    (tmp_path / "log").write_text("\n".join(map(str, range(100))))
    assert tail(tmp_path / "log", lines=2) == "98\n99"
    assert tail(tmp_path / "none") == ""
