"""Cache of all vectors that were ever computed, by the text's digest and the embedder's fingerprint.

A separate table next to the index, one for each embedder. A restored text, a rebuild, and the run after a killed build
find their vectors here. Maintenance deletes vectors that no version needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.expr import col, lit

from ragtide.pipelines.errors import summarize_error
from ragtide.pipelines.ports import Vectors

PREFIX = "vectors-"
# Digests per query: one larger predicate takes longer to plan than several smaller ones.
DIGESTS_PER_QUERY = 2000


def damaged_caches(database: Any) -> dict[str, str]:
    """Cache -> why it cannot be read, of every embedder's cache in a database."""
    damaged: dict[str, str] = {}
    for name in database.list_tables().tables:
        if name.startswith(PREFIX):
            try:
                table = database.open_table(name)
                table.search().select(["digest"]).limit(max(1, table.count_rows())).to_arrow()
            except (RuntimeError, ValueError, OSError) as problem:
                damaged[name] = summarize_error(problem)
    return damaged


class VectorCache:
    """The vectors of one embedder, in the database of the index."""

    def __init__(self, database: Any, fingerprint: str, dimensions: int) -> None:
        self._database = database
        self._name = f"{PREFIX}{fingerprint}"
        self._dimensions = dimensions

    def get(self, digests: Sequence[str]) -> dict[str, Vectors]:
        """Digest -> vector, for the digests that are cached."""
        known: dict[str, Vectors] = {}
        for rows in self._rows(digests, ["digest", "vector"]):
            known |= vectors_by_digest(rows)
        return known

    def known(self, digests: Sequence[str]) -> set[str]:
        """The digests that are cached."""
        return {digest for rows in self._rows(digests, ["digest"]) for digest in rows["digest"].to_pylist()}

    def _rows(self, digests: Sequence[str], columns: list[str]) -> Iterator[pa.Table]:
        table = self._open()
        if table is None:
            return
        for batch in _batches(sorted(set(digests))):
            yield table.search().where(col("digest").isin(batch)).select(columns).limit(len(batch) * 2).to_arrow()

    def put(self, vectors: Mapping[str, Vectors]) -> None:
        """Add vectors (digest -> vector) in one commit: after a kill all or none of them are cached."""
        if not vectors:
            return
        stacked = np.stack(list(vectors.values())).astype(np.float32)
        columns = [
            pa.array(list(vectors)),
            pa.array([datetime.now(UTC)] * len(vectors), pa.timestamp("us", tz="UTC")),
            pa.FixedSizeListArray.from_arrays(pa.array(stacked.ravel()), self._dimensions),
        ]
        rows = pa.Table.from_arrays(columns, schema=self._schema())
        table = self._open()
        if table is None:
            self._database.create_table(self._name, data=rows)
        else:
            table.add(rows)

    def forget(self, needed: set[str], before: datetime, dry_run: bool = False) -> int:
        """Delete vectors that were added before a time and are not `needed`; return how many, also for a dry run."""
        table = self._open()
        if table is None:
            return 0
        old = table.search().where(col("at") < lit(before)).select(["digest"]).limit(max(1, table.count_rows()))
        unneeded = sorted(set(old.to_arrow()["digest"].to_pylist()) - needed)
        for batch in _batches(unneeded if not dry_run else ()):
            table.delete(col("digest").isin(batch))
        return len(unneeded)

    def idle_tables(self, embedders: set[str], before: datetime) -> list[str]:
        """The tables of embedders with other fingerprints than these to which nothing was added since `before`."""
        names = [name for name in self._database.list_tables().tables if name.startswith(PREFIX)]
        others = [name for name in names if name != self._name and name.removeprefix(PREFIX) not in embedders]
        return [name for name in others if _last_written(self._database.open_table(name)) < before]

    def drop(self, tables: Sequence[str]) -> None:
        """Delete tables that `idle_tables` returned."""
        for name in tables:
            self._database.drop_table(name)

    def tidy(self, keep: timedelta) -> None:
        """Compact the small files of many refreshes and delete versions older than `keep`; none is tagged."""
        table = self._open()
        if table is not None:
            table.to_lance().optimize.compact_files()
            table.checkout_latest()
            table.to_lance().cleanup_old_versions(older_than=keep, delete_unverified=True)

    def _open(self) -> Any | None:
        try:
            return self._database.open_table(self._name)
        except ValueError:
            return None

    def _schema(self) -> pa.Schema:
        vector = pa.list_(pa.float32(), self._dimensions)
        return pa.schema([("digest", pa.string()), ("at", pa.timestamp("us", tz="UTC")), ("vector", vector)])


def vectors_by_digest(rows: pa.Table) -> dict[str, Vectors]:
    """Digest -> vector, from a table with these two columns."""
    if not rows.num_rows:
        return {}
    vectors = np.asarray(rows["vector"].combine_chunks().flatten(), dtype=np.float32).reshape(rows.num_rows, -1)
    return dict(zip(rows["digest"].to_pylist(), vectors, strict=True))


def _last_written(table: Any) -> datetime:
    latest: datetime = max(version["timestamp"].astimezone(UTC) for version in table.list_versions())
    return latest


def _batches(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(digests), DIGESTS_PER_QUERY):
        yield digests[start : start + DIGESTS_PER_QUERY]
