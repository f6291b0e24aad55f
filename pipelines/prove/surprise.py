"""Do the new training examples surprise the live model? Its loss on them beside its loss on those it has learnt from.

The loss per answer token speaks before any training: where new examples cost the model no more than old ones, there
is nothing in them that it would learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.params import ScoreParams
from pipelines.records import Measure

Losses = NDArray[np.float64]


def surprise(new: Sequence[float], old: Sequence[float], params: ScoreParams) -> Measure:
    """mean(new) - mean(old) in nats per answer token, one loss an example; above 0, the new ones surprise.

    The interval is that of the percentile bootstrap for two independent samples (Efron and Tibshirani 1993, ch. 8):
    each is drawn from by itself, since no new example has an old one as its pair. `n` counts the new ones.
    """
    if not new:
        return Measure.unmeasured("no new training examples")
    if not old:
        return Measure.unmeasured("no old training examples to compare with")
    if not np.isfinite([*new, *old]).all():
        return Measure.unmeasured("a loss is not a finite number")
    after, before = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    random = np.random.default_rng(params.seed)
    differences = _means(after, random, params.resamples) - _means(before, random, params.resamples)
    tail = (1 - params.confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    value = float(after.mean() - before.mean())
    return Measure(value=round(value, 6), n=len(after), low=round(float(low), 6), high=round(float(high), 6))


def _means(sample: Losses, random: np.random.Generator, resamples: int) -> Losses:
    """Means of `resamples` samples drawn with replacement, shape (resamples,)."""
    drawn = sample[random.integers(0, len(sample), (resamples, len(sample)))]
    return np.asarray(drawn.mean(axis=1), dtype=np.float64)
