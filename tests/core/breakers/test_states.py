"""The states of a breaker, over two processes on one database."""

from __future__ import annotations

import asyncio

import pytest

from conclave.errors import CircuitOpen, ProviderRefused
from conclave.ports.breakers import Permit
from schema.domain.breakers import CircuitState
from schema.domain.events import ADMIN_OWNER, EventType
from tests.core.breakers.conftest import fails, is_down, refused, works
from tests.harness.circuits import NAME, Site


async def opened(site: Site) -> None:
    """Let it open by five failures."""
    process = site.process()
    for _ in range(5):
        await fails(process)


async def test_the_first_call_makes_it_closed_with_the_defaults(site: Site):
    await works(site.process())
    made = await site.breaker()
    assert (made.state, made.total_successes, made.success_rate) == ("closed", 1, 100.0)
    assert (made.failure_threshold, made.recovery_timeout_seconds) == (5, 60)
    assert (made.success_threshold, made.window_seconds) == (3, 120)
    assert made.half_open_max_requests == 3


async def test_failures_in_two_processes_open_it_for_both(site: Site):
    one, two = site.process(), site.process()
    for process in (one, two, one, two):
        await fails(process)
    assert (await site.breaker()).state is CircuitState.CLOSED
    await fails(one)
    found = await site.breaker()
    assert (found.state, found.failure_count, found.total_failures) == ("open", 5, 5)
    assert 59 < (await refused(one)).retry_after <= 60
    site.clock.now += 1.0  # what another process did is known a second later
    error = await refused(two)
    assert (error.code, error.status, error.retryable) == ("circuit_open", 503, True)
    assert 57 < error.retry_after <= 60
    assert not one.is_closed(NAME)


async def test_only_failures_within_the_window_count(site: Site):
    process = site.process()
    for _ in range(4):
        await fails(process)
    await site.pass_time(121)
    await fails(process)
    found = await site.breaker()
    assert (found.state, found.failure_count, found.total_failures) == ("closed", 1, 5)
    for _ in range(4):
        await fails(process)
    assert (await site.breaker()).state is CircuitState.OPEN


async def test_answers_between_failures_do_not_make_them_undone(site: Site):
    process = site.process()
    for _ in range(5):
        await works(process)
        await fails(process)
    await process.close()
    found = await site.breaker()
    assert (found.state, found.total_successes, found.total_failures) == ("open", 5, 5)
    assert found.success_rate == 50.0


async def test_after_the_recovery_timeout_it_is_half_open_and_three_answers_close_it(site: Site):
    await opened(site)
    await site.pass_time(61)
    assert (await site.breaker()).shown_state is CircuitState.HALF_OPEN
    one, two = site.process(), site.process()
    await works(one)
    await works(two)
    found = await site.breaker()
    assert (found.state, found.success_count) == ("half_open", 2)
    await works(one)
    found = await site.breaker()
    assert (found.state, found.failure_count, found.opened_at) == ("closed", 0, None)
    assert await site.moves() == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert [(one.from_state, one.to_state) for one in found.transitions] == await site.moves()
    assert found.transitions[0].reason == "5 failures within 120 s, the last: it is down"
    await works(site.process())


async def test_a_probe_that_fails_opens_it_again(site: Site):
    await opened(site)
    await site.pass_time(61)
    process = site.process()
    await works(process)
    await fails(process)
    found = await site.breaker()
    assert (found.state, found.success_count) == ("open", 0)
    assert 59 < (await refused(process)).retry_after <= 60
    [alert] = await site.events(EventType.SYSTEM_ALERT)
    assert (alert["level"], alert["code"], alert["source"]) == ("error", "circuit_open", NAME)
    assert alert["at"].endswith("Z")
    assert len(await site.moves()) == 3


async def test_at_most_three_probe_at_a_time_over_all_processes(site: Site):
    await opened(site)
    await site.pass_time(61)
    processes = [site.process() for _ in range(6)]
    asked: list[Permit] = []
    refusals: list[CircuitOpen] = []
    for again in range(1, 5):  # whoever finds the record locked does not wait, and asks again
        found = await asyncio.gather(
            *(process.admit(NAME, lasts=30) for process in processes for _ in range(5)),
            return_exceptions=True,
        )
        asked += [one for one in found if isinstance(one, Permit)]
        refusals += [one for one in found if isinstance(one, CircuitOpen)]
        assert len(asked) + len(refusals) == len(processes) * 5 * again
    assert len(asked) == 3
    assert len({permit.probe for permit in asked}) == 3
    assert {error.retry_after for error in refusals} <= {1.0, 5.0}
    assert await site.moves() == [("closed", "open"), ("open", "half_open")]


async def test_a_place_is_free_again_once_its_probe_has_ended_or_was_cut(site: Site):
    await site.configured(half_open_max_requests=1)
    await opened(site)
    await site.pass_time(61)
    process = site.process()
    await works(process)
    permit = await process.admit(NAME, lasts=30)
    await refused(process)
    with pytest.raises(ProviderRefused):
        async with process.watched(permit, is_down):  # says nothing of whether it is there
            raise ProviderRefused("no such model")
    permit = await process.admit(NAME, lasts=30)
    entered = asyncio.Event()

    async def call() -> None:
        async with process.watched(permit, is_down):
            entered.set()
            await asyncio.Event().wait()

    cut = asyncio.create_task(call())
    await entered.wait()
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    assert (await site.breaker()).success_count == 1
    await works(process)


