"""Tests of the default policy: the price as threshold, and exact counterfactuals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.default import EvidencePolicy
from ragtide.pipelines.policy.interface import ComponentOptions, CostBenefit, ExpectedGain, Recommendations
from ragtide.pipelines.policy.weigh import points_per_hour
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import evidence

law = settings(derandomize=True, deadline=None, max_examples=60)
NOTHING = CostBenefit(Action.REFRESH, ExpectedGain.none(Reason.custom("nothing is new")), 30)


def retrain(low: float, seconds: float = 3600, gain_cycles: float = 1) -> CostBenefit:
    return CostBenefit(
        Action.RETRAIN, ExpectedGain(low + 1, low, low + 2, (Reason.custom("a gap"),)), seconds, gain_cycles
    )


def choose(weighed: CostBenefit, price: float) -> Recommendations:
    return EvidencePolicy().choose(evidence(), ComponentOptions(NOTHING, weighed), PolicyParams(points_per_hour=price))


@law
@given(st.integers(0, 400), st.integers(1, 20_000), st.integers(0, 500), st.integers(1, 9))
def test_a_recommendation_flips_at_the_number_in_its_counterfactual(
    tenths: int, seconds: int, price: int, gain_cycles: int
) -> None:
    weighed = retrain(tenths / 10, seconds, gain_cycles)
    recommendation = choose(weighed, price).retrain
    assert recommendation.counterfactual is not None
    values = recommendation.counterfactual.values
    if recommendation.wanted:
        assert not choose(weighed, float(values["points_per_hour"] or 0) + 0.1).retrain.wanted
    else:
        assert choose(retrain(float(values["needed"] or 0) + 0.1, seconds, gain_cycles), price).retrain.wanted


@pytest.mark.parametrize(("low", "wanted"), [(50.0, True), (49.9, False)])
def test_the_lower_bound_of_the_gain_must_reach_the_price(low: float, wanted: bool) -> None:
    assert choose(retrain(low), price=50).retrain.wanted is wanted


def test_a_gain_counts_once_for_each_cycle_that_it_lasts() -> None:
    assert points_per_hour(retrain(10, seconds=1800, gain_cycles=3)) == 60
    assert choose(retrain(10, seconds=1800, gain_cycles=3), price=60).retrain.wanted
    assert not choose(retrain(10, seconds=1800, gain_cycles=2), price=60).retrain.wanted


def test_without_a_gain_nothing_is_wanted_even_at_price_0() -> None:
    assert not choose(retrain(0), price=0).retrain.wanted


def test_a_recommendation_has_the_reasons_of_the_gain() -> None:
    choice = choose(retrain(50), price=50)
    assert (choice.refresh.reasons, choice.retrain.reasons) == (NOTHING.gain.reasons, retrain(50).gain.reasons)


def test_a_missing_requirement_is_the_counterfactual() -> None:
    needs = Reason.of(ReasonCode.IF_EXAMPLES, examples=20)
    blocked = replace(retrain(0), gain=ExpectedGain.none(Reason.custom("a gap"), needs=needs))
    assert choose(blocked, price=50).retrain.counterfactual == needs
