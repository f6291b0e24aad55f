"""Tests of decisions to tune the embedder."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.weigh import tune_gain
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Costs, Evidence, Measure
from ragtide.pipelines.records.reason import ReasonCode
from tests.factories import UNCHANGED, UNMOVED, delta, evidence, measure, option_of, past, values_of, with_signals

law = settings(derandomize=True, deadline=None, max_examples=60)
PARAMS = PolicyParams()
COSTS = Costs(refresh_seconds=10, retrain_seconds=300, prove_seconds=20, tune_seconds=100, source="prior")
REFRESH_AND_TUNE = Action.REFRESH | Action.TUNE_EMBEDDER
NO_GAP, WON, LOST = measure(0.0), {"recovered_points": 20.0}, {"recovered_points": 0.0}


def with_embedder_gap(**signals: Any) -> Evidence:
    """Evidence of a current index and model where retrieval misses 40 % of the answers."""
    defaults: dict[str, Any] = {
        "delta": UNMOVED,
        "refresh_gain": NO_GAP,
        "index_gap": measure(0.4),
        "embedder_gap": measure(0.4),
        "pairs": 400,
        "min_pairs": 32,
        "costs": COSTS,
        "examples": 0,
    }
    return evidence(**(defaults | signals))


def test_the_embedder_is_tuned_when_only_retrieval_can_improve() -> None:
    decision = make_decision(with_embedder_gap(), PARAMS)
    assert decision.action == Action.TUNE_EMBEDDER
    reasons = option_of(decision, Action.TUNE_EMBEDDER).reasons
    assert values_of(reasons, ReasonCode.EMBEDDER_GAP) == {"points": 40}
    assert values_of(reasons, ReasonCode.NEW_PAIRS) == {"share": 1.0, "pairs": 400}
    chosen = option_of(decision, Action.TUNE_EMBEDDER)
    # Half of the gap, the prior without past runs; the cost of tuning, re-embedding every row and evaluation.
    assert (chosen.gain_points, chosen.gap_points, chosen.cost_seconds) == (20.0, 40.0, 120.0)


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ({"embedder_gap": NO_GAP}, ReasonCode.NO_EMBEDDER_GAP),
        ({"embedder_gap": Measure.unmeasured("all are missing")}, ReasonCode.EMBEDDER_GAP_UNMEASURED),
        ({"pairs": 31}, ReasonCode.TOO_FEW_PAIRS),
        ({"new_pairs": 0.0}, ReasonCode.SAME_PAIRS),
        ({"rejected_actions": {Action.TUNE_EMBEDDER: "the gate"}}, ReasonCode.REJECTED_BEFORE),
        ({"changes": UNCHANGED}, ReasonCode.TUNES_WITH_CHANGES),
        ({"costs": COSTS.model_copy(update={"tune_seconds": 90_000})}, ReasonCode.EMBEDDER_GAP),
    ],
)
def test_the_embedder_is_not_tuned_without_gap_pairs_or_benefit(signals: dict[str, Any], code: ReasonCode) -> None:
    decision = make_decision(with_embedder_gap(**signals), PARAMS)
    assert decision.action == Action.NOTHING
    tune = option_of(decision, Action.TUNE_EMBEDDER)
    assert (tune.worth_it, tune.reasons[0].code) == (False, code)


def test_looking_again_never_flips_the_decision_and_other_states_of_the_data_do() -> None:
    gap = with_embedder_gap(embedder_gap=measure(0.4, low=0.005), snapshot="s1")
    look = past("NOTHING", accepted=False, index_gap=0.4)

    def decide(*snapshots: str) -> Action:
        seen = tuple(look.model_copy(update={"snapshot": snapshot}) for snapshot in snapshots)
        return make_decision(with_signals(gap, past=seen), PARAMS.model_copy(update={"gain_lasts_cycles": 1.0})).action

    assert {decide(*["s1"] * looks) for looks in (0, 1, 7, 100)} == {Action.NOTHING}
    assert decide(*(f"s{number}" for number in range(2, 20))) == Action.TUNE_EMBEDDER


def test_tuning_waits_when_the_weekly_budget_is_spent() -> None:
    decision = make_decision(
        with_embedder_gap(spent_hours=1.0), PARAMS.model_copy(update={"budget_hours_per_week": 1.0})
    )
    assert decision.action == Action.NOTHING
    assert option_of(decision, Action.TUNE_EMBEDDER).reasons[0].code is ReasonCode.OVER_BUDGET


def test_what_the_documents_say_does_not_wait_for_a_tuning_or_a_training() -> None:
    stale = {"delta": delta(), "refresh_gain": measure(0.1)}
    decision = make_decision(with_embedder_gap(**stale), PARAMS)
    assert decision.action.parts == (Action.REFRESH, Action.TUNE_EMBEDDER)
    assert option_of(decision, Action.TUNE_EMBEDDER).gain_points == 20.0
    both = option_of(decision, REFRESH_AND_TUNE)
    assert both.gain_points == pytest.approx(20.0 + option_of(decision, Action.REFRESH).gain_points)
    # Refresh, tuning, and one proof of each answer.
    assert (both.worth_it, both.cost_seconds) == (True, 130.0)
    weak = make_decision(
        with_embedder_gap(**stale, examples=100, score_gold=measure(0.5), model_gap=measure(0.45)), PARAMS
    )
    assert weak.action.parts == (Action.REFRESH, Action.TUNE_EMBEDDER, Action.RETRAIN)
    assert option_of(weak, REFRESH_AND_TUNE.with_retrain()).cost_seconds == 430.0


def test_the_weekly_budget_of_a_tuning_counts_the_refresh_before_it() -> None:
    stale = with_embedder_gap(delta=delta(), refresh_gain=measure(0.1))

    def decide(hours: float) -> Action:
        return make_decision(stale, PARAMS.model_copy(update={"budget_hours_per_week": hours})).action

    assert [decide(seconds / 3600) for seconds in (20, 125, 131)] == [Action.NOTHING, Action.REFRESH, REFRESH_AND_TUNE]


def test_an_approved_tuning_follows_the_refresh_that_went_ahead() -> None:
    waiting = with_embedder_gap(changes=UNCHANGED, approved_actions=(Action.TUNE_EMBEDDER,))
    assert make_decision(waiting, PARAMS).action == Action.TUNE_EMBEDDER


def test_a_needed_rebuild_comes_before_tuning() -> None:
    rebuilding = delta(to_embed=10).model_copy(update={"rebuild": "the index was built with another embedder"})
    decision = make_decision(with_embedder_gap(delta=rebuilding), PARAMS)
    assert decision.action == Action.REBUILD
    assert option_of(decision, Action.TUNE_EMBEDDER).reasons[0].code is ReasonCode.REBUILD_FIRST


@pytest.mark.parametrize(
    ("limit", "approved", "action"),
    [
        (500, (), REFRESH_AND_TUNE),
        (50, (), Action.REFRESH),
        (50, (REFRESH_AND_TUNE,), REFRESH_AND_TUNE),
        (5, (), Action.HOLD),
    ],
)
def test_above_the_cost_limit_tuning_waits_for_approval_and_the_refresh_goes_ahead(
    limit: float, approved: tuple[Action, ...], action: Action
) -> None:
    world = with_embedder_gap(delta=delta(), refresh_gain=measure(0.1), approved_actions=approved)
    decision = make_decision(world, PARAMS.model_copy(update={"approve_above_seconds": limit}))
    assert decision.action == action
    assert decision.proposed == (None if action == REFRESH_AND_TUNE else REFRESH_AND_TUNE)


def test_the_expected_gain_depends_only_on_past_tuning() -> None:
    first = make_decision(with_embedder_gap(), PARAMS)
    others = make_decision(with_embedder_gap(past=(past("REFRESH", **LOST), past("RETRAIN", **LOST))), PARAMS)
    won = make_decision(with_embedder_gap(past=(past("TUNE_EMBEDDER", **WON),)), PARAMS)
    lost = make_decision(with_embedder_gap(past=(past("TUNE_EMBEDDER", **LOST),)), PARAMS)
    gains = [option_of(decision, Action.TUNE_EMBEDDER).gain_points for decision in (lost, first, others, won)]
    assert gains[0] < gains[1] == gains[2] < gains[3]


@law
@given(st.floats(0, 1), st.floats(0, 1))
def test_fewer_new_pairs_never_increase_the_expected_gain(share: float, other: float) -> None:
    few, many = sorted((share, other))
    little, much = tune_gain(with_embedder_gap(new_pairs=few)), tune_gain(with_embedder_gap(new_pairs=many))
    assert little is not None
    assert much is not None
    assert little.points <= much.points


@law
@given(st.floats(0, 1), st.booleans())
def test_without_tuning_pairs_there_is_no_tuning_action(gap: float, released: bool) -> None:
    world = with_embedder_gap(embedder_gap=measure(round(gap, 3)), live_release="1" if released else None)
    without_pairs = with_signals(world, **{"pairs": None})
    decision = make_decision(without_pairs, PARAMS)
    assert not any(option.action.tunes for option in decision.options)
    assert decision == make_decision(with_signals(without_pairs, **{"min_pairs": 9, "new_pairs": 0.5}), PARAMS)
    if not released:
        assert make_decision(world, PARAMS).options == decision.options


@pytest.mark.parametrize("name", ["always", "never", "periodic", "amount", "drift", "cusum", "cara", "modyn"])
def test_the_baseline_policies_never_tune(name: str) -> None:
    decision = make_decision(with_embedder_gap(), PARAMS.model_copy(update={"name": name}))
    assert not any(option.action.tunes for option in decision.options)
