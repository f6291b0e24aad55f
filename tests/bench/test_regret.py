"""Tests of walks and regret: the oracle, and what a policy pays for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.rates import Rates
from bench.recording import ACTIONS, TUNING, Asked, Recording, Seen, State, Turn
from bench.regret import LOOKS_AT, Taken, Walk, Walker, clear_cut, oracle, walk
from ragtide.pipelines.history.history import past_decisions
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, Recommendation, Recommendations
from ragtide.pipelines.policy.registry import BUILT_IN, load_policy
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import RetrievalMetrics, Scorecard
from ragtide.pipelines.records.evidence import Evidence, Measure
from ragtide.pipelines.records.reason import Reason
from tests.factories import evidence, graded, measure, past, scorecard, with_signals

QUESTIONS = 4
INDEXES, MODELS = ("i0", "i1"), ("m0", "m1")
START = State(index="i0", model="m0")
NEITHER, REFRESH, RETRAIN, BOTH = ACTIONS
TUNE, TUNE_RETRAIN = TUNING
# Every kind of work has a price of its own, so that a sum tells what is in it.
RATES = Rates(
    answer_seconds=1.0,
    loss_seconds=0.01,
    example_seconds=1400.0,
    refresh_seconds=1000.0,
    chunk_seconds=100.0,
    pair_seconds=10000.0,
)
TRAINED = {"m0": 40, "m1": 50}
PAIRS, ALL_CHUNKS = 60, 7
TEXT, VECTORS = 0.1, 0.2
FOUND, GOLD, LOSSES = 4.0, 3.0, 0.02
REFRESHING, TRAINING = 1000.0 + 2 * 100.0, 50 * 1400.0
TUNED = 60 * 10000.0 + 1000.0 + 7 * 100.0

# --- recordings by hand --------------------------------------------------------------------------------------------


def card(right: int) -> Scorecard:
    answers = [graded(f"q{number}", float(number < right)) for number in range(QUESTIONS)]
    return scorecard(*answers, answer_score=measure(right / QUESTIONS))


def asked(state: State, data: str) -> Asked:
    """What a look asks: of answers 4 that depend on both halves and 3 on the model alone, and 2 losses."""
    return Asked(
        found=tuple(f"found {data} {state.key} {number}" for number in range(4)),
        gold=tuple(f"gold {data} {state.model} {number}" for number in range(3)),
        losses=tuple(f"loss {data} {state.model} {number}" for number in range(2)),
    )


def look(state: State, right: int, data: str = "s1", **fields: Any) -> Seen:
    """A state of which `right` of 4 answers are right, beside data that lead to i1 (2 chunks to embed) and to m1."""
    usual: dict[str, Any] = {
        "score": right / QUESTIONS,
        "scorecard": card(right),
        "asked": asked(state, data),
        "evidence": evidence(snapshot=data),
        "text_seconds": TEXT,
        "vector_seconds": VECTORS,
        "refreshed": "i1",
        "to_embed": 2,
        "retrained": "m1",
    }
    return Seen(state=state, **(usual | fields))


def states(retriever: str = "") -> list[State]:
    return [State(index=index, model=model, retriever=retriever) for index in INDEXES for model in MODELS]


def turn(*right: int, data: str = "s1", should: tuple[Action, ...] | None = None, **fields: Any) -> Turn:
    """A step at which (i0, m0), (i0, m1), (i1, m0) and (i1, m1) answer so many of 4 questions right."""
    seen = {state.key: look(state, number, data, **fields) for state, number in zip(states(), right, strict=True)}
    return Turn(what="a step", right=should, snapshot=data, seen=seen)


def enough(gap: Measure) -> dict[str, Any]:
    """The evidence that there is enough to tune on, and something to win by it."""
    return {"pairs": PAIRS, "min_pairs": 32, "new_pairs": 1.0, "embedder_gap": gap}


def tuning(right: int, plain: Turn, **fields: Any) -> Turn:
    """The same step with a retriever to be had, t1, of 7 chunks: with it `right` of 4 questions are answered right."""

    def offers(one: Seen) -> Seen:
        told = evidence(snapshot=plain.snapshot, **enough(measure(0.5)))
        return one.model_copy(update={"tuned": "t1", "all_chunks": ALL_CHUNKS, "evidence": told})

    seen = {state.key: look(state, right, plain.snapshot, **fields) for state in states("t1")} | plain.seen
    return plain.model_copy(update={"seen": {key: offers(one) for key, one in seen.items()}})


def recording(*turns: Turn, opened: Asked | None = None, trained: dict[str, int] = TRAINED) -> Recording:
    return Recording(
        name="by hand",
        half="tune",
        start=START,
        opened=opened or Asked(),
        turns=turns,
        trained_examples=trained,
        trained_pairs={"t1": PAIRS},
        seconds=0.0,
    )


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """Three or four steps; from each state of each step another way may lead on, and the truth is not the questions.

    In some there are enough pairs to tune on.
    """
    some = st.integers(0, QUESTIONS)
    gaps = st.sampled_from([measure(0.0), measure(0.5)])

    def at(state: State, data: str) -> Seen:
        gathered = evidence(snapshot=data, refresh_gain=draw(gaps), model_gap=draw(gaps))
        onward: dict[str, Any] = {
            "refreshed": draw(st.sampled_from(INDEXES)),
            "retrained": draw(st.sampled_from(MODELS)),
        }
        if tunes:
            gathered = with_signals(gathered, **enough(draw(gaps)))
            onward |= {"tuned": "t1", "all_chunks": draw(some)}
        truth = draw(some) / QUESTIONS
        return look(state, draw(some), data, score=truth, to_embed=draw(some), evidence=gathered, **onward)

    tunes = draw(st.booleans())
    data = draw(st.lists(st.sampled_from(["s1", "s2"]), min_size=3, max_size=3 if tunes else 4))
    every = [*states(), *(states("t1") if tunes else ())]
    turns = [
        Turn(what="", right=None, snapshot=one, seen={state.key: at(state, one) for state in every}) for one in data
    ]
    return recording(*turns, trained={model: draw(st.integers(0, 60)) for model in MODELS})


# What an action takes may be nothing, or be worth more than it brings.
DULL = st.integers(0, 3000).map(float)
rates_of_all_kinds = st.builds(
    Rates,
    answer_seconds=st.just(1.0),
    loss_seconds=st.just(0.01),
    example_seconds=st.integers(0, 60).map(float),
    refresh_seconds=DULL,
    chunk_seconds=st.integers(0, QUESTIONS).map(float),
    pair_seconds=st.integers(0, 60).map(float),
)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(rates_of_all_kinds, st.integers(0, 500), st.integers(0, 500))
def test_a_refresh_takes_its_start_and_each_of_its_chunks(rates: Rates, few: int, more: int) -> None:
    assert rates.refresh(0) == rates.refresh_seconds
    assert rates.refresh(few + more) - rates.refresh(few) == more * rates.chunk_seconds
    assert RATES.refresh(2) == REFRESHING == 1200.0


# --- the oracle ----------------------------------------------------------------------------------------------------

prices = st.sampled_from([0.0, 10.0, 200.0])
TUNES = "tests.fakes:AlwaysTunes"


def utility_of(actions: Sequence[Action], of: Recording, rates: Rates, price: float) -> float:
    """What comes of doing just this, one step after the other."""
    index, model, retriever, points, seconds = of.start.index, of.start.model, "", 0.0, 0.0
    for action, turn in zip(actions, of.turns, strict=True):
        seen = turn.seen[f"{index}/{model}{retriever}"]
        if action in (TUNE, TUNE_RETRAIN):
            index, retriever = seen.refreshed, "/t1"
            seconds += rates.refresh_seconds + rates.chunk_seconds * seen.all_chunks
            seconds += rates.pair_seconds * of.trained_pairs["t1"]
        if action in (REFRESH, BOTH):
            index = seen.refreshed
            seconds += rates.refresh_seconds + rates.chunk_seconds * seen.to_embed
        if action in (RETRAIN, BOTH, TUNE_RETRAIN):
            model = seen.retrained
            seconds += rates.example_seconds * of.trained_examples[model]
        points += 100 * turn.seen[f"{index}/{model}{retriever}"].score
    return points - price * seconds / 3600


@settings(derandomize=True, deadline=None, max_examples=40)
@given(of=recordings(), rates=rates_of_all_kinds, price=prices)
def test_the_oracle_is_the_best_of_all_sequences_of_actions(of: Recording, rates: Rates, price: float) -> None:
    can = of.turns[0].seen[START.key].actions
    best = max(utility_of(actions, of, rates, price) for actions in product(can, repeat=len(of.turns)))
    found = oracle(of, rates, price)
    assert found.utility(price) == pytest.approx(best, abs=1e-6)
    assert utility_of([one.action for one in found.taken], of, rates, price) == pytest.approx(best, abs=1e-6)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(of=recordings(), rates=rates_of_all_kinds, price=prices, name=st.sampled_from([*BUILT_IN, TUNES]))
def test_no_policy_is_above_the_oracle(of: Recording, rates: Rates, price: float, name: str) -> None:
    policy = walk(of, rates, PolicyParams(name=name))
    assert policy.utility(price) <= oracle(of, rates, price).utility(price) + 1e-6


def test_what_costs_more_than_it_brings_is_left_and_what_is_free_is_done() -> None:
    of = recording(turn(1, 2, 3, 4), turn(1, 2, 3, 4))
    assert oracle(of, RATES, 0.0).taken[0].action is BOTH
    assert [one.action for one in oracle(of, RATES, 1000.0).taken] == [NEITHER, NEITHER]


def test_the_oracle_sees_that_what_brings_nothing_now_pays_later() -> None:
    of = recording(turn(2, 2, 2, 2), turn(2, 4, 2, 4, retrained="m0"))
    assert [one.action for one in oracle(of, RATES, 1.0).taken] == [RETRAIN, NEITHER]


def test_the_oracle_pays_for_what_it_builds_and_for_no_evidence_and_no_proof() -> None:
    [taken] = oracle(recording(turn(0, 0, 0, 4)), RATES, 1.0).taken
    assert (taken.action, taken.evidence_seconds, taken.action_seconds) == (BOTH, 0.0, REFRESHING + TRAINING)


# --- a policy by the script ----------------------------------------------------------------------------------------


@dataclass
class Script:
    """Wants what it was told to, turn by turn, and keeps the evidence that it was shown."""

    left: list[Action]
    shown: list[Evidence] = field(default_factory=list)

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:
        action = self.left.pop(0)
        self.shown.append(evidence)
        yes, no = (Recommendation(wanted, (Reason.custom("it is in the script"),)) for wanted in (True, False))
        return Recommendations(
            refresh=yes if action.refreshes and not action.tunes else no,
            retrain=yes if action.retrains else no,
            tune=yes if action.tunes else no,
        )


class Scripted:
    """Walks by a script; the rules that hold for every policy hold here, too."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.shown: list[Evidence] = []

    def walk(self, of: Recording, *actions: Action) -> Walk:
        script = Script(list(actions), self.shown)
        self._patch.setattr("ragtide.pipelines.policy.decide.load_policy", lambda _: script)
        return walk(of, RATES, PolicyParams(name="by the script"))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    return Scripted(monkeypatch)


