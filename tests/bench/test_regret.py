"""Tests of policy runs on recordings: the oracle's optimum, costs paid, the gate, and the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.rates import Rates
from bench.recorded_states import ACTIONS, TUNING, Asked, RecordedStep, Recording, Seen, State
from bench.regret import SIGNALS_READ, PolicyRun, PolicyRunner, StepResult, clear_cut, oracle, run_policy
from ragtide.pipelines.history.history import past_decisions
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, Recommendation, Recommendations
from ragtide.pipelines.policy.registry import BUILT_IN, load_policy
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import ChangeSet
from ragtide.pipelines.records.evaluation import RetrievalMetrics, Scorecard
from ragtide.pipelines.records.evidence import Evidence, Measure
from ragtide.pipelines.records.reason import Reason
from ragtide.pipelines.records.release import Outcome
from tests.factories import evidence, graded, measure, past, scorecard, with_signals

QUESTIONS = 4
INDEXES, MODELS = ("i0", "i1"), ("m0", "m1")
START = State(index="i0", model="m0")
NEITHER, REFRESH, RETRAIN, BOTH = ACTIONS
TUNE, TUNE_RETRAIN = TUNING
# Every kind of work has a distinct cost, so that a sum shows its parts.
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
RETRIEVED, GOLD, LOSSES = 4.0, 3.0, 0.02
REFRESHING, TRAINING = 1000.0 + 2 * 100.0, 50 * 1400.0
TUNED = 60 * 10000.0 + 1000.0 + 7 * 100.0

# --- recordings by hand --------------------------------------------------------------------------------------------


def card(right: int) -> Scorecard:
    answers = [graded(f"q{number}", float(number < right)) for number in range(QUESTIONS)]
    return scorecard(*answers, answer_score=measure(right / QUESTIONS))


def asked(state: State, data: str) -> Asked:
    """Return the keys of an assessment: 4 answers from retrieved context, 3 from gold context, and 2 losses."""
    return Asked(
        retrieved=tuple(f"retrieved {data} {state.key} {number}" for number in range(4)),
        gold=tuple(f"gold {data} {state.model} {number}" for number in range(3)),
        losses=tuple(f"loss {data} {state.model} {number}" for number in range(2)),
    )


def look(state: State, right: int, data: str = "s1", **fields: Any) -> Seen:
    """Return a state with `right` of 4 correct answers, on data that lead to i1 (2 chunks to embed) and m1."""
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


def states(embedder: str = "") -> list[State]:
    return [State(index=index, model=model, tuned_embedder=embedder) for index in INDEXES for model in MODELS]


def step(*right: int, data: str = "s1", should: tuple[Action, ...] | None = None, **fields: Any) -> RecordedStep:
    """Return a step at which (i0, m0), (i0, m1), (i1, m0) and (i1, m1) answer `right` of 4 questions correctly."""
    seen = {state.key: look(state, number, data, **fields) for state, number in zip(states(), right, strict=True)}
    return RecordedStep(description="a step", right=should, snapshot=data, seen=seen)


def enough(gap: Measure) -> dict[str, Any]:
    """Return evidence with enough pairs to tune on, and with a gain to expect."""
    return {"pairs": PAIRS, "min_pairs": 32, "new_pairs": 1.0, "embedder_gap": gap}


def tuning(right: int, plain: RecordedStep, **fields: Any) -> RecordedStep:
    """Return the same step with the embedder t1 available (7 chunks), which leads to `right` of 4 correct answers."""

    def tunable(seen: Seen) -> Seen:
        gathered = evidence(snapshot=plain.snapshot, **enough(measure(0.5)))
        return seen.model_copy(update={"tuned": "t1", "all_chunks": ALL_CHUNKS, "evidence": gathered})

    seen = {state.key: look(state, right, plain.snapshot, **fields) for state in states("t1")} | plain.seen
    return plain.model_copy(update={"seen": {key: tunable(assessed) for key, assessed in seen.items()}})


def recording(*steps: RecordedStep, opened: Asked | None = None, trained: dict[str, int] = TRAINED) -> Recording:
    return Recording(
        name="by hand",
        split="tune",
        start=START,
        opened=opened or Asked(),
        steps=steps,
        trained_examples=trained,
        trained_pairs={"t1": PAIRS},
        seconds=0.0,
    )


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """Draw three or four steps with random successor states, and true scores that differ from the golden ones.

    Some recordings have enough pairs for tuning the embedder.
    """
    counts = st.integers(0, QUESTIONS)
    gaps = st.sampled_from([measure(0.0), measure(0.5)])

    def at(state: State, data: str) -> Seen:
        gathered = evidence(snapshot=data, refresh_gain=draw(gaps), model_gap=draw(gaps))
        onward: dict[str, Any] = {
            "refreshed": draw(st.sampled_from(INDEXES)),
            "retrained": draw(st.sampled_from(MODELS)),
        }
        if tunes:
            gathered = with_signals(gathered, **enough(draw(gaps)))
            onward |= {"tuned": "t1", "all_chunks": draw(counts)}
        truth = draw(counts) / QUESTIONS
        return look(state, draw(counts), data, score=truth, to_embed=draw(counts), evidence=gathered, **onward)

    tunes = draw(st.booleans())
    data = draw(st.lists(st.sampled_from(["s1", "s2"]), min_size=3, max_size=3 if tunes else 4))
    every = [*states(), *(states("t1") if tunes else ())]
    steps = [
        RecordedStep(description="", right=None, snapshot=name, seen={state.key: at(state, name) for state in every})
        for name in data
    ]
    return recording(*steps, trained={model: draw(st.integers(0, 60)) for model in MODELS})


# An action's cost may be zero, or higher than its gain.
SECONDS = st.integers(0, 3000).map(float)
rates_of_all_kinds = st.builds(
    Rates,
    answer_seconds=st.just(1.0),
    loss_seconds=st.just(0.01),
    example_seconds=st.integers(0, 60).map(float),
    refresh_seconds=SECONDS,
    chunk_seconds=st.integers(0, QUESTIONS).map(float),
    pair_seconds=st.integers(0, 60).map(float),
)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(rates_of_all_kinds, st.integers(0, 500), st.integers(0, 500))
def test_a_refresh_costs_a_fixed_part_and_each_of_its_chunks(rates: Rates, few: int, more: int) -> None:
    assert rates.refresh(0) == rates.refresh_seconds
    assert rates.refresh(few + more) - rates.refresh(few) == more * rates.chunk_seconds
    assert RATES.refresh(2) == REFRESHING == 1200.0


# --- the oracle ----------------------------------------------------------------------------------------------------

prices = st.sampled_from([0.0, 10.0, 200.0])
TUNES = "tests.fakes:AlwaysTunes"


def utility_of(actions: Sequence[Action], of: Recording, rates: Rates, price: float) -> float:
    """Return the utility of a sequence of actions."""
    index, model, embedder, points, seconds = of.start.index, of.start.model, "", 0.0, 0.0
    for action, recorded in zip(actions, of.steps, strict=True):
        seen = recorded.seen[f"{index}/{model}{embedder}"]
        if action in (TUNE, TUNE_RETRAIN):
            index, embedder = seen.refreshed, "/t1"
            seconds += rates.refresh_seconds + rates.chunk_seconds * seen.all_chunks
            seconds += rates.pair_seconds * of.trained_pairs["t1"]
        if action in (REFRESH, BOTH):
            index = seen.refreshed
            seconds += rates.refresh_seconds + rates.chunk_seconds * seen.to_embed
        if action in (RETRAIN, BOTH, TUNE_RETRAIN):
            model = seen.retrained
            seconds += rates.example_seconds * of.trained_examples[model]
        points += 100 * recorded.seen[f"{index}/{model}{embedder}"].score
    return points - price * seconds / 3600


@settings(derandomize=True, deadline=None, max_examples=40)
@given(of=recordings(), rates=rates_of_all_kinds, price=prices)
def test_the_oracle_is_the_best_of_all_sequences_of_actions(of: Recording, rates: Rates, price: float) -> None:
    available = of.steps[0].seen[START.key].actions
    best = max(utility_of(actions, of, rates, price) for actions in product(available, repeat=len(of.steps)))
    best_run = oracle(of, rates, price)
    assert best_run.utility(price) == pytest.approx(best, abs=1e-6)
    assert utility_of([taken.action for taken in best_run.steps], of, rates, price) == pytest.approx(best, abs=1e-6)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(of=recordings(), rates=rates_of_all_kinds, price=prices, name=st.sampled_from([*BUILT_IN, TUNES]))
def test_no_policy_is_better_than_the_oracle(of: Recording, rates: Rates, price: float, name: str) -> None:
    policy = run_policy(of, rates, PolicyParams(name=name))
    assert policy.utility(price) <= oracle(of, rates, price).utility(price) + 1e-6


def test_the_oracle_takes_free_actions_and_none_that_costs_more_than_it_gains() -> None:
    of = recording(step(1, 2, 3, 4), step(1, 2, 3, 4))
    assert oracle(of, RATES, 0.0).steps[0].action is BOTH
    assert [taken.action for taken in oracle(of, RATES, 1000.0).steps] == [NEITHER, NEITHER]


def test_the_oracle_takes_an_action_whose_gain_comes_later() -> None:
    of = recording(step(2, 2, 2, 2), step(2, 4, 2, 4, retrained="m0"))
    assert [taken.action for taken in oracle(of, RATES, 1.0).steps] == [RETRAIN, NEITHER]


def test_the_oracle_pays_for_building_but_not_for_evidence_and_evaluation() -> None:
    [taken] = oracle(recording(step(0, 0, 0, 4)), RATES, 1.0).steps
    assert (taken.action, taken.evidence_seconds, taken.action_seconds) == (BOTH, 0.0, REFRESHING + TRAINING)


# --- scripted policy -----------------------------------------------------------------------------------------------


@dataclass
class Script:
    """A policy that recommends the given actions, one per cycle, and keeps the evidence of each cycle."""

    remaining: list[Action]
    received: list[Evidence] = field(default_factory=list)

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:
        action = self.remaining.pop(0)
        self.received.append(evidence)
        yes, no = (Recommendation(wanted, (Reason.custom("scripted"),)) for wanted in (True, False))
        return Recommendations(
            refresh=yes if action.refreshes and not action.tunes else no,
            retrain=yes if action.retrains else no,
            tune=yes if action.tunes else no,
        )


class Scripted:
    """Runs scripted policies; the rules for all policies apply to them too."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.received: list[Evidence] = []

    def run(self, of: Recording, *actions: Action) -> PolicyRun:
        script = Script(list(actions), self.received)
        self._patch.setattr("ragtide.pipelines.policy.decide.load_policy", lambda _: script)
        return run_policy(of, RATES, PolicyParams(name="scripted"))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    return Scripted(monkeypatch)


