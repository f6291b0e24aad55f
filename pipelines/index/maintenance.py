"""Maintenance of the index table: search indexes by size, compaction, pruning of old versions, and verification.

Each step returns whether and why it was done.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from lancedb.index import FTS, IvfRq, IvfSq
from tenacity import retry, retry_if_exception_message, stop_after_attempt, wait_fixed

from ragtide.pipelines.index.rows import read_columns
from ragtide.pipelines.index.search import REFINE
from ragtide.pipelines.index.vector_cache import VectorCache
from ragtide.pipelines.records.release import MaintenanceStep

# Each refresh adds a segment to the full-text index; from this number on they are merged, since a query reads them all.
SEGMENTS = 16
# IVF with eight-bit vectors builds in seconds and finds everything; above a million rows one-bit vectors are smaller.
IVF_RQ_FROM_ROWS = 1_000_000
# Growth in rows since training after which a vector index is trained again, or its recall is checked.
RETRAIN_GROWTH, CHECK_GROWTH = 2, 1.25
# Recall of a vector index: over so many rows, of so many nearest neighbours, and the least that is accepted.
RECALL_ROWS, NEIGHBOURS, LEAST_RECALL = 50, 10, 0.9
# A vector index is named by the number of rows that it was trained on.
NAME_PREFIX = "vector-of-"
# Files of killed writers (lance 7), which no version names and no pruning deletes.
ORPHANS = ".tmp*"
on_conflict = retry(
    stop=stop_after_attempt(5),
    wait=wait_fixed(0.2),
    retry=retry_if_exception_message(match="(?s).*conflict.*"),
    reraise=True,
)


@dataclass(frozen=True)
class MaintenancePlan:
    """The limits of a maintenance run. `folder` holds the tables; None if they are not on this machine."""

    folder: Path | None
    keep: timedelta
    max_fragments: int
    max_deleted_share: float
    dry_run: bool = False


# --- search indexes, as part of a refresh --------------------------------------------------------------------------


@on_conflict
def update_text_index(table: Any) -> None:
    """Extend the full-text index to all rows, at a cost that grows only with the new rows.

    Takes the latest version first, since a conflicting commit leaves the handle stale.
    """
    table.checkout_latest()
    if table.count_rows() == 0:
        return
    name = _index_on(table, "text")
    if name is None:
        table.create_index("text", config=FTS())
        return
    stats = table.index_stats(name)
    if stats.num_unindexed_rows:
        # By lance itself: LanceDB's optimize() would also rewrite the data and prune tagged versions.
        merged = stats.num_indices if stats.num_indices >= SEGMENTS else 0
        table.to_lance().optimize.optimize_indices(num_indices_to_merge=merged)
        table.checkout_latest()


@on_conflict
def update_vector_index(table: Any, from_rows: int) -> str:
    """Choose the vector index by the number of rows and return the choice with its reason.

    Below `from_rows` there is none: exact search is fast enough (docs/decisions/0006-vector-index.md).
    """
    table.checkout_latest()
    rows = table.count_rows()
    current = vector_index_name(table)
    if rows < from_rows:
        if current:
            table.drop_index(current)
        return f"none: exact search is fast enough below {from_rows} rows"
    trained = int(current.removeprefix(NAME_PREFIX)) if current else 0
    is_young = rows < RETRAIN_GROWTH * trained
    if current and is_young and (rows < CHECK_GROWTH * trained or _recall(table) >= LEAST_RECALL):
        return f"{current}: trained on {trained} rows, {rows} now"
    name = f"{NAME_PREFIX}{rows}"
    quantized = IvfSq if rows < IVF_RQ_FROM_ROWS else IvfRq
    partitions = max(1, round(sqrt(rows)))
    table.create_index("vector", config=quantized(distance_type="cosine", num_partitions=partitions), name=name)
    if current:
        table.drop_index(current)
    return _accept_or_drop(table, name, quantized.__name__, trained)


def _accept_or_drop(table: Any, name: str, kind: str, trained: int) -> str:
    """Drop a new vector index whose recall is too low, and return the outcome with its reason."""
    recall = _recall(table)
    if recall < LEAST_RECALL:
        table.drop_index(name)
        return f"none: {kind} found {recall:.2f} of what exact search finds, below {LEAST_RECALL}"
    reason = f"rows have doubled since {trained}" if trained else "too many rows for exact search"
    return f"{name} ({kind}): {reason}; recall {recall:.2f} against exact search"


def _recall(table: Any) -> float:
    """The share of the exact nearest rows that the vector index finds, over rows spread through the table."""
    rows = table.count_rows()
    offsets = [number * rows // RECALL_ROWS for number in range(RECALL_ROWS)]
    sample = table.take_offsets(offsets).select(["vector"]).to_arrow()
    vectors = np.asarray(sample["vector"].combine_chunks().flatten()).reshape(sample.num_rows, -1)
    return float(np.mean([_overlap(table, vector) for vector in vectors]))


def _overlap(table: Any, vector: Any) -> float:
    def nearest(exact: bool) -> set[tuple[str, int]]:
        query = table.search(vector).distance_type("cosine").select(["document", "position", "_distance"])
        query = query.bypass_vector_index() if exact else query.refine_factor(REFINE)
        return {(row["document"], row["position"]) for row in query.limit(NEIGHBOURS).to_list()}

    exact = nearest(exact=True)
    return len(exact & nearest(exact=False)) / max(1, len(exact))


def vector_index_name(table: Any) -> str | None:
    """The name of the vector index, which holds the number of rows it was trained on; None if there is none."""
    return _index_on(table, "vector")


def _index_on(table: Any, column: str) -> str | None:
    return next((index.name for index in table.list_indices() if column in index.columns), None)


# --- compaction and cleanup ----------------------------------------------------------------------------------------


def maintain_table(table: Any, plan: MaintenancePlan) -> list[MaintenanceStep]:
    """Sweep, compact and prune, in this order, so that what compaction replaces can be pruned."""
    return [_sweep(plan), _compact(table, plan), _prune(table, plan)]


def _compact(table: Any, plan: MaintenancePlan) -> MaintenanceStep:
    """Merge small fragments and drop deleted rows, where there are more of them than the limits."""
    fragments = table.to_lance().get_fragments()
    deleted = sum(fragment.num_deletions for fragment in fragments)
    share = deleted / max(1, deleted + table.count_rows())
    if len(fragments) <= plan.max_fragments and share <= plan.max_deleted_share:
        why = f"{len(fragments)} fragments, {share:.0%} of the rows deleted"
        return MaintenanceStep(step="compact", done=False, why=why)
    why = f"{len(fragments)} fragments (limit {plan.max_fragments}), {share:.0%} of the rows deleted"
    if not plan.dry_run:
        _compact_files(table)
    return MaintenanceStep(step="compact", done=not plan.dry_run, why=why)


@on_conflict
def _compact_files(table: Any) -> None:
    table.checkout_latest()
    segments = max((int(table.index_stats(index.name).num_indices) for index in table.list_indices()), default=0)
    if segments > 1:
        table.to_lance().optimize.optimize_indices(num_indices_to_merge=segments)
        table.checkout_latest()
    table.to_lance().optimize.compact_files()
    table.checkout_latest()
    update_text_index(table)


def _prune(table: Any, plan: MaintenancePlan) -> MaintenanceStep:
    """Delete old versions without a tag; tagged ones are needed for rollbacks."""
    tagged = _tagged_versions(table)
    old = {int(version["version"]) for version in table.list_versions()} - kept_versions(table, plan)
    kept = f"{len(tagged)} tagged or latest versions are kept at any age"
    if not plan.dry_run:
        _delete_old_versions(table, plan.keep)
        remove_paths(_uncommitted_deletions(table, plan.folder))
    if not old:
        why = f"no version is older than {_days(plan.keep)} days; {kept}"
        return MaintenanceStep(step="prune", done=False, why=why)
    why = f"{len(old)} versions older than {_days(plan.keep)} days; {kept}"
    return MaintenanceStep(step="prune", done=not plan.dry_run, why=why)


def kept_versions(table: Any, plan: MaintenancePlan) -> set[int]:
    """The versions that pruning keeps: those with a tag, the latest, and those younger than `plan.keep`."""
    before = datetime.now(UTC) - plan.keep
    return _tagged_versions(table) | {
        int(version["version"]) for version in table.list_versions() if version["timestamp"].astimezone(UTC) >= before
    }


def _tagged_versions(table: Any) -> set[int]:
    return {int(tag["version"]) for tag in table.tags.list().values()} | {int(table.version)}


@on_conflict
def _delete_old_versions(table: Any, keep: timedelta) -> None:
    # By lance itself: LanceDB's own cleanup raises as soon as one of the old versions is tagged. Unverified files
    # belong to killed writers: there is no other writer while this one holds the write lock.
    table.to_lance().cleanup_old_versions(older_than=keep, delete_unverified=True, error_if_tagged_old_versions=False)
    table.checkout_latest()


def _uncommitted_deletions(table: Any, folder: Path | None) -> list[Path]:
    """Deletion files of writers that were killed before their commit, which the cleanup of lance leaves behind."""
    root = folder / f"{table.name}.lance" if folder else None
    present = {str(path.relative_to(root)): path for path in root.glob("_deletions/*")} if root else {}
    if not present:
        return []
    dataset = table.to_lance()
    versions = [dataset.checkout_version(version["version"]) for version in dataset.versions()]
    referenced = {fragment.deletion_file() for version in versions for fragment in version.get_fragments()}
    return [path for name, path in sorted(present.items()) if name not in referenced]


def _sweep(plan: MaintenancePlan) -> MaintenanceStep:
    """Delete files of killed writers."""
    orphans = list(orphaned_files(plan.folder)) if plan.folder else []
    if not orphans:
        why = "there are no files of killed writers" if plan.folder else "the index is not on this machine"
        return MaintenanceStep(step="sweep", done=False, why=why)
    if not plan.dry_run:
        remove_paths(orphans)
    return MaintenanceStep(
        step="sweep", done=not plan.dry_run, why=f"files left behind by killed writers: {len(orphans)}"
    )


def remove_paths(paths: Sequence[Path]) -> None:
    """Delete files and folders."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def orphaned_files(folder: Path) -> Iterator[Path]:
    """Files of killed writers below the tables; the caller holds the write lock, so no living writer owns them."""
    return (path for table in sorted(folder.glob("*.lance")) for path in sorted(table.rglob(ORPHANS)))


