"""Tests of the policy "cusum": Page's rule, reset by an action in effect."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import BaselineParams, PolicyParams
from ragtide.pipelines.policy.baselines import Cusum
from ragtide.pipelines.policy.cycles import LiveScores, cusum_statistic
from ragtide.pipelines.policy.interface import Recommendations
from ragtide.pipelines.policy.weigh import weigh_components
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Measure, PastDecision
from ragtide.pipelines.records.reason import Reason, ReasonCode
from tests.factories import evidence, measure

law = settings(derandomize=True, deadline=None)
SCORES = st.lists(st.integers(0, 100).map(lambda whole: whole / 100), min_size=1, max_size=12)


def without_action(*scores: float | None) -> tuple[PastDecision, ...]:
    return tuple(PastDecision(cycle="c", action=Action.NOTHING, accepted=True, score=score) for score in scores)


def with_action(score: float, accepted: bool = True, recovered: float | None = None) -> PastDecision:
    return PastDecision(cycle="c", action=Action.REFRESH, accepted=accepted, score=score, recovered_points=recovered)


def choose(past: tuple[PastDecision, ...], now: float | None) -> Recommendations:
    params = PolicyParams(baseline=BaselineParams(cusum_slack=0.02, cusum_limit=0.05))
    score = Measure.unmeasured("no questions") if now is None else measure(now)
    observed = evidence(past=past, score_retrieved=score)
    return Cusum().choose(observed, weigh_components(observed, params), params)


@pytest.mark.parametrize(
    ("past", "now", "wanted"),
    [
        ((), 0.1, False),
        (without_action(0.9), 0.84, False),
        (without_action(0.9), 0.83, False),
        (without_action(0.9), 0.82, True),
        (without_action(0.9, 0.86, 0.86), 0.86, True),
        (without_action(0.9, 0.88, 0.88, 0.88, 0.88), 0.88, False),
        (without_action(0.9, 0.86, 0.95), 0.86, False),
        (without_action(0.9, None), None, False),
        (without_action(0.9, 0.7), None, True),
    ],
)
def test_both_components_are_wanted_once_the_summed_drops_exceed_the_limit(
    past: tuple[PastDecision, ...], now: float | None, wanted: bool
) -> None:
    choice = choose(past, now)
    assert (choice.refresh.wanted, choice.retrain.wanted) == (wanted, wanted)


def test_an_action_in_effect_resets_the_sum() -> None:
    history = without_action(0.9, 0.7)
    assert not choose((*history, with_action(0.7)), 0.69).refresh.wanted
    assert choose((*history, with_action(0.7, accepted=False)), 0.69).refresh.wanted


def test_the_reference_is_the_score_right_after_the_action() -> None:
    assert choose((with_action(0.7, recovered=20.0),), 0.8).refresh.wanted
    assert not choose((with_action(0.7, recovered=10.0),), 0.8).refresh.wanted


def test_a_missing_score_is_given_as_the_reason() -> None:
    choice = choose((), None)
    assert choice.refresh.reasons == (Reason.of(ReasonCode.SCORE_UNMEASURED),)


def test_the_reasons_give_the_last_drop_and_the_sum() -> None:
    retrain = choose(without_action(0.9), 0.8).retrain
    values = {"before": 0.9, "score": 0.8, "total": 0.08, "limit": 0.05}
    assert retrain.reasons == (Reason.of(ReasonCode.SCORE_FELL, **values),)
    assert retrain.counterfactual == Reason.of(ReasonCode.IF_QUANTITY, quantity="score_falls", limit=0.05)


@law
@given(SCORES)
def test_scores_at_or_above_the_reference_sum_to_0(scores: list[float]) -> None:
    assert cusum_statistic(LiveScores(min(scores), tuple(scores)), 0.0) == 0.0


@law
@given(SCORES, st.integers(0, 11), st.integers(0, 20))
def test_a_lower_score_never_decreases_the_sum(scores: list[float], at: int, by: int) -> None:
    lower = list(scores)
    lower[at % len(lower)] -= by / 100
    assert cusum_statistic(LiveScores(0.8, tuple(lower)), 0.02) >= cusum_statistic(LiveScores(0.8, tuple(scores)), 0.02)


@law
@given(SCORES)
def test_the_sum_is_the_largest_sum_of_drops_over_any_suffix(scores: list[float]) -> None:
    drops = [0.8 - score - 0.02 for score in scores]
    suffix_sums = [sum(drops[start:]) for start in range(len(drops) + 1)]
    assert cusum_statistic(LiveScores(0.8, tuple(scores)), 0.02) == pytest.approx(max(suffix_sums), abs=1e-8)
