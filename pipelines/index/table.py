"""What does the index hold, and how does it become current? One LanceDB table of chunks with vectors and full text.

The rows are the ledger: what has been indexed is read from the table itself, never from a note beside it. A refresh is
one commit; a release is a tag on a version; readers open the tag. A build with another embedder or chunker is a new
version of the same table, which no reader sees before its tag.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Protocol

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.expr import col

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.index import maintenance
from ragtide.pipelines.index.fingerprint import TABLE, index_fingerprint, vector_fingerprint
from ragtide.pipelines.index.lance import translate_lance_errors
from ragtide.pipelines.index.search import Retriever, SearchSettings
from ragtide.pipelines.index.vector_cache import VectorCache, vectors_by_digest
from ragtide.pipelines.models.reranker import Reranker
from ragtide.pipelines.params import ChunkParams, EmbedParams, IndexParams
from ragtide.pipelines.ports import Embedder, Progress, Vectors
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import Chunk, IndexDelta
from ragtide.pipelines.records.release import BuiltIndex, MaintenanceStep

KEY = ["document", "position"]
LEDGER = ["document", "position", "digest", "document_digest"]
FINGERPRINT, VECTORS, SETTINGS = b"ragtide.fingerprint", b"ragtide.vectors", b"ragtide.settings"
# Settings of where and how fast an embedder runs; its vectors are the same.
NO_MATTER = ("device", "backend", "tokens_at_once")
NEVER_MIX = "`ragtide plan` says what a rebuild costs; vectors of two kinds never mix"
# Chunks that are in memory at a time: what a killed build has to embed again, at most.
WINDOW = 1024


@dataclass(frozen=True)
class ChunkedDocument:
    """A document as its chunks; None where it cannot be read now, so that what the index holds of it stays."""

    document: str
    chunks: Sequence[Chunk] | None


class IndexSource(Protocol):
    """What the index is to hold."""

    @property
    def documents(self) -> Mapping[str, str]:
        """Document -> digest of its content."""
        ...

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        """Those documents, cut, in that order. May be asked twice, and then says the same."""
        ...


@dataclass(frozen=True)
class SampledRows:
    """Some rows of a version: their texts, and their vectors in the same order, shape (texts, dimensions), float32."""

    texts: tuple[str, ...]
    vectors: Vectors


@dataclass
class StagedRows:
    """What has its vectors and waits for the commit: rows by document, and the windows where they were few."""

    rows: dict[str, int] = field(default_factory=dict)
    windows: list[list[Chunk]] = field(default_factory=list)
    new: set[str] = field(default_factory=set)
    embedded: int = 0


@dataclass(frozen=True)
class _Keeping:
    """A source for a rebuild: what cannot be read now goes in as the rows before had it."""

    source: IndexSource
    before: Index

    @property
    def documents(self) -> Mapping[str, str]:
        return self.source.documents

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        for cut in self.source.read(documents):
            old = self.before.chunks([cut.document]) if cut.chunks is None else ()
            yield ChunkedDocument(cut.document, old) if old else cut


@translate_lance_errors
class Index:
    """The table of one project, for its single writer and for readers of a version."""

    def __init__(
        self,
        uri: str,
        embedder: Embedder,
        chunk: ChunkParams,
        embed: EmbedParams | None = None,
        params: IndexParams | None = None,
    ) -> None:
        self._uri = uri
        self._embedder = embedder
        self._chunk = chunk
        self._embed = embed or EmbedParams()
        self._params = params or IndexParams()

    @cached_property
    def fingerprint(self) -> str:
        return index_fingerprint(self._embedder, self._chunk, self._embed)

    @property
    def settings(self) -> dict[str, Any]:
        """What must be set again to read this index; kept in a release, so that its embedder comes back with it."""
        return {"chunk": self._chunk.model_dump(mode="json"), "embed": self._embed.model_dump(mode="json")}

    # --- look ------------------------------------------------------------------------------------------------------

    def rows(self, version: int | str | None = None) -> dict[tuple[str, int], tuple[str, str]]:
        """(document, position) -> (chunk digest, document digest), of `version` or the latest; {} without a table."""
        table = self._open(version)
        return _ledger(table) if table is not None else {}

    def content(self, version: int | str | None = None) -> str:
        """`content_of` the rows of a version."""
        return rows_digest(self.rows(version))

    def documents(self, version: int | str | None = None) -> dict[str, str]:
        """Document -> the digest that its rows stand for, of `version` or the latest; {} without a table."""
        table = self._open(version)
        return {name: digest for name, (digest, _) in _by_document(table).items()} if table is not None else {}

    def chunks(self, documents: Iterable[str], version: int | str | None = None) -> list[Chunk]:
        """The chunks that `version` or the latest holds of those documents, in order of key."""
        names, table = sorted(documents), self._open(version)
        if not names or table is None:
            return []
        query = table.search().where(col("document").isin(names)).select([*LEDGER, "heading", "text"])
        found = [Chunk(**row) for row in query.limit(table.count_rows()).to_list()]
        return sorted(found, key=lambda chunk: chunk.key)

    def sample(self, version: int | str, limit: int) -> SampledRows:
        """At most `limit` rows of a version, evenly spaced in the order (document, position).

        The same rows whatever the order in which they were written. Raises RefusalError where there is no such version.
        """
        table = self._existing(version)
        keys = table.search().select(KEY).with_row_id(True).limit(max(1, table.count_rows())).to_arrow()
        ids = keys.sort_by([(name, "ascending") for name in KEY])["_rowid"].to_pylist()
        count = min(limit, len(ids))
        picked = [ids[at * len(ids) // count] for at in range(count)]
        rows = table.take_row_ids(picked).select([*KEY, "text", "vector"]).to_arrow()
        rows = rows.sort_by([(name, "ascending") for name in KEY])
        vectors = np.asarray(rows["vector"].combine_chunks().flatten(), dtype=np.float32)
        width = table.schema.field("vector").type.list_size
        return SampledRows(tuple(rows["text"].to_pylist()), vectors.reshape(rows.num_rows, width))

    def delta(self, chunks: Sequence[Chunk], live_version: int | None) -> IndexDelta:
        """What making the rows equal to `chunks` would change for readers of `live_version` (None: there is none yet).

        Does nothing. `rebuild` says why the live rows cannot be kept, where they were made with another embedder.
        """
        # Asked for before there is a table, too: a missing model is to be known before anything is built.
        self._embedder.dimensions  # noqa: B018
        live = self._open(live_version) if live_version is not None else None
        ledger = _ledger(live) if live is not None else {}
        wanted = {chunk.key: (chunk.digest, chunk.document_digest) for chunk in chunks}
        rebuild = self._other_embedder(live) if live is not None else None
        before, after = {digest for digest, _ in ledger.values()}, {chunk.digest for chunk in chunks}
        there = {chunk.document_digest for chunk in chunks}
        return IndexDelta(
            chunks_after=len(chunks),
            chunks_before=len(ledger),
            new=sum(chunk.digest not in before for chunk in chunks),
            gone=sum(digest not in after for digest, _ in ledger.values()),
            upserted=len(wanted) if rebuild else sum(ledger.get(key) != row for key, row in wanted.items()),
            deleted=sum(key not in wanted for key in ledger),
            to_embed=len(after - self._known(after)),
            documents_deleted=len(gone := _names(ledger) - _names(wanted)),
            documents_renamed=len(
                {name for (name, _), (_, whole) in ledger.items() if name in gone and whole in there}
            ),
            rebuild=rebuild,
        )

    def tags(self) -> dict[str, int]:
        """Tag -> the version that it names."""
        table = self._open()
        return {name: int(one["version"]) for name, one in table.tags.list().items()} if table is not None else {}

    def has_tag(self, name: str) -> bool:
        """Whether a version still has that name."""
        return name in self.tags()

    def has_version(self, version: int) -> bool:
        """Whether a version is still there; reads none of its rows."""
        try:
            return self._open(version) is not None
        except UserError:
            return False

    def latest(self) -> int | None:
        """The newest version; None without a table."""
        table = self._open()
        return int(table.version) if table is not None else None

    def flaws(self, version: int | str) -> list[str]:
        """What is wrong with the rows of a version: keys that stand there twice, vectors that are none."""
        return maintenance.find_row_defects(self._existing(version), KEY)

    def retriever(self, tag: str | int) -> Retriever:
        """A reader of a tagged or numbered version; it stays there whatever a writer does."""
        table = self._existing(tag)
        # Rows that another version of the chunker cut can be searched all the same; other vectors cannot.
        problem = self._other_embedder(table)
        if problem and _made_by(table) != self._vectors:
            raise UserError(f"{problem}: {NEVER_MIX}")
        rerank = Reranker(self._params.rerank, self._embed.device) if self._params.rerank else None
        params = self._params
        asking = SearchSettings(params.search, params.fusion, self._embed.query_prefix, rerank)
        return Retriever(table, self._embedder, asking, approximate=maintenance.vector_index_name(table) is not None)

    # --- write -----------------------------------------------------------------------------------------------------

    def refresh(self, source: IndexSource, documents_id: str, progress: Progress, rebuild: bool = False) -> BuiltIndex:
        """Make the rows equal to `source` in one commit, embedding only texts that have no vector yet.

        Only documents whose digest is not in the rows are read. A kill before the commit changes nothing that a reader
        sees, and what was embedded by then is kept; after it, everything is in. Without a difference no version is
        made. Raises RefusalError where the rows were made with another embedder or chunker, unless `rebuild`.
        """
        started = time.perf_counter()
        table = self._open()
        problem = self._other_embedder(table) if table is not None else None
        if problem and not rebuild:
            raise UserError(f"{problem}: {NEVER_MIX}")
        ledger = _by_document(table) if table is not None and not problem else {}
        if problem:
            source = _Keeping(source, self)
        stale = [name for name, digest in sorted(source.documents.items()) if ledger.get(name, ("", 0))[0] != digest]
        staged = self._stage(source, stale, table if not problem else None, progress)
        gone = sorted(set(ledger) - set(source.documents))
        if source.documents and not staged.rows and (table is None or problem):
            why = f"none of its {len(source.documents)} documents can be read"
            raise UserError(f"no index is made of nothing: {why}: `ragtide status` lists them")
        if table is None or problem:
            table = self._replace(source, staged)
        elif gone or any(rows or name in ledger for name, rows in staged.rows.items()):
            self._merge(table, source, staged, gone)
        self._check(table, ledger, staged, gone)
        maintenance.update_text_index(table)
        vector_index = maintenance.update_vector_index(table, self._params.vector_index_from_rows)
        return BuiltIndex(
            uri=self._uri,
            version=table.version,
            fingerprint=self.fingerprint,
            settings=self.settings,
            documents=documents_id,
            rows=table.count_rows(),
            new=len(staged.new),
            embedded=staged.embedded,
            vector_index=vector_index,
            seconds=round(time.perf_counter() - started, 3),
        )

    def tag(self, name: str, version: int) -> None:
        """Name a version for readers; the same name for the same version again is no error."""
        table = self._existing()
        known = table.tags.list()
        if name not in known:
            table.tags.create(name, version)
        elif known[name]["version"] != version:
            raise UserError(f"index tag {name} already names version {known[name]['version']}, not {version}")

    def retag(self, name: str, version: int) -> None:
        """Move a name to another version."""
        self._existing().tags.update(name, version)

    def untag(self, name: str) -> None:
        """Take a name away; its version may then be pruned."""
        self._existing().tags.delete(name)

    def maintain(self, plan: maintenance.MaintenancePlan) -> list[MaintenanceStep]:
        """Compact, prune and sweep what `plan` allows, and say for each step why it was done or not."""
        table = self._open()
        if table is None:
            return []
        return [*maintenance.maintain_table(table, plan), self._prune_vectors(table, plan)]

    # --- inside ----------------------------------------------------------------------------------------------------

    def _stage(self, source: IndexSource, stale: Sequence[str], table: Any | None, progress: Progress) -> StagedRows:
        """See that every chunk of the stale documents has its vector in the cache, window by window."""
        staged = StagedRows()
        with progress("indexing documents", len(stale)) as advance:
            for cuts in _windows(source.read(stale)):
                staged.rows |= {cut.document: len(cut.chunks) for cut in cuts if cut.chunks is not None}
                window = [chunk for cut in cuts for chunk in cut.chunks or ()]
                staged.windows = [*staged.windows[:1], window]
                self._embed_missing(window, table, staged)
                advance(len(cuts))
        return staged

    def _embed_missing(self, window: Sequence[Chunk], table: Any | None, staged: StagedRows) -> None:
        texts = {chunk.digest: chunk.text for chunk in window}
        here = _known_vectors(table, texts) if table is not None else {}
        staged.new |= texts.keys() - here.keys()
        missing = texts.keys() - self._cache.known(list(texts))
        # A cache that was lost is filled again from the rows themselves.
        found = {digest: here[digest] for digest in texts if digest in missing and digest in here}
        unknown = {digest: text for digest, text in texts.items() if digest in missing and digest not in here}
        if unknown:
            prefixed = [self._embed.document_prefix + text for text in unknown.values()]
            found |= dict(zip(unknown, self._embedder.embed(prefixed), strict=True))
        self._cache.put(found)
        staged.embedded += len(unknown)

    def _batches(self, source: IndexSource, staged: StagedRows) -> Iterator[pa.RecordBatch]:
        """The staged documents as rows with their vectors; read again where they were too many to be kept."""
        if len(staged.windows) <= 1:
            windows: Iterable[Sequence[Chunk]] = staged.windows
        else:
            cuts = _windows(source.read(sorted(staged.rows)))
            windows = ([chunk for cut in some for chunk in cut.chunks or ()] for some in cuts)
        for window in windows:
            yield _as_batch(window, self._cache.get([chunk.digest for chunk in window]), self._schema)

    def _reader(self, source: IndexSource, staged: StagedRows) -> tuple[pa.RecordBatchReader, list[Exception]]:
        """Rows as a stream; what goes wrong in it is also put into the list, since LanceDB raises it as its own."""
        raised: list[Exception] = []

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from self._batches(source, staged)
            except Exception as problem:
                raised.append(problem)
                raise

        return pa.RecordBatchReader.from_batches(self._schema, batches()), raised

    def _replace(self, source: IndexSource, staged: StagedRows) -> Any:
        """A first version, or one of another embedder: the versions before it and their tags stay."""
        rows, raised = self._reader(source, staged)
        mode = "create" if self._open() is None else "overwrite"
        return _unwrapped(
            raised, lambda: self._connect().create_table(TABLE, data=rows, schema=self._schema, mode=mode)
        )

    def _merge(self, table: Any, source: IndexSource, staged: StagedRows, gone: Sequence[str]) -> None:
        """One version for all of it. The merge's source holds every row of a touched document that is to be there, so
        that "of a touched document and not in the source" means "gone".
        """
        touched = sorted({*staged.rows, *gone})
        rows, raised = self._reader(source, staged)
        merge = table.merge_insert(KEY).when_matched_update_all().when_not_matched_insert_all()
        merge = merge.when_not_matched_by_source_delete(col("document").isin(touched))
        _unwrapped(raised, lambda: merge.execute(rows))

    def _check(
        self, table: Any, ledger: Mapping[str, tuple[str, int]], staged: StagedRows, gone: Sequence[str]
    ) -> None:
        """Cannot fail while the commit is whole; if it does, say so before anything is released."""
        untouched = sum(rows for name, (_, rows) in ledger.items() if name not in staged.rows and name not in gone)
        expected = untouched + sum(staged.rows.values())
        if table.count_rows() != expected:
            raise UserError(f"the index holds {table.count_rows()} rows instead of {expected}: `ragtide verify`")

    def _known(self, digests: set[str]) -> set[str]:
        known = self._cache.known(sorted(digests))
        table = self._open()
        if known == digests or table is None or self._other_embedder(table):
            return known
        return known | {digest for digest, _ in _ledger(table).values()}

    def _prune_vectors(self, table: Any, plan: maintenance.MaintenancePlan) -> MaintenanceStep:
        versions = maintenance.kept_versions(table, plan)
        needed = {digest for version in versions for digest in self._digests(version)}
        embedders = {_made_by(self._existing(version)) for version in versions}
        return maintenance.prune_vectors(self._cache, needed, embedders, plan)

    def _digests(self, version: int) -> set[str]:
        table = self._existing(version)
        return set(table.search().select(["digest"]).limit(max(1, table.count_rows())).to_arrow()["digest"].to_pylist())

    @cached_property
    def _cache(self) -> VectorCache:
        return VectorCache(self._connect(), self._vectors, self._embedder.dimensions)

    @cached_property
    def _vectors(self) -> str:
        return vector_fingerprint(self._embedder, self._embed)

    def _connect(self) -> Any:
        # Interval 0: a handle that was opened before another process's commit must not answer from before it.
        return lancedb.connect(self._uri, read_consistency_interval=timedelta(0))

    def _open(self, version: int | str | None = None) -> Any | None:
        try:
            table = self._connect().open_table(TABLE)
        except ValueError as problem:
            if "was not found" not in str(problem):
                raise UserError(f"index.uri = {self._uri!r}: {summarize_error(problem)[:200]}") from problem
            # None there, or the folder that a build left behind which was killed before its first commit.
            return None
        if version is not None:
            _checkout(table, version, self._uri)
        return table

    def _existing(self, version: int | str | None = None) -> Any:
        table = self._open(version)
        if table is None:
            raise UserError(f"no index at {self._uri}: `ragtide run` builds it")
        return table

    @cached_property
    def _schema(self) -> pa.Schema:
        fields = [(name, pa.int32() if name == "position" else pa.string()) for name in [*LEDGER, "heading", "text"]]
        vector = ("vector", pa.list_(pa.float32(), self._embedder.dimensions))
        settings = json.dumps(self.settings, sort_keys=True).encode()
        metadata = {FINGERPRINT: self.fingerprint.encode(), VECTORS: self._vectors.encode(), SETTINGS: settings}
        return pa.schema([*fields, vector], metadata=metadata)

    def _other_embedder(self, table: Any) -> str | None:
        """What to say where a table's rows were made with another embedder or chunker; None where they were not."""
        metadata = table.schema.metadata or {}
        if metadata.get(FINGERPRINT, b"").decode() == self.fingerprint:
            return None
        return f"the index was built with {_differences(json.loads(metadata.get(SETTINGS, b'{}')), self.settings)}"