def prune_vectors(cache: VectorCache, needed: set[str], embedders: set[str], plan: MaintenancePlan) -> MaintenanceStep:
    """Delete cached vectors that no kept version needs and that are older than `plan.keep`.

    Also drops the caches, of the same age, of embedders that made no kept version (`embedders`: those that did).
    """
    before = datetime.now(UTC) - plan.keep
    count = cache.forget(needed, before, dry_run=plan.dry_run)
    unused = cache.idle_tables(embedders, before)
    if not plan.dry_run:
        cache.drop(unused)
        cache.tidy(plan.keep)
    why = f"{count} cached vectors older than {_days(plan.keep)} days are in no kept version"
    why += f"; neither are those of {len(unused)} other embedders of that age" if unused else ""
    return MaintenanceStep(step="prune vectors", done=bool(count or unused) and not plan.dry_run, why=why)


def _days(keep: timedelta) -> str:
    return f"{keep / timedelta(days=1):g}"


# --- verification --------------------------------------------------------------------------------------------------


def find_row_defects(table: Any, key: Sequence[str]) -> list[str]:
    """The defects in the rows of an opened version, one sentence each."""
    rows = read_columns(table, [*key, "vector"])
    keys = list(zip(*(rows[name].to_pylist() for name in key), strict=True))
    defects = []
    if duplicates := len(keys) - len(set(keys)):
        defects.append(f"{duplicates} rows are duplicates")
    if invalid := int(np.sum(~np.isclose(_vector_lengths(rows), 1.0, atol=1e-2))):
        defects.append(f"{invalid} rows have no unit vector")
    return defects


def _vector_lengths(rows: Any) -> Any:
    vectors = np.asarray(rows["vector"].combine_chunks().flatten(), dtype=np.float32)
    return np.linalg.norm(vectors.reshape(rows.num_rows, -1), axis=1) if rows.num_rows else np.ones(0)
