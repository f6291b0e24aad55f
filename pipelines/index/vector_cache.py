"""Which vectors are known already? Every text that was ever embedded, by its digest and its embedder's fingerprint.

A table of its own beside the index, one for each embedder: a text that comes back, an index that is built anew and a
build that was killed find their vectors here. Upkeep takes out what no version needs any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.expr import col, lit

from ragtide.pipelines.ports import Vectors

PREFIX = "vectors-"
# A predicate of more digests than this takes longer to plan than several smaller ones.
AT_ONCE = 2000


class VectorCache:
    """The vectors of one embedder, in the database of the index."""

    def __init__(self, database: Any, fingerprint: str, dimensions: int) -> None:
        self._database = database
        self._name = f"{PREFIX}{fingerprint}"
        self._dimensions = dimensions

    def get(self, digests: Sequence[str]) -> dict[str, Vectors]:
        """Digest -> vector, of those that are known."""
        table = self._open()
        known: dict[str, Vectors] = {}
        if table is None:
            return known
        for some in _parts(sorted(set(digests))):
            query = table.search().where(col("digest").isin(some)).select(["digest", "vector"])
            known |= vectors_by_digest(query.limit(len(some) * 2).to_arrow())
        return known

    def known(self, digests: Sequence[str]) -> set[str]:
        """Which of these digests have a vector."""
        table = self._open()
        known: set[str] = set()
        if table is None:
            return known
        for some in _parts(sorted(set(digests))):
            query = table.search().where(col("digest").isin(some)).select(["digest"]).limit(len(some) * 2)
            known |= set(query.to_arrow()["digest"].to_pylist())
        return known

    def put(self, vectors: Mapping[str, Vectors]) -> None:
        """Add vectors in one commit: after a kill they are all there, or none."""
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
        """Take out what was put in before that time and is not `needed`; returns how many it is, or would be."""
        table = self._open()
        if table is None:
            return 0
        old = table.search().where(col("at") < lit(before)).select(["digest"]).limit(max(1, table.count_rows()))
        idle = sorted(set(old.to_arrow()["digest"].to_pylist()) - needed)
        for some in _parts(idle if not dry_run else ()):
            table.delete(col("digest").isin(some))
        return len(idle)

    def idle_tables(self, embedders: set[str], before: datetime) -> list[str]:
        """The tables of other embedders than these fingerprints name, where nothing was put in since that time."""
        names = [one for one in self._database.list_tables().tables if one.startswith(PREFIX)]
        others = [one for one in names if one != self._name and one.removeprefix(PREFIX) not in embedders]
        return [one for one in others if _last_written(self._database.open_table(one)) < before]

    def drop(self, tables: Sequence[str]) -> None:
        """Take away tables that `idle_tables` named."""
        for name in tables:
            self._database.drop_table(name)

    def tidy(self, keep: timedelta) -> None:
        """Join the small files that many refreshes left, and drop versions older than `keep`: none has a tag."""
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
    """Digest -> vector, of a table with these two columns."""
    if not rows.num_rows:
        return {}
    vectors = np.asarray(rows["vector"].combine_chunks().flatten(), dtype=np.float32).reshape(rows.num_rows, -1)
    return dict(zip(rows["digest"].to_pylist(), vectors, strict=True))


def _last_written(table: Any) -> datetime:
    latest: datetime = max(one["timestamp"].astimezone(UTC) for one in table.list_versions())
    return latest


def _parts(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(digests), AT_ONCE):
        yield digests[at : at + AT_ONCE]