def test_each_step_scores_the_state_that_is_live_after_it(scripted: Scripted) -> None:
    of = recording(step(1, 2, 3, 4), step(0, 2, 2, 4, data="s2"), step(0, 0, 1, 3, data="s3"))
    run = scripted.run(of, NEITHER, REFRESH, RETRAIN)
    assert [taken.score for taken in run.steps] == [0.25, 0.5, 0.75]
    assert (run.score, run.retrains) == (0.5, 1)


def test_building_and_evaluation_are_paid_for(scripted: Scripted) -> None:
    steps = [step(1, 1, 1, 1), step(1, 1, 1, 1, data="s2"), step(1, 1, 1, 1, data="s3")]
    run = scripted.run(recording(*steps), REFRESH, RETRAIN, NEITHER)
    # The live state was evaluated before; only the candidate is evaluated again.
    assert [taken.action_seconds for taken in run.steps] == [REFRESHING + RETRIEVED, TRAINING + RETRIEVED, 0.0]


def test_utility_is_the_points_over_all_steps_minus_the_price_of_the_hours(scripted: Scripted) -> None:
    run = scripted.run(recording(step(1, 2, 3, 4)), REFRESH)
    assert run.utility(0.0) == 75.0
    assert run.utility(10.0) == pytest.approx(75.0 - 10.0 * run.seconds / 3600)
    assert run.seconds == run.evidence_seconds + run.steps[0].action_seconds


