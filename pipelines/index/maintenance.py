"""What keeps the table fast and small? Indexes by size, compaction, pruning; each step says why it was done or not."""

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

from ragtide.pipelines.index.search import REFINE
from ragtide.pipelines.index.vector_cache import VectorCache
from ragtide.pipelines.records.release import MaintenanceStep

# A refresh adds a segment of its own to the full-text index; past so many they are merged, since each is asked.
SEGMENTS = 16
# IVF with eight-bit vectors builds in seconds and finds everything; past a million rows one-bit vectors are smaller.
IVF_RQ_FROM_ROWS = 1_000_000
RETRAIN_GROWTH, CHECK_GROWTH = 2, 1.25
PROBED, NEIGHBOURS, LEAST_RECALL = 50, 10, 0.9
NAMED_FOR_ROWS = "vector-of-"
# What a killed writer leaves behind (lance 7): files that no version names and no pruning removes.
LEFT_BEHIND = ".tmp*"
on_conflict = retry(
    stop=stop_after_attempt(5),
    wait=wait_fixed(0.2),
    retry=retry_if_exception_message(match="(?s).*conflict.*"),
    reraise=True,
)


@dataclass(frozen=True)
class MaintenancePlan:
    """What upkeep may do. `folder` is where the tables lie, None where that is not on this machine."""

    folder: Path | None
    keep: timedelta
    max_fragments: int
    max_deleted_share: float
    dry_run: bool = False


# --- indexes, as part of a refresh ---------------------------------------------------------------------------------


@on_conflict
def update_text_index(table: Any) -> None:
    """Have the full-text index cover every row, at a cost that grows with the new rows alone.

    A conflicting commit leaves the handle stale, so that it takes the latest version first.
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
        # By lance itself: LanceDB's optimize() would also rewrite the data, and prune versions that tags name.
        merged = stats.num_indices if stats.num_indices >= SEGMENTS else 0
        table.to_lance().optimize.optimize_indices(num_indices_to_merge=merged)
        table.checkout_latest()


@on_conflict
def update_vector_index(table: Any, from_rows: int) -> str:
    """Choose the vector index by the number of rows, and say why. None is exact, and fast enough for long.

    Source: the measurements in docs/decisions/0006-vector-index.md.
    """
    table.checkout_latest()
    rows = table.count_rows()
    if rows < from_rows:
        if known := vector_index_name(table):
            table.drop_index(known)
        return f"none: exact search is fast enough below {from_rows} rows"
    known = vector_index_name(table)
    trained = int(known.removeprefix(NAMED_FOR_ROWS)) if known else 0
    if known and rows < RETRAIN_GROWTH * trained and (rows < CHECK_GROWTH * trained or _recall(table) >= LEAST_RECALL):
        return f"{known}: trained on {trained} rows, {rows} now"
    name = f"{NAMED_FOR_ROWS}{rows}"
    quantized = IvfSq if rows < IVF_RQ_FROM_ROWS else IvfRq
    partitions = max(1, round(sqrt(rows)))
    table.create_index("vector", config=quantized(distance_type="cosine", num_partitions=partitions), name=name)
    if known:
        table.drop_index(known)
    return _judged(table, name, quantized.__name__, trained)


def _judged(table: Any, name: str, kind: str, trained: int) -> str:
    """An approximate index that loses passages is worse than none."""
    recall = _recall(table)
    if recall < LEAST_RECALL:
        table.drop_index(name)
        return f"none: {kind} found {recall:.2f} of what exact search finds, below {LEAST_RECALL}"
    why = f"rows have doubled since {trained}" if trained else "too many rows for exact search"
    return f"{name} ({kind}): {why}; recall {recall:.2f} against exact search"


def _recall(table: Any) -> float:
    """The share of the exact nearest rows that the index finds, over rows spread through the table."""
    rows = table.count_rows()
    sample = table.take_offsets([at * rows // PROBED for at in range(PROBED)]).select(["vector"]).to_arrow()
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
    """The name of the vector index, if there is one; it says how many rows it was trained on."""
    return _index_on(table, "vector")


def _index_on(table: Any, column: str) -> str | None:
    return next((one.name for one in table.list_indices() if column in one.columns), None)


# --- maintenance ---------------------------------------------------------------------------------------------------


def maintain_table(table: Any, plan: MaintenancePlan) -> list[MaintenanceStep]:
    """Sweep, compact and prune, in this order: what compaction leaves behind can be pruned."""
    return [_sweep(plan), _compact(table, plan), _prune(table, plan)]


def _compact(table: Any, plan: MaintenancePlan) -> MaintenanceStep:
    dataset = table.to_lance()
    fragments = dataset.get_fragments()
    deleted = sum(fragment.num_deletions for fragment in fragments)
    share = deleted / max(1, deleted + table.count_rows())
    if len(fragments) <= plan.max_fragments and share <= plan.max_deleted_share:
        return MaintenanceStep(
            step="compact", done=False, why=f"{len(fragments)} fragments, {share:.0%} of the rows deleted"
        )
    why = f"{len(fragments)} fragments (limit {plan.max_fragments}), {share:.0%} of the rows deleted"
    if not plan.dry_run:
        _compacted(table)
    return MaintenanceStep(step="compact", done=not plan.dry_run, why=why)


@on_conflict
def _compacted(table: Any) -> None:
    table.checkout_latest()
    segments = max((int(table.index_stats(one.name).num_indices) for one in table.list_indices()), default=0)
    if segments > 1:
        table.to_lance().optimize.optimize_indices(num_indices_to_merge=segments)
        table.checkout_latest()
    table.to_lance().optimize.compact_files()
    table.checkout_latest()
    update_text_index(table)


def _prune(table: Any, plan: MaintenancePlan) -> MaintenanceStep:
    """Old versions go, a tagged one never: a release must be there to go back to."""
    tagged = _tagged(table)
    old = {int(one["version"]) for one in table.list_versions()} - kept_versions(table, plan)
    kept = f"{len(tagged)} tagged or latest stay whatever their age"
    if not plan.dry_run:
        _pruned(table, plan.keep)
    if not old:
        return MaintenanceStep(
            step="prune", done=False, why=f"no version is older than {_days(plan.keep)} days; {kept}"
        )
    return MaintenanceStep(
        step="prune", done=not plan.dry_run, why=f"{len(old)} versions older than {_days(plan.keep)} days; {kept}"
    )


def kept_versions(table: Any, plan: MaintenancePlan) -> set[int]:
    """The versions that upkeep leaves: those with a tag, the latest, and those that are young enough."""
    before = datetime.now(UTC) - plan.keep
    return _tagged(table) | {
        int(one["version"]) for one in table.list_versions() if one["timestamp"].astimezone(UTC) >= before
    }


def _tagged(table: Any) -> set[int]:
    return {int(one["version"]) for one in table.tags.list().values()} | {int(table.version)}


@on_conflict
def _pruned(table: Any, keep: timedelta) -> None:
    # By lance itself: LanceDB's own clean-up raises as soon as one of the old versions is tagged. Unverified files are
    # those of killed writers, which no version names: there is no other writer while this one holds the project.
    table.to_lance().cleanup_old_versions(older_than=keep, delete_unverified=True, error_if_tagged_old_versions=False)
    table.checkout_latest()


def _sweep(plan: MaintenancePlan) -> MaintenanceStep:
    found = list(orphaned_files(plan.folder)) if plan.folder else []
    if not found:
        why = "nothing was left behind by a killed writer" if plan.folder else "the index is not on this machine"
        return MaintenanceStep(step="sweep", done=False, why=why)
    if not plan.dry_run:
        remove_paths(found)
    return MaintenanceStep(step="sweep", done=not plan.dry_run, why=f"{len(found)} files left behind by killed writers")


def remove_paths(paths: Sequence[Path]) -> None:
    """Take away files and folders."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def orphaned_files(folder: Path) -> Iterator[Path]:
    """Files of killed writers below the tables; with the project held for writing they can be nobody else's."""
    return (path for table in sorted(folder.glob("*.lance")) for path in sorted(table.rglob(LEFT_BEHIND)))


