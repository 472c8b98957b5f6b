"""The README's walk-through, run command by command against the real product.

A fenced `bash` block after `<!-- walkthrough -->` is run; the fence right after it is what it
prints. `json` there is a part of the last line's object: ids, texts and states as shown, times
left out. `text` is all of it.
"""

import json
import re
import subprocess
from asyncio import to_thread
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pytest
from pydantic import JsonValue

from tests.harness.up import running_up
from tests.waiting import until

README = Path(__file__).parents[2] / "README.md"
DOCUMENTED_API = "http://127.0.0.1:8000"
STEP = re.compile(
    r"^<!-- walkthrough(?:: (?P<note>[a-z ]+))? -->\n"
    r"```bash\n(?P<commands>.*?)^```\n"
    r"(?:```(?P<form>json|text)\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Step:
    note: str
    commands: str
    form: str
    shown: str


def steps() -> list[Step]:
    text = README.read_text()
    found = [Step(*(part or "" for part in match.groups())) for match in STEP.finditer(text)]
    assert len(found) == text.count("<!-- walkthrough"), "a marked block cannot be read"
    return found


def is_part(shown: JsonValue, actual: JsonValue) -> bool:
    """Whether everything that is shown is there; keys may have been left out."""
    if isinstance(shown, dict):
        return isinstance(actual, dict) and all(
            key in actual and is_part(value, actual[key]) for key, value in shown.items()
        )
    if isinstance(shown, list):
        return (
            isinstance(actual, list)
            and len(shown) == len(actual)
            and all(map(is_part, shown, actual))
        )
    return shown == actual


def run(script: str) -> str:
    """Return what a script prints; a command in it that fails, fails the test."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def objects(printed: str) -> list[JsonValue]:
    """Read the JSON values that stand one after the other."""
    decoder = json.JSONDecoder()
    found: list[JsonValue] = []
    position = 0
    while position < len(printed):
        value, position = decoder.raw_decode(printed, position)
        found.append(value)
    return found


@pytest.fixture
def site() -> Iterator[Path]:
    with TemporaryDirectory(prefix="conclave-docs-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def has_settled(api: str) -> None:
    """Wait until the conversation's own turns are over."""

    def look() -> bool:
        with urlopen(f"{api}/conversations/1", timeout=10) as answer:
            return json.load(answer)["status"] == "completed"

    await until(lambda: to_thread(look), timeout=60, what="the three turns")


@pytest.mark.timeout(300)  # a start of everything on a machine that may be busy
async def test_every_command_of_the_walk_through_does_what_the_readme_shows(site: Path):
    flags = ["--data-dir", str(site / "data"), "--ready-file", str(site / "ready.json")]
    ports = ["--api-port", "0", "--temporal-port", "0", "--ui-port", "0"]
    keyless = [
        part
        for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
        for part in ("--env", f"{name}=")
    ]
    setup, *rest = steps()
    assert setup.note == "setup"
    assert len(rest) >= 7
    async with running_up(
        ["-P", "-m", "conclave.cli", "up", *flags, *ports, *keyless],
        ready_file=site / "ready.json",
        console=site / "console",
    ) as running:
        await running.is_up(timeout=150)
        ready = running.ready()
        assert ready is not None
        api = str(ready["api"])
        variables = setup.commands.replace(DOCUMENTED_API, api)
        assert api in variables
        for step in rest:
            if step.note == "after the turns":
                await has_settled(api)
            printed = await to_thread(run, variables + step.commands)
            if step.form == "text":
                assert printed == step.shown, step.commands
            else:
                answers = objects(printed)
                shown = json.loads(step.shown)
                assert is_part(shown, answers[-1]), (step.commands, shown, answers[-1])
                if step.commands.startswith("for try in"):
                    assert answers[0] == answers[1], "the same key is the same answer"


def test_the_readme_opens_with_a_picture_and_the_two_commands():
    text = README.read_text()
    picture = re.search(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert picture is not None
    assert (README.parent / picture[1]).is_file()
    assert text.index("make up") < text.index("make test") < text.index("<!-- walkthrough")


PAGES = sorted([README, *README.parent.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_exists(page: Path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
