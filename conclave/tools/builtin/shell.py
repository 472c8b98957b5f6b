"""Tools that run programs, confined by the sandbox: commands and Python."""

from __future__ import annotations

from pydantic import Field, ValidationError

from conclave.ports.tools import Sandbox
from conclave.tools.builtin.definition import Answer, Arguments, define, failure, first_flaw
from conclave.tools.builtin.excerpts import both_ends
from conclave.tools.builtin.places import Places, relative
from conclave.tools.toolbox import BuiltTool
from schema.domain.sandbox import KilledBy, SandboxCommand, SandboxConfig, SandboxResult
from schema.domain.tools import Effect, ToolCategory, ToolOutcome, ToolPlace

_MOST_OUT, _MOST_ERR = 30_000, 10_000
TIMEOUT_SECONDS = 720
"""Over the longest a sandbox may be set to, and the wait for git: the sandbox's limit counts."""
_ENDED_BY = {
    KilledBy.MEMORY: "it used more memory than it may",
    KilledBy.PROCESSES: "it started more processes than it may",
    KilledBy.OUTPUT: "it wrote more output than it may",
    KilledBy.DISK: "it filled the workspace beyond what one command may",
    KilledBy.TIME: "its time was up",
}
_LESS_TIME = Field(
    default=None,
    ge=1,
    le=600,
    description="Less time than the sandbox gives, in seconds.",
)
_CWD = Field(
    default="",
    max_length=4096,
    description="A directory of the workspace to run in; empty: its top.",
)


class Bash(Arguments):
    """Of `bash`."""

    command: str = Field(
        description="What bash is to run.", min_length=1, max_length=100_000, examples=["ls -la"]
    )
    cwd: str = _CWD
    timeout_seconds: int | None = _LESS_TIME


class Python(Arguments):
    """Of `python`."""

    code: str = Field(
        description="The program; what it prints is the answer.",
        min_length=1,
        max_length=250_000,
        examples=["print(6 * 7)"],
    )
    cwd: str = _CWD
    timeout_seconds: int | None = _LESS_TIME


class ShellTools:
    """`bash` and `python`."""

    def __init__(self, places: Places, sandbox: Sandbox) -> None:
        self._places = places
        self._sandbox = sandbox

    def tools(self) -> list[BuiltTool]:
        """Return them."""
        return [
            define(
                "bash",
                "Run a bash command in the workspace (/workspace), in a sandbox: no network, no "
                "other files of the machine, limited time and memory. Nothing it starts outlives "
                "it. The repository is not visible here: use the git tools.",
                self.bash,
                Bash,
                effect=Effect.ONCE,
                category=ToolCategory.SHELL,
                timeout_seconds=TIMEOUT_SECONDS,
                is_dangerous=True,
            ),
            define(
                "python",
                "Run a Python program in the workspace (/workspace), in the same sandbox as "
                "bash: the standard library, no network.",
                self.python,
                Python,
                effect=Effect.ONCE,
                category=ToolCategory.CODE,
                timeout_seconds=TIMEOUT_SECONDS,
                is_dangerous=True,
            ),
        ]

    async def bash(self, asked: Bash, place: ToolPlace) -> Answer:
        """Run a command."""
        argv = ("/bin/bash", "-c", asked.command)
        return await self._run(argv, None, asked.cwd, asked.timeout_seconds, place)

    async def python(self, asked: Python, place: ToolPlace) -> Answer:
        """Run a program, given by standard input."""
        code = asked.code.encode("utf-8", "replace")
        return await self._run(("python3", "-"), code, asked.cwd, asked.timeout_seconds, place)

    async def _run(
        self,
        argv: tuple[str, ...],
        stdin: bytes | None,
        cwd: str,
        seconds: int | None,
        place: ToolPlace,
    ) -> ToolOutcome:
        workspace = await self._places.at(place)
        config = await self._places.rules.get()
        limit = min(seconds or config.timeout_seconds, config.timeout_seconds)
        config = config.model_copy(update={"timeout_seconds": limit})
        try:
            command = SandboxCommand(
                argv=argv, stdin=stdin, workspace=str(workspace.path), cwd=relative(cwd) or "."
            )
        except (ValidationError, UnicodeEncodeError) as error:
            flaw = first_flaw(error) if isinstance(error, ValidationError) else "is not Unicode"
            return failure(f"It cannot be run: {flaw}")
        async with workspace.moving():
            result = await self._sandbox.run(command, config)
        return _told(result, config)


def _told(result: SandboxResult, config: SandboxConfig) -> ToolOutcome:
    parts: list[str] = []
    out = both_ends(result.stdout.rstrip("\n"), _MOST_OUT)
    err = both_ends(result.stderr.rstrip("\n"), _MOST_ERR)
    if out:
        parts.append(out)
    if err:
        parts.append(f"[stderr]\n{err}" if out else f"[stderr only]\n{err}")
    if result.stdout_truncated or result.stderr_truncated:
        parts.append(
            "[The end of the output was not kept. Write it to a file and read parts of that.]"
        )
    parts.append(_ending(result, config))
    return ToolOutcome(content="\n".join(parts), is_error=result.exit_code != 0)


def _ending(result: SandboxResult, config: SandboxConfig) -> str:
    if result.exit_code is not None:
        return f"[exit code {result.exit_code}]"
    reason = _ENDED_BY.get(result.killed_by or KilledBy.SIGNAL, "it was killed")
    if result.timed_out:
        reason = f"it did not end within {config.timeout_seconds} s"
    return f"[ended by the sandbox: {reason}]"
