"""Does cost-aware retraining act once the points that were lost pay for both halves, and not before?"""

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

# 60 + 240 + 60 s of both halves with one proof are a tenth of an hour.
COSTS = Costs(refresh_seconds=60, retrain_seconds=240, prove_seconds=60, source="prior")


def quiet(*scores: float | None) -> tuple[PastDecision, ...]:
    return tuple(PastDecision(cycle="c", action=Action.NOTHING, accepted=True, score=score) for score in scores)


def acted(score: float, recovered: float | None = None, **fields: Any) -> PastDecision:
    usual = {"cycle": "c", "action": Action.RETRAIN, "accepted": True}
    return PastDecision(**(usual | fields), score=score, recovered_points=recovered)


def choose(
    past: tuple[PastDecision, ...], now: float | None, points_per_hour: float = 100, **signals: Any
) -> Recommendations:
    params = PolicyParams(points_per_hour=points_per_hour)
    score = Measure.unmeasured("no questions") if now is None else measure(now)
    seen = evidence(**({"past": past, "score_retrieved": score, "costs": COSTS} | signals))
    return Cara().choose(seen, weigh_components(seen, params), params)


@pytest.mark.parametrize(
    ("past", "now", "wanted"),
    [
        ((), 0.1, False),
        (quiet(0.9), 0.81, False),
        (quiet(0.9), 0.8, True),
        (quiet(0.9, 0.87, 0.87, 0.87), 0.9, False),
        (quiet(0.9, 0.87, 0.87, 0.87), 0.89, True),
        (quiet(0.9, 0.85, 1.0), 0.85, True),
        (quiet(0.9, None, 0.75), None, True),
    ],
)
def test_both_halves_are_wanted_once_the_lost_points_reach_their_price(
    past: tuple[PastDecision, ...], now: float | None, wanted: bool
) -> None:
    choice = choose(past, now)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (wanted, wanted)


@pytest.mark.parametrize(("points_per_hour", "wanted"), [(99, True), (100, True), (101, False)])
def test_a_dearer_hour_waits_for_more_loss(points_per_hour: float, wanted: bool) -> None:
    assert choose(quiet(0.9), 0.8, points_per_hour).refresh.wanted is wanted


def test_an_action_that_stands_clears_the_debt() -> None:
    assert not choose((*quiet(0.9, 0.7), acted(0.7)), 0.69).refresh.wanted
    assert choose((*quiet(0.9, 0.7), acted(0.7, rolled_back=True)), 0.69).refresh.wanted


def test_what_is_lost_is_counted_from_the_score_right_after_the_action() -> None:
    assert choose((acted(0.7, recovered=20.0),), 0.8).refresh.wanted
    assert not choose((acted(0.7, recovered=19.0),), 0.8).refresh.wanted


def test_where_the_index_is_made_anew_it_is_the_rebuild_that_is_priced_and_named() -> None:
    anew = delta().model_copy(update={"rebuild": "the index was built with another embedder"})
    assert choose(quiet(0.9), 0.8, delta=anew).refresh.wanted
    rebuild = weigh_components(evidence(delta=anew, costs=COSTS), PolicyParams()).refresh
    assert rebuild.action == Action.REBUILD


def test_it_tells_the_loss_and_the_price() -> None:
    told = choose(quiet(0.9), 0.85).refresh
    assert told.reasons == (Reason.of(ReasonCode.STALENESS_COST, points=5.0, price=10.0),)
    assert told.counterfactual == Reason.of(ReasonCode.IF_QUANTITY, quantity="staleness_cost", limit=10.0)


def test_without_a_score_it_says_so() -> None:
    assert choose((), None).refresh.reasons == (Reason.of(ReasonCode.SCORE_UNMEASURED),)
