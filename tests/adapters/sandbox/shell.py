"""How the tests of the sandbox run commands and look for what is left of them."""

from __future__ import annotations

from pathlib import Path

from conclave.adapters.sandbox.host import HostSandbox
from conclave.adapters.sandbox.plan import Limits
from schema.domain.sandbox import SandboxCommand, SandboxConfig, SandboxResult, WorkspaceMode

ROOT = Path(__file__).parents[3]
SECRET = "the-secret-of-the-host"
LIMITS = Limits(
    processes=64,
    file_bytes=20_000_000,
    disk_bytes=50_000_000,
    disk_files=2_000,
    output_kept=1000,
    output_flood=5_000_000,
)


class Shell:
    """Runs scripts in one workspace."""

    def __init__(self, sandbox: HostSandbox, workspace: Path) -> None:
        self.sandbox = sandbox
        self.workspace = workspace

    async def argv(
        self,
        *argv: str,
        stdin: bytes | None = None,
        cwd: str = ".",
        env: dict[str, str] | None = None,
        read_only: tuple[str, ...] = (),
        timeout: int = 20,
        memory: str = "512m",
        quota: float = 4.0,
        mode: WorkspaceMode = WorkspaceMode.READ_WRITE,
    ) -> SandboxResult:
        command = SandboxCommand(
            argv=argv,
            workspace=str(self.workspace),
            stdin=stdin,
            cwd=cwd,
            env=env or {},
            read_only=read_only,
        )
        config = SandboxConfig(
            timeout_seconds=timeout, memory_limit=memory, cpu_quota=quota, workspace_mode=mode
        )
        return await self.sandbox.run(command, config)

    async def sh(self, script: str, **options: object) -> SandboxResult:
        return await self.argv("sh", "-c", script, **options)  # pyright: ignore[reportArgumentType]

    async def python(self, program: str, **options: object) -> SandboxResult:
        return await self.argv("python3", "-c", program, **options)  # pyright: ignore[reportArgumentType]


def running(command_line: str) -> list[int]:
    """Return the processes of this host whose command line holds the words."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "cmdline").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if text.startswith(command_line) and state != "Z":
            found.append(int(entry.name))
    return found
