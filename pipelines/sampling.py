"""Evenly spaced samples, and means with bootstrap intervals; deterministic for the same input and seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.records.evidence import Measure

T = TypeVar("T")
Numbers: TypeAlias = NDArray[np.float64]


def evenly_spaced(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of `items`, evenly spaced and in their order; all of them if there are no more."""
    count = min(limit, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def measure_mean(values: Sequence[float], params: ScoreParams) -> Measure:
    """The mean of `values` with its percentile bootstrap interval (Efron 1979); unmeasured if there are none.

    For a paired comparison pass the differences. If all values are equal the interval has no width, which means little
    for few questions: read it together with `n`.
    """
    if not values:
        return Measure.unmeasured("no questions")
    sample = np.asarray(values, dtype=np.float64)
    means = resampled_means(sample, np.random.default_rng(params.seed), params.resamples)
    return with_interval(sample.mean(), means, len(sample), params)


def resampled_means(sample: Numbers, random: np.random.Generator, resamples: int) -> Numbers:
    """Means of `resamples` samples drawn with replacement, shape (resamples,)."""
    drawn = sample[random.integers(0, len(sample), (resamples, len(sample)))]
    return np.asarray(drawn.mean(axis=1), dtype=np.float64)


def with_interval(value: float, resampled: Numbers, n: int, params: ScoreParams) -> Measure:
    """`value`, measured on `n` items, with the percentile interval of its resampled values."""
    tail = (1 - params.confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Measure(value=round(float(value), 6), n=n, low=round(float(low), 6), high=round(float(high), 6))


def paired_difference(before: Sequence[float], after: Sequence[float], params: ScoreParams) -> Measure:
    """The mean of after - before over the same questions, with its interval."""
    return measure_mean([new - old for old, new in zip(before, after, strict=True)], params)
