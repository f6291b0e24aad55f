"""Tests of index maintenance: full-text and vector indexes, compaction, pruning, sweeping and verification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragtide.pipelines.index import maintenance, vector_cache
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.params import EmbedParams, IndexParams
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.data import Chunk
from tests.factories import HashEmbedder, Shelf, chunk, md5, write

FROM_ROWS = 300
STEPS = ["sweep", "compact", "prune", "prune vectors"]
FOREVER = timedelta(days=10_000)
QUESTIONS = ("text 7", "the lantern", "text 299", "something else")


class Sphere(HashEmbedder):
    """Real random unit vectors, of a width that each kind of index can be trained on."""

    fingerprint = "sphere-32"
    dimensions = 32

    def embed(self, texts: Sequence[str]) -> Any:
        self.embedded.extend(texts)
        drawn = np.stack([np.random.default_rng(int(md5(text)[:12], 16)).normal(size=32) for text in texts])
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "lance"))


@pytest.fixture
def large(tmp_path: Path) -> Shelf:
    """An index whose vectors are indexed from a few hundred rows on."""
    return Shelf(str(tmp_path / "lance"), Sphere(), params=IndexParams(vector_index_from_rows=FROM_ROWS))


def many(count: int, first: int = 0) -> list[Chunk]:
    return [chunk(f"{number:04}.md", f"text {number}") for number in range(first, first + count)]


def hits_of(shelf: Shelf, version: int | str, by: str = "hybrid", *questions: str) -> list[list[str]]:
    return [[hit.document for hit in hits] for hits in shelf.search(version, *(questions or QUESTIONS), by=by)]


def unindexed(shelf: Shelf) -> dict[str, int]:
    table = shelf.table()
    return {index.name: table.index_stats(index.name).num_unindexed_rows for index in table.list_indices()}


def files(folder: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(Path(folder).rglob("*")) if path.is_file()}


# --- the full-text index ---------------------------------------------------------------------------------------------


def test_the_full_text_index_covers_every_row_after_each_refresh(shelf: Shelf) -> None:
    for count in (3, 5, 4, 9):
        shelf.refresh(many(count))
        assert unindexed(shelf) == {"text_idx": 0}


def test_an_empty_index_has_no_full_text_index_until_it_is_filled(shelf: Shelf) -> None:
    shelf.refresh([])
    assert shelf.indexed_by("text") == []
    shelf.refresh(many(2))
    assert hits_of(shelf, shelf.latest, "text", "text 1") == [["0001.md", "0000.md"]]
    assert unindexed(shelf) == {"text_idx": 0}


def test_a_refresh_adds_a_segment_and_too_many_are_merged(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "SEGMENTS", 4)
    segments = []
    for count in range(1, 12):
        shelf.refresh([*many(count), chunk("x.md", f"edited {count}")])
        segments.append(int(shelf.table().index_stats("text_idx").num_indices))
        assert hits_of(shelf, shelf.latest, "text", f"edited {count}", f"text {count - 1}") == [
            ["x.md"],
            [f"{count - 1:04}.md", *(f"{at:04}.md" for at in range(min(2, count - 1)))],
        ]
    assert segments[:4] == [1, 2, 3, 4]
    assert max(segments) <= 4


# --- the vector index ------------------------------------------------------------------------------------------------


def test_few_rows_are_searched_exactly(large: Shelf) -> None:
    built = large.refresh(many(FROM_ROWS - 1))
    assert large.indexed_by("vector") == []
    assert built.vector_index == f"none: exact search is fast enough below {FROM_ROWS} rows"


def test_many_rows_get_a_vector_index_with_high_recall(large: Shelf) -> None:
    exact = Shelf(f"{large.uri}-exact", large.embedder)
    for index in (large, exact):
        index.refresh(many(FROM_ROWS))
    assert large.indexed_by("vector") == [f"vector-of-{FROM_ROWS}"]
    questions = [f"text {number}" for number in range(40)]
    pairs = zip(
        hits_of(large, large.latest, "vector", *questions),
        hits_of(exact, exact.latest, "vector", *questions),
        strict=True,
    )
    assert np.mean([len({*approximate} & {*nearest}) / 3 for approximate, nearest in pairs]) >= maintenance.LEAST_RECALL
    # The nearest text of a question is the identical one.
    assert [hits[0] for hits in hits_of(large, large.latest, "vector", *questions)] == [
        chunk.document for chunk in many(40)
    ]


def test_a_build_records_its_vector_index_with_the_reason(large: Shelf) -> None:
    built = large.refresh(many(FROM_ROWS))
    assert built.vector_index.startswith(f"vector-of-{FROM_ROWS} (IvfSq): too many rows for exact search; recall ")
    assert float(built.vector_index.split("recall ")[1].split()[0]) >= maintenance.LEAST_RECALL
    again = large.refresh(many(FROM_ROWS + 1))
    assert again.vector_index.startswith(f"vector-of-{FROM_ROWS}: trained on {FROM_ROWS} rows, {FROM_ROWS + 1} now")


def test_a_refresh_without_changes_makes_no_version_of_an_indexed_table(large: Shelf) -> None:
    built = large.refresh(many(FROM_ROWS))
    before = large.versions()
    assert large.refresh(many(FROM_ROWS)).version == built.version
    assert large.versions() == before


def test_new_rows_are_found_through_the_vector_index(large: Shelf) -> None:
    large.refresh(many(FROM_ROWS))
    built = large.refresh([*many(FROM_ROWS + 50), chunk("new.md", "the lantern")])
    assert set(unindexed(large).values()) == {0}
    assert hits_of(large, built.version, "vector", "the lantern", "text 349") == [
        ["new.md", *hits_of(large, built.version, "vector", "the lantern")[0][1:]],
        ["0349.md", *hits_of(large, built.version, "vector", "text 349")[0][1:]],
    ]


def test_a_vector_index_is_retrained_after_the_rows_have_doubled(large: Shelf) -> None:
    large.refresh(many(FROM_ROWS))
    large.refresh(many(2 * FROM_ROWS - 1))
    assert large.indexed_by("vector") == [f"vector-of-{FROM_ROWS}"]
    built = large.refresh(many(2 * FROM_ROWS))
    assert large.indexed_by("vector") == [f"vector-of-{2 * FROM_ROWS}"]
    assert f"rows have doubled since {FROM_ROWS}" in built.vector_index


def test_a_vector_index_with_low_recall_is_dropped(large: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_recall", lambda table: 0.5)
    built = large.refresh(many(FROM_ROWS))
    assert large.indexed_by("vector") == []
    assert built.vector_index == "none: IvfSq found 0.50 of what exact search finds, below 0.9"
    assert hits_of(large, built.version, "vector", "text 7")[0][0] == "0007.md"


def test_a_vector_index_whose_recall_falls_is_not_kept(large: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    large.refresh(many(FROM_ROWS))
    monkeypatch.setattr(maintenance, "_recall", lambda table: 0.5)
    large.refresh(many(FROM_ROWS + FROM_ROWS // 3))
    assert large.indexed_by("vector") == []


def test_a_vector_index_is_dropped_below_the_row_limit(large: Shelf) -> None:
    large.refresh(many(FROM_ROWS))
    built = large.refresh(many(10))
    assert built.vector_index.startswith("none: ")
    assert large.indexed_by("vector") == []


def test_vectors_have_one_bit_above_a_million_rows(large: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "IVF_RQ_FROM_ROWS", FROM_ROWS)
    monkeypatch.setattr(maintenance, "LEAST_RECALL", 0.0)
    assert "(IvfRq)" in large.refresh(many(FROM_ROWS)).vector_index
    [hits] = hits_of(large, large.latest, "vector", "text 7")
    assert hits[0] == "0007.md"


def test_a_rebuild_has_its_own_vector_index_and_the_old_tag_keeps_its(large: Shelf) -> None:
    first = large.refresh(many(FROM_ROWS))
    large.index.tag("release-1", first.version)
    before = hits_of(large, "release-1", "vector")
    other = Shelf(large.uri, large.embedder, embed=EmbedParams(query_prefix="query: "), params=large.params)
    other.refresh(many(FROM_ROWS + 5), rebuild=True)
    assert other.indexed_by("vector") == [f"vector-of-{FROM_ROWS + 5}"]
    assert hits_of(large, "release-1", "vector") == before


# --- conflicts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (
        maintenance.update_text_index,
        maintenance.update_vector_index,
        maintenance._compact_files,
        maintenance._delete_old_versions,
    ):
        monkeypatch.setattr(function.retry, "sleep", lambda seconds: None)


class Contested:
    """A table whose first checkouts of the latest version fail so many times."""

    def __init__(self, times: int, problem: str) -> None:
        self.left, self.problem, self.tries = times, problem, 0

    def checkout_latest(self) -> None:
        self.tries += 1
        if self.left:
            self.left -= 1
            raise RuntimeError(self.problem)

    def count_rows(self) -> int:
        return 0


CONFLICT = "lance error: Retryable commit conflict for version 7:\nplease retry"


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("times", [0, 1, 4])
def test_a_conflicting_commit_is_retried(times: int) -> None:
    table = Contested(times, CONFLICT)
    maintenance.update_text_index(table)
    assert table.tries == times + 1


@pytest.mark.usefixtures("hurried")
def test_a_lasting_conflict_is_raised() -> None:
    table = Contested(99, CONFLICT)
    with pytest.raises(RuntimeError, match="commit conflict"):
        maintenance.update_text_index(table)
    assert table.tries == 5


@pytest.mark.usefixtures("hurried")
def test_another_error_is_raised_at_once() -> None:
    table = Contested(99, "the disk is full")
    with pytest.raises(RuntimeError, match="the disk is full"):
        maintenance.update_text_index(table)
    assert table.tries == 1


# --- maintenance -----------------------------------------------------------------------------------------------------


@pytest.fixture
def worn(shelf: Shelf) -> Shelf:
    """An index of several commits: a tagged one, edits, and removals."""
    shelf.refresh(many(6))
    shelf.index.tag("release-1", shelf.latest)
    for count in range(1, 5):
        shelf.refresh([*many(6 - count), chunk("x.md", f"the lantern {count}")])
    return shelf


def test_maintenance_shrinks_the_table_without_changing_rows_or_results(worn: Shelf) -> None:
    rows, answers = worn.content(), hits_of(worn, worn.latest)
    before, tagged = len(worn.versions()), worn.content("release-1")
    done = worn.maintain()
    assert list(done) == STEPS
    assert [done[step].done for step in STEPS] == [False, True, True, True]
    assert (worn.content(), hits_of(worn, worn.latest)) == (rows, answers)
    assert len(worn.versions()) < before
    assert unindexed(worn) == {"text_idx": 0}
    # The earlier release remains available for a rollback.
    assert worn.content("release-1") == tagged
    assert hits_of(worn, "release-1", "hybrid", "text 5")[0][0] == "0005.md"
    assert worn.embeds(many(6)) == []


def test_compaction_leaves_one_fragment_with_any_number_of_text_segments(worn: Shelf) -> None:
    # Lance does not compact fragments across index segments: segments must be merged first.
    assert worn.maintain()["compact"].done
    assert len(worn.table().to_lance().get_fragments()) == 1
    assert not worn.maintain()["compact"].done


def test_a_second_maintenance_does_nothing_and_gives_reasons(worn: Shelf) -> None:
    worn.maintain()
    before = files(worn.uri)
    done = worn.maintain(keep=FOREVER, max_fragments=9)
    assert not any(step.done for step in done.values())
    assert files(worn.uri) == before
    assert done["compact"].why.endswith(" fragments, 0% of the rows deleted")
    assert done["prune"].why.startswith("no version is older than 10000 days; ")
    assert done["sweep"].why == "there are no files of killed writers"
    assert done["prune vectors"].why.startswith("0 cached vectors older than 10000 days")


def test_a_dry_run_reports_without_changing_anything(worn: Shelf) -> None:
    write(Path(worn.uri) / "chunks.lance/data/.tmpXYZ", "half")
    before = files(worn.uri)
    would = worn.maintain(dry_run=True)
    assert files(worn.uri) == before
    assert not any(step.done for step in would.values())
    done = worn.maintain()
    assert {name for name, step in done.items() if step.done} == set(STEPS)
    # Compaction itself makes versions and fragments; everything else equals the dry run.
    assert [done[step].why for step in ("compact", "sweep", "prune vectors")] == [
        would[step].why for step in ("compact", "sweep", "prune vectors")
    ]


@pytest.mark.parametrize(
    ("limits", "done"),
    [
        ({"max_fragments": 100, "max_deleted_share": 1.0}, False),
        ({"max_fragments": 1, "max_deleted_share": 1.0}, True),
        ({"max_fragments": 100, "max_deleted_share": 0.1}, True),
    ],
)
def test_a_table_is_compacted_past_either_limit(worn: Shelf, limits: dict[str, Any], done: bool) -> None:
    assert worn.maintain(keep=FOREVER, **limits)["compact"].done is done


def test_young_versions_are_not_pruned(worn: Shelf) -> None:
    before = worn.versions()
    worn.maintain(keep=timedelta(days=1))
    assert set(before) <= set(worn.versions())


def test_an_untagged_version_is_pruned_with_its_vectors(worn: Shelf) -> None:
    worn.index.untag("release-1")
    worn.maintain()
    wanted = {row["digest"] for row in worn.content()}
    assert worn.cached() == wanted
    assert worn.embeds(many(6)) == [chunk.text for chunk in many(6)[2:]]


def test_the_vectors_of_a_tagged_version_are_kept(worn: Shelf) -> None:
    worn.maintain()
    wanted = {row["digest"] for version in (None, "release-1") for row in worn.content(version)}
    assert worn.cached() == wanted


def test_the_vectors_of_a_young_version_are_kept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    class LastMonth:
        @staticmethod
        def now(zone: Any) -> datetime:
            return datetime.now(UTC) - timedelta(days=30)

    # Embedded a month ago, and still in the version that was the latest until today.
    monkeypatch.setattr(vector_cache, "datetime", LastMonth)
    shelf.refresh(many(3))
    monkeypatch.undo()
    shelf.refresh(many(1))
    shelf.maintain(keep=timedelta(days=7))
    assert shelf.embeds(many(3)) == []


def test_maintenance_keeps_a_rebuild_and_the_release_before_it(worn: Shelf) -> None:
    other = Shelf(worn.uri, Sphere())
    other.refresh(many(4), rebuild=True)
    tagged, rows = worn.content("release-1"), other.content()
    assert other.maintain()["prune"].done
    assert (worn.content("release-1"), other.content()) == (tagged, rows)
    assert hits_of(worn, "release-1", "hybrid", "text 5")[0][0] == "0005.md"


def test_the_old_cache_of_an_unused_embedder_is_dropped(worn: Shelf) -> None:
    other = Shelf(worn.uri, Sphere())
    other.refresh(many(4), rebuild=True)
    caches = [name for name in worn.tables() if name.startswith("vectors-")]
    assert len(caches) == 2
    # Release 1 was built with the previous embedder.
    assert "other embedders" not in other.maintain()["prune vectors"].why
    assert set(caches) <= set(worn.tables())
    other.index.untag("release-1")
    other.maintain(keep=FOREVER)
    assert set(caches) <= set(worn.tables())
    would = other.maintain(dry_run=True)["prune vectors"]
    assert not would.done
    assert set(caches) <= set(worn.tables())
    done = other.maintain()["prune vectors"]
    assert done.done
    assert done.why.endswith("; neither are those of 1 other embedders of that age")
    assert len([name for name in worn.tables() if name.startswith("vectors-")]) == 1
    assert other.embeds(many(4)) == []


def test_maintenance_keeps_the_vector_index_complete(large: Shelf) -> None:
    large.refresh(many(FROM_ROWS))
    large.refresh(many(FROM_ROWS + 9, 1))
    assert large.maintain()["compact"].done
    assert set(unindexed(large).values()) == {0}
    assert hits_of(large, large.latest, "vector", "text 7")[0][0] == "0007.md"
    assert large.index.defects(large.latest) == []


def test_the_cache_table_does_not_grow_with_every_refresh(shelf: Shelf) -> None:
    for count in range(1, 9):
        shelf.refresh(many(count))
    [cache] = [name for name in shelf.tables() if name.startswith("vectors-")]
    before = len(shelf.table(cache).to_lance().get_fragments())
    shelf.maintain()
    assert len(shelf.table(cache).to_lance().get_fragments()) < before
    assert len(shelf.table(cache).list_versions()) < before


# --- files of killed writers -----------------------------------------------------------------------------------------


def test_only_files_of_killed_writers_are_swept(worn: Shelf) -> None:
    folder = Path(worn.uri)
    [cache] = [name for name in worn.tables() if name.startswith("vectors-")]
    left = [
        write(folder / "chunks.lance/data/.tmpAbc123", "half a file"),
        write(folder / "chunks.lance/_indices/.tmp-x/part", "in a folder").parent,
        write(folder / f"{cache}.lance/_versions/.tmp_7.manifest", "half a manifest"),
    ]
    others = [write(folder / ".tmp-elsewhere", "mine"), write(folder / "chunks.lance/data/tmp", "mine too")]
    assert list(maintenance.orphaned_files(folder)) == sorted(left)
    assert worn.maintain(keep=FOREVER, max_fragments=99, max_deleted_share=1.0)["sweep"].why.endswith(": 3")
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)
    assert worn.index.defects(worn.latest) == []


def test_deletion_files_of_killed_writers_are_deleted_and_those_of_kept_versions_stay(worn: Shelf) -> None:
    table = Path(worn.uri) / "chunks.lance"
    kept = set(table.glob("_deletions/*"))
    assert kept
    rows = {version: worn.content(version) for version in worn.versions()}
    left = write(table / "_deletions/0-2-123.arrow", "never committed")
    worn.maintain(keep=FOREVER, max_fragments=99, max_deleted_share=1.0)
    assert not left.exists()
    assert set(table.glob("_deletions/*")) == kept
    assert {version: worn.content(version) for version in rows} == rows


def test_an_index_that_is_not_on_this_machine_is_not_swept(worn: Shelf) -> None:
    write(Path(worn.uri) / "chunks.lance/data/.tmpAbc", "half")
    swept = worn.maintain(folder=None)["sweep"]
    assert (swept.done, swept.why) == (False, "the index is not on this machine")


# --- defects ---------------------------------------------------------------------------------------------------------


def test_a_valid_version_and_an_empty_one_have_no_defects(shelf: Shelf) -> None:
    assert shelf.index.defects(shelf.refresh([]).version) == []
    assert shelf.index.defects(shelf.refresh(many(3)).version) == []


def test_duplicate_rows_are_reported(shelf: Shelf) -> None:
    shelf.refresh(many(3))
    table = shelf.table()
    table.add(table.to_arrow().slice(0, 2))
    assert shelf.index.defects(shelf.latest) == ["2 rows are duplicates"]


@pytest.mark.parametrize("length", [0.0, 0.5, 2.0])
def test_vectors_that_are_not_unit_vectors_are_reported(shelf: Shelf, length: float) -> None:
    class Odd(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> Any:
            return super().embed(texts) * np.where(np.asarray(texts) == "text 1", length, 1.0)[:, None]

    odd = Shelf(shelf.uri, Odd())
    built = odd.index.refresh(InMemorySource.of(many(3)), "s", no_progress)
    assert odd.index.defects(built.version) == ["1 rows have no unit vector"]


Ask = Callable[[Shelf], object]


@pytest.mark.parametrize(
    "ask",
    [lambda shelf: shelf.index.maintain(None), lambda shelf: shelf.index.tags(), lambda shelf: shelf.index.latest()],
    ids=["maintain", "tags", "latest"],
)
def test_without_an_index_there_is_nothing_to_maintain(shelf: Shelf, ask: Ask) -> None:
    assert not ask(shelf)
    assert shelf.tables() == []
