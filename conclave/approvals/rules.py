"""Who may decide an approval: one rule for every way in."""

from __future__ import annotations

import json
from collections.abc import Collection

from pydantic import JsonValue

from conclave.approvals.errors import ArgumentsEdited, MayNotDecide
from schema.domain.approvals import Approval, ApproverRole, Approvers, RiskLevel
from schema.domain.identity import Principal, PrincipalKind, Role


def is_person(principal: Principal) -> bool:
    """Whether it is somebody who has signed in. Keys, tokens and signals name nobody: who holds
    an API key is not known, even where its owner is."""
    return principal.kind is PrincipalKind.USER and principal.user_id is not None


def require_decider(
    approval: Approval, principal: Principal, askers: Collection[int] | None
) -> None:
    """Raise `MayNotDecide` where this principal may say neither yes nor no.

    `askers` are the users who asked, themselves or through an agent, where four eyes are asked
    for; None where they are not.
    """
    if not principal.has(Role.OPERATOR):
        raise MayNotDecide("Operators and administrators decide approvals.")
    if approval.risk_level is RiskLevel.CRITICAL and not principal.is_admin:
        raise MayNotDecide("A critical approval needs an administrator.")
    if not any(_belongs(principal, group) for group in approval.groups):
        raise MayNotDecide("Others were asked to decide this approval.")
    if approval.required_approvals > 1 and not is_person(principal):
        raise MayNotDecide("Several people have to agree: this caller names nobody.")
    if askers is None:
        return
    if not is_person(principal):
        raise MayNotDecide("Four eyes are asked for: this caller names nobody.")
    if principal.user_id in askers:
        raise MayNotDecide("Four eyes are asked for: somebody else has to decide.")


def agreed_arguments(
    approval: Approval, wanted: dict[str, JsonValue] | None
) -> tuple[dict[str, JsonValue] | None, bool]:
    """Return the edited arguments that a yes is for, and whether it makes the votes so far void.

    Raises `ArgumentsEdited` for a yes without arguments where those that were recorded are not
    what the others approve of any more: whoever says it may not have seen the edit.
    """
    edited = approval.arguments
    if approval.approvals_count == 0:
        return wanted, False
    meant = approval.recorded_arguments if wanted is None else wanted
    in_force = approval.recorded_arguments if edited is None else edited
    if _canonical(meant) == _canonical(in_force):
        return edited, False
    if wanted is None:
        raise ArgumentsEdited(approval)
    return wanted, True


def _belongs(principal: Principal, group: Approvers) -> bool:
    if isinstance(group, list):
        return is_person(principal) and principal.user_id in group
    return principal.has(Role.ADMIN if group is ApproverRole.ADMINS else Role.OPERATOR)


def _canonical(value: JsonValue) -> str:
    """Return a text that is the same for the same JSON alone: in Python, true equals 1."""
    return json.dumps(value, sort_keys=True)
