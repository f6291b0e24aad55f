"""Tests of the cycles and scores since the last action."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.policy.cycles import (
    new_example_share,
    scores_since,
    since_action,
    since_build,
    since_refresh,
    since_retrain,
)
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Measure, PastDecision
from tests.factories import evidence, measure

law = settings(derandomize=True, deadline=None)
UNMEASURED = Measure.unmeasured("no questions")
COUNTERS = (since_build, since_action, since_refresh, since_retrain)


def past(action: str | Action = "NOTHING", **fields: Any) -> PastDecision:
    return PastDecision(
        cycle="c",
        action=action if isinstance(action, Action) else Action.named(action),
        **({"accepted": True} | fields),
    )


PASTS = st.lists(
    st.builds(
        past,
        action=st.sampled_from(["NOTHING", "HOLD", "REFRESH", "REBUILD", "RETRAIN", "REFRESH+RETRAIN"]).map(
            Action.named
        ),
        accepted=st.booleans(),
        rolled_back=st.booleans(),
    ),
    max_size=8,
).map(tuple)


@pytest.mark.parametrize(
    ("action", "build", "act", "refresh", "retrain"),
    [
        (past("REFRESH"), 1, 1, 1, 3),
        (past("REBUILD"), 1, 1, 1, 3),
        (past("RETRAIN"), 1, 1, 3, 1),
        (past("REBUILD+RETRAIN"), 1, 1, 1, 1),
        (past("REFRESH+RETRAIN", accepted=False), 1, 3, 3, 3),
        (past("REFRESH+RETRAIN", rolled_back=True), 1, 3, 3, 3),
        (past("HOLD"), 3, 3, 3, 3),
    ],
)
def test_each_counter_starts_after_its_own_kind_of_cycle(
    action: PastDecision, build: int, act: int, refresh: int, retrain: int
) -> None:
    history = (past(), action, past())
    assert [len(counter(history)) for counter in COUNTERS] == [build, act, refresh, retrain]


@law
@given(PASTS)
def test_the_cycles_since_an_action_are_the_last_ones_without_an_action_in_effect(
    history: tuple[PastDecision, ...],
) -> None:
    since = since_action(history)
    assert history[len(history) - len(since) :] == since
    assert not any(decision.is_in_effect for decision in since)
    assert len(since) == len(history) or history[-len(since) - 1].is_in_effect
    assert len(since_build(history)) <= len(since) == min(len(since_refresh(history)), len(since_retrain(history)))


def test_without_an_action_the_first_score_is_the_reference() -> None:
    history = (past(), past(score=0.9), past(score=0.8))
    scores = scores_since(evidence(past=history, score_retrieved=measure(0.7)))
    assert scores is not None
    assert (scores.reference, scores.seen) == (0.9, (0.9, 0.8, 0.7))
    assert scores.drops == pytest.approx((0.0, 0.1, 0.2))


def test_scores_before_the_last_action_do_not_count() -> None:
    history = (past(score=0.9), past("REFRESH", score=0.5), past(score=0.8))
    scores = scores_since(evidence(past=history, score_retrieved=measure(0.7)))
    assert scores is not None
    assert (scores.reference, scores.seen) == (0.8, (0.8, 0.7))


@pytest.mark.parametrize(("recovered", "reference"), [(20.0, 0.7), (90.0, 1.0), (-60.0, 0.0), (None, 0.6)])
def test_the_recovered_points_of_an_action_give_the_reference(recovered: float | None, reference: float) -> None:
    history = (past("RETRAIN", score=0.5, recovered_points=recovered),)
    scores = scores_since(evidence(past=history, score_retrieved=measure(0.6)))
    assert scores is not None
    assert scores.reference == pytest.approx(reference)
    assert scores.seen == (0.6,)


@pytest.mark.parametrize("later", [(), (past(score=0.8),), (past(score=0.8), past(score=0.8, recovered_points=5.0))])
def test_the_reference_comes_from_the_last_action_however_old(later: tuple[PastDecision, ...]) -> None:
    earlier = past("REFRESH", score=0.1, recovered_points=10.0)
    last = past("RETRAIN", score=0.5, recovered_points=25.0)
    scores = scores_since(evidence(past=(earlier, past(score=0.3), last, *later)))
    assert scores is not None
    assert scores.reference == 0.75
    assert len(scores.seen) == len(later) + 1


def test_an_unmeasured_score_is_skipped_and_does_not_count_as_0() -> None:
    scores = scores_since(evidence(past=(past(score=0.9), past()), score_retrieved=UNMEASURED))
    assert scores is not None
    assert scores.seen == (0.9,)
    assert scores_since(evidence(past=(past("REFRESH", score=0.9),), score_retrieved=UNMEASURED)) is None


@pytest.mark.parametrize(
    ("examples", "new", "share"), [(100, 25, 0.25), (100, 0, 0.0), (0, 0, 0.0), (10, 12, 1.0), (100, None, None)]
)
def test_the_share_of_new_examples_is_none_if_their_number_is_unknown(
    examples: int, new: int | None, share: float | None
) -> None:
    assert new_example_share(evidence(examples=examples, new_examples=new).training) == share
