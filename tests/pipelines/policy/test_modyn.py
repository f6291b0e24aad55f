"""Does the data that waits trigger its own half once it has waited for long enough, whatever the answers say?"""

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

# With its proof a refresh takes a tenth of an hour, and a retrain two: 30 and 60 points.
COSTS = Costs(refresh_seconds=300, retrain_seconds=660, prove_seconds=60, source="prior")
PARAMS = PolicyParams(points_per_hour=300)


def cycle(share: float | None = None, action: str = "NOTHING", accepted: bool = True) -> PastDecision:
    return PastDecision(cycle="c", action=Action.named(action), accepted=accepted, changed_share=share)


def choose(*past: PastDecision, **signals: Any) -> Recommendations:
    """A tenth of the chunks is another one today, and of a hundred examples none is new."""
    seen = evidence(**({"past": past, "costs": COSTS, "new_examples": 0} | signals))
    return Modyn().choose(seen, weigh_components(seen, PARAMS), PARAMS)


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
def test_chunks_that_wait_add_up_since_the_last_refresh_that_stands(
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
def test_new_examples_wait_for_every_cycle_since_the_last_retrain_that_stands(
    past: tuple[PastDecision, ...], new: int, wanted: bool
) -> None:
    choice = choose(*past, examples=100, new_examples=new)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, wanted)


def test_answers_do_not_count() -> None:
    stale = {"score_retrieved": measure(0.0), "refresh_gain": measure(0.9), "model_gap": measure(0.9)}
    assert choose(**stale) == choose()


def test_examples_that_nobody_counted_do_not_wait() -> None:
    told = choose(new_examples=None).retrain
    assert not told.wanted
    assert values_of(told.reasons, ReasonCode.BACKLOG)["points"] is None
    assert told.counterfactual == Reason.of(ReasonCode.IF_QUANTITY, quantity="example_backlog", limit=60.0)


def test_it_tells_what_waited_for_how_long_and_its_price() -> None:
    told = choose(cycle(0.3), new_examples=10)
    backlogs = [values_of(part.reasons, ReasonCode.BACKLOG) for part in (told.refresh, told.retrain)]
    assert [(one["points"], one["cycles"], one["price"]) for one in backlogs] == [(40, 2, 30), (20, 2, 60)]
    assert [one["quantity"] for one in backlogs] == ["chunk_backlog", "example_backlog"]