def test_each_step_scores_what_is_live_after_it(scripted: Scripted) -> None:
    of = recording(turn(1, 2, 3, 4), turn(0, 2, 2, 4, data="s2"), turn(0, 0, 1, 3, data="s3"))
    walked = scripted.walk(of, NEITHER, REFRESH, RETRAIN)
    assert [one.score for one in walked.taken] == [0.25, 0.5, 0.75]
    assert (walked.score, walked.retrains) == (0.5, 1)


def test_building_and_proving_is_paid_for_by_what_was_done(scripted: Scripted) -> None:
    steps = [turn(1, 1, 1, 1), turn(1, 1, 1, 1, data="s2"), turn(1, 1, 1, 1, data="s3")]
    walked = scripted.walk(recording(*steps), REFRESH, RETRAIN, NEITHER)
    # What is live was looked at before; only what might go live is asked for its proof.
    assert [one.action_seconds for one in walked.taken] == [REFRESHING + FOUND, TRAINING + FOUND, 0.0]


def test_utility_is_points_over_all_steps_less_the_price_of_the_hours(scripted: Scripted) -> None:
    walked = scripted.walk(recording(turn(1, 2, 3, 4)), REFRESH)
    assert walked.utility(0.0) == 75.0
    assert walked.utility(10.0) == pytest.approx(75.0 - 10.0 * walked.seconds / 3600)
    assert walked.seconds == walked.evidence_seconds + walked.taken[0].action_seconds


