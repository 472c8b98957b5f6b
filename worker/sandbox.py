"""The workflow sandbox: what a workflow file may bring in from outside.

Workflow files name their imports in one `imports_passed_through` block. `workflows` itself is
never passed through: a `datetime.now()` would slip through with it; what a workflow file needs of
it is imported under a silent policy, and so reloaded with the file. Any other import that was not
named raises, so that what is reloaded for every run stays small and deliberate.
"""

from __future__ import annotations

import compileall
from pathlib import Path

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy


def keep_bytecode() -> None:
    """Compile the workflow files, so that runs load them without compiling them anew.

    Every run loads them into a sandbox of its own, and the SDK leaves that to Python's imports:
    under PYTHONDONTWRITEBYTECODE each would compile all of them, 20 ms a run. Where nothing can
    be written, that is how it is.
    """
    compileall.compile_dir(Path(__file__).parent.parent / "workflows", quiet=2)


def sandboxed_runner() -> SandboxedWorkflowRunner:
    """Return the runner of every worker and replayer."""
    restrictions = SandboxRestrictions.default.with_import_notification_policy(
        SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    )
    return SandboxedWorkflowRunner(restrictions=restrictions)
