"""Who speaks next, whatever the floor looks like."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from schema.domain.conversations import ConversationStatus, TurnStrategy
from schema.domain.inbox import InboxItem
from schema.payloads.agent_turn import CallOutcome, CompleteResult
from schema.payloads.conversations import Floor
from workflows.turn_order import choose_speaker, drop_agent, note_spoken

Step = tuple[list[int], list[int]]
"""Whom a reply calls by @name, and whom it names without."""

TEAMS = st.lists(st.integers(1, 9), min_size=1, max_size=6, unique=True)
NAMES = st.lists(st.integers(1, 12), max_size=3)
TALKS = st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=20)
SEEDS = st.integers(0, 2**32)
OFTEN = settings(max_examples=40, deadline=None)


def floor_of(strategy: TurnStrategy, agents: list[int], **fields: object) -> Floor:
    if strategy is TurnStrategy.FACILITATOR_LED:
        fields = {"facilitator_id": agents[0], **fields}
    return Floor.model_validate({"strategy": strategy, "agent_ids": agents, **fields})


def reply(mentions: list[int] | None = None, named: list[int] | None = None) -> CompleteResult:
    return CompleteResult(
        outcome=CallOutcome.SPOKEN,
        turn=1,
        status=ConversationStatus.ACTIVE,
        mentions=mentions or [],
        named=named or [],
    )


def talk(floor: Floor, steps: list[Step], seed: int = 1) -> list[int]:
    """Let agents speak one after the other; return who did."""
    random = Random(seed)
    spoken: list[int] = []
    for mentions, named in steps:
        choice = choose_speaker(floor, None, random)
        note_spoken(floor, choice, reply(mentions, named))
        spoken.append(choice.agent_id)
    return spoken


SILENT: list[Step] = [([], [])] * 12


@OFTEN
@given(st.sampled_from(TurnStrategy), TEAMS, TALKS, SEEDS)
def test_only_agents_on_the_floor_speak(
    strategy: TurnStrategy, agents: list[int], steps: list[Step], seed: int
):
    assert set(talk(floor_of(strategy, agents), steps, seed)) <= set(agents)


@OFTEN
@given(st.sampled_from(TurnStrategy), TEAMS, TALKS, SEEDS)
def test_the_same_seed_chooses_the_same_speakers(
    strategy: TurnStrategy, agents: list[int], steps: list[Step], seed: int
):
    first = talk(floor_of(strategy, agents), steps, seed)
    assert talk(floor_of(strategy, agents), steps, seed) == first


@OFTEN
@given(st.sampled_from(TurnStrategy), TEAMS, TALKS, SEEDS)
def test_a_floor_carried_over_goes_on_as_if_it_had_stayed(
    strategy: TurnStrategy, agents: list[int], steps: list[Step], seed: int
):
    stayed, random = floor_of(strategy, agents), Random(seed)
    for mentions, named in steps:
        carried = Floor.model_validate_json(stayed.model_dump_json())
        choice = choose_speaker(stayed, None, random)
        if strategy is not TurnStrategy.FREE_FORM:
            assert choose_speaker(carried, None, random) == choice
        note_spoken(stayed, choice, reply(mentions, named))
        assert len(stayed.recent) <= len(agents)


@OFTEN
@given(TEAMS, TALKS)
def test_round_robin_gives_everybody_the_same_number_of_turns(agents: list[int], steps: list[Step]):
    spoken = talk(floor_of(TurnStrategy.ROUND_ROBIN, agents), steps)
    assert spoken == [agents[turn % len(agents)] for turn in range(len(steps))]


@OFTEN
@given(st.lists(st.integers(1, 9), min_size=2, max_size=6, unique=True), TALKS, SEEDS)
def test_free_form_never_lets_the_last_speaker_go_on(
    agents: list[int], steps: list[Step], seed: int
):
    spoken = talk(floor_of(TurnStrategy.FREE_FORM, agents), steps, seed)
    assert all(before != after for before, after in pairwise(spoken))


@OFTEN
@given(st.lists(st.integers(1, 9), min_size=4, max_size=6, unique=True), SEEDS)
def test_free_form_passes_over_those_who_spoke_lately(agents: list[int], seed: int):
    spoken = talk(floor_of(TurnStrategy.FREE_FORM, agents), SILENT, seed)
    half = len(agents) // 2
    for turn, speaker in enumerate(spoken):
        assert speaker not in spoken[max(0, turn - half) : turn]


def test_free_form_hears_every_agent_in_the_long_run():
    spoken = Counter(talk(floor_of(TurnStrategy.FREE_FORM, [1, 2, 3, 4]), SILENT * 20, seed=7))
    assert min(spoken.values()) > 240 / 4 / 2


@OFTEN
@given(st.lists(st.integers(1, 9), min_size=2, max_size=6, unique=True), TALKS)
def test_mentions_are_followed_else_the_order_is(agents: list[int], steps: list[Step]):
    spoken = talk(floor_of(TurnStrategy.MENTION_BASED, agents), steps)
    for turn, (mentions, _) in enumerate(steps[:-1]):
        called = [agent for agent in mentions if agent in agents and agent != spoken[turn]]
        assert spoken[turn + 1] != spoken[turn]
        if called:
            assert spoken[turn + 1] == called[0]


def test_an_order_goes_on_where_a_mention_interrupted_it():
    floor = floor_of(TurnStrategy.MENTION_BASED, [1, 2, 3, 4])
    assert talk(floor, [([], []), ([4], []), ([], []), ([], [])]) == [1, 2, 4, 3]


@OFTEN
@given(st.lists(st.integers(1, 9), min_size=2, max_size=6, unique=True), TALKS)
def test_the_floor_returns_to_the_facilitator_after_every_speaker(
    agents: list[int], steps: list[Step]
):
    spoken = talk(floor_of(TurnStrategy.FACILITATOR_LED, agents), steps)
    assert all(speaker == agents[0] for speaker in spoken[::2])
    assert all(speaker != agents[0] for speaker in spoken[1::2])


def test_the_facilitator_names_who_is_next_with_or_without_a_mention():
    floor = floor_of(TurnStrategy.FACILITATOR_LED, [1, 2, 3])
    assert talk(floor, [([3], []), ([], []), ([], [1, 2]), ([], [])]) == [1, 3, 1, 2]


def test_the_facilitators_thanks_to_who_spoke_last_call_nobody():
    floor = floor_of(TurnStrategy.FACILITATOR_LED, [1, 2, 3])
    note_spoken(floor, choose_speaker(floor, None, Random(0)), reply(named=[2]))
    note_spoken(floor, choose_speaker(floor, None, Random(0)), reply())
    note_spoken(floor, choose_speaker(floor, None, Random(0)), reply(named=[2, 3]))
    assert choose_speaker(floor, None, Random(0)).agent_id == 3
    called = floor_of(TurnStrategy.FACILITATOR_LED, [1, 2, 3], last_speaker=2)
    note_spoken(called, choose_speaker(called, None, Random(0)), reply(mentions=[2]))
    assert choose_speaker(called, None, Random(0)).agent_id == 2


def test_a_speaker_that_is_not_the_facilitator_names_nobody():
    floor = floor_of(TurnStrategy.FACILITATOR_LED, [1, 2, 3])
    assert talk(floor, [([], []), ([3], [3]), ([], []), ([], [])]) == [1, 2, 1, 3]


def test_a_prompt_that_calls_nobody_leaves_the_facilitators_choice():
    floor = floor_of(TurnStrategy.FACILITATOR_LED, [1, 2, 3])
    talk(floor, [([3], [])])
    asked = InboxItem(id=1, prompted=True)
    assert choose_speaker(floor, asked, Random(1)).agent_id == 3


def test_a_facilitator_alone_keeps_the_floor():
    assert talk(floor_of(TurnStrategy.FACILITATOR_LED, [5]), SILENT) == [5] * 12


@OFTEN
@given(st.sampled_from(TurnStrategy), TEAMS, TALKS, st.integers(1, 9))
def test_a_request_that_names_an_agent_is_obeyed(
    strategy: TurnStrategy, agents: list[int], steps: list[Step], wanted: int
):
    floor = floor_of(strategy, agents)
    talk(floor, steps)
    asked = InboxItem(id=1, agent_id=wanted, mentions=[agents[0]], prompted=True)
    assert choose_speaker(floor, asked, Random(1)).agent_id == wanted


def test_the_prompts_mention_wins_over_the_last_replys():
    floor = floor_of(TurnStrategy.MENTION_BASED, [1, 2, 3])
    talk(floor, [([2], [])])
    asked = InboxItem(id=1, mentions=[9, 3], prompted=True)
    assert choose_speaker(floor, asked, Random(1)).agent_id == 3
    assert choose_speaker(floor, InboxItem(id=2), Random(1)).agent_id == 2


def test_a_prompt_may_call_the_last_speaker_again():
    floor = floor_of(TurnStrategy.FREE_FORM, [1, 2, 3])
    last = talk(floor, SILENT)[-1]
    asked = InboxItem(id=1, mentions=[last], prompted=True)
    assert choose_speaker(floor, asked, Random(1)).agent_id == last


@OFTEN
@given(
    st.sampled_from(TurnStrategy),
    st.lists(st.integers(1, 9), min_size=2, max_size=6, unique=True),
    TALKS,
    st.data(),
)
def test_agents_that_are_gone_never_speak_again(
    strategy: TurnStrategy, agents: list[int], steps: list[Step], data: st.DataObject
):
    floor = floor_of(strategy, agents)
    talk(floor, steps)
    gone = data.draw(st.sampled_from(agents))
    drop_agent(floor, gone)
    drop_agent(floor, gone)
    spoken = talk(floor, [*steps, *SILENT])
    assert gone not in spoken
    if strategy is TurnStrategy.ROUND_ROBIN:
        counts = Counter(spoken[-12 * (len(agents) - 1) :])
        assert max(counts.values()) - min(counts.values()) <= 1


@OFTEN
@given(st.lists(st.integers(1, 9), min_size=3, max_size=6, unique=True), st.data())
def test_the_order_goes_on_behind_an_agent_that_is_gone(agents: list[int], data: st.DataObject):
    floor = floor_of(TurnStrategy.ROUND_ROBIN, agents)
    turns = data.draw(st.integers(1, len(agents)))
    last = talk(floor, [([], [])] * turns)[-1]
    after = agents[turns % len(agents)]
    drop_agent(floor, last)
    assert talk(floor, [([], [])]) == [after]


def test_without_its_facilitator_a_talk_goes_round():
    floor = floor_of(TurnStrategy.FACILITATOR_LED, [1, 2, 3])
    talk(floor, [([], [])])
    drop_agent(floor, 1)
    assert floor.facilitator_id is None
    assert talk(floor, [([], [])] * 4) == [2, 3, 2, 3]
