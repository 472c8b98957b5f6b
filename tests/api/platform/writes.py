"""Every route that writes: what must exist before, what is sent, and the action it records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.harness.accounts import OTHER_PASSWORD, PASSWORD, Accounts, Person

AUDIT = "/api/v1/admin/audit"
ADA = "ada@example.org"
BOB = "bob@example.org"
KEY = "sk-secret-provider-key-1234"


@dataclass
class Site:
    """An application with people in it; `http` sends what Ada, its administrator, sends."""

    accounts: Accounts
    ada: Person

    @property
    def http(self) -> httpx.AsyncClient:
        return self.accounts.client


async def made(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def an_agent(http: httpx.AsyncClient) -> str:
    agent = await made(
        http, "/agents", {"name": "Ada", "provider": "openai", "model": "gpt-4o-mini"}
    )
    return str(agent["id"])


async def a_circle(http: httpx.AsyncClient, *moves: str) -> str:
    await made(http, "/circles", {"name": "tea", "display_name": "Tea"})
    for move in moves:
        assert (await http.post(f"/circles/tea/{move}")).status_code == 200
    return "tea"


async def a_started_circle(http: httpx.AsyncClient) -> str:
    return await a_circle(http, "start")


async def a_paused_circle(http: httpx.AsyncClient) -> str:
    return await a_circle(http, "start", "pause")


async def a_member(http: httpx.AsyncClient) -> str:
    await a_circle(http)
    agent = await an_agent(http)
    await made(http, "/circles/tea/agents", {"agent_id": int(agent)})
    return agent


async def a_talk(http: httpx.AsyncClient) -> str:
    agent = await an_agent(http)
    body = {"topic": "kolibri", "agent_ids": [int(agent)], "auto_run": False}
    return str((await made(http, "/conversations", body))["id"])


async def a_memory(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/memory", {"key": "kolibri", "value": "kolibri"}))["id"])


@dataclass
class Call:
    """What is to be sent: the id in the path, the body, and by whom if not by Ada."""

    target: object = ""
    body: dict[str, Any] | None = None
    by: Person | None = None
    file: bytes | None = None
    """Sent as a form's part instead of a body."""


Prepare = Callable[[Site], Awaitable[Call]]
SECRET = {"name": "db", "value": "hunter2-kolibri"}


def on(
    make: Callable[[httpx.AsyncClient], Awaitable[str]], body: dict[str, Any] | None = None
) -> Prepare:
    """A call about what is made before."""

    async def prepare(site: Site) -> Call:
        return Call(await make(site.http), body)

    return prepare


def at_once(body: dict[str, Any] | None) -> Prepare:
    """A call that needs nothing before it."""

    async def prepare(site: Site) -> Call:
        return Call(body=body)

    return prepare


async def a_member_to_be(site: Site) -> Call:
    await a_circle(site.http)
    return Call(body={"agent_id": int(await an_agent(site.http))})


async def a_talk_to_be(site: Site) -> Call:
    talk = {"topic": "kolibri", "initial_prompt": "kolibri", "auto_run": True}
    return Call(body={**talk, "agent_ids": [int(await an_agent(site.http))]})