def test_what_the_guard_holds_back_leaves_everything_and_takes_no_time() -> None:
    of = recording(turn(1, 2, 3, 4, evidence=evidence(pending_deletions={"a.md": "1"}, refresh_gain=measure(0.0))))
    [taken] = walk(of, RATES, PolicyParams(name="never")).taken
    assert (taken.action, taken.accepted, taken.score, taken.seconds) == (Action.HOLD, False, 0.25, 0.0)


# --- the gate ------------------------------------------------------------------------------------------------------


def test_what_the_gate_refuses_leaves_what_is_live_and_is_paid_for(scripted: Scripted) -> None:
    of = recording(turn(3, 3, 1, 4), turn(3, 0, 0, 0, data="s2"))
    first, second = scripted.walk(of, REFRESH, NEITHER).taken
    assert (first.action, first.accepted) == (REFRESH, False)
    assert first.action_seconds == REFRESHING + FOUND
    assert (first.score, second.score) == (0.75, 0.75)


def test_the_gate_judges_by_the_questions_and_not_by_the_truth(scripted: Scripted) -> None:
    step = turn(1, 1, 3, 3)
    worse = step.seen["i1/m0"].model_copy(update={"score": 0.0})
    [taken] = scripted.walk(recording(step.model_copy(update={"seen": step.seen | {"i1/m0": worse}})), REFRESH).taken
    assert (taken.accepted, taken.score) == (True, 0.0)


