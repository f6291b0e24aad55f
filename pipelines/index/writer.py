"""Writer of the index table: embeds missing texts window by window, then commits all rows in one version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from lancedb.expr import col

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.fingerprint import TABLE
from ragtide.pipelines.index.rows import KEY, read_vectors, rows_of_chunks
from ragtide.pipelines.index.source import IndexSource, document_windows
from ragtide.pipelines.index.vector_cache import VectorCache
from ragtide.pipelines.ports import Embedder, Progress
from ragtide.pipelines.records.data import Chunk


@dataclass
class StagedRows:
    """Documents whose chunks all have vectors in the cache and await the commit.

    `rows` is document -> number of rows; `windows` holds the first and the last window of chunks; `new` the digests
    that the table did not hold; `embedded` counts the texts that were embedded.
    """

    rows: dict[str, int] = field(default_factory=dict)
    windows: list[list[Chunk]] = field(default_factory=list)
    new: set[str] = field(default_factory=set)
    embedded: int = 0


@dataclass(frozen=True)
class IndexWriter:
    """Stages and commits the rows of one refresh."""

    database: Any
    schema: pa.Schema
    cache: VectorCache
    embedder: Embedder
    document_prefix: str

    def stage(self, source: IndexSource, stale: Sequence[str], table: Any | None, progress: Progress) -> StagedRows:
        """Ensure that every chunk of the stale documents has its vector in the cache, window by window."""
        staged = StagedRows()
        with progress("indexing documents", len(stale)) as advance:
            for documents in document_windows(source.read(stale)):
                staged.rows |= {item.document: len(item.chunks) for item in documents if item.chunks is not None}
                window = [chunk for item in documents for chunk in item.chunks or ()]
                staged.windows = [*staged.windows[:1], window]
                self._embed_missing(window, table, staged)
                advance(len(documents))
        return staged

    def _embed_missing(self, window: Sequence[Chunk], table: Any | None, staged: StagedRows) -> None:
        texts = {chunk.digest: chunk.text for chunk in window}
        in_table = read_vectors(table, texts) if table is not None else {}
        staged.new |= texts.keys() - in_table.keys()
        uncached = texts.keys() - self.cache.known(list(texts))
        # A lost cache is filled again from the rows themselves.
        vectors = {digest: in_table[digest] for digest in texts if digest in uncached and digest in in_table}
        unknown = {digest: text for digest, text in texts.items() if digest in uncached and digest not in in_table}
        if unknown:
            prefixed = [self.document_prefix + text for text in unknown.values()]
            vectors |= dict(zip(unknown, self.embedder.embed(prefixed), strict=True))
        self.cache.put(vectors)
        staged.embedded += len(unknown)

    def replace(self, source: IndexSource, staged: StagedRows, exists: bool) -> Any:
        """Commit the staged rows as the first version, or one of another embedder; earlier versions and tags remain."""
        reader, raised = self._reader(source, staged)
        mode = "overwrite" if exists else "create"
        return _raise_original(
            raised, lambda: self.database.create_table(TABLE, data=reader, schema=self.schema, mode=mode)
        )

    def merge(self, table: Any, source: IndexSource, staged: StagedRows, removed: Sequence[str]) -> None:
        """Commit the staged rows and the removal of documents in one version.

        The merge's source holds every row that a touched document is to have, so "of a touched document and not in
        the source" means deleted.
        """
        touched = sorted({*staged.rows, *removed})
        reader, raised = self._reader(source, staged)
        merge = table.merge_insert(KEY).when_matched_update_all().when_not_matched_insert_all()
        merge = merge.when_not_matched_by_source_delete(col("document").isin(touched))
        _raise_original(raised, lambda: merge.execute(reader))

    def _reader(self, source: IndexSource, staged: StagedRows) -> tuple[pa.RecordBatchReader, list[Exception]]:
        """The rows as a stream, and a list that collects its exceptions, since LanceDB replaces them by its own."""
        raised: list[Exception] = []

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from self._batches(source, staged)
            except Exception as problem:
                raised.append(problem)
                raise

        return pa.RecordBatchReader.from_batches(self.schema, batches()), raised

    def _batches(self, source: IndexSource, staged: StagedRows) -> Iterator[pa.RecordBatch]:
        """The staged documents as rows with their vectors; read again if they were more than one window."""
        if len(staged.windows) <= 1:
            windows: Iterable[Sequence[Chunk]] = staged.windows
        else:
            groups = document_windows(source.read(sorted(staged.rows)))
            windows = ([chunk for item in documents for chunk in item.chunks or ()] for documents in groups)
        for window in windows:
            yield rows_of_chunks(window, self.cache.get([chunk.digest for chunk in window]), self.schema)


def check_row_count(
    table: Any, ledger: Mapping[str, tuple[str, int]], staged: StagedRows, removed: Sequence[str]
) -> None:
    """Raise UserError if the table's size is not what the commit should have made it.

    `ledger` is document -> (digest, rows) before the commit. Cannot fail while commits are atomic; checked before
    anything is released.
    """
    untouched = sum(rows for name, (_, rows) in ledger.items() if name not in staged.rows and name not in removed)
    expected = untouched + sum(staged.rows.values())
    if table.count_rows() != expected:
        raise UserError(f"the index holds {table.count_rows()} rows instead of {expected}: run `ragtide verify`")


def _raise_original(raised: Sequence[Exception], commit: Callable[[], Any]) -> Any:
    """Run `commit`; an exception from reading rows is raised as itself, not as what LanceDB makes of it."""
    try:
        return commit()
    except RuntimeError:
        if raised:
            raise raised[0] from None
        raise
