"""Does the default policy want exactly what buys its price, and does it say what would have turned that round?"""

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


def retrain(low: float, seconds: float = 3600, lasts: float = 1) -> CostBenefit:
    return CostBenefit(Action.RETRAIN, ExpectedGain(low + 1, low, low + 2, (Reason.custom("a gap"),)), seconds, lasts)


def choose(weighed: CostBenefit, price: float) -> Recommendations:
    return EvidencePolicy().choose(evidence(), ComponentOptions(NOTHING, weighed), PolicyParams(points_per_hour=price))


@law
@given(st.integers(0, 400), st.integers(1, 20_000), st.integers(0, 500), st.integers(1, 9))
def test_a_wish_turns_round_at_the_number_that_it_names(tenths: int, seconds: int, price: int, lasts: int) -> None:
    weighed = retrain(tenths / 10, seconds, lasts)
    wish = choose(weighed, price).retrain
    assert wish.counterfactual is not None
    values = wish.counterfactual.values
    if wish.wanted:
        assert not choose(weighed, float(values["points_per_hour"] or 0) + 0.1).retrain.wanted
    else:
        assert choose(retrain(float(values["needed"] or 0) + 0.1, seconds, lasts), price).retrain.wanted


@pytest.mark.parametrize(("low", "wanted"), [(50.0, True), (49.9, False)])
def test_the_lower_end_must_buy_the_price(low: float, wanted: bool) -> None:
    assert choose(retrain(low), price=50).retrain.wanted is wanted


def test_a_gain_buys_in_each_cycle_that_it_lasts() -> None:
    assert points_per_hour(retrain(10, seconds=1800, lasts=3)) == 60
    assert choose(retrain(10, seconds=1800, lasts=3), price=60).retrain.wanted
    assert not choose(retrain(10, seconds=1800, lasts=2), price=60).retrain.wanted


def test_no_gain_is_wanted_at_no_price() -> None:
    assert not choose(retrain(0), price=0).retrain.wanted


def test_a_wish_gives_the_reason_of_the_gain() -> None:
    choice = choose(retrain(50), price=50)
    assert (choice.refresh.reasons, choice.retrain.reasons) == (NOTHING.gain.reasons, retrain(50).gain.reasons)


def test_what_a_gap_needs_is_what_would_have_turned_it_round() -> None:
    needs = Reason.of(ReasonCode.IF_EXAMPLES, examples=20)
    blocked = replace(retrain(0), gain=ExpectedGain.none(Reason.custom("a gap"), needs=needs))
    assert choose(blocked, price=50).retrain.counterfactual == needs
