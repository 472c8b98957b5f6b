"""Triggers: what comes in signed at /webhook/{slug}, events, and times."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from conclave.failpoints import Failpoint
from tests.chaos.work.clients import PATIENCE_SECONDS, Json
from tests.chaos.work.load import POLL_SECONDS, Load, Scenario
from tests.chaos.work.parts import Part
from tests.chaos.work.script import Script
from tests.chaos.work.snapshot import Snapshot
from tests.waiting import until

_API = "/api/v1/triggers"
_DELIVERIES = 3
_EVERY_SECONDS = 10
_FIRINGS = 2
"""Of a trigger that goes by time, before it is switched off."""


async def _delivered(load: Load) -> None:
    """A trigger for webhooks, and deliveries to it; each is sent again once it was answered."""
    made = await load.clients.ask("POST", _API, _body(load, "webhook", {}))
    for _ in range(_DELIVERIES):
        delivery = f"msg_{load.dice.randrange(10**12)}"
        content = json.dumps({"said": delivery}).encode()
        answers = [await _deliver(load, made, delivery, content) for _ in range(2)]
        load.told.note("delivery", answers[0]["event_id"], {"id": delivery})
        assert answers[1] == {"event_id": answers[0]["event_id"], "status": "duplicate"}
    await _fired(load, made["id"], _DELIVERIES)


async def _deliver(load: Load, trigger: Json, delivery: str, content: bytes) -> Json:
    """Send a delivery, signed as Standard Webhooks 1.0 says."""
    stamp = str(int(time.time()))
    key = base64.b64decode(trigger["secret"].removeprefix("whsec_"))
    signed = b".".join((delivery.encode(), stamp.encode(), content))
    signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    headers = {
        "content-type": "application/json",
        "webhook-id": delivery,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{signature}",
    }
    _, answer = await load.clients.try_to("POST", trigger["url"], content=content, headers=headers)
    return answer


async def _followed(load: Load) -> None:
    """A trigger for the end of a task of one title, and that task."""
    title = f"followed {load.dice.randrange(10**9)}"
    config = {"event_type": "task.completed", "filters": {"title": title}}
    made = await load.clients.ask("POST", _API, _body(load, "event", config))
    task = await load.clients.ask(
        "POST", "/api/v1/tasks", {"title": title, "instructions": Script().instructions}
    )
    load.told.created[task["id"]] = title
    await load.ends(task["id"])
    await _fired(load, made["id"], 1)


async def _timed(load: Load) -> None:
    """A trigger for every ten seconds, switched off after a while; one at a time."""
    if load.told.made.get("timed"):
        return
    load.told.note("timed", 0, {})
    config = {"every_seconds": _EVERY_SECONDS}
    made = await load.clients.ask("POST", _API, _body(load, "interval", config))
    await _fired(load, made["id"], _FIRINGS)
    # Those too whose making was cut off before it was answered.
    listed = await load.clients.ask("GET", f"{_API}?type=interval&limit=100")
    for one in listed:
        await load.clients.ask("POST", f"{_API}/{one['id']}/toggle", {"enabled": False})
    load.told.made["timed"].clear()


def _body(load: Load, type_: str, config: Json) -> Json:
    """Return a trigger whose action is a task of words."""
    task = {"title": "of a trigger", "instructions": Script().instructions}
    return {
        "name": f"{type_} {load.dice.randrange(10**9)}",
        "type": type_,
        "config": config,
        "action": {"type": "create_task", "config": task},
    }


async def _fired(load: Load, trigger_id: int, times: int) -> None:
    """Wait until a trigger has fired so often, at least."""

    async def look() -> bool:
        shown = await load.clients.ask("GET", f"{_API}/{trigger_id}")
        return shown["stats"]["total_executions"] >= times

    await until(
        look,
        timeout=PATIENCE_SECONDS,
        every=POLL_SECONDS,
        what=f"{times} firings of trigger {trigger_id}",
    )


def _firings(seen: Snapshot) -> Iterator[str]:
    """Every firing has ended well and was told of once; triggers count theirs."""
    told = Counter(
        event["data"]["run_id"] for event in seen.events if event["type"] == "trigger.fired"
    )
    for row in seen.more["trigger_runs"]:
        name = f"firing {row['id']}"
        if row["status"] != "success":
            yield f"{name} is {row['status']} ({row['error']})"
        if told[row["id"]] != 1:
            yield f"{name} was told of {told[row['id']]} times"
    counted = Counter(row["trigger_id"] for row in seen.more["trigger_runs"])
    for row in seen.more["triggers"]:
        if row["fire_count"] != counted[row["id"]]:
            yield f"trigger {row['id']} counts {row['fire_count']} of {counted[row['id']]} firings"
    for workflow_id, found in seen.runs.items():
        if workflow_id.startswith("trigger-") and set(found) != {"COMPLETED"}:
            yield f"{workflow_id} has runs that are {found}"


def _made(seen: Snapshot) -> Iterator[str]:
    """Every firing made one task, and every such task is of one firing."""
    tasks, made = {row["id"] for row in seen.tasks}, Counter[int]()
    for row in seen.more["trigger_runs"]:
        if row["made_kind"] != "task" or row["made_id"] not in tasks:
            made_what = f"the {row['made_kind']} {row['made_id']}"
            yield f"firing {row['id']} made {made_what}, which is not there"
        made[row["made_id"]] += 1
    for task_id, times in made.items():
        if times > 1:
            yield f"task {task_id} was made by {times} firings"
    for row in seen.tasks:
        if row["title"] == "of a trigger" and not made[row["id"]]:
            yield f"task {row['id']} is of no firing"


def _deliveries(seen: Snapshot) -> Iterator[str]:
    """Every delivery that was answered is stored once and fired once, those unanswered at most."""
    fired = Counter(row["inbound_id"] for row in seen.more["trigger_runs"])
    stored = {row["id"]: row for row in seen.more["inbound_events"]}
    for event_id, delivery in seen.told.made.get("delivery", {}).items():
        if event_id not in stored or stored[event_id]["delivery_id"] != delivery["id"]:
            yield f"delivery {delivery['id']} was answered for and is not there"
    for row in stored.values():
        if fired[row["id"]] != 1:
            yield f"delivery {row['delivery_id']} fired {fired[row['id']]} times"


def _events(seen: Snapshot) -> Iterator[str]:
    """A trigger for an event fired once for each of them."""
    happened = Counter(
        event["data"]["title"] for event in seen.events if event["type"] == "task.completed"
    )
    fired: defaultdict[int, int] = defaultdict(int)
    for row in seen.more["trigger_runs"]:
        fired[row["trigger_id"]] += 1
    for row in seen.more["triggers"]:
        if row["type"] == "event":
            title = row["config"]["filters"]["title"]
            if fired[row["id"]] != happened[title]:
                yield f"trigger {row['id']} fired {fired[row['id']]} of {happened[title]} times"


TRIGGERS = Part(
    scenarios=(
        Scenario("delivered", 2, _delivered),
        Scenario("followed", 2, _followed),
        Scenario("timed", 1, _timed),
    ),
    left="SELECT id FROM trigger_runs WHERE status IN ('pending', 'running')",
    workflows=("Trigger",),
    places=(Failpoint.IN_WEBHOOK_DELIVERY,),
    tables={
        "triggers": "SELECT * FROM triggers ORDER BY id",
        "trigger_runs": "SELECT * FROM trigger_runs ORDER BY id",
        "inbound_events": "SELECT * FROM inbound_events ORDER BY id",
    },
    checks=(_firings, _made, _deliveries, _events),
)
