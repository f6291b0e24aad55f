"""Tests of the policy "modyn": a backlog triggers its own component regardless of answer scores."""

from __future__ import annotations

from typing import Any

import pytest

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.baselines import Modyn
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Costs, PastDecision
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import evidence, measure, values_of

# With its evaluation a refresh takes 0.1 hours and a retrain 0.2 hours: 30 and 60 points.
COSTS = Costs(refresh_seconds=300, retrain_seconds=660, prove_seconds=60, source="prior")
PARAMS = PolicyParams(points_per_hour=300)


def cycle(share: float | None = None, action: str = "NOTHING", accepted: bool = True) -> PastDecision:
    return PastDecision(cycle="c", action=Action.named(action), accepted=accepted, changed_share=share)


def choose(*past: PastDecision, **signals: Any) -> Recommendations:
    """Recommendations where a tenth of the chunks changed and no example is new, unless given otherwise."""
    observed = evidence(**({"past": past, "costs": COSTS, "new_examples": 0} | signals))
    return Modyn().choose(observed, weigh_components(observed, PARAMS), PARAMS)


@pytest.mark.parametrize(
    ("past", "wanted"),
    [
        ((), False),
        ((cycle(0.1), cycle(0.1)), False),
        ((cycle(0.1), cycle(0.11)), True),
        ((cycle(0.1), cycle(None), cycle(0.1)), False),
        ((cycle(0.9), cycle(0.9, "REFRESH"), cycle(0.1)), False),
        ((cycle(0.9), cycle(0.9, "REFRESH", accepted=False), cycle(0.1)), True),
        ((cycle(0.9), cycle(0.9, "RETRAIN"), cycle(0.1)), True),
    ],
)
def test_the_chunk_backlog_adds_up_since_the_last_refresh_in_effect(
    past: tuple[PastDecision, ...], wanted: bool
) -> None:
    choice = choose(*past)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (wanted, False)


@pytest.mark.parametrize(
    ("past", "new", "wanted"),
    [
        ((), 60, False),
        ((), 61, True),
        ((cycle(), cycle()), 20, False),
        ((cycle(), cycle()), 21, True),
        ((cycle(), cycle(action="RETRAIN"), cycle()), 21, False),
        ((cycle(), cycle(action="REFRESH"), cycle()), 21, True),
    ],
)
def test_the_example_backlog_adds_up_since_the_last_retrain_in_effect(
    past: tuple[PastDecision, ...], new: int, wanted: bool
) -> None:
    choice = choose(*past, examples=100, new_examples=new)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, wanted)


def test_answer_scores_do_not_count() -> None:
    stale = {"score_retrieved": measure(0.0), "refresh_gain": measure(0.9), "model_gap": measure(0.9)}
    assert choose(**stale) == choose()


def test_an_unknown_number_of_new_examples_makes_no_backlog() -> None:
    retrain = choose(new_examples=None).retrain
    assert not retrain.wanted
    assert values_of(retrain.reasons, ReasonCode.BACKLOG)["points"] is None
    assert retrain.counterfactual == Reason.of(ReasonCode.IF_QUANTITY, quantity="example_backlog", limit=60.0)


def test_the_reasons_give_the_backlog_its_cycles_and_the_price() -> None:
    choice = choose(cycle(0.3), new_examples=10)
    backlogs = [values_of(part.reasons, ReasonCode.BACKLOG) for part in (choice.refresh, choice.retrain)]
    assert [(backlog["points"], backlog["cycles"], backlog["price"]) for backlog in backlogs] == [
        (40, 2, 30),
        (20, 2, 60),
    ]
    assert [backlog["quantity"] for backlog in backlogs] == ["chunk_backlog", "example_backlog"]
