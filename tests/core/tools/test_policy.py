"""What an agent's own rules make of a call, whatever its chat or circle says."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from conclave.tools.policy import is_offered, judge, policy_version
from schema.domain.agents import AgentConfig, RiskRules
from schema.domain.permissions import PermissionMode, Permissions
from schema.domain.tools import Effect, Tool, ToolAsker, ToolCategory, ToolVerdict

FREE = Permissions(mode=PermissionMode.AUTONOMOUS)
HTTP = Tool(
    name="http", description="", parameters={}, effect=Effect.ONCE, category=ToolCategory.HTTP
)
READ = Tool(
    name="read_file",
    description="",
    parameters={},
    effect=Effect.READ,
    category=ToolCategory.FILES,
    is_reading=True,
)


def asker(kind: str = "chat", rules: RiskRules | None = None, **config: JsonValue) -> ToolAsker:
    return ToolAsker.of(
        conversation_id=1,
        kind=kind,
        owner="local",
        circle_id=None,
        circle_config=None,
        agent_id=1,
        agent_name="Ada",
        config=AgentConfig.model_validate({"tools": ["http", "read_file"], **config}),
        risk_rules=rules,
        tightened=None,
    )


def verdict(tool: Tool, who: ToolAsker, *, granted: bool = False) -> ToolVerdict:
    return judge(tool, who, FREE, granted=granted).verdict


@pytest.mark.parametrize("kind", ["chat", "session", "conversation", "task"])
def test_what_calls_out_is_refused_where_that_is_blocked(kind: str):
    blocked = asker(kind, RiskRules(block_external_api=True), autonomy_level="autonomous")
    assert verdict(HTTP, blocked) is ToolVerdict.DENY
    assert not is_offered(HTTP, blocked, FREE)
    assert verdict(READ, blocked) is ToolVerdict.ALLOW


@pytest.mark.parametrize("kind", ["chat", "conversation", "task"])
def test_what_always_needs_a_yes_is_asked_for_though_it_was_granted(kind: str):
    asks = asker(kind, RiskRules(require_approval_for=["read_file"]))
    assert verdict(READ, asks, granted=True) is ToolVerdict.ASK
    assert verdict(READ, asker(kind), granted=True) is ToolVerdict.ALLOW
    refused = asker(kind, RiskRules(require_approval_for=["http"]), tool_blacklist=["http"])
    assert verdict(HTTP, refused) is ToolVerdict.DENY


def test_a_tool_that_is_switched_off_is_refused_in_chats_too():
    assert verdict(READ, asker(disabled_tools=["read_file"])) is ToolVerdict.DENY
    assert verdict(READ, asker(disabled_tools="read_file")) is ToolVerdict.ALLOW


def test_other_rules_are_another_version():
    plain = policy_version(asker(), FREE)
    assert policy_version(asker(rules=RiskRules()), FREE) == plain
    others = [
        asker(rules=RiskRules(block_external_api=True)),
        asker(rules=RiskRules(require_approval_for=["http"])),
        asker(rules=RiskRules(max_file_delete_mb=1)),
        asker(disabled_tools=["http"]),
        asker(tool_blacklist=["http"]),
    ]
    versions = {policy_version(other, FREE) for other in others}
    assert len(versions | {plain}) == len(others) + 1
