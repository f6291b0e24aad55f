"""Tests of the excess loss and its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.evidence.drift import excess_loss
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.records.evidence import Measure

law = settings(derandomize=True, deadline=None)
PARAMS = ScoreParams(resamples=200)
# Six digits are kept of a value.
CLOSE = 2e-6
LOSSES = st.lists(st.floats(0, 20), min_size=1, max_size=20)


def bounds(one: Measure) -> tuple[float, float, float]:
    assert one.value is not None
    assert one.low is not None
    assert one.high is not None
    return one.low, one.value, one.high


def sample(seed: int, size: int, mean: float = 1.0) -> list[float]:
    return [float(one) for one in np.random.default_rng(seed).normal(mean, 0.5, size)]


def test_a_surprise_is_the_difference_of_the_means_and_counts_the_new_ones() -> None:
    found = excess_loss([1.0, 2.0, 3.0], [0.25, 0.75], PARAMS)
    assert (found.value, found.n) == (1.5, 3)


@law
@given(LOSSES, LOSSES, st.floats(-5, 5))
def test_what_all_new_losses_rise_by_the_surprise_rises_by(new: list[float], old: list[float], rise: float) -> None:
    before = bounds(excess_loss(new, old, PARAMS))
    after = bounds(excess_loss([loss + rise for loss in new], old, PARAMS))
    assert after == pytest.approx([bound + rise for bound in before], abs=CLOSE)


@law
@given(LOSSES, LOSSES)
def test_new_and_old_in_each_others_place_turn_the_sign(new: list[float], old: list[float]) -> None:
    value, turned = excess_loss(new, old, PARAMS).value, excess_loss(old, new, PARAMS).value
    assert value is not None
    assert turned == -value


@law
@given(LOSSES, LOSSES)
def test_the_interval_lies_between_the_smallest_and_the_largest_difference(new: list[float], old: list[float]) -> None:
    low, _, high = bounds(excess_loss(new, old, PARAMS))
    assert min(new) - max(old) - CLOSE <= low <= high <= max(new) - min(old) + CLOSE


@law
@given(LOSSES, LOSSES)
def test_the_same_losses_give_the_same_surprise(new: list[float], old: list[float]) -> None:
    assert excess_loss(new, old, PARAMS) == excess_loss(tuple(new), tuple(old), PARAMS)


def test_another_seed_draws_another_interval_and_finds_the_same_value() -> None:
    one, other = (excess_loss(sample(1, 20), sample(2, 30), ScoreParams(seed=seed)) for seed in (1, 2))
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)


def test_the_two_samples_are_drawn_each_by_itself_even_where_they_are_equal() -> None:
    # Drawn as pairs, equal samples would leave an interval of no width.
    losses = sample(1, 50)
    low, value, high = bounds(excess_loss(losses, losses, ScoreParams()))
    assert value == 0
    expected = 2 * 1.645 * float(np.std(losses)) * math.sqrt(2 / 50)
    assert high - low == pytest.approx(expected, rel=0.1)


def test_the_smaller_sample_makes_the_interval_wide() -> None:
    def width(new: int, old: int) -> float:
        low, _, high = bounds(excess_loss(sample(1, new), sample(2, old), ScoreParams()))
        return high - low

    assert width(10, 400) > 2 * width(400, 400)
    assert width(400, 10) > 2 * width(400, 400)


@pytest.mark.parametrize("rise", [0.0, 0.5])
def test_an_interval_holds_the_true_difference_about_as_often_as_it_says(rise: float) -> None:
    # 90% intervals of 200 worlds: within four standard errors, less what a bootstrap of few is known to lack.
    held = 0
    for world in range(200):
        low, _, high = bounds(excess_loss(sample(world, 30, 1.0 + rise), sample(1000 + world, 40), PARAMS))
        held += low <= rise <= high
    assert 160 <= held <= 195


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        ([], [], "no new training examples"),
        ([], [1.0], "no new training examples"),
        ([1.0], [], "no old training examples to compare with"),
        ([1.0, math.nan], [1.0], "a loss is not a finite number"),
        ([1.0], [math.inf], "a loss is not a finite number"),
    ],
)
def test_what_cannot_be_compared_is_unmeasured_and_says_why(new: list[float], old: list[float], why: str) -> None:
    assert excess_loss(new, old, PARAMS) == Measure.unmeasured(why)
