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
    seen = evidence(**signals)
    return Amount().choose(seen, weigh_components(seen, params), params)


@pytest.mark.parametrize(("new", "gone", "wanted"), [(1, 1, False), (2, 0, True), (0, 2, True), (10, 10, True)])
def test_enough_other_chunks_bring_a_refresh_alone(new: int, gone: int, wanted: bool) -> None:
    choice = choose(delta=delta(new=new, removed=gone), new_examples=0)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (wanted, False)


@pytest.mark.parametrize(("new", "wanted"), [(0, False), (19, False), (20, True), (100, True)])
def test_enough_new_examples_bring_a_retrain_alone(new: int, wanted: bool) -> None:
    choice = choose(delta=delta(), examples=100, new_examples=new)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (False, wanted)


def test_new_examples_that_nobody_counted_bring_none() -> None:
    choice = choose(new_examples=None)
    assert not choice.retrain.wanted
    assert values_of(choice.retrain.reasons, ReasonCode.SHARE)["share"] is None


def test_it_names_the_share_and_its_limit() -> None:
    choice = choose(new_examples=30)
    values = {"quantity": "changed_chunks", "share": 0.1, "limit": 0.2}
    assert choice.refresh.reasons == (Reason.of(ReasonCode.SHARE, **values),)
    named = [recommended.counterfactual for recommended in (choice.refresh, choice.retrain)]
    assert [reason and reason.values["limit"] for reason in named] == [0.2, 0.2]
