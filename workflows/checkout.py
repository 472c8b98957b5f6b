"""A project's files: made by one workflow, removed by another.

`Checkout` is started by the dispatch or the relay when a project is made, or when it is to be
tried again. Id: `project-7-checkout`; a deliberate second try is `project-7-checkout-2`. Messages:
none; its cancel comes from a project that is deleted or wants another repository, or from a
person in Temporal. Lifetime: until the checkout is whole or has failed for good.

`Removal` is started the same way when a project is deleted. Id: `project-7-removal`. Lifetime:
until the files are gone.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from schema.payloads import names
    from schema.payloads.checkout import (
        CheckoutInput,
        CheckoutResult,
        CheckoutSettleInput,
        RemovalInput,
        RemovalResult,
    )

# Reloaded in the sandbox as this file is, so that its restrictions hold in it too.
with workflow.unsafe.sandbox_import_notification_policy(
    workflow.SandboxImportNotificationPolicy.SILENT
):
    from workflows import policies


@workflow.defn(name=names.CHECKOUT_WORKFLOW)
class CheckoutWorkflow:
    """Clones, and says in the record why where that cannot be done."""

    @workflow.run
    async def run(self, asked: CheckoutInput) -> CheckoutResult:
        """Make the checkout."""
        try:
            return await self._clone(asked)
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error):
                # A project that is deleted, or tried again, keeps its record: that is looked at.
                await self._settle(asked, "Cancelled")
                raise
            return await self._settle(asked, _reason(error))

    async def _clone(self, asked: CheckoutInput) -> CheckoutResult:
        return await workflow.execute_activity(
            names.CLONE_ACTIVITY,
            asked,
            result_type=CheckoutResult,
            start_to_close_timeout=policies.CLONE_TIMEOUT,
            heartbeat_timeout=policies.CLONE_HEARTBEAT_TIMEOUT,
            retry_policy=policies.CLONE_RETRY,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"check project {asked.project_id} out",
        )

    async def _settle(self, asked: CheckoutInput, reason: str) -> CheckoutResult:
        return await workflow.execute_activity(
            names.SETTLE_CHECKOUT_ACTIVITY,
            CheckoutSettleInput(project_id=asked.project_id, run=asked.run, reason=reason),
            result_type=CheckoutResult,
            start_to_close_timeout=policies.RECORD_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary="settle as failed",
        )


@workflow.defn(name=names.REMOVAL_WORKFLOW)
class RemovalWorkflow:
    """Removes the files of a deleted project."""

    @workflow.run
    async def run(self, asked: RemovalInput) -> RemovalResult:
        """Remove them, however long the disk takes."""
        return await workflow.execute_activity(
            names.REMOVE_FILES_ACTIVITY,
            asked,
            result_type=RemovalResult,
            start_to_close_timeout=policies.REMOVE_TIMEOUT,
            heartbeat_timeout=policies.CLONE_HEARTBEAT_TIMEOUT,
            retry_policy=policies.RECORD_RETRY,
            summary=f"remove the files of project {asked.project_id}",
        )


def _reason(error: BaseException) -> str:
    """Return the public sentence of a failed activity."""
    cause = error.cause if isinstance(error, ActivityError) else None
    return cause.message if isinstance(cause, ApplicationError) else "The checkout took too long"
