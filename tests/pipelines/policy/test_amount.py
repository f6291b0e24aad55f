"""Tests of the policy "amount": each component by the new share of its own data."""

from __future__ import annotations

from typing import Any

import pytest

from ragtide.pipelines.params import BaselineParams, PolicyParams
from ragtide.pipelines.policy.baselines import Amount
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import delta, evidence, values_of


def choose(share: float = 0.2, **signals: Any) -> Recommendations:
    params = PolicyParams(baseline=BaselineParams(amount_share=share))
    observed = evidence(**signals)
    return Amount().choose(observed, weigh_components(observed, params), params)


@pytest.mark.parametrize(("new", "deleted", "wanted"), [(1, 1, False), (2, 0, True), (0, 2, True), (10, 10, True)])
def test_enough_changed_chunks_select_only_a_refresh(new: int, deleted: int, wanted: bool) -> None:
    choice = choose(delta=delta(new=new, removed=deleted), new_examples=0)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (wanted, False)


@pytest.mark.parametrize(("new", "wanted"), [(0, False), (19, False), (20, True), (100, True)])
def test_enough_new_examples_select_only_a_retrain(new: int, wanted: bool) -> None:
    choice = choose(delta=delta(), examples=100, new_examples=new)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, wanted)


def test_an_unknown_number_of_new_examples_selects_no_retrain() -> None:
    choice = choose(new_examples=None)
    assert not choice.retrain.wanted
    assert values_of(choice.retrain.reasons, ReasonCode.SHARE)["share"] is None


def test_the_reasons_give_the_share_and_its_limit() -> None:
    choice = choose(new_examples=30)
    values = {"quantity": "changed_chunks", "share": 0.1, "limit": 0.2}
    assert choice.refresh.reasons == (Reason.of(ReasonCode.SHARE, **values),)
    counterfactuals = [recommended.counterfactual for recommended in (choice.refresh, choice.retrain)]
    assert [reason and reason.values["limit"] for reason in counterfactuals] == [0.2, 0.2]