def test_a_pending_deletion_changes_nothing_and_costs_nothing() -> None:
    of = recording(step(1, 2, 3, 4, evidence=evidence(pending_deletions={"a.md": "1"}, refresh_gain=measure(0.0))))
    [taken] = run_policy(of, RATES, PolicyParams(name="never")).steps
    assert (taken.action, taken.accepted, taken.score, taken.seconds) == (Action.HOLD, False, 0.25, 0.0)


# --- changed facts -------------------------------------------------------------------------------------------------


def test_users_get_the_points_of_the_golden_questions_and_those_of_changed_facts(scripted: Scripted) -> None:
    plain = step(1, 1, 3, 3)
    changed = {key: seen.model_copy(update={"changed_score": 0.5}) for key, seen in plain.seen.items()}
    of = recording(plain, plain.model_copy(update={"seen": changed, "snapshot": "s2"}))
    run = scripted.run(of, NEITHER, REFRESH)
    assert [taken.points for taken in run.steps] == [25.0, 75.0 + 50.0]
    assert [taken.users_score for taken in run.steps] == [0.25, 0.625]
    assert (run.score, run.changed_score, run.utility(0.0)) == (0.5, 0.5, 150.0)
    assert oracle(of, RATES, 0.0).utility(0.0) == 75.0 + 125.0


