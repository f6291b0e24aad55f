"""Tests of the gain share that is learned from past actions of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.policy.learning import LearnedShare, learned_share
from ragtide.pipelines.records.action import Component
from ragtide.pipelines.records.evidence import PastDecision
from tests.factories import past

law = settings(derandomize=True, deadline=None, max_examples=60)
PASTS = st.lists(
    st.builds(
        past,
        st.sampled_from(["NOTHING", "HOLD", "REFRESH", "REBUILD", "TUNE_EMBEDDER", "RETRAIN", "REFRESH+RETRAIN"]),
        accepted=st.booleans(),
        rolled_back=st.booleans(),
        expected_points=st.sampled_from([None, -3.0, 0.0, 0.9, 1.0, 40.0]),
        recovered_points=st.none() | st.floats(-100, 100),
    ),
    max_size=8,
)


def share(*history: PastDecision) -> float:
    return learned_share(history, Component.MODEL).share


@law
@given(PASTS, st.sampled_from(Component))
def test_a_learned_share_is_between_0_and_1_for_any_history(
    history: Sequence[PastDecision], component: Component
) -> None:
    learned = learned_share(history, component)
    assert 0 < learned.share < 1
    assert 0 <= learned.cycles <= len(history)


@law
@given(PASTS, st.floats(0, 20), st.floats(0, 20))
def test_more_recovered_points_never_lower_the_share(
    history: Sequence[PastDecision], points: float, more: float
) -> None:
    little, much = (past(expected_points=20.0, recovered_points=recovered) for recovered in (points, points + more))
    assert share(*history, little) <= share(*history, much)


@law
@given(PASTS)
def test_nothing_recovered_lowers_the_share_and_all_recovered_raises_it(history: Sequence[PastDecision]) -> None:
    assert share(*history, past(recovered_points=0.0)) < share(*history) < share(*history, past(recovered_points=20.0))


@pytest.mark.parametrize(
    ("component", "prior"), [(Component.INDEX, 0.8), (Component.EMBEDDER, 0.5), (Component.MODEL, 0.5)]
)
def test_without_history_the_share_is_the_prior(component: Component, prior: float) -> None:
    assert learned_share((), component) == LearnedShare(share=prior, cycles=0)


@pytest.mark.parametrize("truth", [0.0, 0.3, 1.0])
def test_after_many_cycles_the_prior_has_little_weight(truth: float) -> None:
    history = [past(expected_points=10.0, recovered_points=10 * truth)] * 200
    learned = learned_share(history, Component.MODEL)
    assert learned.cycles == 200
    assert learned.share == pytest.approx(truth, abs=0.02)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"recovered_points": 10.0}, 2.5 / 5),
        ({"recovered_points": 20.0}, 3 / 5),
        ({"recovered_points": 35.0}, 3 / 5),
        ({"recovered_points": -20.0}, 2 / 5),
        ({"recovered_points": 20.0, "accepted": False}, 2 / 5),
        ({"recovered_points": None, "accepted": False}, 2 / 5),
        ({"recovered_points": 20.0, "rolled_back": True}, 2 / 5),
        ({"recovered_points": None, "rolled_back": True}, 2 / 5),
    ],
)
def test_a_cycle_counts_with_its_recovered_share_and_a_failed_one_with_0(
    fields: dict[str, Any], expected: float
) -> None:
    assert learned_share([past(**fields)], Component.MODEL) == LearnedShare(share=expected, cycles=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"recovered_points": None},
        {"expected_points": None},
        {"expected_points": 0.0},
        {"expected_points": 0.99},
        {"expected_points": -5.0},
    ],
)
def test_unmeasured_and_negligible_gains_do_not_change_the_share(fields: dict[str, Any]) -> None:
    assert learned_share([past(**fields)], Component.MODEL) == learned_share((), Component.MODEL)


@pytest.mark.parametrize(
    ("action", "components"),
    [
        ("NOTHING", []),
        ("HOLD", []),
        ("REFRESH", [Component.INDEX]),
        ("REBUILD", [Component.INDEX]),
        ("TUNE_EMBEDDER", [Component.EMBEDDER]),
        ("RETRAIN", [Component.MODEL]),
        ("REFRESH+RETRAIN", [Component.INDEX, Component.MODEL]),
        ("REBUILD+RETRAIN", [Component.INDEX, Component.MODEL]),
        ("TUNE_EMBEDDER+RETRAIN", [Component.EMBEDDER, Component.MODEL]),
    ],
)
def test_a_component_learns_only_from_the_cycles_that_changed_it(action: str, components: list[Component]) -> None:
    assert [component for component in Component if learned_share([past(action)], component).cycles] == components