def test_what_was_refused_is_not_tried_again_on_the_same_data(scripted: Scripted) -> None:
    same = recording(turn(3, 3, 1, 4), turn(3, 3, 1, 4), turn(3, 3, 4, 4, data="s2"))
    walked = scripted.walk(same, REFRESH, REFRESH, REFRESH)
    assert [one.action for one in walked.taken] == [REFRESH, NEITHER, REFRESH]
    assert [list(one.limits.rejected_actions) for one in scripted.shown] == [[], [REFRESH], []]
    assert [one.accepted for one in walked.taken] == [False, False, True]


def test_what_was_accepted_may_be_done_again_on_the_same_data(scripted: Scripted) -> None:
    walked = scripted.walk(recording(turn(1, 1, 1, 1), turn(1, 1, 1, 1)), REFRESH, REFRESH)
    assert [one.action for one in walked.taken] == [REFRESH, REFRESH]


# --- the retriever -------------------------------------------------------------------------------------------------


def ranked(one: Seen, ndcg10: float) -> Seen:
    """The same with documents that are found so high."""
    found = {"hybrid": RetrievalMetrics(k=2, recall=1.0, ndcg10=ndcg10, mrr10=1.0, n=QUESTIONS)}
    return one.model_copy(update={"scorecard": one.scorecard.model_copy(update={"retrieval": found})})


def test_only_where_there_is_enough_to_tune_on_the_oracle_tunes() -> None:
    plain = turn(1, 1, 1, 1)
    assert oracle(recording(plain), RATES, 0.0).taken[0].action is NEITHER
    assert oracle(recording(tuning(4, plain)), RATES, 0.0).taken[0].action is TUNE