def test_the_score_on_changed_facts_is_never_part_of_the_evidence(scripted: Scripted) -> None:
    plain = step(1, 1, 3, 3)
    changed = {key: seen.model_copy(update={"changed_score": 0.0}) for key, seen in plain.seen.items()}
    scripted.run(recording(plain), NEITHER)
    scripted.run(recording(plain.model_copy(update={"seen": changed})), NEITHER)
    assert scripted.received[0] == scripted.received[1]


def with_sentences(recorded: RecordedStep, sentences: int) -> RecordedStep:
    """Return the step with so many new sentences for states with the index i0."""

    def at(seen: Seen) -> Seen:
        assert seen.evidence is not None
        new = sentences if seen.state.index == "i0" else 0
        text = seen.evidence.text.model_copy(update={"substantive_sentences": new})
        return seen.model_copy(update={"evidence": seen.evidence.model_copy(update={"text": text})})

    return recorded.model_copy(update={"seen": {key: at(seen) for key, seen in recorded.seen.items()}})


@pytest.mark.parametrize(
    ("max_lag_hours", "expected"),
    [(None, [NEITHER] * 3), (0.0, [REFRESH, NEITHER, NEITHER]), (24.0, [NEITHER, REFRESH, NEITHER])],
)
def test_new_sentences_go_live_when_they_are_due(max_lag_hours: float | None, expected: list[Action]) -> None:
    of = recording(*(with_sentences(step(1, 1, 1, 1, data=data), 1) for data in ("s1", "s2", "s3")))
    run = run_policy(of, RATES, PolicyParams(name="never"), max_lag_hours)
    assert [taken.action for taken in run.steps] == expected


def test_what_is_due_is_known_by_the_text_which_is_paid_for() -> None:
    of = recording(step(1, 1, 1, 1))
    assert run_policy(of, RATES, PolicyParams(name="never"), 0.0).evidence_seconds == pytest.approx(TEXT)
    assert run_policy(of, RATES, PolicyParams(name="never"), None).evidence_seconds == 0.0


# --- parts proven apart --------------------------------------------------------------------------------------------


