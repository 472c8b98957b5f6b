"""The recorded histories: where they are, the key they are encrypted under, what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.client import WorkflowHistory

from conclave.crypto import Keyring
from workflows.codec import EncryptionCodec

KEY = "dGhlIGtleSBvZiB0aGUgcmVjb3JkZWQgaGlzdG9yaWU="
"""Known to everybody who reads this: it protects nothing and makes them readable here."""

DIRECTORY = Path(__file__).parent
CODEC = EncryptionCodec(Keyring.parse(KEY))


def recorded() -> list[Path]:
    """Return the files, in order."""
    return sorted(DIRECTORY.glob("*.json"))


def load(path: Path) -> WorkflowHistory:
    """Read a recorded history."""
    content = json.loads(path.read_text())
    return WorkflowHistory.from_json(content["workflow_id"], {"events": content["events"]})


def store(path: Path, history: WorkflowHistory) -> None:
    """Write a history, one event a line."""
    events = json.loads(history.to_json())["events"]
    lines = ",\n".join(json.dumps(event, sort_keys=True) for event in events)
    workflow_id = json.dumps(history.workflow_id)
    path.write_text(f'{{"workflow_id": {workflow_id}, "events": [\n{lines}\n]}}\n')


async def forget_place(history: WorkflowHistory) -> None:
    """Blank what names the machine: workers, their own queues, the paths of stack traces."""
    for event in history.events:
        for part in parts_of(event):
            if "identity" in part.DESCRIPTOR.fields_by_name:
                setattr(part, "identity", "worker")  # noqa: B010  # the stubs know no common field
            if isinstance(part, TaskQueue) and part.normal_name:
                part.name = "sticky"
            if isinstance(part, Failure):
                await _forget_stack(part)


async def _forget_stack(failure: Failure) -> None:
    failure.stack_trace = ""
    if not failure.HasField("encoded_attributes"):
        return
    [opened] = await CODEC.decode([failure.encoded_attributes])
    attributes = json.loads(opened.data) | {"stack_trace": ""}
    bare = Payload(metadata=opened.metadata, data=json.dumps(attributes).encode())
    [sealed] = await CODEC.encode([bare])
    failure.encoded_attributes.CopyFrom(sealed)


def parts_of(message: Message) -> Iterator[Message]:
    """Yield a message and every message below it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            values = list(value.values())
        elif isinstance(value, Message):
            values = [value]
        else:
            values = list(value)
        for below in values:
            if isinstance(below, Message):
                yield from parts_of(below)


async def opened_payloads(
    history: WorkflowHistory, codec: EncryptionCodec = CODEC
) -> Sequence[Payload]:
    """Return every payload of a history, decrypted: inputs, results, failures, summaries."""
    sealed = [
        part for event in history.events for part in parts_of(event) if isinstance(part, Payload)
    ]
    return await codec.decode(sealed)


def raw(history: WorkflowHistory) -> bytes:
    """Return a history as the server holds it, encrypted payloads and all."""
    return b"".join(event.SerializeToString() for event in history.events)
