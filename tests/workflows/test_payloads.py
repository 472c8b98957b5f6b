"""What crosses into Temporal: sealed, rotatable, and readable where a person typed it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure as FailureMessage
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from conclave.conversations.commands import Advance
from conclave.crypto import Keyring, UndecipherableSecret, new_key
from schema.domain.conversations import ConversationStatus
from schema.domain.identity import LOCAL_PRINCIPAL
from schema.domain.inbox import InboxItem
from schema.payloads import names
from schema.payloads.conversations import AdvanceInput
from tests.fakes.model_server import Failure
from tests.harness.errands import lose
from tests.harness.runs import chain
from tests.harness.stack import Stack
from tests.histories.files import parts_of
from workflows.codec import ENCODING, EncryptionCodec, data_converter

OLD, NEW = new_key(), new_key()
SEARCH_ATTRIBUTE_TYPE = "type"
MESSAGE = AdvanceInput(item=InboxItem(id=4711, agent_id=815))


async def test_a_payload_opens_under_every_key_of_the_ring_and_is_sealed_by_the_first():
    before, rotated = (
        data_converter(Keyring.parse(OLD)),
        data_converter(Keyring.parse(f"{NEW},{OLD}")),
    )
    sealed = await before.encode([MESSAGE])
    assert b"4711" not in sealed[0].SerializeToString()
    assert await rotated.decode(sealed, [AdvanceInput]) == [MESSAGE]
    again = await rotated.encode([MESSAGE])
    assert again[0].metadata["conclave-key-id"] != sealed[0].metadata["conclave-key-id"]
    assert await data_converter(Keyring.parse(NEW)).decode(again, [AdvanceInput]) == [MESSAGE]
    with pytest.raises(UndecipherableSecret):
        await data_converter(Keyring.parse(NEW)).decode(sealed, [AdvanceInput])


async def test_a_payload_that_was_altered_does_not_open():
    codec = EncryptionCodec(Keyring.parse(OLD))
    [sealed] = await codec.encode([Payload(data=b"4711")])
    altered = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])
    with pytest.raises(UndecipherableSecret):
        await codec.decode([Payload(metadata=sealed.metadata, data=altered)])


async def test_the_same_payload_is_never_sealed_alike():
    codec = EncryptionCodec(Keyring.parse(OLD))
    first, second = await codec.encode([Payload(data=b"4711"), Payload(data=b"4711")])
    assert first.data != second.data


async def test_plain_json_is_read():
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b'{"item": {"id": 7}}')
    read = await data_converter(Keyring.parse(OLD)).decode([plain], [AdvanceInput])
    assert read == [AdvanceInput(item=InboxItem(id=7))]


async def test_failures_are_sealed_with_their_causes():
    converter = data_converter(Keyring.parse(OLD))
    try:
        try:
            raise ValueError("kolibri inside")
        except ValueError as cause:
            raise ApplicationError("kolibri outside", "kolibri detail", type="code") from cause
    except ApplicationError as error:
        failure = FailureMessage()
        await converter.encode_failure(error, failure)
    assert b"kolibri" not in failure.SerializeToString()
    assert failure.application_failure_info.type == "code"
    opened = await converter.decode_failure(failure)
    assert isinstance(opened, ApplicationError)
    assert opened.message == "kolibri outside"
    assert "kolibri inside" in str(opened.__cause__)


@pytest.mark.parametrize("typed", [[], [{}], [None]], ids=["nothing", "object", "null"])
async def test_a_wake_typed_into_temporals_cli_is_heard(
    stack: Stack, temporal_address: str, monkeypatch: pytest.MonkeyPatch, typed: list[object]
):
    talk = await stack.conversation(await stack.agents("Ada"), auto_run=False)
    await stack.core.conversations.advance(talk.id, Advance(), LOCAL_PRINCIPAL, wait=True)
    monkeypatch.setattr(stack.core.errands, "run", lose)
    await stack.core.conversations.end(talk.id, LOCAL_PRINCIPAL)
    plain = await Client.connect(temporal_address)
    await plain.get_workflow_handle(talk.workflow_id).signal(names.WAKE_SIGNAL, args=typed)
    handle = stack.client.get_workflow_handle(talk.workflow_id)
    result = await asyncio.wait_for(handle.result(), 20)
    assert result == {"status": "completed", "turn_count": 1}


async def test_temporals_lists_show_ids_and_states_and_nothing_that_was_said(stack: Stack):
    stack.model.enqueue(Failure(400, "kolibri"))
    agents = await stack.agents("Ada", "Bob")
    talk = await stack.conversation(agents, topic="kolibri", initial_prompt="kolibri")
    failed = await stack.reaches(talk.id, ConversationStatus.FAILED)
    assert "kolibri" in (failed.reason or "")
    handle = stack.client.get_workflow_handle(talk.workflow_id)
    await handle.result()
    described = await handle.describe()
    attributes = described.search_attributes
    assert attributes[names.AGENT_ID_ATTRIBUTE] == [str(agent.id) for agent in agents]
    assert attributes[names.STATUS_ATTRIBUTE] == ["failed"]
    assert attributes[names.KIND_ATTRIBUTE] == ["conversation"]
    assert b"kolibri" not in described.raw_description.SerializeToString()
    assert str(talk.id) in (await described.static_summary() or "")
    for shown in (await described.static_summary(), await described.static_details()):
        assert "kolibri" not in (shown or "")


async def test_every_payload_in_a_history_is_sealed_but_search_attributes(stack: Stack):
    stack.model.enqueue(Failure(500, "kolibri"))
    talk = await stack.conversation(await stack.agents("Ada"), max_turns=2)
    await stack.reaches(talk.id, ConversationStatus.COMPLETED)
    await stack.client.get_workflow_handle(talk.workflow_id).result()
    [history] = await chain(stack.client, talk.workflow_id)
    encodings: list[bytes] = []
    for part in (part for event in history.events for part in parts_of(event)):
        if isinstance(part, FailureMessage):
            assert part.message == "Encoded failure"
            assert part.stack_trace == ""
        if isinstance(part, Payload) and SEARCH_ATTRIBUTE_TYPE not in part.metadata:
            encodings.append(part.metadata["encoding"])
    assert set(encodings) == {ENCODING}


def test_an_api_process_never_loads_litellm():
    program = """
import asyncio, sys
from conclave.container import build_core
from conclave.settings import Settings
import api.app, conclave.cli

async def main():
    settings = Settings.model_validate({"database_url": "postgresql://127.0.0.1:1/none"})
    core = await build_core(settings, environment={})
    api.app.create_app(settings, core)
    await core.close()

asyncio.run(main())
heavy = {"litellm", "openai", "tiktoken"} & set(sys.modules)
assert not heavy, heavy
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
