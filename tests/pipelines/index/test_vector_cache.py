"""Tests of the vector cache: reuse, atomic writes, pruning and hostile digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.index import vector_cache
from ragtide.pipelines.index.vector_cache import VectorCache, vectors_by_digest
from ragtide.pipelines.ports import Vectors

DIMENSIONS = 4
NOW = datetime(2030, 5, 1, tzinfo=UTC)
ODD = ("' OR '1'='1", "it's", "\\", '"', "", " ", "日本", "é", "e\u0301", "%", "x" * 500)


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(lancedb.connect(tmp_path), "0123456789ab", DIMENSIONS)


def vectors_of(*digests: str) -> dict[str, Vectors]:
    """A distinct vector for each digest."""
    return {digest: np.full(DIMENSIONS, len(digest) + hash(digest) % 97, dtype=np.float32) for digest in digests}


def same(vectors: Mapping[str, Vectors], wanted: Mapping[str, Vectors]) -> bool:
    return vectors.keys() == wanted.keys() and all(np.array_equal(vectors[key], wanted[key]) for key in wanted)


def test_without_a_table_nothing_is_cached_and_reading_creates_none(cache: VectorCache, tmp_path: Path) -> None:
    assert (cache.get(["a"]), cache.known(["a"]), cache.forget(set(), NOW)) == ({}, set(), 0)
    cache.put({})
    assert lancedb.connect(tmp_path).list_tables().tables == []


@pytest.mark.parametrize("at_once", [1, 2, 2000])
def test_vectors_are_found_by_their_digest(cache: VectorCache, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "DIGESTS_PER_QUERY", at_once)
    wanted = vectors_of("a", "bb", "ccc")
    cache.put(wanted)
    assert same(cache.get(["ccc", "a", "none", "a"]), {key: wanted[key] for key in ("a", "ccc")})
    assert cache.known(["ccc", "a", "none", "a"]) == {"a", "ccc"}
    assert (cache.get([]), cache.known([])) == ({}, set())


def test_vectors_are_returned_bit_for_bit(cache: VectorCache) -> None:
    drawn = np.random.default_rng(7).normal(size=(50, DIMENSIONS)).astype(np.float32)
    wanted = {f"digest {at}": vector for at, vector in enumerate(drawn)}
    cache.put(wanted)
    vectors = cache.get(list(wanted))
    assert same(vectors, wanted)
    assert {vector.dtype for vector in vectors.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("digest", ODD, ids=lambda digest: repr(digest[:8]))
def test_a_digest_is_a_value_and_never_a_query(cache: VectorCache, digest: str) -> None:
    wanted = vectors_of("before", digest, "after")
    cache.put(wanted)
    assert same(cache.get([digest]), {digest: wanted[digest]})
    assert cache.known([*ODD]) == {digest}
    assert cache.forget({"before", "after"}, datetime.now(UTC) + timedelta(days=1)) == 1
    assert cache.known([digest, "before", "after"]) == {"before", "after"}


def test_a_vector_that_was_added_twice_is_returned_once(cache: VectorCache) -> None:
    wanted = vectors_of("a", "bb")
    cache.put(wanted)
    cache.put(wanted)
    assert same(cache.get(["a", "bb"]), wanted)
    assert cache.known(["a", "bb"]) == {"a", "bb"}


def test_two_embedders_share_no_vectors(tmp_path: Path) -> None:
    database = lancedb.connect(tmp_path)
    narrow, wide = VectorCache(database, "a" * 12, DIMENSIONS), VectorCache(database, "b" * 12, 2 * DIMENSIONS)
    narrow.put(vectors_of("one"))
    assert wide.known(["one"]) == set()
    wide.put({"one": np.ones(2 * DIMENSIONS, dtype=np.float32)})
    assert (len(narrow.get(["one"])["one"]), len(wide.get(["one"])["one"])) == (DIMENSIONS, 2 * DIMENSIONS)


def test_vectors_of_another_width_are_an_error_and_change_nothing(cache: VectorCache) -> None:
    cache.put(vectors_of("a"))
    with pytest.raises((ValueError, RuntimeError, pa.ArrowInvalid)):
        cache.put({"b": np.ones(DIMENSIONS + 1, dtype=np.float32)})
    assert cache.known(["a", "b"]) == {"a"}


def test_another_handle_sees_what_was_put_since(tmp_path: Path) -> None:
    first, second = (VectorCache(lancedb.connect(tmp_path), "0123456789ab", DIMENSIONS) for _ in range(2))
    first.put(vectors_of("a"))
    assert second.known(["a", "b"]) == {"a"}
    second.put(vectors_of("b"))
    assert first.known(["a", "b"]) == {"a", "b"}


# --- deletion --------------------------------------------------------------------------------------------------------


class Clock:
    """A `datetime` with a fixed current time."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self, zone: Any) -> datetime:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(vector_cache, "datetime", clock)
    return clock


def put_on(cache: VectorCache, clock: Clock, day: int, *digests: str) -> None:
    clock.at = NOW + timedelta(days=day)
    cache.put(vectors_of(*digests))


@pytest.mark.parametrize("dry_run", [True, False])
def test_old_unneeded_vectors_are_deleted_and_counted_by_a_dry_run(
    cache: VectorCache, clock: Clock, dry_run: bool
) -> None:
    put_on(cache, clock, 0, "old", "old but needed")
    put_on(cache, clock, 9, "young")
    assert cache.forget({"old but needed"}, NOW + timedelta(days=5), dry_run) == 1
    left = {"old but needed", "young"} | ({"old"} if dry_run else set())
    assert cache.known(["old", "old but needed", "young"]) == left


def test_vectors_exactly_at_the_age_limit_are_kept(cache: VectorCache, clock: Clock) -> None:
    put_on(cache, clock, 0, "a")
    assert cache.forget(set(), NOW) == 0
    assert cache.forget(set(), NOW + timedelta(microseconds=1)) == 1


def test_a_deleted_vector_can_be_added_again(cache: VectorCache, clock: Clock) -> None:
    put_on(cache, clock, 0, "a", "b")
    cache.forget(set(), NOW + timedelta(days=1))
    assert cache.known(["a", "b"]) == set()
    put_on(cache, clock, 2, "a")
    assert cache.known(["a", "b"]) == {"a"}


Step = tuple[str, Sequence[str]]
DIGESTS = st.lists(st.sampled_from([*"abcdefgh", *ODD[:4]]), max_size=6, unique=True)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(["put", "forget"]), DIGESTS), max_size=6))
def test_after_any_additions_and_deletions_the_expected_vectors_remain(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    cache = VectorCache(lancedb.connect(tmp_path_factory.mktemp("cache")), "0123456789ab", DIMENSIONS)
    model: set[str] = set()
    for step, digests in steps:
        if step == "put":
            cache.put(vectors_of(*(set(digests) - model)))
            model |= set(digests)
        else:
            deleted = cache.forget(set(digests), datetime.now(UTC) + timedelta(days=1))
            assert deleted == len(model - set(digests))
            model &= set(digests)
    everything = [*"abcdefgh", *ODD]
    assert cache.known(everything) == model
    assert same(cache.get(everything), vectors_of(*model))


def test_no_rows_make_no_vectors() -> None:
    schema = pa.schema([("digest", pa.string()), ("vector", pa.list_(pa.float32(), DIMENSIONS))])
    assert vectors_by_digest(schema.empty_table()) == {}