def test_each_part_is_a_past_decision_of_its_own(scripted: Scripted) -> None:
    of = recording(step(1, 1, 3, 2), step(1, 1, 3, 2, data="s2"))
    run = scripted.run(of, BOTH, NEITHER)
    index, model = scripted.received[1].limits.past
    assert [(past.action, past.accepted, past.recovered_points) for past in (index, model)] == [
        (REFRESH, True, 50.0),
        (RETRAIN, False, -25.0),
    ]
    assert (index.seconds or 0) + (model.seconds or 0) == run.steps[0].action_seconds
    assert [taken.score for taken in run.steps] == [0.75, 0.75]


def test_data_as_at_the_live_release_counts_as_unchanged(scripted: Scripted) -> None:
    changed = ChangeSet(before="s0", after="s1", edited=("a.md",))
    gathered = evidence(snapshot="s1")
    gathered = gathered.model_copy(update={"data": gathered.data.model_copy(update={"changes": changed})})
    of = recording(step(1, 1, 1, 1, evidence=gathered), step(1, 1, 1, 1, evidence=gathered))
    scripted.run(of, REFRESH, NEITHER)
    assert [received.data.changes.is_empty for received in scripted.received] == [False, True]


# --- the gate ------------------------------------------------------------------------------------------------------


def test_a_rejected_candidate_is_paid_for_and_does_not_go_live(scripted: Scripted) -> None:
    of = recording(step(3, 3, 1, 4), step(3, 0, 0, 0, data="s2"))
    first, second = scripted.run(of, REFRESH, NEITHER).steps
    assert (first.action, first.accepted) == (REFRESH, False)
    assert first.action_seconds == REFRESHING + RETRIEVED
    assert (first.score, second.score) == (0.75, 0.75)


def test_the_gate_uses_the_golden_questions_and_not_the_true_ones(scripted: Scripted) -> None:
    plain = step(1, 1, 3, 3)
    worse = plain.seen["i1/m0"].model_copy(update={"score": 0.0})
    changed = plain.model_copy(update={"seen": plain.seen | {"i1/m0": worse}})
    [taken] = scripted.run(recording(changed), REFRESH).steps
    assert (taken.accepted, taken.score) == (True, 0.0)


def test_a_rejected_action_is_not_repeated_on_the_same_data(scripted: Scripted) -> None:
    same = recording(step(3, 3, 1, 4), step(3, 3, 1, 4), step(3, 3, 4, 4, data="s2"))
    run = scripted.run(same, REFRESH, REFRESH, REFRESH)
    assert [taken.action for taken in run.steps] == [REFRESH, NEITHER, REFRESH]
    assert [list(received.limits.rejected_actions) for received in scripted.received] == [[], [REFRESH], []]
    assert [taken.accepted for taken in run.steps] == [False, False, True]


def test_an_accepted_action_may_be_repeated_on_the_same_data(scripted: Scripted) -> None:
    run = scripted.run(recording(step(1, 1, 1, 1), step(1, 1, 1, 1)), REFRESH, REFRESH)
    assert [taken.action for taken in run.steps] == [REFRESH, REFRESH]


# --- tuning the embedder -------------------------------------------------------------------------------------------


def ranked(seen: Seen, ndcg10: float) -> Seen:
    """Return the state with the given nDCG@10."""
    metrics = {"hybrid": RetrievalMetrics(k=2, recall=1.0, ndcg10=ndcg10, mrr10=1.0, n=QUESTIONS)}
    return seen.model_copy(update={"scorecard": seen.scorecard.model_copy(update={"retrieval": metrics})})


def test_the_oracle_tunes_only_with_enough_pairs() -> None:
    plain = step(1, 1, 1, 1)
    assert oracle(recording(plain), RATES, 0.0).steps[0].action is NEITHER
    assert oracle(recording(tuning(4, plain)), RATES, 0.0).steps[0].action is TUNE


def test_tuning_is_paid_for_by_pairs_and_by_all_chunks(scripted: Scripted) -> None:
    steps = [tuning(4, step(1, 1, 1, 1)), tuning(4, step(1, 1, 1, 1, data="s2"))]
    run = scripted.run(recording(*steps), TUNE, TUNE_RETRAIN)
    assert [taken.action_seconds for taken in run.steps] == [TUNED + RETRIEVED, TUNED + TRAINING + RETRIEVED]
    assert [taken.score for taken in run.steps] == [1.0, 1.0]
    [best] = oracle(recording(steps[0]), RATES, 0.0).steps
    assert (best.action, best.action_seconds) == (TUNE, TUNED)


