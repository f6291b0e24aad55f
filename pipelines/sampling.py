"""How new is what came in? Distance of new chunks to the old ones, in meaning and in words; numpy alone.

Vectors are unit vectors, float32, of shape (chunks, dimensions). More than `LIMIT` of either side are thinned out
evenly, so that a matrix of distances stays within 2000 x 2000 numbers. Same input, same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.records.evidence import Measure

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of `items`, evenly spaced and in their order; all of them where they are no more."""
    count = min(limit, len(items))
    return [items[at * len(items) // count] for at in range(count)]


def measure_mean(values: Sequence[float], params: ScoreParams) -> Measure:
    """The mean of `values` with its percentile bootstrap interval (Efron 1979); None where there are none.

    For a paired comparison pass the differences. The interval of values that are all alike has no width: with few
    questions that says little, which is why `n` stands beside it.
    """
    if not values:
        return Measure.unmeasured("no questions")
    sample = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(params.seed)
    means = sample[random.integers(0, len(sample), (params.resamples, len(sample)))].mean(axis=1)
    tail = (1 - params.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Measure(
        value=round(float(sample.mean()), 6), n=len(sample), low=round(float(low), 6), high=round(float(high), 6)
    )


def paired_difference(before: Sequence[float], after: Sequence[float], params: ScoreParams) -> Measure:
    """after - before, question by question, with its interval."""
    return measure_mean([new - old for old, new in zip(before, after, strict=True)], params)
