"""The workflow sandbox: what a workflow file may bring in from outside.

Workflow files name their imports in one `imports_passed_through` block. `workflows` itself is
never passed through: a module-level `datetime.now()` would slip through with it. An import that
was not named raises, so that what is reloaded for every run stays small and deliberate.
"""

from __future__ import annotations

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

PASSED_THROUGH = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions")


def sandboxed_runner() -> SandboxedWorkflowRunner:
    """Return the runner of every worker and replayer."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    return SandboxedWorkflowRunner(restrictions=restrictions)