def prune_vectors(cache: VectorCache, needed: set[str], embedders: set[str], plan: MaintenancePlan) -> MaintenanceStep:
    """Cached vectors that no kept version needs go once they are as old as a version that is pruned.

    So does the cache of an embedder that made none of these versions (`embedders`: those that did).
    """
    before = datetime.now(UTC) - plan.keep
    count = cache.forget(needed, before, dry_run=plan.dry_run)
    idle = cache.idle_tables(embedders, before)
    if not plan.dry_run:
        cache.drop(idle)
        cache.tidy(plan.keep)
    why = f"{count} cached vectors older than {_days(plan.keep)} days are in no version that is kept"
    why += f"; those of {len(idle)} other embedders are as old, and no kept version is theirs" if idle else ""
    return MaintenanceStep(step="prune vectors", done=bool(count or idle) and not plan.dry_run, why=why)


def _days(keep: timedelta) -> str:
    return f"{keep / timedelta(days=1):g}"


# --- verification --------------------------------------------------------------------------------------------------


def find_row_defects(table: Any, key: Sequence[str]) -> list[str]:
    """What is wrong with the rows of an opened version."""
    rows = table.search().select([*key, "vector"]).limit(max(1, table.count_rows())).to_arrow()
    keys = list(zip(*(rows[name].to_pylist() for name in key), strict=True))
    found = []
    if twice := len(keys) - len(set(keys)):
        found.append(f"{twice} rows stand there twice")
    lengths = _lengths(rows)
    if bad := int(np.sum(~np.isclose(lengths, 1.0, atol=1e-2))):
        found.append(f"{bad} rows have no unit vector")
    return found


def _lengths(rows: Any) -> Any:
    vectors = np.asarray(rows["vector"].combine_chunks().flatten(), dtype=np.float32)
    return np.linalg.norm(vectors.reshape(rows.num_rows, -1), axis=1) if rows.num_rows else np.ones(0)