def test_a_tuned_retriever_is_paid_for_with_its_pairs_and_every_chunk(scripted: Scripted) -> None:
    steps = [tuning(4, turn(1, 1, 1, 1)), tuning(4, turn(1, 1, 1, 1, data="s2"))]
    walked = scripted.walk(recording(*steps), TUNE, TUNE_RETRAIN)
    assert [one.action_seconds for one in walked.taken] == [TUNED + FOUND, TUNED + TRAINING + FOUND]
    assert [one.score for one in walked.taken] == [1.0, 1.0]
    [best] = oracle(recording(steps[0]), RATES, 0.0).taken
    assert (best.action, best.action_seconds) == (TUNE, TUNED)


def test_what_tuning_takes_is_learnt_from_what_it_took(scripted: Scripted) -> None:
    steps = [tuning(4, turn(1, 1, 1, 1)), tuning(4, turn(1, 1, 1, 1, data="s2"))]
    scripted.walk(recording(*steps), TUNE, NEITHER)
    first, second = (one.limits.costs for one in scripted.shown)
    assert 0 < first.tune_seconds < second.tune_seconds
    assert second.tune_seconds == pytest.approx(TUNED, rel=1e-2)


def test_a_refresh_goes_on_with_the_tuned_retriever(scripted: Scripted) -> None:
    later = tuning(2, turn(1, 1, 1, 1, data="s2"))
    again = {key: one.model_copy(update={"refreshed": "i0"}) for key, one in later.seen.items()}
    better = again | {"i0/m0/t1": again["i0/m0/t1"].model_copy(update={"score": 0.75})}
    of = recording(tuning(2, turn(1, 1, 1, 1)), later.model_copy(update={"seen": better}))
    assert [one.score for one in scripted.walk(of, TUNE, REFRESH).taken] == [0.5, 0.75]


@pytest.mark.parametrize(("ndcg10", "accepted"), [(0.9, True), (0.5, False)])
def test_what_ranks_worse_does_not_go_live_however_it_answers(
    ndcg10: float, accepted: bool, scripted: Scripted
) -> None:
    step = tuning(4, turn(1, 1, 1, 1))
    seen = {key: ranked(one, ndcg10 if one.state.retriever else 0.9) for key, one in step.seen.items()}
    [taken] = scripted.walk(recording(step.model_copy(update={"seen": seen})), TUNE).taken
    assert (taken.action, taken.accepted, taken.score) == (TUNE, accepted, 1.0 if accepted else 0.25)


def test_a_policy_that_looks_sees_whether_it_is_worth_it() -> None:
    of = recording(tuning(4, turn(1, 1, 1, 1, score=0.25)))
    cheap = RATES.model_copy(update={"pair_seconds": 0.001})
    [taken] = walk(of, cheap, PolicyParams(points_per_hour=50)).taken
    assert taken.action.tunes


@pytest.mark.parametrize("name", LOOKS_AT)
def test_who_knows_nothing_of_it_leaves_the_retriever_alone(name: str) -> None:
    [taken] = walk(recording(tuning(4, turn(1, 1, 1, 1))), RATES, PolicyParams(name=name)).taken
    assert not taken.action.tunes


# --- what is paid for a look ---------------------------------------------------------------------------------------


def test_each_question_is_paid_for_once_along_the_way(scripted: Scripted) -> None:
    of = recording(turn(1, 1, 1, 1), turn(1, 1, 1, 1), turn(1, 1, 1, 1))
    walked = scripted.walk(of, NEITHER, REFRESH, REFRESH)
    again = TEXT + VECTORS
    # The third look is at i1/m0, whose answers its proof has asked for, and whose model is as it was.
    first = FOUND + GOLD + LOSSES + again
    assert [one.evidence_seconds for one in walked.taken] == pytest.approx([first, again, again])
    assert [one.action_seconds for one in walked.taken] == [0.0, REFRESHING + FOUND, REFRESHING]


