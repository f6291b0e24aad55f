"""Tests of the policy "always": everything on any change, nothing without one."""

from __future__ import annotations

from typing import Any

import pytest

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.baselines import Always
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.data import ChangeSet, Rename
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import UNCHANGED, UNMOVED, codes, delta, evidence, values_of

PARAMS = PolicyParams(points_per_hour=1e9)


def choose(**signals: Any) -> Recommendations:
    observed = evidence(**signals)
    return Always().choose(observed, weigh_components(observed, PARAMS), PARAMS)


@pytest.mark.parametrize(
    ("changed", "values"),
    [
        ({"added": ("a.md",)}, (1, False, False)),
        ({"edited": ("a.md",), "removed": ("b.md",)}, (2, False, False)),
        ({"renamed": (Rename(before="a.md", after="b.md"),)}, (1, False, False)),
        ({"examples_changed": True}, (0, True, False)),
        ({"questions_changed": True}, (0, False, True)),
        ({"added": ("a.md",), "examples_changed": True}, (1, True, False)),
    ],
)
def test_any_change_selects_both_components_at_any_price(
    changed: dict[str, Any], values: tuple[int, bool, bool]
) -> None:
    choice = choose(changes=ChangeSet(before="s0", after="s1", **changed), delta=UNMOVED)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (True, True)
    changes = values_of(choice.refresh.reasons, ReasonCode.CHANGED_SINCE_RELEASE)
    assert tuple(changes[name] for name in ("documents", "examples", "questions")) == values


def test_the_model_is_retrained_on_unchanged_examples() -> None:
    assert choose(adapter_is_current=True, new_examples=0).retrain.wanted


def test_without_a_change_nothing_is_wanted() -> None:
    choice = choose(changes=UNCHANGED, delta=UNMOVED)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, False)
    assert codes(choice.refresh.reasons) == [ReasonCode.NOTHING_CHANGED]
    assert choice.retrain.counterfactual == Reason.of(ReasonCode.IF_CHANGED)


def test_an_index_with_missing_rows_of_unchanged_data_counts_as_changed() -> None:
    choice = choose(changes=UNCHANGED, delta=delta())
    assert choice.refresh.wanted
    assert codes(choice.refresh.reasons) == [ReasonCode.CHANGED_SINCE_RELEASE]
