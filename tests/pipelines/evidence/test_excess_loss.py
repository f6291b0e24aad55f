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
# Measures are rounded to six digits.
CLOSE = 2e-6
LOSSES = st.lists(st.floats(0, 20), min_size=1, max_size=20)


def bounds(measured: Measure) -> tuple[float, float, float]:
    assert measured.value is not None
    assert measured.low is not None
    assert measured.high is not None
    return measured.low, measured.value, measured.high


def sample(seed: int, size: int, mean: float = 1.0) -> list[float]:
    return [float(loss) for loss in np.random.default_rng(seed).normal(mean, 0.5, size)]


def test_excess_loss_is_the_difference_of_the_means_and_counts_new_examples() -> None:
    measured = excess_loss([1.0, 2.0, 3.0], [0.25, 0.75], PARAMS)
    assert (measured.value, measured.n) == (1.5, 3)


@law
@given(LOSSES, LOSSES, st.floats(-5, 5))
def test_adding_a_constant_to_new_losses_adds_it_to_value_and_interval(
    new: list[float], old: list[float], rise: float
) -> None:
    before = bounds(excess_loss(new, old, PARAMS))
    after = bounds(excess_loss([loss + rise for loss in new], old, PARAMS))
    assert after == pytest.approx([bound + rise for bound in before], abs=CLOSE)


@law
@given(LOSSES, LOSSES)
def test_swapping_new_and_old_losses_changes_the_sign(new: list[float], old: list[float]) -> None:
    value, swapped = excess_loss(new, old, PARAMS).value, excess_loss(old, new, PARAMS).value
    assert value is not None
    assert swapped == -value


@law
@given(LOSSES, LOSSES)
def test_the_interval_is_between_the_smallest_and_the_largest_difference(new: list[float], old: list[float]) -> None:
    low, _, high = bounds(excess_loss(new, old, PARAMS))
    assert min(new) - max(old) - CLOSE <= low <= high <= max(new) - min(old) + CLOSE


@law
@given(LOSSES, LOSSES)
def test_the_same_losses_give_the_same_excess_loss(new: list[float], old: list[float]) -> None:
    assert excess_loss(new, old, PARAMS) == excess_loss(tuple(new), tuple(old), PARAMS)


def test_the_seed_changes_only_the_interval() -> None:
    first, second = (excess_loss(sample(1, 20), sample(2, 30), ScoreParams(seed=seed)) for seed in (1, 2))
    assert first.value == second.value
    assert (first.low, first.high) != (second.low, second.high)


def test_the_two_samples_are_resampled_independently_even_if_equal() -> None:
    # Drawn as pairs, equal samples would leave an interval of no width.
    losses = sample(1, 50)
    low, value, high = bounds(excess_loss(losses, losses, ScoreParams()))
    assert value == 0
    expected = 2 * 1.645 * float(np.std(losses)) * math.sqrt(2 / 50)
    assert high - low == pytest.approx(expected, rel=0.1)


def test_a_small_sample_makes_the_interval_wide() -> None:
    def width(new: int, old: int) -> float:
        low, _, high = bounds(excess_loss(sample(1, new), sample(2, old), ScoreParams()))
        return high - low

    assert width(10, 400) > 2 * width(400, 400)
    assert width(400, 10) > 2 * width(400, 400)


@pytest.mark.parametrize("rise", [0.0, 0.5])
def test_the_interval_has_about_its_nominal_coverage(rise: float) -> None:
    # 90 % intervals of 200 draws: within four standard errors, minus the known undercoverage of a small bootstrap.
    covered = 0
    for seed in range(200):
        low, _, high = bounds(excess_loss(sample(seed, 30, 1.0 + rise), sample(1000 + seed, 40), PARAMS))
        covered += low <= rise <= high
    assert 160 <= covered <= 195


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
def test_losses_that_cannot_be_compared_are_unmeasured_with_a_reason(
    new: list[float], old: list[float], why: str
) -> None:
    assert excess_loss(new, old, PARAMS) == Measure.unmeasured(why)
