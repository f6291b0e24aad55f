"""Does "always" do everything whenever anything moved, and nothing where nothing did?"""

from __future__ import annotations

from typing import Any

import pytest

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.baselines import Always
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.data import ChangeSet, Rename
from tests.factories import UNCHANGED, UNMOVED, delta, evidence

PARAMS = PolicyParams(points_per_hour=1e9)


def choose(**signals: Any) -> Recommendations:
    seen = evidence(**signals)
    return Always().choose(seen, weigh_components(seen, PARAMS), PARAMS)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"added": ("a.md",)}, "1 document changed"),
        ({"edited": ("a.md",), "removed": ("b.md",)}, "2 documents changed"),
        ({"renamed": (Rename(before="a.md", after="b.md"),)}, "1 document changed"),
        ({"examples_changed": True}, "the examples changed"),
        ({"questions_changed": True}, "the questions changed"),
        ({"added": ("a.md",), "examples_changed": True}, "1 document and the examples changed"),
    ],
)
def test_whatever_moves_brings_both_halves_at_any_price(changed: dict[str, Any], said: str) -> None:
    choice = choose(changes=ChangeSet(before="s0", after="s1", **changed), delta=UNMOVED)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (True, True)
    assert choice.refresh.because == f"{said} since the live release"


def test_the_model_is_trained_again_on_the_same_examples() -> None:
    assert choose(adapter_is_current=True, new_examples=0).retrain.wanted


def test_nothing_is_done_where_nothing_moved() -> None:
    choice = choose(changes=UNCHANGED, delta=UNMOVED)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, False)
    assert choice.refresh.because == "nothing changed since the live release"
    assert "had a document, an example or a question changed" in choice.retrain.otherwise


def test_an_index_that_lacks_rows_of_the_same_data_has_moved() -> None:
    choice = choose(changes=UNCHANGED, delta=delta())
    assert choice.refresh.wanted
    assert "what the index should hold changed" in choice.refresh.because