def test_other_data_and_another_model_are_asked_anew(scripted: Scripted) -> None:
    of = recording(turn(1, 1, 1, 1), turn(1, 1, 1, 1), turn(1, 1, 1, 1, data="s2"))
    walked = scripted.walk(of, RETRAIN, NEITHER, NEITHER)
    asking = [one.evidence_seconds - TEXT - VECTORS for one in walked.taken[1:]]
    assert asking == pytest.approx([GOLD + LOSSES, FOUND + GOLD + LOSSES])


def test_what_the_first_release_was_asked_is_not_paid_for(scripted: Scripted) -> None:
    of = recording(turn(1, 1, 1, 1), opened=asked(START, "s1"))
    [taken] = scripted.walk(of, REFRESH).taken
    assert taken.evidence_seconds == pytest.approx(TEXT + VECTORS)
    assert taken.action_seconds == REFRESHING + FOUND


def test_a_question_that_two_signals_ask_is_paid_for_once(scripted: Scripted) -> None:
    both = Asked(found=("the same", "another"), gold=("the same",))
    [taken] = scripted.walk(recording(turn(1, 1, 1, 1, asked=both)), NEITHER).taken
    assert taken.evidence_seconds == pytest.approx(2 * RATES.answer_seconds + TEXT + VECTORS)


LOOK_SECONDS = {
    "always": 0.0,
    "never": 0.0,
    "periodic": 0.0,
    "amount": 0.0,
    "modyn": 0.0,
    "cusum": FOUND,
    "cara": FOUND,
    "drift": LOSSES + VECTORS,
    "evidence": FOUND + GOLD + LOSSES + TEXT + VECTORS,
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_policy_pays_for_what_it_looks_at(name: str) -> None:
    [taken] = walk(recording(turn(1, 1, 1, 1)), RATES, PolicyParams(name=name)).taken
    assert taken.evidence_seconds == pytest.approx(LOOK_SECONDS[name])


SIGNALS = {
    "found": ("score_retrieved", "index_gap", "refresh_gain", "embedder_gap", "malformed_share"),
    "gold": ("score_gold", "model_gap"),
    "losses": ("excess_loss",),
    "text": ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "vocabulary"),
    "vectors": ("novelty", "shift"),
}
OF_THE_PAST = {"found": ("score", "index_gap"), "gold": ("model_gap",), "vectors": ("shift",)}


@settings(derandomize=True, deadline=None, max_examples=10)
@given(value=st.sampled_from([0.0, 0.05, 0.2, 0.9]), was=st.sampled_from([0.1, 0.5, 1.0]), cycles=st.integers(0, 4))
@pytest.mark.parametrize("name", LOOKS_AT)
def test_a_policy_decides_the_same_without_what_it_does_not_pay_for(
    name: str, value: float, was: float, cycles: int
) -> None:
    unpaid = SIGNALS.keys() - LOOKS_AT[name]
    before = [past("NOTHING", score=was, shift=was, changed_share=was, index_gap=was, model_gap=was)] * cycles
    seen = evidence(past=tuple(before), **{one: measure(value) for some in SIGNALS.values() for one in some})
    blank = {one: Measure.unmeasured("not paid for") for what in unpaid for one in SIGNALS[what]}
    gone = {field: None for what, fields in OF_THE_PAST.items() if what in unpaid for field in fields}
    history = tuple(one.model_copy(update=gone) for one in before)
    blind = with_signals(seen, **(blank | {"past": history}))
    assert wishes(name, blind) == wishes(name, seen)


def wishes(name: str, seen: Evidence) -> list[bool]:
    params = PolicyParams(name=name)
    choice = load_policy(name).choose(seen, weigh_components(seen, params), params)
    return [choice.refresh.wanted, choice.retrain.wanted]


def test_only_policies_that_there_are_look_at_less() -> None:
    assert LOOKS_AT.keys() == BUILT_IN.keys() - {"evidence"}


def test_who_has_not_looked_pays_for_both_sides_of_the_proof() -> None:
    [taken] = walk(recording(turn(1, 1, 1, 1)), RATES, PolicyParams(name="always")).taken
    assert (taken.action, taken.action_seconds) == (BOTH, REFRESHING + TRAINING + 2 * FOUND)