async def test_the_place_of_a_probe_whose_process_was_killed_is_free_after_its_time(site: Site):
    await site.configured(half_open_max_requests=1)
    await opened(site)
    await site.pass_time(61)
    await site.process().admit(NAME, lasts=30)  # and nothing is heard of it again
    survivor = site.process()
    assert (await refused(survivor)).retry_after == 5.0
    await site.pass_time(29)
    await refused(survivor)
    await site.pass_time(2)
    await works(survivor)


async def test_calls_admitted_before_a_change_count_in_the_totals_alone(site: Site):
    one, two = site.process(), site.process()
    late = [await one.admit(NAME, lasts=30) for _ in range(3)]
    for _ in range(5):
        await fails(two)
    await site.pass_time(61)
    await works(two)
    await fails(one, late[0])
    await works(one, late[1])
    found = await site.breaker()
    assert (found.state, found.success_count) == ("half_open", 1)
    await works(two)
    await works(two)
    site.clock.now += 1.0
    await one.admit(NAME, lasts=30)  # it has heard of it
    await fails(one, late[2])
    await one.close()
    found = await site.breaker()
    assert (found.state, found.failure_count, found.total_failures) == ("closed", 0, 7)


async def test_an_open_one_is_refused_without_a_query(site: Site, monkeypatch: pytest.MonkeyPatch):
    process = site.process()
    await opened(site)
    await refused(process)

    def unreachable() -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(site.db, "transaction", unreachable)
    monkeypatch.setattr(site.db, "autocommit", unreachable)
    told = [await refused(process) for _ in range(20)]
    assert all(one.retry_after for one in told), "each is told when to come again"


async def test_a_closed_one_admits_and_counts_without_a_query_a_call(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    process = site.process()
    await works(process)
    await process.admit(NAME, lasts=30)
    site.clock.now += 1.0
    await works(process)
    asked: list[str] = []
    transaction, autocommit = site.db.transaction, site.db.autocommit
    monkeypatch.setattr(site.db, "transaction", lambda: asked.append("tx") or transaction())
    monkeypatch.setattr(site.db, "autocommit", lambda: asked.append("auto") or autocommit())
    for _ in range(500):
        await works(process)
    assert asked == []
    await process.close()
    assert asked == ["auto"]
    assert (await site.breaker()).total_successes == 502


async def test_after_a_failure_no_more_than_the_threshold_is_in_flight_from_a_process(site: Site):
    process = site.process()
    released = asyncio.Event()

    async def hangs() -> None:
        permit = await process.admit(NAME, lasts=30)
        async with process.watched(permit, is_down):
            await released.wait()

    await fails(process)
    calls = [asyncio.create_task(hangs()) for _ in range(40)]
    done, _ = await asyncio.wait(calls, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 35:
        done, _ = await asyncio.wait(calls, timeout=0.01)
    assert {type(task.exception()) for task in done} == {CircuitOpen}
    await works(process, Permit(circuit=NAME, epoch=0))  # an answer: it is well
    more = [asyncio.create_task(hangs()) for _ in range(40)]
    released.set()
    await asyncio.gather(*more, *(task for task in calls if task not in done))


async def test_twenty_transitions_are_kept(site: Site):
    await site.configured()
    for _ in range(15):
        await site.desk.force_open(NAME, None)
        await site.desk.force_close(NAME)
    found = await site.breaker()
    assert len(found.transitions) == 20
    assert found.transitions[-1].to_state is CircuitState.CLOSED
    assert len(await site.moves()) == 30


async def test_forced_open_stays_open_whatever_the_time(site: Site):
    process = site.process()
    await works(process)
    await site.desk.force_open(NAME, "they move house")
    site.clock.now += 1.0
    found = await site.breaker()
    assert (found.forced, found.next_attempt_at) == (True, None)
    assert found.transitions[-1].reason == "forced open: they move house"
    await site.pass_time(100_000)
    assert (await refused(process)).retry_after == 60.0
    assert (await site.breaker()).shown_state is CircuitState.OPEN
    await site.desk.force_close(NAME)
    site.clock.now += 1.0
    await works(process)
    assert await site.moves() == [("closed", "open"), ("open", "closed")]
    assert len(await site.events(EventType.SYSTEM_ALERT)) == 1


async def test_a_reset_clears_the_counters_and_keeps_the_configuration(site: Site):
    await site.configured(failure_threshold=2, recovery_timeout_seconds=10)
    process = site.process()
    await fails(process)
    await fails(process)
    reset = await site.desk.reset(NAME)
    assert (reset.state, reset.total_failures, reset.total_successes) == ("closed", 0, 0)
    assert (reset.last_failure, reset.failure_count, reset.success_rate) == (None, 0, 100.0)
    assert (reset.failure_threshold, reset.recovery_timeout_seconds) == (2, 10)


async def test_a_shorter_recovery_timeout_holds_for_one_that_is_open(site: Site):
    await opened(site)
    await site.configured(recovery_timeout_seconds=5)
    found = await site.breaker()
    assert found.state is CircuitState.OPEN
    assert found.next_attempt_at is not None
    assert found.opened_at is not None
    assert (found.next_attempt_at - found.opened_at).total_seconds() == 5
    assert (await refused(site.process())).retry_after <= 5


async def test_events_are_for_administrators(site: Site):
    await opened(site)
    async with site.db.transaction() as tx:
        owners = await tx.conn.exec_driver_sql("SELECT DISTINCT owner FROM events")
        assert owners.scalars().all() == [ADMIN_OWNER]
