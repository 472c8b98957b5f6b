"""The workflow sandbox: what a workflow file may bring in from outside.

Workflow files name their imports in one `imports_passed_through` block. `workflows` itself is
never passed through: a `datetime.now()` would slip through with it; what a workflow file needs of
it is imported under a silent policy, and so reloaded with the file. Any other import that was not
named raises, so that what is reloaded for every run stays small and deliberate.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

_PACKAGE = "workflows"


class _Kept(SourceFileLoader):
    """Reads and compiles its file once."""

    def __init__(self, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._code = super().get_code(fullname)

    def get_code(self, fullname: str) -> CodeType | None:
        return self._code


class _KeptModules(MetaPathFinder):
    """Finds the workflow files without looking at the disk again."""

    def __init__(self) -> None:
        files = (Path(__file__).parent.parent / _PACKAGE).glob("[!_]*.py")
        self._loaders = {
            name: _Kept(name, str(file)) for file in files for name in [f"{_PACKAGE}.{file.stem}"]
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        loader = self._loaders.get(fullname)
        return loader and spec_from_file_location(fullname, loader.path, loader=loader)


def keep_workflow_files() -> None:
    """Keep the workflow files compiled in memory: every run loads them into a sandbox of its own,
    on the event loop, which would read each from the disk or, under PYTHONDONTWRITEBYTECODE,
    compile it anew."""
    if not any(isinstance(finder, _KeptModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KeptModules())


def sandboxed_runner() -> SandboxedWorkflowRunner:
    """Return the runner of every worker and replayer."""
    restrictions = SandboxRestrictions.default.with_import_notification_policy(
        SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    )
    return SandboxedWorkflowRunner(restrictions=restrictions)