# --- what is learnt on the way -------------------------------------------------------------------------------------


def test_the_history_of_a_walk_is_what_the_next_decision_sees(scripted: Scripted) -> None:
    of = recording(turn(1, 1, 3, 3), turn(1, 1, 3, 3, data="s2"), turn(1, 1, 3, 3, data="s3"))
    walked = scripted.walk(of, REFRESH, NEITHER, NEITHER)
    first, second, third = (one.limits.past for one in scripted.shown)
    [done, left] = third
    assert (first, second) == ((), (done,))
    assert (done.action, done.accepted, done.score) == (REFRESH, True, 0.25)
    # Of refresh_gain 0.1 10 points were expected; 1 of 4 right became 3 of 4.
    assert (done.expected_points, done.recovered_points) == (10.0, 50.0)
    assert (done.changed_share, done.seconds) == (0.1, walked.taken[0].action_seconds)
    assert (left.action, left.accepted, left.score, left.recovered_points) == (NEITHER, False, 0.75, None)


def test_the_history_of_a_walk_is_read_as_the_registrys_is(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([REFRESH, RETRAIN])
    monkeypatch.setattr("ragtide.pipelines.policy.decide.load_policy", lambda _: script)
    walker = Walker.at_start(recording(turn(1, 1, 3, 3), turn(1, 1, 3, 0, data="s2")), RATES, PolicyParams())
    for number, one in enumerate(walker.recording.turns, start=1):
        before = past_decisions(walker.history)
        walker.step(number, one)
        assert script.shown[-1].limits.past == before
    last = walker.history[-1]
    assert [one.cycle for one in past_decisions(walker.history)] == ["cycle-1", "cycle-2"]
    assert (last.outcome, last.release, last.snapshot, walker.state.key) == ("rejected", None, "s2", "i1/m0")
    assert past_decisions(walker.history)[-1].recovered_points == -75.0


def test_a_forecast_is_compared_with_what_it_took_from_the_second_step_on(scripted: Scripted) -> None:
    of = recording(turn(1, 1, 1, 1), turn(1, 1, 1, 1, data="s2"))
    walked = scripted.walk(of, REFRESH, NEITHER)
    first, second = (one.limits.costs for one in scripted.shown)
    took = walked.taken[0].action_seconds
    told = first.refresh_seconds + first.prove_seconds
    assert (first.error_share, first.error_runs, second.error_runs) == (None, 0, 1)
    assert second.error_share == pytest.approx(abs(round(told, 1) - took) / took, abs=1e-4)


def test_costs_are_learnt_from_what_it_took(scripted: Scripted) -> None:
    scripted.walk(recording(turn(1, 1, 1, 1), turn(1, 1, 1, 1, data="s2")), REFRESH, NEITHER)
    first, second = (one.limits.costs for one in scripted.shown)
    # The first release has been trained, so the rate of training is known from the start.
    assert first.retrain_seconds == TRAINING
    assert first.refresh_seconds < second.refresh_seconds == pytest.approx(REFRESHING, rel=1e-3)


# --- where one action is clearly right -----------------------------------------------------------------------------


def taken(action: Action, right: tuple[Action, ...] | None) -> Taken:
    return Taken(action, right, accepted=True, score=1.0, evidence_seconds=0.0, action_seconds=0.0)


def test_only_steps_with_a_clear_answer_are_counted() -> None:
    first = Walk((taken(REFRESH, None), taken(REFRESH, (REFRESH,)), taken(BOTH, (REFRESH,))))
    second = Walk((taken(NEITHER, (Action.HOLD, NEITHER)), taken(RETRAIN, (RETRAIN, BOTH))))
    assert clear_cut([first, second]) == (3, 4)
    assert clear_cut([]) == (0, 0)


def test_a_walk_carries_what_was_right_at_each_step(scripted: Scripted) -> None:
    walked = scripted.walk(recording(turn(1, 1, 3, 3, should=(REFRESH,)), turn(1, 1, 3, 3)), REFRESH, REFRESH)
    assert clear_cut([walked]) == (1, 1)
