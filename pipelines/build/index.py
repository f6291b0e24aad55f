"""Which passages answer a question? One LanceDB table of chunks with vectors and full text; the only door to LanceDB.

The rows are the ledger: what has been indexed is read from the table itself, never from a note beside it. A refresh is
one `merge_insert` commit; a release is a tag on a version; readers open the tag.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.expr import col
from lancedb.index import FTS
from lancedb.query import MatchQuery
from tenacity import retry, retry_if_exception_message, stop_after_attempt, wait_fixed

from pipelines.build.chunk import CHUNKER
from pipelines.errors import RefusalError
from pipelines.params import ChunkParams
from pipelines.ports import Embedder, Progress, Vectors
from pipelines.records import BuiltIndex, Chunk, IndexDelta, digest_of

TABLE = "chunks"
KEY = ["document", "position"]
LEDGER = ["document", "position", "digest", "document_digest"]
FINGERPRINT = b"ragtide.fingerprint"
SHOWN = ("document", "position", "heading", "text")
EMBED_AT_ONCE = 256
NEVER = timedelta(days=36500)
# Rows that each half of a search brings into the fusion, and the constant of the paper that it comes from.
DEPTH = 50
RRF_K = 60
Row = dict[str, Any]
Scored = tuple[float, Row]


@dataclass(frozen=True)
class Passage:
    """A chunk that a search found; `score` is its reciprocal rank fusion, higher is nearer."""

    document: str
    position: int
    heading: str
    text: str
    score: float


@dataclass(frozen=True)
class Todo:
    """What a refresh has to write: chunks to put in, keys to take out, and the digests that have no vector yet."""

    upserts: list[Chunk]
    deletions: list[tuple[str, int]]
    new_digests: list[str]


def index_fingerprint(embedder: Embedder, chunk: ChunkParams) -> str:
    """Changes whenever a chunk of the same document would get another vector (law 9)."""
    return digest_of([embedder.fingerprint, embedder.dimensions, CHUNKER, chunk.model_dump(mode="json")])


class Index:
    """The table of one project, for its single writer and for readers of a version."""

    def __init__(self, uri: str, embedder: Embedder, chunk: ChunkParams) -> None:
        self._uri = uri
        self._embedder = embedder
        self._chunk = chunk

    @cached_property
    def fingerprint(self) -> str:
        return index_fingerprint(self._embedder, self._chunk)

    # --- look ------------------------------------------------------------------------------------------------------

    def rows(self, version: int | None = None) -> dict[tuple[str, int], tuple[str, str]]:
        """(document, position) -> (chunk digest, document digest), of `version` or the latest; {} without a table."""
        table = self._open(version)
        return _ledger(table) if table is not None else {}

    def delta(self, chunks: Sequence[Chunk], live_version: int | None) -> IndexDelta:
        """What `refresh` would change for readers of `live_version` (None: there is none yet), without doing it.

        Raises RefusalError where the index was built with another embedder or chunker.
        """
        # Asked for before there is a table, too: a missing model is to be known before anything is built.
        self._embedder.dimensions  # noqa: B018
        table = self._open()
        if table is not None:
            self._refuse_other_embedder(table)
        latest = _ledger(table) if table is not None else {}
        live = self.rows(live_version) if live_version is not None else {}
        todo = _todo(live, chunks)
        before, after = {digest for digest, _ in live.values()}, {chunk.digest for chunk in chunks}
        return IndexDelta(
            chunks_after=len(chunks),
            chunks_before=len(live),
            new=sum(chunk.digest not in before for chunk in chunks),
            gone=sum(digest not in after for digest, _ in live.values()),
            upserted=len(todo.upserts),
            deleted=len(todo.deletions),
            to_embed=len(_todo(latest, chunks).new_digests),
        )

    def has_tag(self, name: str) -> bool:
        """Whether a version still has that name."""
        table = self._open()
        return table is not None and name in table.tags.list()

    def reader(self, tag: str | int) -> Reader:
        """A reader of a tagged or numbered version; it stays there whatever a writer does."""
        table = self._existing(tag)
        self._refuse_other_embedder(table)
        return Reader(table, self._embedder)

    # --- write -----------------------------------------------------------------------------------------------------

    def refresh(self, chunks: Sequence[Chunk], snapshot: str, progress: Progress) -> BuiltIndex:
        """Make the rows equal to `chunks` in one commit, embedding only texts that have no vector yet.

        A kill before the commit changes nothing; after it, everything is in. Without a difference no version is made.
        """
        started = time.perf_counter()
        table = self._open()
        if table is not None:
            self._refuse_other_embedder(table)
        todo = _todo(_ledger(table) if table is not None else {}, chunks)
        vectors = self._vectors(table, todo, progress)
        # Made after the embedding: an embedder that fails at first must not leave a table that is bound to it.
        table = table if table is not None else self._create()
        if todo.upserts or todo.deletions:
            _commit(table, todo, vectors, self._schema())
        _index_text(table)
        return BuiltIndex(
            uri=self._uri,
            version=table.version,
            fingerprint=self.fingerprint,
            documents=snapshot,
            rows=table.count_rows(),
            embedded=len(todo.new_digests),
            seconds=round(time.perf_counter() - started, 3),
        )

    def tag(self, name: str, version: int) -> None:
        """Name a version for readers; the same name for the same version again is no error."""
        table = self._existing()
        known = table.tags.list()
        if name not in known:
            table.tags.create(name, version)
        elif known[name]["version"] != version:
            raise RefusalError(f"index tag {name} already names version {known[name]['version']}, not {version}")

    # --- inside ----------------------------------------------------------------------------------------------------

    def _vectors(self, table: Any | None, todo: Todo, progress: Progress) -> dict[str, Vectors]:
        reused = {chunk.digest for chunk in todo.upserts} - set(todo.new_digests)
        known = _known_vectors(table, reused) if table is not None else {}
        texts = {chunk.digest: chunk.text for chunk in todo.upserts}
        with progress("embedding chunks", len(todo.new_digests)) as advance:
            for at in range(0, len(todo.new_digests), EMBED_AT_ONCE):
                digests = todo.new_digests[at : at + EMBED_AT_ONCE]
                vectors = self._embedder.embed([texts[digest] for digest in digests])
                known.update(zip(digests, vectors, strict=True))
                advance(len(digests))
        return known

    def _connect(self) -> Any:
        # Interval 0: a handle that was opened before another process's commit must not answer from before it.
        return lancedb.connect(self._uri, read_consistency_interval=timedelta(0))

    def _open(self, version: int | str | None = None) -> Any | None:
        database = self._connect()
        if TABLE not in database.list_tables().tables:
            return None
        table = database.open_table(TABLE)
        if version is not None:
            _checkout(table, version, self._uri)
        return table

    def _existing(self, version: int | str | None = None) -> Any:
        table = self._open(version)
        if table is None:
            raise RefusalError(f"no index at {self._uri}: `ragtide run` builds it")
        return table

    def _create(self) -> Any:
        return self._connect().create_table(TABLE, schema=self._schema(), exist_ok=True)

    def _schema(self) -> pa.Schema:
        fields = [(name, pa.int32() if name == "position" else pa.string()) for name in [*LEDGER, "heading", "text"]]
        vector = ("vector", pa.list_(pa.float32(), self._embedder.dimensions))
        return pa.schema([*fields, vector], metadata={FINGERPRINT: self.fingerprint.encode()})

    def _refuse_other_embedder(self, table: Any) -> None:
        built_with = (table.schema.metadata or {}).get(FINGERPRINT, b"").decode()
        if built_with != self.fingerprint:
            message = f"the index was built with another embedder or chunker ({built_with}, now {self.fingerprint})"
            raise RefusalError(f"{message}: put embed and chunk in params.yaml back; vectors of two kinds never mix")


class Reader:
    """One version of the index, for searching."""

    def __init__(self, table: Any, embedder: Embedder) -> None:
        self._table = table
        self._embedder = embedder

    @property
    def version(self) -> int:
        return int(self._table.version)

    def search(self, questions: Sequence[str], top_k: int) -> list[list[Passage]]:
        """For each question its `top_k` passages, best first: vector and full text, fused by reciprocal rank.

        Source: Cormack, Clarke, Buettcher 2009, Reciprocal Rank Fusion.
        """
        if self._table.count_rows() == 0:
            return [[] for _ in questions]
        vectors = self._embedder.embed(questions)
        return [self._search(text, vector, top_k) for text, vector in zip(questions, vectors, strict=True)]

    def _search(self, text: str, vector: Vectors, top_k: int) -> list[Passage]:
        def near(limit: int) -> list[Scored]:
            query = self._table.search(vector).distance_type("cosine").select([*SHOWN, "_distance"])
            return [(row["_distance"], row) for row in query.limit(limit).to_list()]

        def worded(limit: int) -> list[Scored]:
            # As a match of words: LanceDB would take a question in quotation marks for a phrase, which needs positions.
            query = self._table.search(MatchQuery(text, "text"), query_type="fts").select([*SHOWN, "_score"])
            return [(-row["_score"], row) for row in query.limit(limit).to_list()]

        return _fuse([_ranked(near, top_k), _ranked(worded, top_k)])[:top_k]


def _ranked(find: Callable[[int], list[Scored]], top_k: int) -> list[Row]:
    """Rows by score, lowest first, and equals by key; what ties with the first row past the cut-off is left out.

    LanceDB returns rows of equal score in another order, and at the cut-off another choice, from query to query; a
    paired comparison needs the same question to find the same passages (docs/log.md, 2026-11-24). Where ties leave
    fewer than `top_k`, the cut-off moves on.
    """
    depth = max(DEPTH, 4 * top_k)
    while True:
        found = find(depth + 1)
        past = max((score for score, _ in found), default=0.0)
        kept = [(score, row) for score, row in found if len(found) <= depth or score < past]
        if len(kept) >= top_k or len(found) <= depth:
            break
        depth *= 4
    ordered = sorted(kept, key=lambda pair: (pair[0], pair[1]["document"], pair[1]["position"]))
    return [row for _, row in ordered]


def _fuse(rankings: Sequence[Sequence[Row]]) -> list[Passage]:
    """Reciprocal rank fusion: 1 / (60 + rank), summed over the rankings; of equals the first by key."""
    scores: dict[tuple[str, int], float] = {}
    rows: dict[tuple[str, int], Row] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, start=1):
            key = (row["document"], row["position"])
            rows[key] = row
            scores[key] = scores.get(key, 0.0) + 1 / (RRF_K + rank)
    best = sorted(scores, key=lambda key: (-scores[key], key))
    return [Passage(**{name: rows[key][name] for name in SHOWN}, score=round(scores[key], 6)) for key in best]


def _todo(ledger: dict[tuple[str, int], tuple[str, str]], chunks: Sequence[Chunk]) -> Todo:
    wanted = {chunk.key: chunk for chunk in chunks}
    upserts = [chunk for key, chunk in wanted.items() if ledger.get(key) != (chunk.digest, chunk.document_digest)]
    have = {digest for digest, _ in ledger.values()}
    return Todo(
        upserts=upserts,
        deletions=sorted(key for key in ledger if key not in wanted),
        new_digests=list(dict.fromkeys(chunk.digest for chunk in upserts if chunk.digest not in have)),
    )


def _commit(table: Any, todo: Todo, vectors: dict[str, Vectors], schema: pa.Schema) -> None:
    """One version for all of it: rows put in, and rows of touched documents that are no longer wanted taken out.

    The merge's source holds every row of a touched document that stays, so that "not in the source" means "gone".
    """
    gone = {document for document, _ in todo.deletions}
    staying = _staying(table, gone, todo, schema)
    rows = pa.concat_tables([_as_table(todo.upserts, vectors, schema), staying])
    merge = table.merge_insert(KEY).when_matched_update_all().when_not_matched_insert_all()
    if gone:
        merge = merge.when_not_matched_by_source_delete(col("document").isin(sorted(gone)))
    result = merge.execute(rows)
    if result.num_deleted_rows != len(todo.deletions):
        # Cannot happen while the source is whole; if it does, say so before anything is released.
        raise RefusalError(f"the index deleted {result.num_deleted_rows} rows instead of {len(todo.deletions)}")


def _staying(table: Any, documents: set[str], todo: Todo, schema: pa.Schema) -> pa.Table:
    if not documents:
        return schema.empty_table()
    found = table.search().where(col("document").isin(sorted(documents))).limit(table.count_rows()).to_arrow()
    leaving = set(todo.deletions) | {chunk.key for chunk in todo.upserts}
    keys = zip(found["document"].to_pylist(), found["position"].to_pylist(), strict=True)
    return found.filter(pa.array([key not in leaving for key in keys], pa.bool_())).select(schema.names).cast(schema)


def _as_table(chunks: Sequence[Chunk], vectors: dict[str, Vectors], schema: pa.Schema) -> pa.Table:
    columns: dict[str, Any] = {
        name: [getattr(chunk, name) for chunk in chunks] for name in schema.names if name != "vector"
    }
    stacked = np.asarray([vectors[chunk.digest] for chunk in chunks], dtype=np.float32)
    width = schema.field("vector").type.list_size
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(stacked.ravel(), pa.float32()), width)
    return pa.table(columns, schema=schema)


def _ledger(table: Any) -> dict[tuple[str, int], tuple[str, str]]:
    rows = table.search().select(LEDGER).limit(max(1, table.count_rows())).to_arrow()
    documents, positions, digests, document_digests = (rows[name].to_pylist() for name in LEDGER)
    keys = zip(documents, positions, strict=True)
    return dict(zip(keys, zip(digests, document_digests, strict=True), strict=True))


def _known_vectors(table: Any, digests: set[str]) -> dict[str, Vectors]:
    if not digests:
        return {}
    query = table.search().where(col("digest").isin(sorted(digests))).select(["digest", "vector"])
    rows = query.limit(table.count_rows()).to_arrow()
    vectors = np.asarray(rows["vector"].combine_chunks().flatten(), dtype=np.float32).reshape(rows.num_rows, -1)
    return dict(zip(rows["digest"].to_pylist(), vectors, strict=True))


@retry(stop=stop_after_attempt(5), wait=wait_fixed(0.2), retry=retry_if_exception_message(match="(?s).*conflict.*"))
def _index_text(table: Any) -> None:
    """Have the full-text index cover every row. A conflicting commit leaves the handle stale: take the latest first."""
    table.checkout_latest()
    if table.count_rows() == 0:
        return
    name = next((one.name for one in table.list_indices() if "text" in one.columns), None)
    if name is None:
        table.create_index("text", config=FTS())
    elif table.index_stats(name).num_unindexed_rows:
        # Left to itself it would also prune versions older than a week, and raise once a release's tag is that old.
        table.optimize(cleanup_older_than=NEVER)


def _checkout(table: Any, version: int | str, uri: str) -> None:
    try:
        table.checkout(version)
    except (RuntimeError, ValueError) as problem:
        message = (
            f"the index at {uri} has no version {version}: it was removed by hand, or params.yaml names another index"
        )
        raise RefusalError(message) from problem
