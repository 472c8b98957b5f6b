"""What a tool call may do: pure code over the rules. Where several apply the strictest wins.

Chats and sessions, where somebody sits before the agent, go by the permissions of the gateway
dialect: an explicit deny anywhere, then the override of the tool, then the mode. Conversations
of circles run unattended and go by the agent's autonomy and the circle's `allow_tools`. What an
agent is forbidden (its blacklist, its risk rules, read_only) holds in both, and so does what its
risk rules always ask for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import JsonValue

from schema.domain.agents import RiskRules
from schema.domain.base import Shape
from schema.domain.conversations import ConversationKind
from schema.domain.permissions import Autonomy, PermissionLevel, PermissionMode, Permissions
from schema.domain.tools import Tool, ToolAsker, ToolCategory, ToolVerdict

_STRICTNESS = [ToolVerdict.ALLOW, ToolVerdict.ASK, ToolVerdict.DENY]


class Judgement(Shape):
    """A verdict and the rule that made it."""

    verdict: ToolVerdict
    rule: str


def judge(tool: Tool, asker: ToolAsker, permissions: Permissions, *, granted: bool) -> Judgement:
    """Return the strictest verdict; `granted`: a person allowed this tool for this chat."""
    found = [*_of_agent(tool, asker)]
    if not asker.kind.is_private:
        found.append(_unattended(tool, asker))
    else:
        found.append(_attended(tool, permissions, "permissions", granted=granted))
        if asker.tightened is not None:
            found.append(_attended(tool, asker.tightened, "chat permissions", granted=granted))
    return max(found, key=lambda judgement: _STRICTNESS.index(judgement.verdict))


def is_offered(tool: Tool, asker: ToolAsker, permissions: Permissions) -> bool:
    """Whether the model is told of the tool: not where every call of it would be denied."""
    if tool.category is ToolCategory.TASKS and asker.task_id is None:
        return False
    if asker.kind is not ConversationKind.CHAT and tool.name not in asker.named_tools:
        return False
    verdict = judge(tool, asker, permissions, granted=False).verdict
    return verdict is not ToolVerdict.DENY


def policy_version(asker: ToolAsker, permissions: Permissions) -> str:
    """Name the rules in force for an asker: another name means that something changed."""
    rules: dict[str, JsonValue] = {
        "kind": asker.kind.value,
        "permissions": permissions.model_dump(mode="json"),
        "tightened": asker.tightened and asker.tightened.model_dump(mode="json"),
        "autonomy": asker.autonomy.value,
        "blacklist": list[JsonValue](sorted(asker.blacklist)),
        "circle_allows_tools": asker.circle_allows_tools,
    }
    # Named only where they say something: what was bound before there were any stays bound.
    if asker.disabled:
        rules["disabled"] = list[JsonValue](sorted(asker.disabled))
    if asker.risk_rules != RiskRules():
        rules["risk_rules"] = asker.risk_rules.model_dump(mode="json")
    return _digest(rules)


def binding(tool: Tool, arguments: Mapping[str, JsonValue], version: str) -> str:
    """Hash what an approval is given for: the tool as it is, its arguments, the rules."""
    return _digest(
        {
            "tool": tool.name,
            "schema": tool.parameters,
            "effect": tool.effect.value,
            "arguments": dict(arguments),
            "policy": version,
        }
    )


def _digest(content: dict[str, JsonValue]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _of_agent(tool: Tool, asker: ToolAsker) -> list[Judgement]:
    found: list[Judgement] = []
    if tool.name in asker.blacklist:
        found.append(Judgement(verdict=ToolVerdict.DENY, rule="the agent's tool_blacklist"))
    if tool.name in asker.disabled:
        found.append(Judgement(verdict=ToolVerdict.DENY, rule="the agent's enabled_tools"))
    if asker.autonomy is Autonomy.READ_ONLY and not tool.is_reading:
        found.append(Judgement(verdict=ToolVerdict.DENY, rule="the agent is read_only"))
    if asker.risk_rules.block_external_api and tool.category is ToolCategory.HTTP:
        rule = "the agent's risk_rules: block_external_api"
        found.append(Judgement(verdict=ToolVerdict.DENY, rule=rule))
    if tool.name in asker.risk_rules.require_approval_for:
        rule = "the agent's risk_rules: require_approval_for"
        found.append(Judgement(verdict=ToolVerdict.ASK, rule=rule))
    return found


def _attended(tool: Tool, permissions: Permissions, place: str, *, granted: bool) -> Judgement:
    level = permissions.tool_overrides.get(tool.name)
    if level is not None:
        return Judgement(verdict=ToolVerdict(level.value), rule=f"{place}: override {level.value}")
    rule = f"{place}: mode {permissions.mode.value}"
    if permissions.mode is PermissionMode.AUTONOMOUS:
        return Judgement(verdict=ToolVerdict.ALLOW, rule=rule)
    if permissions.mode is PermissionMode.READONLY:
        verdict = ToolVerdict.ALLOW if tool.is_reading else ToolVerdict.DENY
        return Judgement(verdict=verdict, rule=rule)
    if granted and tool.may_be_always_allowed:
        return Judgement(verdict=ToolVerdict.ALLOW, rule="allowed for this chat")
    return Judgement(verdict=ToolVerdict.ASK, rule=rule)


def _unattended(tool: Tool, asker: ToolAsker) -> Judgement:
    if tool.category is ToolCategory.TASKS:
        return Judgement(verdict=ToolVerdict.ALLOW, rule="reports on the task")
    if not asker.circle_allows_tools:
        return Judgement(verdict=ToolVerdict.DENY, rule="the circle's allow_tools is off")
    rule = f"autonomy {asker.autonomy.value}"
    asks = asker.autonomy is Autonomy.SUPERVISED or (
        asker.autonomy is Autonomy.CAUTIOUS and tool.is_dangerous
    )
    return Judgement(verdict=ToolVerdict.ASK if asks else ToolVerdict.ALLOW, rule=rule)


def stricter(global_: Permissions, chat: Permissions) -> bool:
    """Whether a chat's own rules loosen nothing of the global ones, tool by tool and by mode."""
    order = {
        PermissionMode.AUTONOMOUS: 0,
        PermissionMode.INTERACTIVE: 1,
        PermissionMode.READONLY: 2,
    }
    levels = [PermissionLevel.ALLOW, PermissionLevel.ASK, PermissionLevel.DENY]
    return order[chat.mode] >= order[global_.mode] and all(
        levels.index(chat.tool_overrides.get(name, PermissionLevel.DENY)) >= levels.index(level)
        for name, level in global_.tool_overrides.items()
        if name in chat.tool_overrides
    )
