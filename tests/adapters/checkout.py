"""A workspace under git, for tests of the git adapter."""

from __future__ import annotations

from pathlib import Path

from conclave.adapters.git.program import GitProgram
from conclave.adapters.git.remotes import GuardedRemotes
from conclave.adapters.git.repository import GitRepository
from tests.fakes.git_server import LoopbackGuard

PROTOCOLS = ("file", "http", "https")


def hear_nothing(_: str) -> None:
    """No progress is wanted."""


class Checkout:
    """A workspace with a repository, and direct sight of its files."""

    def __init__(
        self,
        home: Path,
        remotes: GuardedRemotes | None = None,
        program: GitProgram | None = None,
    ) -> None:
        self.home = home
        self.tree = home / "tree"
        self.git_dir = home / "git"
        self.tree.mkdir(parents=True)
        self.remotes = remotes or GuardedRemotes(LoopbackGuard(), PROTOCOLS)
        self.program = program or GitProgram(PROTOCOLS)
        self.repository = GitRepository(home, self.program, self.remotes)

    def write(self, **files: str) -> None:
        for name, content in files.items():
            (self.tree / name).write_text(content)

    async def clone(self, url: str, branch: str | None = None) -> str | None:
        return await self.repository.clone(url, branch=branch, progress=hear_nothing)

    async def commit(self, message: str = "Mine", **files: str) -> str:
        self.write(**files)
        await self.repository.stage(list(files))
        return (await self.repository.commit(message)).hash
