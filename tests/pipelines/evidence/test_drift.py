"""Tests of novelty, shift and vocabulary on clouds of vectors with known distances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.evidence import drift as novelty_module
from ragtide.pipelines.evidence.drift import SHIFTED, novelty, shift, vocabulary
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.ports import Vectors
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import evenly_spaced

law = settings(derandomize=True, deadline=None)
PARAMS = ScoreParams(resamples=100)
SEEDS = st.integers(0, 10_000)
DIMENSIONS = 8
NONE: Vectors = np.zeros((0, DIMENSIONS), dtype=np.float32)
OLD_TEXTS = ["The pump runs.", "A valve opens.", "Oil flows.", "The tank is full.", "Water rises."]


def cloud(count: int, seed: int, axis: int = 0, spread: float = 0.2) -> Vectors:
    """Unit vectors around an axis; each axis represents a subject."""
    vectors = np.random.default_rng(seed).normal(scale=spread, size=(count, DIMENSIONS))
    vectors[:, axis] += 1
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def value(measured: Measure) -> float:
    assert measured.value is not None, measured.why
    return measured.value


# --- novelty ---------------------------------------------------------------------------------------------------------


def test_new_chunks_of_the_same_subject_are_novel_at_the_rate_of_chance() -> None:
    shares = [value(novelty(cloud(40, 2 * seed), cloud(60, 2 * seed + 1), PARAMS)) for seed in range(50)]
    assert 0.03 < np.mean(shares) < 0.06


def test_chunks_of_another_subject_are_all_novel() -> None:
    assert novelty(cloud(30, 1, axis=3), cloud(60, 2), PARAMS) == Measure(value=1.0, n=30, low=1.0, high=1.0)


def test_novelty_measures_the_share_of_another_subject() -> None:
    old = cloud(100, 2)
    mixed = np.concatenate([old[:30], cloud(10, 1, axis=3)])
    measured = novelty(mixed, old, PARAMS)
    assert 0.25 <= value(measured) <= 0.3
    assert measured.low is not None
    assert measured.high is not None
    assert measured.low < value(measured) < measured.high


@law
@given(SEEDS, st.integers(20, 40))
def test_copies_of_old_chunks_are_rarely_novel(seed: int, count: int) -> None:
    old = cloud(count, seed)
    # The nearest neighbour of a copy is its original, while an old chunk is not compared with itself.
    assert value(novelty(old, old, PARAMS)) <= 0.05


def test_rounding_does_not_make_copies_of_the_only_text_novel() -> None:
    single = cloud(1, 5)
    rounded = single * np.float32(1 - 1e-7)
    assert value(novelty(np.repeat(rounded, 5, axis=0), np.repeat(single, 30, axis=0), PARAMS)) == 0.0


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        (NONE, cloud(30, 1), "there are no new chunks"),
        (cloud(5, 1), cloud(19, 1), "19 old chunks are too few to compare with: 20 are needed"),
        (cloud(5, 1), NONE, "0 old chunks are too few to compare with: 20 are needed"),
    ],
)
def test_novelty_is_unmeasured_with_too_few_chunks(new: Vectors, old: Vectors, why: str) -> None:
    assert novelty(new, old, PARAMS) == Measure.unmeasured(why)


# --- shift -----------------------------------------------------------------------------------------------------------


def test_samples_of_the_same_subject_have_a_small_shift_at_any_size() -> None:
    for count in (5, 10, 40):
        values = [value(shift(cloud(count, 2 * seed), cloud(60, 2 * seed + 1), PARAMS)) for seed in range(20)]
        assert np.mean(values) < SHIFTED / 2


def test_another_subject_has_a_shift_with_its_interval_above_the_threshold() -> None:
    measured = shift(cloud(30, 1, axis=3), cloud(60, 2), PARAMS)
    assert measured.low is not None
    assert measured.high is not None
    assert SHIFTED < measured.low <= value(measured) <= measured.high < 1
    assert measured.n == 30


def test_shift_grows_with_the_share_of_another_subject() -> None:
    old, same, other = cloud(80, 1), cloud(40, 2), cloud(40, 3, axis=3)
    mixed = [np.concatenate([same[share:], other[:share]]) for share in (0, 10, 20, 40)]
    values = [value(shift(new, old, PARAMS)) for new in mixed]
    assert values == sorted(set(values))


def test_shift_is_the_normalised_energy_distance() -> None:
    new, old = cloud(6, 1, axis=1), cloud(7, 2)
    between = np.mean([np.linalg.norm(a - b) for a in new for b in old])
    within = [
        np.mean([np.linalg.norm(a - b) for i, a in enumerate(vectors) for j, b in enumerate(vectors) if i != j])
        for vectors in (new, old)
    ]
    assert value(shift(new, old, PARAMS)) == pytest.approx((2 * between - sum(within)) / (2 * between), abs=1e-5)


@law
@given(SEEDS, SEEDS, st.integers(5, 12), st.integers(5, 12), st.integers(0, DIMENSIONS - 1))
def test_shift_is_symmetric_and_between_0_and_1(a: int, b: int, few: int, many: int, axis: int) -> None:
    first, second = cloud(few, a, axis), cloud(many, b)
    measured = shift(first, second, PARAMS)
    assert measured.low is not None
    assert measured.high is not None
    assert 0 <= measured.low <= measured.high <= 1
    assert 0 <= value(measured) <= 1
    assert value(measured) == pytest.approx(value(shift(second, first, PARAMS)), abs=1e-5)


def test_the_shift_of_two_points_is_1_and_of_equal_points_0() -> None:
    first, second = (np.repeat(np.eye(DIMENSIONS, dtype=np.float32)[at : at + 1], 6, axis=0) for at in (0, 1))
    assert shift(first, second, PARAMS) == Measure(value=1.0, n=6, low=1.0, high=1.0)
    assert shift(first, first, PARAMS) == Measure(value=0.0, n=6, low=0.0, high=0.0)


@pytest.mark.parametrize(("new", "old"), [(4, 30), (30, 4), (0, 30)])
def test_shift_is_unmeasured_with_too_few_chunks(new: int, old: int) -> None:
    why = f"{new} new and {old} old chunks: 5 of each are needed"
    assert shift(cloud(new, 1), cloud(old, 2), PARAMS) == Measure.unmeasured(why)


def test_the_seed_changes_only_the_interval() -> None:
    new, old = cloud(20, 1, axis=3, spread=0.5), cloud(30, 2)
    first, again, other = (shift(new, old, ScoreParams(resamples=100, seed=seed)) for seed in (7, 7, 8))
    assert first == again != other
    assert first.value == other.value


@pytest.mark.parametrize("measured", [novelty, shift])
def test_more_vectors_than_the_limit_are_sampled_evenly(
    measured: Callable[[Vectors, Vectors, ScoreParams], Measure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novelty_module, "LIMIT", 25)
    new, old = cloud(60, 1), cloud(80, 2)
    thinned = measured(new, old, PARAMS)
    assert thinned.n == 25
    assert thinned == measured(new[evenly_spaced(range(60), 25)], old[evenly_spaced(range(80), 25)], PARAMS)


# --- vocabulary ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("THE PUMP runs, the pump opens!", 0.0),
        ("The pump leaks.", 1 / 3),
        ("Leaks, leaks, LEAKS", 1.0),
        ("The pump 1.2.3 v4 3.11rc1 2030-01-01 x86", 0.0),
        ("valve_opens", 0.0),
        ("Ölfilter", 1.0),
    ],
)
def test_vocabulary_is_the_share_of_new_distinct_words_of_a_text(text: str, share: float) -> None:
    assert value(vocabulary([text], OLD_TEXTS, PARAMS)) == pytest.approx(share, abs=1e-6)


def test_the_mean_is_over_texts_with_words() -> None:
    measured = vocabulary(["The pump leaks rust.", "1.2.3", "Oil flows."], OLD_TEXTS, PARAMS)
    assert (measured.value, measured.n) == (0.25, 2)


def test_a_word_is_the_same_however_its_accents_are_written() -> None:
    assert value(vocabulary(["Cafe\u0301"], [*OLD_TEXTS, "CAF\u00c9"], PARAMS)) == 0.0


@law
@given(st.lists(st.text(max_size=20), min_size=5, max_size=8))
def test_old_texts_have_no_new_words(texts: list[str]) -> None:
    assert vocabulary(texts, texts, PARAMS).value in (0.0, None)


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        (["The pump."], OLD_TEXTS[:4], "4 old texts are too few to compare with: 5 are needed"),
        ([], OLD_TEXTS, "there are no new texts with words"),
        (["1.2", ""], OLD_TEXTS, "there are no new texts with words"),
    ],
)
def test_vocabulary_is_unmeasured_with_too_few_texts(new: list[str], old: list[str], why: str) -> None:
    assert vocabulary(new, old, PARAMS) == Measure.unmeasured(why)


# --- sample ----------------------------------------------------------------------------------------------------------


@law
@given(st.integers(0, 200), st.integers(0, 60))
def test_a_sample_is_ordered_evenly_spaced_and_limited(count: int, limit: int) -> None:
    sample = evenly_spaced(range(count), limit)
    assert len(sample) == min(count, limit)
    assert sample == sorted(set(sample))
    gaps = set(np.diff([*sample, count]).tolist()) if sample else set()
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert sample[:1] == list(range(count))[: min(1, limit)]
