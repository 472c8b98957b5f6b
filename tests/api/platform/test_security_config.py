"""/api/v1/security and its password policy."""

from __future__ import annotations

import httpx
import pytest

from conclave.container import Core

POLICY = {
    "min_length": 12,
    "require_uppercase": True,
    "require_lowercase": True,
    "require_numbers": True,
    "require_special": True,
    "max_age_days": 0,
    "history_count": 5,
}
DEFAULTS = {
    "password_policy": POLICY,
    "mfa": {
        "required": False,
        "grace_period_hours": 24,
        "methods": ["totp"],
        "enabled_users": 0,
        "total_users": 0,
    },
    "session": {
        "access_token_minutes": 30,
        "refresh_token_days": 7,
        "max_duration_hours": 720,
        "idle_timeout_minutes": 0,
        "max_concurrent_sessions": 0,
    },
    "lockout": {"max_attempts": 5, "window_minutes": 15, "lockout_minutes": 15},
    "rate_limit": {
        "per_user_per_minute": 300,
        "per_ip_per_minute": 120,
        "login_per_minute": 10,
        "register_per_minute": 10,
    },
    "registration": {"enabled": True, "default_role": "operator"},
    "approvals": {
        "four_eyes": False,
        "default_expiry_seconds": 86400,
        "required_approvals": 1,
        "escalate_after_seconds": 0,
        "escalate_to": "admins",
    },
    "webhooks": {"allow_private_addresses": False},
}
SECURITY, POLICIES = "/api/v1/security", "/api/v1/security/password-policy"


async def test_the_defaults_are_those_of_the_contract(client: httpx.AsyncClient):
    answer = await client.get(SECURITY)
    policy = await client.get(POLICIES)

    assert (answer.status_code, answer.json()) == (200, DEFAULTS)
    assert (policy.status_code, policy.json()) == (200, POLICY)


async def test_any_part_is_merged_deeply_and_holds(client: httpx.AsyncClient, core: Core):
    change = {
        "password_policy": {"min_length": 16},
        "mfa": {"required": True},
        "session": {"idle_timeout_minutes": 30},
        "registration": {"enabled": False, "default_role": "viewer"},
        "approvals": {
            "four_eyes": True,
            "required_approvals": 2,
            "escalate_after_seconds": 600,
            "escalate_to": "operators",
        },
        "webhooks": {"allow_private_addresses": True},
    }
    answer = await client.put(SECURITY, json=change)
    read = await client.get(SECURITY)

    assert answer.status_code == 200
    expected = {name: {**DEFAULTS[name], **change.get(name, {})} for name in DEFAULTS}
    assert answer.json() == read.json() == expected
    assert (await client.get(POLICIES)).json()["min_length"] == 16
    assert core.security.last_known().session.idle_timeout_minutes == 30
    assert (await core.security.current()).mfa.required_since is not None


async def test_a_second_group_of_people_has_to_be_there(client: httpx.AsyncClient):
    answer = await client.put(SECURITY, json={"approvals": {"escalate_to": [7]}})
    assert (answer.status_code, answer.json()["details"]["field"]) == (404, "approvals.escalate_to")
    assert (await client.get(SECURITY)).json() == DEFAULTS


async def test_read_only_and_unknown_fields_are_ignored(client: httpx.AsyncClient, core: Core):
    change = {
        "mfa": {
            "methods": ["sms"],
            "enabled_users": 9,
            "total_users": 9,
            "required_since": "2001-01-01T00:00:00Z",
        },
        "nope": {"x": 1},
        "session": {"nope": 1},
    }
    answer = await client.put(SECURITY, json=change)

    assert (answer.status_code, answer.json()) == (200, DEFAULTS)
    assert (await core.security.current()).mfa.required_since is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"session": {"access_token_minutes": 4}}, "session.access_token_minutes"),
        ({"session": {"access_token_minutes": 1441}}, "session.access_token_minutes"),
        ({"session": {"refresh_token_days": 0}}, "session.refresh_token_days"),
        ({"password_policy": {"min_length": 7}}, "password_policy.min_length"),
        ({"password_policy": {"max_age_days": 3651}}, "password_policy.max_age_days"),
        ({"lockout": {"max_attempts": "many"}}, "lockout.max_attempts"),
        ({"lockout": {"max_attempts": None}}, "lockout.max_attempts"),
        ({"lockout": None}, "lockout"),
        ({"lockout": 5}, "lockout"),
        ({"registration": {"enabled": None}}, "registration.enabled"),
        ({"registration": {"default_role": "owner"}}, "registration.default_role"),
        ({"mfa": {"grace_period_hours": -1}}, "mfa.grace_period_hours"),
        ({"approvals": {"default_expiry_seconds": 10**30}}, "approvals.default_expiry_seconds"),
        ({"approvals": {"required_approvals": 11}}, "approvals.required_approvals"),
        ({"approvals": {"escalate_after_seconds": -1}}, "approvals.escalate_after_seconds"),
        ({"approvals": {"escalate_to": None}}, "approvals.escalate_to"),
        ({"approvals": {"escalate_to": "viewers"}}, "approvals.escalate_to"),
        ({"approvals": {"escalate_to": [0]}}, "approvals.escalate_to"),
        ({"approvals": {"escalate_to": [True]}}, "approvals.escalate_to"),
    ],
)
async def test_a_bad_value_names_its_field_and_nothing_is_stored(
    client: httpx.AsyncClient, change: dict[str, object], field: str
):
    answer = await client.put(SECURITY, json={"mfa": {"required": True}, **change})

    assert answer.status_code == 422
    assert answer.json()["details"]["errors"][0]["field"] == f"body.{field}"
    assert (await client.get(SECURITY)).json() == DEFAULTS


@pytest.mark.parametrize(
    "body",
    [
        {"min_length": 20, "require_special": False, "max_age_days": 90},
        {"min_length": 20, "require_symbols": False, "expiry_days": 90},
        {"password_policy": {"min_length": 20, "require_symbols": False, "expiry_days": 90}},
    ],
)
async def test_the_policy_takes_the_clients_forms(
    client: httpx.AsyncClient, body: dict[str, object]
):
    answer = await client.put(POLICIES, json=body)

    expected = {**POLICY, "min_length": 20, "require_special": False, "max_age_days": 90}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert (await client.get(SECURITY)).json()["password_policy"] == expected


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"min_length": 129}, "min_length"),
        ({"history_count": 25}, "history_count"),
        ({"require_numbers": "perhaps"}, "require_numbers"),
        ({"require_symbols": None}, "require_symbols"),
        ({"password_policy": {"min_length": 1}}, "min_length"),
    ],
)
async def test_a_bad_policy_names_its_field(
    client: httpx.AsyncClient, body: dict[str, object], field: str
):
    answer = await client.put(POLICIES, json=body)

    assert answer.status_code == 422
    assert answer.json()["details"]["errors"][0]["field"] == f"body.{field}"
    assert (await client.get(POLICIES)).json() == POLICY


async def test_a_body_that_is_no_object_is_refused(client: httpx.AsyncClient):
    for path in (SECURITY, POLICIES):
        assert (await client.put(path, json=[1])).status_code == 422
        assert (await client.put(path, content=b"{")).status_code == 400