def _made_by(table: Any) -> str:
    """The fingerprint of the embedder that made a version's vectors."""
    return str((table.schema.metadata or {}).get(VECTORS, b"").decode())


def _names(rows: Iterable[tuple[str, int]]) -> set[str]:
    """The documents of rows, by their keys."""
    return {document for document, _ in rows}


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The settings that differ, as `block.key = before (now after)`; where none does, it is the weights or the code."""
    pairs = [(f"{block}.{key}", then.get(block, {}).get(key), now[block][key]) for block in now for key in now[block]]
    moved = [
        f"{key} = {old!r} (now {new!r})" for key, old, new in pairs if old != new and key.split(".")[1] not in NO_MATTER
    ]
    if not then:
        return "an earlier version of Ragtide"
    return ", ".join(moved) or "other weights of the embedder, or by another version of the chunker or the converter"


def rows_digest(rows: Mapping[tuple[str, int], tuple[str, str]]) -> str:
    """A digest of all keys and digests: same rows, same digest."""
    return json_digest([[*key, *row] for key, row in sorted(rows.items())])


def _windows(cuts: Iterable[ChunkedDocument]) -> Iterator[list[ChunkedDocument]]:
    """Documents gathered until they have WINDOW chunks or more."""
    window: list[ChunkedDocument] = []
    size = 0
    for cut in cuts:
        window.append(cut)
        size += len(cut.chunks or ())
        if size >= WINDOW:
            yield window
            window, size = [], 0
    if window:
        yield window


def _as_batch(chunks: Sequence[Chunk], vectors: Mapping[str, Vectors], schema: pa.Schema) -> pa.RecordBatch:
    columns: list[Any] = [[getattr(chunk, name) for chunk in chunks] for name in schema.names[:-1]]
    arrays = [pa.array(values, schema.field(at).type) for at, values in enumerate(columns)]
    stacked = np.asarray([vectors[chunk.digest] for chunk in chunks], dtype=np.float32)
    width = schema.field("vector").type.list_size
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(stacked.ravel(), pa.float32()), width))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _unwrapped(raised: Sequence[Exception], commit: Callable[[], Any]) -> Any:
    """Raise what went wrong while rows were read, not what LanceDB makes of it."""
    try:
        return commit()
    except RuntimeError:
        if raised:
            raise raised[0] from None
        raise


def _ledger(table: Any) -> dict[tuple[str, int], tuple[str, str]]:
    rows = table.search().select(LEDGER).limit(max(1, table.count_rows())).to_arrow()
    documents, positions, digests, document_digests = (rows[name].to_pylist() for name in LEDGER)
    keys = zip(documents, positions, strict=True)
    return dict(zip(keys, zip(digests, document_digests, strict=True), strict=True))


def _by_document(table: Any) -> dict[str, tuple[str, int]]:
    """Document -> its digest, and how many rows it has."""
    rows = table.search().select(["document", "document_digest"]).limit(max(1, table.count_rows())).to_arrow()
    counts = Counter(zip(rows["document"].to_pylist(), rows["document_digest"].to_pylist(), strict=True))
    return {document: (digest, count) for (document, digest), count in counts.items()}


def _known_vectors(table: Any, digests: Iterable[str]) -> dict[str, Vectors]:
    wanted = sorted(digests)
    if not wanted:
        return {}
    query = table.search().where(col("digest").isin(wanted)).select(["digest", "vector"])
    return vectors_by_digest(query.limit(table.count_rows()).to_arrow())


def _checkout(table: Any, version: int | str, uri: str) -> None:
    try:
        table.checkout(version)
    except (RuntimeError, ValueError) as problem:
        message = (
            f"the index at {uri} has no version {version}: it was removed by hand, or params.yaml names another index"
        )
        raise UserError(message) from problem
