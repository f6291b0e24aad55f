"""Is the retriever tuned where it fails, can learn, and pays, and does everything else decide as before without it?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.decide import decide
from ragtide.pipelines.policy.weigh import tune_gain
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Costs, Evidence, Measure
from ragtide.pipelines.records.reason import ReasonCode
from tests.factories import UNMOVED, delta, evidence, measure, option_of, past, values_of, with_signals

law = settings(derandomize=True, deadline=None, max_examples=60)
PARAMS = PolicyParams()
COSTS = Costs(refresh_seconds=10, retrain_seconds=300, prove_seconds=20, tune_seconds=100, source="prior")
NO_GAP, WON, LOST = measure(0.0), {"recovered_points": 20.0}, {"recovered_points": 0.0}


def misses(**signals: Any) -> Evidence:
    """Rows and model are right; of a hundred questions forty have an answer that is not brought up."""
    usual: dict[str, Any] = {
        "delta": UNMOVED,
        "refresh_gain": NO_GAP,
        "index_gap": measure(0.4),
        "embedder_gap": measure(0.4),
        "pairs": 400,
        "min_pairs": 32,
        "costs": COSTS,
        "examples": 0,
    }
    return evidence(**(usual | signals))


def test_where_only_a_better_retriever_can_win_it_is_tuned() -> None:
    decision = decide(misses(), PARAMS)
    assert decision.action == Action.TUNE_EMBEDDER
    reasons = option_of(decision, Action.TUNE_EMBEDDER).reasons
    assert values_of(reasons, ReasonCode.EMBEDDER_GAP) == {"points": 40}
    assert values_of(reasons, ReasonCode.NEW_PAIRS) == {"share": 1.0, "pairs": 400}
    chosen = option_of(decision, Action.TUNE_EMBEDDER)
    # Half of the gap, as long as no run has told better; training, every row anew, and the proof.
    assert (chosen.gain_points, chosen.gap_points, chosen.cost_seconds) == (20.0, 40.0, 120.0)


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ({"embedder_gap": NO_GAP}, ReasonCode.NO_EMBEDDER_GAP),
        ({"embedder_gap": Measure.unmeasured("all are missing")}, ReasonCode.EMBEDDER_GAP_UNMEASURED),
        ({"pairs": 31}, ReasonCode.TOO_FEW_PAIRS),
        ({"new_pairs": 0.0}, ReasonCode.SAME_PAIRS),
        ({"rejected_actions": {Action.TUNE_EMBEDDER: "the gate"}}, ReasonCode.REJECTED_BEFORE),
        ({"costs": COSTS.model_copy(update={"tune_seconds": 90_000})}, ReasonCode.EMBEDDER_GAP),
    ],
)
def test_it_is_left_where_it_cannot_learn_or_does_not_pay(signals: dict[str, Any], code: ReasonCode) -> None:
    decision = decide(misses(**signals), PARAMS)
    assert decision.action == Action.NOTHING
    tune = option_of(decision, Action.TUNE_EMBEDDER)
    assert (tune.worth_it, tune.reasons[0].code) == (False, code)


def test_over_the_weeks_budget_it_waits() -> None:
    decision = decide(misses(spent_hours=1.0), PARAMS.model_copy(update={"budget_hours_per_week": 1.0}))
    assert decision.action == Action.NOTHING
    assert option_of(decision, Action.TUNE_EMBEDDER).reasons[0].code is ReasonCode.OVER_BUDGET


def test_new_rows_are_part_of_it_and_a_retrain_goes_beside_it() -> None:
    stale = {"delta": delta(), "refresh_gain": measure(0.1)}
    decision = decide(misses(**stale), PARAMS)
    assert decision.action == Action.TUNE_EMBEDDER
    both = option_of(decision, Action.TUNE_EMBEDDER)
    assert both.gain_points == pytest.approx(20.0 + option_of(decision, Action.REFRESH).gain_points)
    weak = decide(misses(**stale, examples=100, score_gold=measure(0.5), model_gap=measure(0.45)), PARAMS)
    assert weak.action == Action.TUNE_EMBEDDER.with_retrain()
    assert option_of(weak, Action.TUNE_EMBEDDER.with_retrain()).cost_seconds == 420.0


def test_other_settings_of_the_index_come_first() -> None:
    anew = delta(to_embed=10).model_copy(update={"rebuild": "the rows were made with another embedder"})
    decision = decide(misses(delta=anew), PARAMS)
    assert decision.action == Action.REBUILD
    assert option_of(decision, Action.TUNE_EMBEDDER).reasons[0].code is ReasonCode.REBUILD_FIRST


@pytest.mark.parametrize(
    ("limit", "approved", "action"),
    [
        (500, (), Action.TUNE_EMBEDDER),
        (50, (), Action.REFRESH),
        (50, (Action.TUNE_EMBEDDER,), Action.TUNE_EMBEDDER),
        (5, (), Action.HOLD),
    ],
)
def test_above_the_limit_it_waits_and_the_refresh_goes_ahead(
    limit: float, approved: tuple[Action, ...], action: Action
) -> None:
    world = misses(delta=delta(), refresh_gain=measure(0.1), approved_actions=approved)
    decision = decide(world, PARAMS.model_copy(update={"approve_above_seconds": limit}))
    assert decision.action == action
    assert decision.proposed == (None if action == Action.TUNE_EMBEDDER else Action.TUNE_EMBEDDER)


def test_it_learns_from_what_tuning_brought_and_from_nothing_else() -> None:
    first = decide(misses(), PARAMS)
    others = decide(misses(past=(past("REFRESH", **LOST), past("RETRAIN", **LOST))), PARAMS)
    won = decide(misses(past=(past("TUNE_EMBEDDER", **WON),)), PARAMS)
    lost = decide(misses(past=(past("TUNE_EMBEDDER", **LOST),)), PARAMS)
    gains = [option_of(one, Action.TUNE_EMBEDDER).gain_points for one in (lost, first, others, won)]
    assert gains[0] < gains[1] == gains[2] < gains[3]


@law
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_fewer_pairs_are_new_the_less_is_to_be_gained(share: float, other: float) -> None:
    few, many = sorted((share, other))
    little, much = tune_gain(misses(new_pairs=few)), tune_gain(misses(new_pairs=many))
    assert little is not None
    assert much is not None
    assert little.points <= much.points


@law
@given(st.floats(0, 1), st.booleans())
def test_who_cannot_tune_decides_as_if_there_was_no_such_action(gap: float, released: bool) -> None:
    world = misses(embedder_gap=measure(round(gap, 3)), live_release="1" if released else None)
    cannot = with_signals(world, **{"pairs": None})
    decision = decide(cannot, PARAMS)
    assert not any(one.action.tunes for one in decision.options)
    assert decision == decide(with_signals(cannot, **{"min_pairs": 9, "new_pairs": 0.5}), PARAMS)
    if not released:
        assert decide(world, PARAMS).options == decision.options


@pytest.mark.parametrize("name", ["always", "never", "periodic", "amount", "drift", "cusum", "cara", "modyn"])
def test_policies_that_know_nothing_of_it_leave_it_alone(name: str) -> None:
    decision = decide(misses(), PARAMS.model_copy(update={"name": name}))
    assert not any(one.action.tunes for one in decision.options)
