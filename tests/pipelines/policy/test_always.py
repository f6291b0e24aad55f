"""Does "always" do everything whenever anything moved, and nothing where nothing did?"""

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
    seen = evidence(**signals)
    return Always().choose(seen, weigh_components(seen, PARAMS), PARAMS)


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
def test_whatever_moves_brings_both_halves_at_any_price(
    changed: dict[str, Any], values: tuple[int, bool, bool]
) -> None:
    choice = choose(changes=ChangeSet(before="s0", after="s1", **changed), delta=UNMOVED)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (True, True)
    changes = values_of(choice.refresh.reasons, ReasonCode.CHANGED_SINCE_RELEASE)
    assert tuple(changes[name] for name in ("documents", "examples", "questions")) == values


def test_the_model_is_trained_again_on_the_same_examples() -> None:
    assert choose(adapter_is_current=True, new_examples=0).retrain.wanted


def test_nothing_is_done_where_nothing_moved() -> None:
    choice = choose(changes=UNCHANGED, delta=UNMOVED)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, False)
    assert codes(choice.refresh.reasons) == [ReasonCode.NOTHING_CHANGED]
    assert choice.retrain.counterfactual == Reason.of(ReasonCode.IF_CHANGED)


def test_an_index_that_lacks_rows_of_the_same_data_has_moved() -> None:
    choice = choose(changes=UNCHANGED, delta=delta())
    assert choice.refresh.wanted
    assert codes(choice.refresh.reasons) == [ReasonCode.CHANGED_SINCE_RELEASE]
