"""/api/profiles."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from conclave.conversations.model_choice import ModelChooser
from conclave.errors import SecretNotUsable
from conclave.secrets.commands import CreateSecret
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.providers import ProviderAccess, ProviderModel
from tests.api.gateway.conftest import Desk

KEY = "sk-very-secret-1234"


def profile(**fields: Any) -> dict[str, Any]:
    return {"provider": "openai", "model": "gpt", **fields}


async def test_a_profile_is_shown_with_its_key_masked_and_kept_encrypted(desk: Desk):
    made = await desk.ok(
        "POST", "/api/profiles", name="fast", profile=profile(api_key=KEY, context_window=8000)
    )
    shown = {
        "provider": "openai", "model": "gpt", "base_url": None, "api_key": "...1234",
        "context_window": 8000, "max_output_tokens": None,
    }  # fmt: skip
    assert made == {"name": "fast", "profile": shown}
    listed = await desk.ok("GET", "/api/profiles", "viewer")
    assert listed == {"default": None, "profiles": {"fast": shown}}
    async with desk.core.db.transaction() as tx:
        for table in ("profiles", "audit_entries", "events"):
            told = await tx.conn.scalar(text(f"SELECT json_agg({table})::text FROM {table}"))
            assert KEY not in (told or "")
    access = await desk.core.profiles.access("fast")
    assert access is not None
    assert (access.api_key, access.model, access.context_window) == (KEY, "gpt", 8000)
    assert KEY not in repr(access)
    assert await desk.core.profiles.access("none") is None


async def test_a_name_is_taken_once(desk: Desk):
    await desk.ok("POST", "/api/profiles", name="a", profile=profile())
    assert (
        await desk.call("POST", "/api/profiles", name="a", profile=profile())
    ).status_code == 409
    assert (await desk.call("DELETE", "/api/profiles/a")).status_code == 204
    assert (await desk.call("DELETE", "/api/profiles/a")).status_code == 404
    await desk.ok("POST", "/api/profiles", name="a", profile=profile())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("", profile()), ("x" * 65, profile()), ("a/b", profile()), (5, profile()),
        ("a", profile(provider="nobody")), ("a", profile(model="")), ("a", {"provider": "openai"}),
        ("a", profile(context_window=0)), ("a", profile(api_key="with space")),
        ("a", profile(base_url="ftp://x")), ("a", profile(api_key="secret://none")),
        ("a", None),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_422(desk: Desk, name: Any, fields: Any):
    answer = await desk.call("POST", "/api/profiles", name=name, profile=fields)
    assert answer.status_code == 422, answer.text
    assert (await desk.ok("GET", "/api/profiles"))["profiles"] == {}


async def test_the_default_is_chosen_and_kept(desk: Desk):
    await desk.ok("POST", "/api/profiles", name="a", profile=profile(model="m1"))
    await desk.ok("POST", "/api/profiles", name="b", profile=profile(provider="mistral"))
    assert await desk.ok("GET", "/api/profiles/default") == {"default": None}
    missing = await desk.call("PUT", "/api/profiles/default", profile_name="none")
    assert missing.status_code == 404
    assert await desk.ok("PUT", "/api/profiles/default", profile_name="b") == {"default": "b"}
    assert (await desk.ok("GET", "/api/profiles"))["default"] == "b"
    assert (await desk.call("DELETE", "/api/profiles/b")).status_code == 409
    listed = await desk.ok("GET", "/api/v1/settings")
    llm = {key: one["value"] for key, one in listed["llm"].items()}
    assert (llm["default_provider"], llm["default_model"]) == ("mistral", "gpt")
    older = await desk.ok("POST", "/api/profiles/default/set", profile_name="a")
    assert older == {"profile_name": "a"}
    assert await desk.ok("GET", "/api/profiles/default/current") == {"profile_name": "a"}
    assert (await desk.call("DELETE", "/api/profiles/b")).status_code == 204
    refused = await desk.call("PUT", "/api/profiles/default", "operator", profile_name="a")
    assert refused.status_code == 403


async def test_a_profile_in_use_stays(desk: Desk):
    await desk.ok("POST", "/api/profiles", name="a", profile=profile())
    chat = (await desk.ok("POST", "/api/chats", profile="a"))["chat_id"]
    assert (await desk.call("DELETE", "/api/profiles/a")).status_code == 409
    await desk.core.chats.delete(UUID(chat), LOCAL_PRINCIPAL)
    assert (await desk.call("DELETE", "/api/profiles/a")).status_code == 204


async def test_only_administrators_reach_the_vault_and_the_inside(desk: Desk):
    secret = CreateSecret(name="key", value="sk-from-the-vault")
    await desk.core.secrets.create(secret, LOCAL_PRINCIPAL)
    by_name = profile(api_key="secret://key")
    inside = profile(base_url="http://127.0.0.1:11434/v1")
    refused = await desk.call("POST", "/api/profiles", "operator", name="a", profile=by_name)
    assert refused.status_code == 403
    refused = await desk.call("POST", "/api/profiles", "operator", name="a", profile=inside)
    assert refused.status_code == 422
    made = await desk.ok("POST", "/api/profiles", name="a", profile={**by_name, **inside})
    assert made["profile"]["api_key"] == "secret://key"
    access = await desk.core.profiles.access("a")
    assert access is not None
    assert access.api_key == "sk-from-the-vault"
    [listed] = await desk.ok("GET", "/api/v1/secrets")
    assert (await desk.call("DELETE", f"/api/v1/secrets/{listed['id']}")).status_code == 409


class NoCatalogue:
    def models(self, provider: str) -> list[ProviderModel]:
        return []

    def context_window(self, access: ProviderAccess, model: str) -> int | None:
        return None


async def test_only_an_administrators_address_is_trusted_when_it_is_called(desk: Desk):
    """Who else stores one could have its name lead inside afterwards."""
    outside = profile(base_url="http://93.184.215.14/v1", api_key="sk-own")
    await desk.ok("POST", "/api/profiles", "operator", name="theirs", profile=outside)
    await desk.ok("POST", "/api/profiles", name="ours", profile=outside)
    await desk.ok("POST", "/api/profiles", "operator", name="plain", profile=profile())
    chooser = ModelChooser(desk.core.providers, NoCatalogue(), desk.core.profiles)

    trusted = {
        name: (await chooser.choose(name, "openai", "gpt")).access.is_url_trusted
        for name in ("theirs", "ours", "plain", "none")
    }

    assert trusted == {"theirs": False, "ours": True, "plain": True, "none": True}


async def test_a_secret_that_no_header_can_carry_is_refused_without_its_text(desk: Desk):
    secret = CreateSecret(name="unfit", value="first line\nsecond line")
    await desk.core.secrets.create(secret, LOCAL_PRINCIPAL)
    await desk.ok("POST", "/api/profiles", name="a", profile=profile(api_key="secret://unfit"))

    with pytest.raises(SecretNotUsable, match="characters") as caught:
        await desk.core.profiles.access("a")

    assert "line" not in caught.value.message