def test_the_forecast_of_tuning_is_learned_from_its_cost(scripted: Scripted) -> None:
    steps = [tuning(4, step(1, 1, 1, 1)), tuning(4, step(1, 1, 1, 1, data="s2"))]
    scripted.run(recording(*steps), TUNE, NEITHER)
    first, second = (received.limits.costs for received in scripted.received)
    assert 0 < first.tune_seconds < second.tune_seconds
    assert second.tune_seconds == pytest.approx(TUNED, rel=1e-2)


def test_a_refresh_keeps_the_tuned_embedder(scripted: Scripted) -> None:
    later = tuning(2, step(1, 1, 1, 1, data="s2"))
    again = {key: seen.model_copy(update={"refreshed": "i0"}) for key, seen in later.seen.items()}
    better = again | {"i0/m0/t1": again["i0/m0/t1"].model_copy(update={"score": 0.75})}
    of = recording(tuning(2, step(1, 1, 1, 1)), later.model_copy(update={"seen": better}))
    assert [taken.score for taken in scripted.run(of, TUNE, REFRESH).steps] == [0.5, 0.75]


@pytest.mark.parametrize(("ndcg10", "accepted"), [(0.9, True), (0.5, False)])
def test_an_embedder_that_ranks_worse_is_rejected_whatever_the_answers(
    ndcg10: float, accepted: bool, scripted: Scripted
) -> None:
    offered = tuning(4, step(1, 1, 1, 1))
    seen = {key: ranked(state, ndcg10 if state.state.tuned_embedder else 0.9) for key, state in offered.seen.items()}
    [taken] = scripted.run(recording(offered.model_copy(update={"seen": seen})), TUNE).steps
    assert (taken.action, taken.accepted, taken.score) == (TUNE, accepted, 1.0 if accepted else 0.25)


def test_the_evidence_policy_tunes_where_it_is_worth_the_cost() -> None:
    of = recording(tuning(4, step(1, 1, 1, 1, score=0.25)))
    cheap = RATES.model_copy(update={"pair_seconds": 0.001})
    [taken] = run_policy(of, cheap, PolicyParams(points_per_hour=50)).steps
    assert taken.action.tunes


@pytest.mark.parametrize("name", SIGNALS_READ)
def test_policies_without_that_signal_do_not_tune_the_embedder(name: str) -> None:
    [taken] = run_policy(recording(tuning(4, step(1, 1, 1, 1))), RATES, PolicyParams(name=name)).steps
    assert not taken.action.tunes


# --- cost of the evidence ------------------------------------------------------------------------------------------


def test_each_prompt_is_paid_for_once_in_a_run(scripted: Scripted) -> None:
    of = recording(step(1, 1, 1, 1), step(1, 1, 1, 1), step(1, 1, 1, 1))
    run = scripted.run(of, NEITHER, REFRESH, REFRESH)
    again = TEXT + VECTORS
    # In the second cycle nothing has changed, so the evidence of the first is used again. The third cycle assesses
    # i1/m0, whose answers were paid for by its evaluation and whose model is unchanged.
    first = RETRIEVED + GOLD + LOSSES + again
    assert [taken.evidence_seconds for taken in run.steps] == pytest.approx([first, 0.0, again])
    assert [taken.action_seconds for taken in run.steps] == [0.0, REFRESHING + RETRIEVED, REFRESHING]


def test_prompts_on_other_data_or_to_another_model_are_paid_for_again(scripted: Scripted) -> None:
    of = recording(step(1, 1, 1, 1), step(1, 1, 1, 1), step(1, 1, 1, 1, data="s2"))
    run = scripted.run(of, RETRAIN, NEITHER, NEITHER)
    asking = [taken.evidence_seconds - TEXT - VECTORS for taken in run.steps[1:]]
    assert asking == pytest.approx([GOLD + LOSSES, RETRIEVED + GOLD + LOSSES])


