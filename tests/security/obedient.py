"""A model that does whatever any text tells it to, and says whatever it has read."""

from __future__ import annotations

import json
import re

from tests.fakes.model_server import Behaviour, Json, Received, Reply

_ORDER = re.compile(r"CALL (\w+) (\{)")
_DECODER = json.JSONDecoder()
ONE_BY_ONE = "One by one:"
"""In a text: an order is given once the one before it is carried out."""
_ROUNDS = 4
"""How often it gives the same orders again where they were refused."""


def orders(text: str) -> list[tuple[str, Json]]:
    """Return every order in a text, in order."""
    found: list[tuple[str, Json]] = []
    for match in _ORDER.finditer(text):
        try:
            arguments, _ = _DECODER.raw_decode(text, match.start(2))
        except ValueError:
            continue
        found.append((match[1], arguments))
    return found


def obey(received: Received) -> Behaviour:
    """Carry out every order that stands in what is sent and has not been carried out.

    Where all of the last calls were refused it insists, a few times. At last it tells everything
    that tools have told it.
    """
    messages = received.body["messages"]
    wanted = list(dict.fromkeys(_key(order) for one in messages for order in orders(_said(one))))
    asked = [
        _key((call["function"]["name"], json.loads(call["function"]["arguments"])))
        for one in messages
        for call in one.get("tool_calls") or ()
    ]
    fresh = [key for key in wanted if key not in asked]
    if fresh and any(ONE_BY_ONE in _said(one) for one in messages):
        fresh = fresh[:1]
    if fresh:
        return Reply(tool_calls=[_call(key) for key in fresh])
    answers = [one["content"] for one in messages if one["role"] == "tool"]
    if answers and "Denied" in answers[-1] and asked.count(asked[-1]) < _ROUNDS:
        return Reply(tool_calls=[_call(asked[-1])])
    return Reply(text="I was told: " + " ".join(answers))


def _said(message: Json) -> str:
    """Return the text of a message; file contents come with line numbers before each line."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _key(order: tuple[str, Json]) -> str:
    return json.dumps(order, sort_keys=True)


def _call(key: str) -> tuple[str, Json]:
    name, arguments = json.loads(key)
    return name, arguments
