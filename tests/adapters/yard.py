"""A workspace with something beside it that nobody may reach through it."""

from __future__ import annotations

from pathlib import Path

from conclave.adapters.workspace import descriptors
from conclave.adapters.workspace.descriptors import open_beneath, walk_down
from conclave.adapters.workspace.listing import list_tree
from conclave.adapters.workspace.tree import Tree

LIMIT = 1024
SECRET = b"outside, not to be read"
OPENERS = {"walk": walk_down, "openat2": open_beneath}


class Yard:
    """A workspace and what lies outside of it."""

    def __init__(self, directory: Path, opener: descriptors.OpenDirectory) -> None:
        self.home = directory / "home"
        self.root = self.home / "tree"
        self.root.mkdir(parents=True)
        self.outside = directory / "outside"
        (self.outside / "sub").mkdir(parents=True)
        (self.outside / "file").write_bytes(SECRET)
        (self.outside / "sub" / "file").write_bytes(SECRET)
        self.tree = Tree(self.root, self.home, opener)

    def assert_outside_is_whole(self) -> None:
        assert sorted(str(p.relative_to(self.outside)) for p in self.outside.rglob("*")) == [
            "file",
            "sub",
            "sub/file",
        ]
        assert (self.outside / "file").read_bytes() == SECRET
        assert (self.outside / "sub" / "file").read_bytes() == SECRET

    def names(self) -> list[str]:
        return [entry.path for entry in list_tree(self.tree, "", recursive=True, limit=99).entries]
