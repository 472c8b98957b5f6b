"""The workflow sandbox: what a workflow file may bring in from outside.

Workflow files name their imports in one `imports_passed_through` block. `workflows` itself is
never passed through: a `datetime.now()` would slip through with it; what a workflow file needs of
it is imported under a silent policy, and so reloaded with the file. Any other import that was not
named raises, so that what is reloaded for every run stays small and deliberate.
"""

from __future__ import annotations

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy


def sandboxed_runner() -> SandboxedWorkflowRunner:
    """Return the runner of every worker and replayer."""
    restrictions = SandboxRestrictions.default.with_import_notification_policy(
        SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    )
    return SandboxedWorkflowRunner(restrictions=restrictions)
