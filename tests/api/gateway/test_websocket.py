"""WS /ws/{chat_id}: whole turns with tools over real sockets."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from schema.domain.permissions import PermissionMode
from schema.tables.conversations import ConversationRow
from schema.tables.tools import ApprovalRow, ToolGrantRow
from tests.api.gateway.talking import Gateway, Talk, calls
from tests.fakes.callers import token_of
from tests.fakes.model_server import Failure, Reply
from tests.fakes.toolbox import TestTools

LONG = " ".join(f"word{number}" for number in range(40))


def seqs(talk: Talk) -> list[int]:
    return [frame["seq"] for frame in talk.durable]


async def test_a_message_is_answered_by_deltas_and_never_by_the_whole_text_again(
    gateway: Gateway,
):
    chat = await gateway.chat()
    gateway.script(Reply(text=LONG, chunks=8, chunk_delay=0.02))
    async with gateway.talk(chat) as talk:
        assert talk.frames[0]["data"] == {
            "chat_id": chat, "state": "idle", "pending_tool_calls": [],
        }  # fmt: skip
        await talk.say("user_message", content="hello")
        done = await talk.until("agent.turn_complete")
    assert talk.text == LONG
    assert len(talk.of("agent.text_delta")) > 1
    assert not talk.of("agent.text")
    assert done["data"]["stop_reason"] == "end_turn"
    assert done["data"]["usage"]["output_tokens"] == 40
    assert done["data"]["model"]
    assert [frame["type"] for frame in talk.durable] == [
        "user.message", "agent.turn_started", "agent.message", "agent.turn_complete",
    ]  # fmt: skip
    assert all(isinstance(frame["seq"], int) and frame["timestamp"] for frame in talk.frames)


async def test_without_stream_the_text_comes_whole(gateway: Gateway):
    chat = await gateway.chat()
    gateway.script(Reply(text=LONG, chunks=8), Reply(text="second"))
    async with gateway.talk(chat) as talk:
        await talk.say("user_message", content="hello", stream=False)
        await talk.until("agent.turn_complete")
        assert [frame["data"] for frame in talk.of("agent.text")] == [{"text": LONG}]
        assert not talk.of("agent.text_delta")
        await talk.say("user_message", content="and now", stream=True)
        await talk.until("agent.turn_complete")
    assert talk.text == "second"


async def test_replay_tells_what_was_told_live_with_the_same_seqs(gateway: Gateway):
    chat = await gateway.chat()
    gateway.script(calls(("look", "a"), text="let me look"), Reply(text=LONG))
    async with gateway.talk(chat) as live:
        await live.say("user_message", content="go")
        await live.until("agent.turn_complete")
    async with gateway.talk(chat, after=0) as again:
        await again.until("agent.turn_complete")
    assert seqs(again) == list(range(1, len(again.durable) + 1))
    assert seqs(live) == seqs(again)[1:], "the first is the chat's creation"

    def told(talk: Talk) -> list[Any]:
        spoken = {"agent.text", "agent.message"}
        return [(f["seq"], f["data"]) for f in talk.durable if f["type"] not in spoken]

    assert told(live) == told(again)[1:]
    assert [f["data"]["text"] for f in again.of("agent.text")] == ["let me look", LONG]
    assert live.text == "let me look" + LONG
    assert not again.of("agent.text_delta")


async def test_a_reconnect_brings_exactly_what_was_missed(gateway: Gateway):
    chat = await gateway.chat()
    gateway.script(*(Reply(text=f"reply {number}") for number in range(3)))
    async with gateway.talk(chat) as first:
        await first.say("user_message", content="one")
        last = await first.until("agent.turn_complete")
        await first.say("user_message", content="two")
        await first.until("user.message")
    async with gateway.talk(chat, after=last["seq"]) as second:
        await second.until("agent.turn_complete")
        assert seqs(second)[0] == last["seq"] + 1
        assert seqs(second) == list(range(seqs(second)[0], seqs(second)[-1] + 1))


async def test_an_approval_by_socket(gateway: Gateway, tools: TestTools):
    await gateway.mode(PermissionMode.INTERACTIVE)
    chat = await gateway.chat()
    gateway.script(calls(("send", "x"), ("look", "y")), Reply(text="done"))
    async with gateway.talk(chat) as talk:
        await talk.say("user_message", content="go")
        asked = await talk.until("agent.tool_request")
        assert asked["data"] == {
            "tool_calls": [
                {"id": "call_1", "name": "send", "arguments": {"text": "x"}},
                {"id": "call_2", "name": "look", "arguments": {"text": "y"}},
            ]
        }
        assert tools.calls == []
        await talk.say("tool_approval", verdicts={"call_1": "allow", "call_2": "deny"})
        done = await talk.until("agent.turn_complete")
    assert tools.lines() == ["x"]
    assert done["data"]["stop_reason"] == "end_turn"
    [result] = talk.of("agent.tool_result")
    assert result["data"] == {
        "tool_use_id": "call_1", "tool_name": "send", "content": "sent", "is_error": False,
    }  # fmt: skip
    [denied] = talk.of("agent.tool_denied")
    assert [call["id"] for call in denied["data"]["tool_calls"]] == ["call_2"]
    assert {f["data"]["tool_use_id"]: f["data"]["status"] for f in talk.of("agent.tool_decided")}
    assert talk.of("agent.tool_started")


async def test_an_edit_is_what_runs(gateway: Gateway, tools: TestTools):
    await gateway.mode(PermissionMode.INTERACTIVE)
    chat = await gateway.chat()
    gateway.script(calls(("send", "rm")), Reply(text="done"))
    async with gateway.talk(chat) as talk:
        await talk.say("user_message", content="go")
        await talk.until("agent.tool_request")
        edit: dict[str, Any] = {"verdict": "edit", "arguments": {"text": 5}}
        await talk.say("tool_approval", verdicts={"call_1": edit})
        assert (await talk.until("agent.error"))["data"]["tool_use_id"] == "call_1"
        edit["arguments"] = {"text": "edited"}
        await talk.say("tool_approval", verdicts={"call_1": edit})
        await talk.until("agent.turn_complete")
    assert tools.lines() == ["edited"]


async def test_allow_always_holds_for_this_chat_and_tool(gateway: Gateway, tools: TestTools):
    await gateway.mode(PermissionMode.INTERACTIVE)
    chat = await gateway.chat()
    gateway.script(calls(("look", "a")), calls(("look", "b")), calls(("keep", "c")))
    async with gateway.talk(chat) as talk:
        await talk.say("user_message", content="go")
        await talk.until("agent.tool_request")
        await talk.say("tool_approval", verdicts={"call_1": "allow_always"})
        again = await talk.until("agent.tool_request")
        assert again["data"]["tool_calls"][0]["name"] == "keep"
        await talk.say("cancel")
        await talk.until("agent.turn_complete")
    assert [name for name, _ in tools.calls] == ["look", "look"]


async def test_of_many_deciders_one_counts_and_the_others_are_told(
    gateway: Gateway, tools: TestTools
):
    await gateway.mode(PermissionMode.INTERACTIVE)
    chat = await gateway.chat()
    gateway.script(calls(("send", "once")), Reply(text="done"))
    async with gateway.talk(chat) as one, gateway.talk(chat) as two:
        await one.say("user_message", content="go")
        await asyncio.gather(one.until("agent.tool_request"), two.until("agent.tool_request"))
        pending = (await gateway.call("GET", "/api/v1/approvals")).json()
        [approval_id] = [row["id"] for row in pending if row["details"]["tool_args"] == {
            "text": "once"
        } and row["status"] == "pending"]  # fmt: skip
        *_, answer = await asyncio.gather(
            one.say("tool_approval", verdicts={"call_1": "allow"}),
            two.say("tool_approval", verdicts={"call_1": "deny"}),
            gateway.call("POST", f"/api/v1/approvals/{approval_id}/approve"),
        )
        ends = await asyncio.gather(
            one.until("agent.turn_complete"), two.until("agent.turn_complete")
        )
        await asyncio.gather(one.silence(), two.silence())
    assert ends[0] == ends[1]
    decided = (await gateway.call("GET", f"/api/v1/approvals/{approval_id}")).json()
    was_approved = decided["status"] == "approved"
    assert tools.lines() == (["once"] if was_approved else [])
    assert answer.status_code in {200, 409}
    for talk in (one, two):
        told = {frame["data"]["status"] for frame in talk.of("agent.tool_decided")}
        assert told == {decided["status"]}
        assert not talk.of("agent.error")
    assert [f for f in one.durable] == [f for f in two.durable]


async def test_where_several_have_to_agree_each_yes_is_told(gateway: Gateway, tools: TestTools):
    await gateway.mode(PermissionMode.INTERACTIVE)
    chat = await gateway.chat("operator")
    gateway.script(calls(("look", "x")), Reply(text="done"))
    async with gateway.talk(chat, "operator") as owner, gateway.talk(chat) as admin:
        await owner.say("user_message", content="go")
        await asyncio.gather(*(one.until("agent.tool_request") for one in (owner, admin)))
        async with gateway.live.core.db.transaction() as tx:
            wanted = update(ApprovalRow).where(ApprovalRow.status == "pending")
            await tx.conn.execute(wanted.values(required_approvals=2))
        await owner.say("tool_approval", verdicts={"call_1": "allow_always"})
        told = [(await one.until("agent.tool_voted"))["data"] for one in (owner, admin)]
        assert told == [
            {
                "tool_use_id": "call_1", "approvals_count": 1, "required_approvals": 2,
                "arguments": None,
            }
        ] * 2  # fmt: skip
        await owner.say("tool_approval", verdicts={"call_1": "deny"})
        error = (await owner.until("agent.error"))["data"]
        assert (error["code"], error["tool_use_id"]) == ("already_voted", "call_1")
        assert not tools.calls
        assert not owner.of("agent.tool_decided")
        await admin.say("tool_approval", verdicts={"call_1": "allow_always"})
        await asyncio.gather(*(one.until("agent.turn_complete") for one in (owner, admin)))
        await asyncio.gather(owner.silence(), admin.silence())
    for talk in (owner, admin):
        [decided] = talk.of("agent.tool_decided")
        assert decided["data"] == {"tool_use_id": "call_1", "status": "approved"}
    assert [name for name, _ in tools.calls] == ["look"]
    async with gateway.live.core.db.transaction() as tx:
        granted = select(ToolGrantRow.tool_name).join(
            ConversationRow, ConversationRow.id == ToolGrantRow.conversation_id
        )
        of_chat = granted.where(ConversationRow.chat_id == uuid.UUID(chat))
        assert (await tx.conn.scalars(of_chat)).all() == []


async def test_four_eyes_hold_on_the_socket(gateway: Gateway, tools: TestTools):
    await gateway.mode(PermissionMode.INTERACTIVE)
    chat = await gateway.chat("operator")
    gateway.script(calls(("send", "x")), Reply(text="done"))
    async with gateway.talk(chat, "operator") as owner, gateway.talk(chat, "gateway") as token:
        await owner.say("user_message", content="go")
        await asyncio.gather(*(one.until("agent.tool_request") for one in (owner, token)))
        async with gateway.live.core.db.transaction() as tx:
            wanted = update(ApprovalRow).where(ApprovalRow.status == "pending")
            await tx.conn.execute(wanted.values(four_eyes=True))
        for talk in (owner, token):
            for verdict in ("allow", "deny"):
                await talk.say("tool_approval", verdicts={"call_1": verdict})
                assert (await talk.until("agent.error"))["data"]["code"] == "may_not_decide"
        async with gateway.talk(chat) as admin:
            await admin.say("tool_approval", verdicts={"call_1": "allow"})
            await owner.until("agent.turn_complete")
    assert tools.lines() == ["x"]


async def test_a_chat_that_waits_is_found_waiting_by_whoever_comes_later(
    gateway: Gateway, tools: TestTools
):
    await gateway.mode(PermissionMode.INTERACTIVE)
    chat = await gateway.chat()
    gateway.script(calls(("send", "later")), Reply(text="done"))
    async with gateway.talk(chat) as first:
        await first.say("user_message", content="go")
        asked = await first.until("agent.tool_request")
    async with gateway.talk(chat, after=asked["seq"] - 1) as second:
        ready = second.frames[0]["data"]
        assert ready["state"] == "waiting_approval"
        assert ready["pending_tool_calls"] == asked["data"]["tool_calls"]
        assert await second.until("agent.tool_request") == asked
        await second.say("tool_approval", verdicts={"call_1": "allow"})
        await second.until("agent.turn_complete")
    assert tools.lines() == ["later"]


async def test_a_disconnect_stops_no_turn(gateway: Gateway, tools: TestTools):
    chat = await gateway.chat()
    gateway.script(calls(("wait", "x")), Reply(text="waited for you"))
    async with gateway.talk(chat) as first:
        await first.say("user_message", content="go")
        await first.until("agent.tool_started")
    async with gateway.talk(chat) as second:
        assert second.frames[0]["data"]["state"] == "running"
        tools.held.set()
        await second.until("agent.turn_complete")
    assert second.text == "waited for you"


async def test_cancel_stops_the_turn_and_the_next_message_goes_on(
    gateway: Gateway, tools: TestTools
):
    chat = await gateway.chat()
    gateway.script(calls(("wait", "x")), Reply(text="afterwards"))
    async with gateway.talk(chat) as talk:
        await talk.say("user_message", content="go")
        await talk.until("agent.tool_started")
        await talk.say("user_message", content="queued")
        await talk.say("cancel")
        ended = await talk.until("agent.turn_complete")
        assert ended["data"]["stop_reason"] == "cancelled"
        assert (await talk.until("agent.turn_complete"))["data"]["stop_reason"] == "end_turn"
    assert talk.text == "afterwards"


async def test_panic_drops_what_waits_too(gateway: Gateway, tools: TestTools):
    chat = await gateway.chat()
    gateway.script(calls(("wait", "x")))
    async with gateway.talk(chat) as talk:
        await talk.say("user_message", content="go")
        await talk.until("agent.tool_started")
        for number in range(3):
            await talk.say("user_message", content=f"queued {number}")
        await talk.say("panic")
        ended = await talk.until("agent.turn_complete")
        assert ended["data"]["stop_reason"] == "cancelled"
        await talk.say("user_message", content="again")
        await talk.until("agent.turn_complete")
    said = [frame["data"]["content"] for frame in talk.of("user.message")]
    assert said == ["go", "again"]


async def test_messages_are_answered_in_the_order_they_were_sent(gateway: Gateway):
    chat = await gateway.chat()
    gateway.stack.model.responder = lambda received: Reply(text=f"re {received.last_user_text}")
    async with gateway.talk(chat) as talk:
        for number in range(5):
            await talk.say("user_message", content=f"m{number}", id=f"key-{number}")
        await talk.say("user_message", content="m4", id="key-4")
        await talk.until("agent.turn_complete", 5)
        await talk.silence()
    said = [frame["data"]["content"] for frame in talk.of("user.message")]
    assert said == [f"m{number}" for number in range(5)]
    assert talk.text == "".join(f"re m{number}" for number in range(5))


async def test_a_turn_that_fails_says_so_and_completes(gateway: Gateway):
    chat = await gateway.chat()
    gateway.script(Failure(401, "no such key"), Reply(text="fine now"))
    async with gateway.talk(chat) as talk:
        await talk.say("user_message", content="go")
        error = await talk.until("agent.error")
        assert error["data"]["message"]
        ended = await talk.until("agent.turn_complete")
        assert ended["data"]["stop_reason"] == "error"
        assert ended["seq"] == error["seq"] + 1
        await talk.say("user_message", content="again")
        await talk.until("agent.turn_complete")
        assert talk.text == "fine now"
        assert seqs(talk) == list(range(seqs(talk)[0], seqs(talk)[-1] + 1))


async def test_the_older_form_is_understood(gateway: Gateway, tools: TestTools):
    await gateway.mode(PermissionMode.INTERACTIVE)
    chat = await gateway.chat()
    gateway.script(calls(("send", "a"), ("send", "b")), Reply(text="done"))
    async with gateway.talk(chat) as talk:
        await talk.say("run", data={"message": "go", "stream": True})
        await talk.until("agent.tool_request")
        await talk.say("tool_approval", data={"approved": True})
        await talk.until("agent.turn_complete")
        assert sorted(tools.lines()) == ["a", "b"]
        await talk.say("tool_approval", data={"approved": True})
        assert (await talk.until("agent.tool_decided"))["data"] == {"status": "not_pending"}
        gateway.script(Reply(text="whole"))
        await talk.say(
            "run", data={"message": "m", "content": [{"type": "text", "text": "blocks"}]}
        )
        await talk.until("agent.turn_complete")
        await talk.say("cancel", data={})
        assert (await talk.until("session.cancelled"))["data"] == {"cancelled": False}
    assert talk.of("user.message")[-1]["data"]["content"] == "blocks"
    assert [frame["data"]["text"] for frame in talk.of("agent.text")] == ["whole"]


@pytest.mark.parametrize(
    "nonsense",
    [
        "{", "", "[1]", '"x"', '{"type": "?"}', "{}", '{"type": 5}', b"\x00", "[" * 50_000,
        '{"type": "user_message"}', '{"type": "user_message", "content": ""}',
        '{"type": "user_message", "content": 5}',
        '{"type": "user_message", "content": "a\\u0000b"}',
        '{"type": "user_message", "content": "\\ud800"}',
        '{"type": "user_message", "content": "x", "stream": "?"}',
        '{"type": "tool_approval"}', '{"type": "tool_approval", "verdicts": {}}',
        '{"type": "tool_approval", "verdicts": {"a": "maybe"}}',
        '{"type": "tool_approval", "verdicts": {"a": {"verdict": "edit"}}}',
        '{"type": "run", "data": {}}',
        '{"type": "run", "data": {"message": "x", "content": [{"type": "image"}]}}',
    ],
)  # fmt: skip
async def test_nonsense_is_answered_and_the_socket_stays_open(gateway: Gateway, nonsense: Any):
    chat = await gateway.chat()
    async with gateway.talk(chat) as talk:
        await talk.socket.send(nonsense)
        error = await talk.next()
        assert (error["type"], error["data"]["code"]) == ("agent.error", "invalid_event")
        assert error["data"]["message"]
        await talk.silence()


async def test_a_verdict_on_nothing_is_told(gateway: Gateway):
    chat = await gateway.chat()
    async with gateway.talk(chat) as talk:
        await talk.say("tool_approval", verdicts={"call_9": "allow"})
        assert (await talk.next())["data"]["tool_use_id"] == "call_9"


async def closed_with(url: str) -> int | None:
    async with connect(url) as socket:
        with suppress(ConnectionClosed):
            async with asyncio.timeout(10):
                await socket.recv()
        return socket.close_code


async def test_bad_tokens_close_with_4001_and_unknown_chats_with_4004(gateway: Gateway):
    chat = await gateway.chat("operator")
    ws = gateway.live.ws
    assert await closed_with(f"{ws}/ws/{chat}?token=nobodys") == 4001
    assert await closed_with(f"{ws}/ws/{chat}") == 4001
    assert await closed_with(gateway.url(str(uuid4()))) == 4004
    assert await closed_with(gateway.url("no-uuid")) == 4004
    assert await closed_with(gateway.url(chat, "other operator")) == 4004
    assert await closed_with(f"{ws}/ws/no-uuid?token=nobodys") == 4001
    assert await closed_with(f"{ws}/ws/{chat}?token={token_of('workers key')}") == 4003
    async with gateway.talk(chat, "gateway"), gateway.talk(chat.upper(), "operator"):
        pass


async def test_who_only_reads_cannot_write(gateway: Gateway):
    [agent] = await gateway.stack.agents("Ada")
    chat = await gateway.chat("admin", agent_id=agent.id)
    async with gateway.talk(chat, "admin key") as talk:
        await talk.silence()
    made = await gateway.chat("writing key", agent_id=agent.id)
    async with gateway.talk(made, "reading key") as talk:
        await talk.say("user_message", content="x")
        assert (await talk.next())["data"]["code"] == "forbidden"


async def test_a_deleted_chat_is_gone(gateway: Gateway, tools: TestTools):
    chat = await gateway.chat()
    gateway.script(calls(("wait", "x")))
    async with gateway.talk(chat) as talk:
        await talk.say("user_message", content="go")
        await talk.until("agent.tool_started")
        assert (await gateway.call("DELETE", f"/api/chats/{chat}")).status_code == 204
        await talk.until("session.status")
        await talk.say("user_message", content="more")
        assert (await talk.until("agent.error"))["data"]["code"] == "chat_not_found"
    assert await closed_with(gateway.url(chat)) == 4004
