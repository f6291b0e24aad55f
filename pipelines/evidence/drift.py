"""Drift of documents and examples: distance of new chunks to the old ones, new words, excess loss; numpy alone.

Vectors are unit vectors, float32, of shape (chunks, dimensions). More than `LIMIT` of either side are sampled
evenly, so that a matrix of distances stays within 2000 x 2000 numbers. Same input, same numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragtide.pipelines.data.text import normalize_text
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.ports import Vectors
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import Numbers, evenly_spaced, measure_mean, resampled_means, with_interval

NEIGHBOURS = 3
# The share of old chunks that count as far among their own: the novelty that chance gives.
BY_CHANCE = 0.05
# With fewer old chunks, even the furthest of them is more than 5 % of all.
FEWEST_OLD = 20
FEWEST = 5
LIMIT = 2000
# Each resample of `shift` weighs whole matrices; the ends of a 90 % interval need no more.
RESAMPLES = 200
# A shift of this much is another subject. Midway between new pages that are all of one narrow field of the old ones
# (0.07; of their own kind 0.00 to 0.01) and pages of another corpus (0.15): docs/log.md, "How new is new".
SHIFTED = 0.1
# Two vectors of one text differ by what float32 rounds away.
ROUNDING = 1e-6
# Letters that no digit touches: versions, dates and identifiers with numbers are facts, and change with every release.
_WORD = re.compile(r"(?<![^\W_])[^\W\d_]+(?![^\W_])")


def novelty(new: Vectors, old: Vectors, params: ScoreParams) -> Measure:
    """The share of `new` chunks that lie further from the old ones than 95 % of these lie from each other.

    Far is the mean cosine distance to the 3 nearest old chunks, an old one's own left out. The corpus is its own
    reference, in the manner of conformal p-values (Bates et al. 2023, "Testing for outliers with conformal p-values"),
    so that chance gives about 0.05 whatever the embedder. The interval is over the new chunks alone. Unmeasured without
    new chunks, and below 20 old ones.
    """
    if not len(new):
        return Measure.unmeasured("there are no new chunks")
    if len(old) < FEWEST_OLD:
        return Measure.unmeasured(f"{len(old)} old chunks are too few to compare with: {FEWEST_OLD} are needed")
    new, old = _thinned(new), _thinned(old)
    apart = 1 - old @ old.T
    np.fill_diagonal(apart, np.inf)
    usual = np.sort(_to_nearest(apart))
    # Of n + 1 chunks that might have come in any order, 5 % lie beyond this one by chance.
    edge = usual[int(np.ceil((1 - BY_CHANCE) * (len(old) + 1))) - 1]
    far = _to_nearest(1 - new @ old.T) > edge + ROUNDING
    return measure_mean(far.astype(float).tolist(), params)


def shift(new: Vectors, old: Vectors, params: ScoreParams) -> Measure:
    """How far the two samples lie apart as a whole: 0 is one distribution, 1 two single points.

    New chunks of which only some are of another subject hardly shift the whole: `novelty` finds these.

    The E-coefficient of the energy distance (Székely & Rizzo 2013, "Energy statistics"), over pairs of different chunks
    so that small samples do not look apart, with a percentile bootstrap interval over both; `n` counts the new chunks.
    No hypothesis test: with enough chunks a test finds any difference, and its p-value says nothing of its size or harm
    (Rabanser et al. 2019, "Failing Loudly", judge harm apart from detection). Compare `low` with `SHIFTED`.
    """
    if len(new) < FEWEST or len(old) < FEWEST:
        return Measure.unmeasured(f"{len(new)} new and {len(old)} old chunks: {FEWEST} of each are needed")
    new, old = _thinned(new), _thinned(old)
    samples = _Samples(_distances(new, old), _distances(new, new), _distances(old, old))
    random = np.random.default_rng(params.seed)
    resamples = min(params.resamples, RESAMPLES)
    drawn = samples.apart(_drawn(len(new), resamples, random), _drawn(len(old), resamples, random))
    value = samples.apart(np.ones((1, len(new))), np.ones((1, len(old))))[0]
    return with_interval(value, drawn, len(new), params)


def vocabulary(new: Sequence[str], old: Sequence[str], params: ScoreParams) -> Measure:
    """The mean over `new` texts of the share of their different words that no `old` text holds.

    Words are letters, whatever their case; what holds a digit is none, and a text without words is skipped. It has no
    reference of its own, and grows as `old` shrinks: pass every old text, not a sample.
    """
    if len(old) < FEWEST:
        return Measure.unmeasured(f"{len(old)} old texts are too few to compare with: {FEWEST} are needed")
    word_sets = [words for words in map(_words, new) if words]
    if not word_sets:
        return Measure.unmeasured("there are no new texts with words")
    known: set[str] = set().union(*map(_words, old))
    return measure_mean([len(words - known) / len(words) for words in word_sets], params)


def excess_loss(new: Sequence[float], old: Sequence[float], params: ScoreParams) -> Measure:
    """mean(new) - mean(old) in nats per answer token, one loss an example; above 0 where new ones are predicted worse.

    The interval is that of the percentile bootstrap for two independent samples (Efron and Tibshirani 1993, ch. 8):
    each is resampled by itself, since no new example is paired with an old one. `n` counts the new ones.
    """
    if not new:
        return Measure.unmeasured("no new training examples")
    if not old:
        return Measure.unmeasured("no old training examples to compare with")
    if not np.isfinite([*new, *old]).all():
        return Measure.unmeasured("a loss is not a finite number")
    after, before = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    random = np.random.default_rng(params.seed)
    resampled_after = resampled_means(after, random, params.resamples)
    differences = resampled_after - resampled_means(before, random, params.resamples)
    return with_interval(after.mean() - before.mean(), differences, len(after), params)


@dataclass(frozen=True)
class _Samples:
    """The distances between two samples and within each; a resample says how often each chunk was drawn."""

    between: Vectors
    within_new: Vectors
    within_old: Vectors

    def apart(self, new: Numbers, old: Numbers) -> Numbers:
        """The E-coefficient of each resample; `new` and `old` hold one in each row."""
        between = 2 * _weighted_sum(new, self.between, old) / (new.sum(axis=1) * old.sum(axis=1))
        within = _mean_within(new, self.within_new) + _mean_within(old, self.within_old)
        # Where all chunks are alike there is no distance to share out, and no shift.
        apart: Numbers = np.clip((between - within) / np.maximum(between, ROUNDING), 0, 1)
        return apart


def _drawn(count: int, resamples: int, random: np.random.Generator) -> Numbers:
    """How often each of `count` chunks is drawn, with replacement, in each resample: shape (resamples, count)."""
    return random.multinomial(count, np.full(count, 1 / count), resamples).astype(np.float64)


def _mean_within(drawn: Numbers, distances: Vectors) -> Numbers:
    """The mean over pairs of different chunks: from itself a chunk is at no distance, however often it was drawn."""
    pairs = drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)
    mean: Numbers = _weighted_sum(drawn, distances, drawn) / np.maximum(pairs, 1)
    return mean


def _weighted_sum(rows: Numbers, distances: Vectors, columns: Numbers) -> Numbers:
    weighted: Numbers = ((rows @ distances) * columns).sum(axis=1)
    return weighted


def _distances(rows: Vectors, columns: Vectors) -> Vectors:
    """Euclidean, of unit vectors; those of one text are at 0, although rounding would put them at a thousandth."""
    squared = 2 - 2 * (rows @ columns.T)
    squared[squared < ROUNDING] = 0
    distances: Vectors = np.sqrt(squared)
    return distances


def _to_nearest(distances: Vectors) -> Vectors:
    """Of each row the mean of its smallest few."""
    nearest: Vectors = np.partition(distances, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS].mean(axis=1)
    return nearest


def _thinned(vectors: Vectors) -> Vectors:
    return vectors[evenly_spaced(range(len(vectors)), LIMIT)]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(normalize_text(text).casefold()))
