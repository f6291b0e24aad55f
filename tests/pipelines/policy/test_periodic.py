"""Tests of the policy "periodic": every N-th cycle after the last build, and no other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import BaselineParams, PolicyParams
from ragtide.pipelines.policy.baselines import Periodic
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import PastDecision
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import UNCHANGED, UNMOVED, evidence

law = settings(derandomize=True, deadline=None)


def cycle(action: str, accepted: bool = True) -> PastDecision:
    return PastDecision(cycle="c", action=Action.named(action), accepted=accepted)


def choose(past: tuple[PastDecision, ...], period: int) -> Recommendations:
    params = PolicyParams(baseline=BaselineParams(period_cycles=period))
    observed = evidence(past=past, changes=UNCHANGED, delta=UNMOVED)
    return Periodic().choose(observed, weigh_components(observed, params), params)


@law
@given(st.integers(1, 6), st.integers(1, 30))
def test_a_long_run_builds_once_per_period(period: int, cycles: int) -> None:
    past: tuple[PastDecision, ...] = ()
    for _ in range(cycles):
        wanted = choose(past, period).refresh.wanted
        past += (cycle("REFRESH+RETRAIN" if wanted else "NOTHING"),)
    built = [number for number, decision in enumerate(past, start=1) if decision.action != Action.NOTHING]
    assert built == list(range(period, cycles + 1, period))


@pytest.mark.parametrize(
    ("last", "wanted"), [(cycle("REFRESH"), False), (cycle("REFRESH", accepted=False), False), (cycle("HOLD"), True)]
)
def test_a_rejected_build_counts_and_a_hold_does_not(last: PastDecision, wanted: bool) -> None:
    assert choose((cycle("NOTHING"), last, cycle("NOTHING")), 3).refresh.wanted is wanted


def test_the_reasons_say_which_cycle_is_counted_from() -> None:
    never_built, built = choose((cycle("NOTHING"),), 4).refresh, choose((cycle("RETRAIN"),), 4).refresh
    assert never_built.reasons == (Reason.of(ReasonCode.CYCLES_SINCE_BUILD, cycle=2, built=False, period=4),)
    assert built.reasons == (Reason.of(ReasonCode.CYCLES_SINCE_BUILD, cycle=1, built=True, period=4),)


@law
@given(st.integers(1, 6), st.integers(0, 8))
def test_the_period_in_the_counterfactual_flips_the_recommendation(period: int, quiet: int) -> None:
    past = (cycle("NOTHING"),) * quiet
    first = choose(past, period).refresh
    assert first.counterfactual is not None
    assert choose(past, int(first.counterfactual.values["period"] or 0)).refresh.wanted is not first.wanted