async def an_api_key(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/v1/security/api-keys", {"name": "ci"}))["id"])


async def a_secret(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/v1/secrets", SECRET))["id"])


async def a_user(site: Site) -> Call:
    bob = await site.accounts.person(BOB)
    return Call(bob.id, {"role": "viewer"})


async def a_session(site: Site) -> Call:
    bob = await site.accounts.person(BOB)
    sessions = await site.accounts.get(f"/security/sessions?user_id={bob.id}", site.ada.access)
    return Call(sessions.json()[0]["id"])


async def a_newcomer(site: Site) -> Call:
    return Call(body={"email": BOB, "password": PASSWORD}, by=Person(site.ada.id + 1, BOB, {}))


async def a_factor_to_be(site: Site) -> Call:
    setup = await site.accounts.post("/auth/mfa/setup", site.ada.access)
    site.ada.secret = setup.json()["secret"]
    return Call(body={"totp_code": site.accounts.code(site.ada)})


async def a_factor(site: Site) -> Call:
    bob = await site.accounts.with_mfa(BOB)
    return Call(body={"totp_code": site.accounts.code(bob)}, by=bob)


async def a_half_login(site: Site) -> Call:
    bob = await site.accounts.with_mfa(BOB)
    temp_token = await site.accounts.challenge(bob)
    return Call(body={"temp_token": temp_token, "code": site.accounts.code(bob)}, by=bob)


async def a_project(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/projects", PROJECT))["id"])


async def a_chat(http: httpx.AsyncClient) -> str:
    body = {"agent_id": int(await an_agent(http))}
    return str((await made(http, "/api/chats", body))["chat_id"])


async def a_chat_to_be(site: Site) -> Call:
    return Call(body={"agent_id": int(await an_agent(site.http))})


async def a_profile(http: httpx.AsyncClient) -> str:
    await made(http, "/api/profiles", {"name": "a", "profile": PROFILE})
    return "a"


async def a_default(site: Site) -> Call:
    return Call(body={"profile_name": await a_profile(site.http)})


async def a_chat_and_profile(site: Site) -> Call:
    return Call(await a_chat(site.http), {"profile_name": await a_profile(site.http)})


async def an_approval(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/v1/approvals", {"action": "deploy"}))["id"])


async def a_task(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/v1/tasks", {"title": "make tea"}))["id"])


async def a_task_to_give_up(site: Site) -> Call:
    return Call(body={"task_id": await a_task(site.http)})


async def a_dead_letter(http: httpx.AsyncClient) -> str:
    letter = await made(http, "/api/v1/dead-letter", {"task_id": await a_task(http)})
    return str(letter["id"])


async def dead_letters(site: Site) -> Call:
    task = await a_task(site.http)
    await made(site.http, "/api/v1/dead-letter", {"task_id": task, "error_type": "provider"})
    return Call()


async def a_notification(site: Site) -> Call:
    await site.accounts.execute(
        "INSERT INTO notifications (user_id, title, message, severity)"
        " VALUES (:user_id, 'kolibri', 'kolibri', 'info')",
        user_id=site.ada.id,
    )
    return Call(await site.accounts.value("SELECT max(id) FROM notifications"))


async def a_breaker(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/v1/circuit-breakers", {"name": "mail"}))["name"])


async def a_file(http: httpx.AsyncClient) -> str:
    answer = await http.post("/api/v1/files/upload", files={"file": ("tea.txt", b"kolibri")})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def a_file_to_be(site: Site) -> Call:
    return Call(file=b"kolibri")


async def a_workflow(http: httpx.AsyncClient) -> str:
    made_one = await made(http, "/api/v1/workflows", {"name": "Release"})
    await made(http, f"/api/v1/workflows/{made_one['id']}/steps", STEP)
    return str(made_one["id"])


async def a_run(http: httpx.AsyncClient) -> str:
    """Of workflow 1: the database was empty."""
    workflow = await a_workflow(http)
    run = await http.post(f"/api/v1/workflows/{workflow}/run")
    return str(run.json()["id"])


STEP = {"name": "Pause", "step_type": "wait", "config": {"wait_seconds": 5}}


async def a_trigger(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/api/v1/triggers", TRIGGER))["id"])


TRIGGER = {
    "name": "t",
    "type": "webhook",
    "config": {"secret": "kolibri"},
    "action": {
        "type": "call_webhook",
        "config": {"url": "https://example.org", "headers": {"X": "kolibri"}},
    },
}
PROJECT = {"name": "Tea", "source": "github", "source_project_id": "acme/tea"}
AGENT = {"name": "Bob", "provider": "openai", "model": "gpt-4o-mini"}
MEMORY = {"key": "kolibri", "value": "kolibri"}
PROVIDER = {"api_key": KEY, "default_model": "gpt-4o"}
NEW_USER = {"email": BOB, "password": PASSWORD, "full_name": "Bob"}
NEW_PASSWORD = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
GATHERING: dict[tuple[str, str], tuple[Prepare, str]] = {
    ("POST", "/agents"): (at_once(AGENT), "agent_created"),
    ("PATCH", "/agents/{}"): (on(an_agent, {"model": "gpt-4o"}), "agent_updated"),
    ("DELETE", "/agents/{}"): (on(an_agent), "agent_deleted"),
    ("POST", "/agents/{}/sessions"): (on(an_agent, {}), "conversation_created"),
    ("POST", "/circles"): (at_once({"name": "tea", "display_name": "Tea"}), "circle_created"),
    ("PATCH", "/circles/{}"): (on(a_circle, {"display_name": "Coffee"}), "circle_updated"),
    ("DELETE", "/circles/{}"): (on(a_circle), "circle_deleted"),
    ("POST", "/circles/{}/start"): (on(a_circle), "circle_started"),
    ("POST", "/circles/{}/pause"): (on(a_started_circle), "circle_paused"),
    ("POST", "/circles/{}/resume"): (on(a_paused_circle), "circle_resumed"),
    ("POST", "/circles/{}/archive"): (on(a_circle), "circle_archived"),
    ("POST", "/circles/tea/agents"): (a_member_to_be, "circle_member_added"),
    ("DELETE", "/circles/tea/agents/{}"): (on(a_member), "circle_member_removed"),
    ("POST", "/conversations"): (a_talk_to_be, "conversation_created"),
    ("POST", "/conversations/{}/end"): (on(a_talk), "conversation_ended"),
    ("POST", "/memory"): (at_once(MEMORY), "memory_created"),
    ("DELETE", "/memory/{}"): (on(a_memory), "memory_deleted"),
    ("PATCH", "/settings/providers/openai"): (at_once(PROVIDER), "provider_updated"),
    ("PATCH", "/settings/application"): (at_once({"debug": True}), "settings_updated"),
}
PLATFORM: dict[tuple[str, str], tuple[Prepare, str]] = {
    ("PUT", "/settings/bulk"): (
        at_once({"settings": {"llm.openai_api_key": KEY, "general.max_retries": 7}}),
        "settings_updated",
    ),
    ("PUT", "/settings/llm/openai_api_key"): (at_once({"value": KEY}), "settings_updated"),
    ("PUT", "/security"): (at_once({"lockout": {"max_attempts": 7}}), "security_updated"),
    ("PUT", "/security/password-policy"): (at_once({"min_length": 14}), "security_updated"),
    ("PUT", "/security/ip-rules"): (
        at_once({"rules": [{"cidr": "192.0.2.0/24", "action": "deny"}]}),
        "ip_rules_updated",
    ),
    ("POST", "/security/api-keys"): (at_once({"name": "ci"}), "api_key_created"),
    ("DELETE", "/security/api-keys/{}"): (on(an_api_key), "api_key_revoked"),
    ("DELETE", "/security/sessions/{}"): (a_session, "session_revoked"),
    ("POST", "/admin/users"): (at_once(NEW_USER), "user_created"),
    ("PATCH", "/admin/users/{}"): (a_user, "user_updated"),
    ("POST", "/secrets"): (at_once(SECRET), "secret_created"),
    ("PUT", "/secrets/{}"): (on(a_secret, {"value": "kolibri-2"}), "secret_updated"),
    ("DELETE", "/secrets/{}"): (on(a_secret), "secret_deleted"),
    ("POST", "/secrets/{}/rotate"): (on(a_secret), "secret_rotated"),
    ("POST", "/tasks"): (at_once({"title": "make tea"}), "task_created"),
    ("PATCH", "/tasks/{}"): (on(a_task, {"priority": "high"}), "task_updated"),
    ("POST", "/tasks/{}/cancel"): (on(a_task), "task_cancelled"),
    ("POST", "/dead-letter"): (a_task_to_give_up, "dead_letter_added"),
    ("POST", "/dead-letter/{}/retry"): (on(a_dead_letter), "dead_letter_retried"),
    ("POST", "/dead-letter/retry-all"): (dead_letters, "dead_letter_retried"),
    ("DELETE", "/dead-letter/{}"): (on(a_dead_letter), "dead_letter_discarded"),
    ("PUT", "/notifications/{}/read"): (a_notification, "notification_read"),
    ("PUT", "/notifications/read-all"): (a_notification, "notifications_read"),
    ("POST", "/agents"): (at_once({"name": "Bob"}), "agent_created"),
    ("PATCH", "/agents/{}"): (on(an_agent, {"llm_model": "gpt-4o"}), "agent_updated"),
    ("DELETE", "/agents/{}"): (on(an_agent), "agent_deleted"),
    ("POST", "/agents/{}/start"): (on(an_agent), "agent_started"),
    ("POST", "/agents/{}/stop"): (on(an_agent), "agent_stopped"),
    ("POST", "/triggers"): (at_once(TRIGGER), "trigger_created"),
    ("PUT", "/triggers/{}"): (on(a_trigger, {"name": "u"}), "trigger_updated"),
    ("DELETE", "/triggers/{}"): (on(a_trigger), "trigger_deleted"),
    ("POST", "/triggers/{}/toggle"): (on(a_trigger), "trigger_toggled"),
    ("POST", "/triggers/{}/test"): (on(a_trigger, {"event_data": {}}), "trigger_tested"),
    ("POST", "/auth/register"): (a_newcomer, "user_registered"),
    ("POST", "/auth/login"): (at_once({"email": ADA, "password": PASSWORD}), "login_success"),
    ("POST", "/auth/verify-mfa"): (a_half_login, "login_success"),
    ("POST", "/auth/logout"): (at_once({}), "logout"),
    ("PUT", "/auth/me"): (at_once({"full_name": "Countess"}), "user_updated"),
    ("POST", "/auth/change-password"): (at_once(NEW_PASSWORD), "password_changed"),
    ("POST", "/auth/mfa/setup"): (at_once({}), "mfa_setup_begun"),
    ("POST", "/auth/mfa/verify"): (a_factor_to_be, "mfa_enabled"),
    ("POST", "/auth/mfa/disable"): (a_factor, "mfa_disabled"),
}
BREAKERS: dict[tuple[str, str], tuple[Prepare, str]] = {
    ("POST", "/api/v1/circuit-breakers"): (
        at_once({"name": "mail", "failure_threshold": 9}),
        "circuit_breaker_created",
    ),
    ("POST", "/api/v1/circuit-breakers/{}/force-open"): (
        on(a_breaker, {"reason": "moving"}),
        "circuit_breaker_forced_open",
    ),
    ("POST", "/api/v1/circuit-breakers/{}/force-close"): (
        on(a_breaker),
        "circuit_breaker_forced_closed",
    ),
    ("POST", "/api/v1/circuit-breakers/{}/reset"): (on(a_breaker), "circuit_breaker_reset"),
}
A_PRICE = {
    "provider": "openai",
    "model": "house-7b",
    "input_usd_per_million": 1,
    "output_usd_per_million": 2,
}
PROFILE = {"provider": "openai", "model": "gpt-4o", "api_key": KEY}
OTHER_PATHS: dict[tuple[str, str], tuple[Prepare, str]] = {
    ("POST", "/api/projects"): (at_once(PROJECT), "project_created"),
    ("PUT", "/api/projects/{}"): (on(a_project, {"name": "Shop"}), "project_updated"),
    ("DELETE", "/api/projects/{}"): (on(a_project), "project_deleted"),
    ("POST", "/api/chats"): (a_chat_to_be, "conversation_created"),
    ("DELETE", "/api/chats/{}"): (on(a_chat), "chat_deleted"),
    ("PUT", "/api/chats/{}/profile"): (a_chat_and_profile, "chat_profile_changed"),
    ("POST", "/api/profiles"): (at_once({"name": "a", "profile": PROFILE}), "profile_created"),
    ("DELETE", "/api/profiles/{}"): (on(a_profile), "profile_deleted"),
    ("PUT", "/api/profiles/default"): (a_default, "profile_default_set"),
    ("PUT", "/api/permissions"): (at_once({"mode": "readonly"}), "permissions_updated"),
    ("PUT", "/api/config/sandbox"): (at_once({"timeout_seconds": 9}), "sandbox_updated"),
    ("POST", "/api/v1/files/upload"): (a_file_to_be, "file_uploaded"),
    ("DELETE", "/api/v1/files/{}"): (on(a_file), "file_deleted"),
    ("POST", "/api/v1/approvals"): (at_once({"action": "deploy"}), "approval_created"),
    ("POST", "/api/v1/approvals/{}/approve"): (on(an_approval), "approval_approved"),
    ("POST", "/api/v1/approvals/{}/reject"): (on(an_approval), "approval_rejected"),
    ("POST", "/api/v1/workflows"): (at_once({"name": "Release"}), "workflow_created"),
    ("POST", "/api/v1/workflows/{}/steps"): (on(a_workflow, STEP), "workflow_step_added"),
    ("DELETE", "/api/v1/workflows/{}"): (on(a_workflow), "workflow_deleted"),
    ("POST", "/api/v1/workflows/{}/run"): (on(a_workflow, {}), "workflow_run_started"),
    ("POST", "/api/v1/workflows/1/runs/{}/cancel"): (on(a_run), "workflow_run_cancelled"),
    ("PUT", "/api/v1/cost/budget"): (at_once({"monthly_limit": 5}), "cost_budget_changed"),
    ("PUT", "/api/v1/cost/prices"): (at_once(A_PRICE), "model_price_changed"),
}
WRITES = (
    OTHER_PATHS
    | BREAKERS
    | GATHERING
    | {(method, f"/api/v1{path}"): w for (method, path), w in PLATFORM.items()}
)
UNRECORDED = {
    ("POST", "/webhook/{}"): "stands in inbound_events; nobody has signed in",
    ("POST", "/conversations/{}/advance"): "stands in the inbox and the transcript",
    ("POST", "/settings/providers/{}/test"): "changes nothing",
    ("POST", "/codec/encode"): "changes nothing",
    ("POST", "/codec/decode"): "changes nothing",
    ("POST", "/api/chats/{}/compact"): "stands in the inbox",
    ("POST", "/api/chats/{}/cancel"): "stops a turn, which its events tell",
    ("POST", "/api/chats/{}/panic"): "stops a turn, which its events tell",
    ("POST", "/api/panic"): "stops turns, which their events tell",
    ("POST", "/api/chats/{}/active-profile"): "another name of PUT /api/chats/{}/profile",
    ("POST", "/api/profiles/default/set"): "another name of PUT /api/profiles/default",
    ("POST", "/api/sandbox"): "another name of PUT /api/config/sandbox",
    ("POST", "/api/sandbox/build"): "changes nothing",
    ("POST", "/api/v1/auth/refresh"): "goes on with a session that is recorded; a reuse is too",
}
