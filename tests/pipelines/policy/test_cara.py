"""Tests of the policy "cara": action once the lost points reach the price of both components."""

from __future__ import annotations

from typing import Any

import pytest

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.baselines import Cara
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Costs, Measure, PastDecision
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import delta, evidence, measure

# 60 + 240 + 60 s for both components with one evaluation are a tenth of an hour.
COSTS = Costs(refresh_seconds=60, retrain_seconds=240, prove_seconds=60, source="prior")


def without_action(*scores: float | None) -> tuple[PastDecision, ...]:
    return tuple(PastDecision(cycle="c", action=Action.NOTHING, accepted=True, score=score) for score in scores)


def with_action(score: float, recovered: float | None = None, **fields: Any) -> PastDecision:
    defaults = {"cycle": "c", "action": Action.RETRAIN, "accepted": True}
    return PastDecision(**(defaults | fields), score=score, recovered_points=recovered)


def choose(
    past: tuple[PastDecision, ...], now: float | None, points_per_hour: float = 100, **signals: Any
) -> Recommendations:
    params = PolicyParams(points_per_hour=points_per_hour)
    score = Measure.unmeasured("no questions") if now is None else measure(now)
    observed = evidence(**({"past": past, "score_retrieved": score, "costs": COSTS} | signals))
    return Cara().choose(observed, weigh_components(observed, params), params)


@pytest.mark.parametrize(
    ("past", "now", "wanted"),
    [
        ((), 0.1, False),
        (without_action(0.9), 0.81, False),
        (without_action(0.9), 0.8, True),
        (without_action(0.9, 0.87, 0.87, 0.87), 0.9, False),
        (without_action(0.9, 0.87, 0.87, 0.87), 0.89, True),
        (without_action(0.9, 0.85, 1.0), 0.85, True),
        (without_action(0.9, None, 0.75), None, True),
    ],
)
def test_both_components_are_wanted_once_the_lost_points_reach_their_price(
    past: tuple[PastDecision, ...], now: float | None, wanted: bool
) -> None:
    choice = choose(past, now)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (wanted, wanted)


@pytest.mark.parametrize(("points_per_hour", "wanted"), [(99, True), (100, True), (101, False)])
def test_a_higher_price_per_hour_requires_more_lost_points(points_per_hour: float, wanted: bool) -> None:
    assert choose(without_action(0.9), 0.8, points_per_hour).refresh.wanted is wanted


def test_an_action_in_effect_resets_the_lost_points() -> None:
    assert not choose((*without_action(0.9, 0.7), with_action(0.7)), 0.69).refresh.wanted
    assert choose((*without_action(0.9, 0.7), with_action(0.7, rolled_back=True)), 0.69).refresh.wanted


def test_lost_points_are_counted_from_the_score_right_after_the_action() -> None:
    assert choose((with_action(0.7, recovered=20.0),), 0.8).refresh.wanted
    assert not choose((with_action(0.7, recovered=19.0),), 0.8).refresh.wanted


def test_a_needed_rebuild_is_priced_instead_of_a_refresh() -> None:
    rebuilding = delta().model_copy(update={"rebuild": "the index was built with another embedder"})
    assert choose(without_action(0.9), 0.8, delta=rebuilding).refresh.wanted
    rebuild = weigh_components(evidence(delta=rebuilding, costs=COSTS), PolicyParams()).refresh
    assert rebuild.action == Action.REBUILD


def test_the_reasons_give_the_lost_points_and_the_price() -> None:
    refresh = choose(without_action(0.9), 0.85).refresh
    assert refresh.reasons == (Reason.of(ReasonCode.STALENESS_COST, points=5.0, price=10.0),)
    assert refresh.counterfactual == Reason.of(ReasonCode.IF_QUANTITY, quantity="staleness_cost", limit=10.0)


def test_a_missing_score_is_given_as_the_reason() -> None:
    assert choose((), None).refresh.reasons == (Reason.of(ReasonCode.SCORE_UNMEASURED),)