def test_prompts_of_the_first_release_are_not_paid_for(scripted: Scripted) -> None:
    of = recording(step(1, 1, 1, 1), opened=asked(START, "s1"))
    [taken] = scripted.run(of, REFRESH).steps
    assert taken.evidence_seconds == pytest.approx(TEXT + VECTORS)
    assert taken.action_seconds == REFRESHING + RETRIEVED


def test_a_prompt_of_two_signals_is_paid_for_once(scripted: Scripted) -> None:
    both = Asked(retrieved=("the same", "another"), gold=("the same",))
    [taken] = scripted.run(recording(step(1, 1, 1, 1, asked=both)), NEITHER).steps
    assert taken.evidence_seconds == pytest.approx(2 * RATES.answer_seconds + TEXT + VECTORS)


EVIDENCE_SECONDS = {
    "always": 0.0,
    "never": 0.0,
    "periodic": 0.0,
    "amount": 0.0,
    "modyn": 0.0,
    "cusum": RETRIEVED,
    "cara": RETRIEVED,
    "drift": LOSSES + VECTORS,
    "evidence": RETRIEVED + GOLD + LOSSES + TEXT + VECTORS,
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_policy_pays_for_the_signals_that_it_reads(name: str) -> None:
    [taken] = run_policy(recording(step(1, 1, 1, 1)), RATES, PolicyParams(name=name)).steps
    assert taken.evidence_seconds == pytest.approx(EVIDENCE_SECONDS[name])


SIGNALS = {
    "retrieved": ("score_retrieved", "index_gap", "refresh_gain", "embedder_gap", "malformed_share"),
    "gold": ("score_gold", "model_gap"),
    "losses": ("excess_loss",),
    "text": ("changed_sentence_share", "stale_facts", "resurfaced_deletions", "vocabulary"),
    "vectors": ("novelty", "shift"),
}
PAST_FIELDS = {"retrieved": ("score", "index_gap"), "gold": ("model_gap",), "vectors": ("shift",)}


@settings(derandomize=True, deadline=None, max_examples=10)
@given(value=st.sampled_from([0.0, 0.05, 0.2, 0.9]), was=st.sampled_from([0.1, 0.5, 1.0]), cycles=st.integers(0, 4))
@pytest.mark.parametrize("name", SIGNALS_READ)
def test_a_policy_does_not_depend_on_signals_that_it_does_not_pay_for(
    name: str, value: float, was: float, cycles: int
) -> None:
    unpaid = SIGNALS.keys() - SIGNALS_READ[name]
    before = [past("NOTHING", score=was, shift=was, changed_share=was, index_gap=was, model_gap=was)] * cycles
    seen = evidence(past=tuple(before), **{name: measure(value) for names in SIGNALS.values() for name in names})
    blank = {name: Measure.unmeasured("not paid for") for kind in unpaid for name in SIGNALS[kind]}
    gone = {field: None for what, fields in PAST_FIELDS.items() if what in unpaid for field in fields}
    history = tuple(decision.model_copy(update=gone) for decision in before)
    blind = with_signals(seen, **(blank | {"past": history}))
    assert recommendations(name, blind) == recommendations(name, seen)


def recommendations(name: str, seen: Evidence) -> list[bool]:
    params = PolicyParams(name=name)
    choice = load_policy(name).choose(seen, weigh_components(seen, params), params)
    return [choice.refresh.wanted, choice.retrain.wanted]


def test_only_built_in_policies_read_fewer_signals() -> None:
    assert SIGNALS_READ.keys() == BUILT_IN.keys() - {"evidence"}


def test_a_policy_without_evidence_pays_for_what_is_live_and_for_the_candidate_of_each_part() -> None:
    [taken] = run_policy(recording(step(1, 1, 1, 1)), RATES, PolicyParams(name="always")).steps
    assert (taken.action, taken.action_seconds) == (BOTH, REFRESHING + TRAINING + 3 * RETRIEVED)


# --- history -------------------------------------------------------------------------------------------------------


def test_the_next_decision_sees_the_history_of_the_run(scripted: Scripted) -> None:
    of = recording(step(1, 1, 3, 3), step(1, 1, 3, 3, data="s2"), step(1, 1, 3, 3, data="s3"))
    run = scripted.run(of, REFRESH, NEITHER, NEITHER)
    first, second, third = (received.limits.past for received in scripted.received)
    [done, left] = third
    assert (first, second) == ((), (done,))
    assert (done.action, done.accepted, done.score) == (REFRESH, True, 0.25)
    # A refresh_gain of 0.1 means 10 expected points; 1 of 4 correct answers became 3 of 4.
    assert (done.expected_points, done.recovered_points) == (10.0, 50.0)
    assert (done.changed_share, done.seconds) == (0.1, run.steps[0].action_seconds)
    assert (left.action, left.accepted, left.score, left.recovered_points) == (NEITHER, False, 0.75, None)


def test_the_history_of_a_run_is_read_like_that_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([REFRESH, RETRAIN])
    monkeypatch.setattr("ragtide.pipelines.policy.decide.load_policy", lambda _: script)
    runner = PolicyRunner.at_start(recording(step(1, 1, 3, 3), step(1, 1, 3, 0, data="s2")), RATES, PolicyParams())
    for number, recorded in enumerate(runner.recording.steps, start=1):
        before = past_decisions(runner.history)
        runner.take(number, recorded)
        assert script.received[-1].limits.past == before
    last = runner.history[-1]
    assert [past_decision.cycle for past_decision in past_decisions(runner.history)] == ["cycle-1", "cycle-2"]
    assert (last.outcome, last.release, last.snapshot, runner.state.key) == (Outcome.REJECTED, None, "s2", "i1/m0")
    assert past_decisions(runner.history)[-1].recovered_points == -75.0


def test_a_forecast_is_compared_with_the_actual_seconds_from_the_second_step_on(scripted: Scripted) -> None:
    of = recording(step(1, 1, 1, 1), step(1, 1, 1, 1, data="s2"))
    run = scripted.run(of, REFRESH, NEITHER)
    first, second = (received.limits.costs for received in scripted.received)
    actual = run.steps[0].action_seconds
    forecast = first.refresh_seconds + first.prove_seconds
    assert (first.error_share, first.error_runs, second.error_runs) == (None, 0, 1)
    assert second.error_share == pytest.approx(abs(round(forecast, 1) - actual) / actual, abs=1e-4)


def test_costs_are_learned_from_the_actual_seconds(scripted: Scripted) -> None:
    scripted.run(recording(step(1, 1, 1, 1), step(1, 1, 1, 1, data="s2")), REFRESH, NEITHER)
    first, second = (received.limits.costs for received in scripted.received)
    # The first release was trained, so the training rate is known from the start.
    assert first.retrain_seconds == TRAINING
    assert first.refresh_seconds < second.refresh_seconds == pytest.approx(REFRESHING, rel=1e-3)


# --- clear-cut steps -----------------------------------------------------------------------------------------------


def taken(action: Action, right: tuple[Action, ...] | None) -> StepResult:
    return StepResult(action, right, accepted=True, score=1.0, evidence_seconds=0.0, action_seconds=0.0)


def test_only_clear_cut_steps_are_counted() -> None:
    first = PolicyRun((taken(REFRESH, None), taken(REFRESH, (REFRESH,)), taken(BOTH, (REFRESH,))))
    second = PolicyRun((taken(NEITHER, (Action.HOLD, NEITHER)), taken(RETRAIN, (RETRAIN, BOTH))))
    assert clear_cut([first, second]) == (3, 4)
    assert clear_cut([]) == (0, 0)


def test_a_run_has_the_right_actions_of_each_step(scripted: Scripted) -> None:
    run = scripted.run(recording(step(1, 1, 3, 3, should=(REFRESH,)), step(1, 1, 3, 3)), REFRESH, REFRESH)
    assert clear_cut([run]) == (1, 1)
