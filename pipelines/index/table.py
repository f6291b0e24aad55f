"""Index of a project: one LanceDB table of chunks with vectors and full text, for its writer and its readers.

The rows are the ledger: what has been indexed is read from the table itself, never from a record beside it. A refresh
is one commit; a release is a tag on a version; readers open the tag. A build with another embedder or chunker is a new
version of the same table, which no reader sees before its tag.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any

import lancedb

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.index import maintenance
from ragtide.pipelines.index.delta import count_delta
from ragtide.pipelines.index.fingerprint import TABLE, index_fingerprint, vector_fingerprint
from ragtide.pipelines.index.lance_errors import translate_lance_errors
from ragtide.pipelines.index.rows import (
    KEY,
    SampledRows,
    find_damaged_documents,
    read_chunks,
    read_digests,
    read_document_ledger,
    read_ledger,
    row_schema,
    rows_digest,
    sample_rows,
)
from ragtide.pipelines.index.search import Retriever, SearchSettings
from ragtide.pipelines.index.source import FallbackSource, IndexSource
from ragtide.pipelines.index.vector_cache import VectorCache, damaged_caches
from ragtide.pipelines.index.writer import IndexWriter, StagedRows, check_row_count
from ragtide.pipelines.models.reranker import Reranker
from ragtide.pipelines.params import ChunkParams, EmbedParams, IndexParams
from ragtide.pipelines.ports import Embedder, Progress
from ragtide.pipelines.records.data import Chunk, IndexDelta
from ragtide.pipelines.records.release import BuiltIndex, MaintenanceStep

FINGERPRINT, VECTORS, SETTINGS = b"ragtide.fingerprint", b"ragtide.vectors", b"ragtide.settings"
# Settings of where and how fast an embedder runs, which do not change its vectors.
RUNTIME_SETTINGS = ("device", "backend", "tokens_at_once")
REBUILD_HINT = "`ragtide plan` says what a rebuild costs; vectors of two embedders cannot be mixed"
MESSAGE_CHARACTERS = 200


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
        """Identifies the chunker, the embedder and their settings."""
        return index_fingerprint(self._embedder, self._chunk, self._embed)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings needed to read this index; stored in a release, so that a rollback restores its embedder."""
        return {"chunk": self._chunk.model_dump(mode="json"), "embed": self._embed.model_dump(mode="json")}

    # --- read ------------------------------------------------------------------------------------------------------

    def rows(self, version: int | str | None = None) -> dict[tuple[str, int], tuple[str, str]]:
        """(document, position) -> (chunk digest, document digest), of `version` or the latest; {} without a table."""
        table = self._open(version)
        return read_ledger(table) if table is not None else {}

    def content(self, version: int | str | None = None) -> str:
        """The `rows_digest` of a version."""
        return rows_digest(self.rows(version))

    def documents(self, version: int | str | None = None) -> dict[str, str]:
        """Document -> the digest in its rows, of `version` or the latest; {} without a table."""
        table = self._open(version)
        ledger = read_document_ledger(table) if table is not None else {}
        return {name: digest for name, (digest, _) in ledger.items()}

    def chunks(self, documents: Iterable[str], version: int | str | None = None) -> list[Chunk]:
        """The chunks that `version` or the latest holds of these documents, in order of key."""
        table = self._open(version)
        return read_chunks(table, documents) if table is not None else []

    def sample(self, version: int | str, limit: int) -> SampledRows:
        """At most `limit` rows of a version, evenly spaced in order of key. Raises UserError if it does not exist."""
        return sample_rows(self._existing(version), limit)

    def delta(self, chunks: Sequence[Chunk], live_version: int | None, moved: Collection[str] = ()) -> IndexDelta:
        """What making the rows equal to `chunks` would change for readers of `live_version` (None: there is none yet).

        Changes nothing. `moved` are the live documents that stand under another name now. `rebuild` says why no live
        row can be kept, if another embedder or chunker made them.
        """
        # Loads the embedder even without a table: a missing model must be known before anything is built.
        self._embedder.dimensions  # noqa: B018
        live = self._open(live_version) if live_version is not None else None
        ledger = read_ledger(live) if live is not None else {}
        rebuild = self._mismatch(live) if live is not None else None
        known = self._known_vectors({chunk.digest for chunk in chunks})
        return count_delta(ledger, chunks, known, rebuild, moved)

    def tags(self) -> dict[str, int]:
        """Tag -> the version that it names."""
        table = self._open()
        return {name: int(tag["version"]) for name, tag in table.tags.list().items()} if table is not None else {}

    def has_tag(self, name: str) -> bool:
        """Whether a tag exists."""
        return name in self.tags()

    def has_version(self, version: int) -> bool:
        """Whether a version still exists; reads none of its rows."""
        try:
            return self._open(version) is not None
        except UserError:
            return False

    def latest(self) -> int | None:
        """The newest version; None without a table."""
        table = self._open()
        return int(table.version) if table is not None else None

    def defects(self, version: int | str) -> list[str]:
        """The defects in the rows of a version, in words: duplicate keys, and vectors that are not unit vectors."""
        return maintenance.find_row_defects(self._existing(version), KEY)

    def damaged_documents(self, version: int | str) -> list[str]:
        """The documents with a text in `version` that is not the one of its digest; reads every row as a whole."""
        return find_damaged_documents(self._existing(version))

    def damaged_caches(self) -> dict[str, str]:
        """Cache of vectors -> why it cannot be read."""
        return damaged_caches(self._connect())

    def drop_cache(self, name: str) -> None:
        """Delete a cache of vectors, which the next builds fill again from the rows and the embedder."""
        self._connect().drop_table(name)

    def retriever(self, tag: str | int) -> Retriever:
        """A reader of a tagged or numbered version, which no later write changes.

        Raises UserError where another embedder made its vectors (invariant embedder-in-index, docs/invariants.md).
        """
        table = self._existing(tag)
        # Rows of another version of the chunker can still be searched; other vectors cannot.
        mismatch = self._mismatch(table)
        if mismatch and _vectors_of(table) != self._vectors:
            raise UserError(f"{mismatch}: {REBUILD_HINT}")
        params = self._params
        reranker = Reranker(params.rerank, self._embed.device) if params.rerank else None
        words = self._chunk.max_words
        settings = SearchSettings(params.search, params.fusion, self._embed.query_prefix, reranker, words)
        return Retriever(table, self._embedder, settings, approximate=maintenance.vector_index_name(table) is not None)

    # --- write -----------------------------------------------------------------------------------------------------

    def refresh(self, source: IndexSource, documents_id: str, progress: Progress, rebuild: bool = False) -> BuiltIndex:
        """Make the rows equal to `source` in one commit, embedding only texts that have no vector yet.

        Only documents whose digest is not in the rows are read. A kill before the commit changes nothing for readers,
        and embedded texts are kept in the cache; after the commit, everything is in. Without a difference no version
        is made. Raises UserError where another embedder or chunker made the rows, unless `rebuild`.
        """
        started = time.perf_counter()
        base = self._open()
        mismatch = self._mismatch(base) if base is not None else None
        if mismatch and not rebuild:
            raise UserError(f"{mismatch}: {REBUILD_HINT}")
        if mismatch:
            source, base = FallbackSource(source, self.chunks), None
        table, staged = self._write(source, base, progress)
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

    def _write(self, source: IndexSource, base: Any | None, progress: Progress) -> tuple[Any, StagedRows]:
        """Commit what differs from the rows of `base`; None: make a version of all documents."""
        writer = IndexWriter(self._connect(), self._schema, self._cache, self._embedder, self._embed.document_prefix)
        ledger = read_document_ledger(base) if base is not None else {}
        digests = {name: digest for name, (digest, _) in ledger.items()}
        stale = [name for name, digest in sorted(source.documents.items()) if digests.get(name) != digest]
        staged = writer.stage(source, stale, base, progress)
        removed = sorted(set(ledger) - set(source.documents))
        if base is None:
            if source.documents and not staged.rows:
                message = f"no index can be built: none of the {len(source.documents)} documents can be read"
                raise UserError(f"{message}; `ragtide status` lists them")
            table = writer.replace(source, staged, exists=self._open() is not None)
        else:
            table = base
            if removed or any(count or name in ledger for name, count in staged.rows.items()):
                writer.merge(table, source, staged, removed)
        check_row_count(table, ledger, staged, removed)
        return table, staged

    def tag(self, name: str, version: int) -> None:
        """Tag a version for readers; repeating the same tag for the same version is no error."""
        table = self._existing()
        tags = table.tags.list()
        if name not in tags:
            table.tags.create(name, version)
        elif tags[name]["version"] != version:
            raise UserError(f"index tag {name} already names version {tags[name]['version']}, not {version}")

    def retag(self, name: str, version: int) -> None:
        """Move a tag to another version."""
        self._existing().tags.update(name, version)

    def untag(self, name: str) -> None:
        """Remove a tag; its version may then be pruned."""
        self._existing().tags.delete(name)

    def maintain(self, plan: maintenance.MaintenancePlan) -> list[MaintenanceStep]:
        """Sweep, compact and prune within the limits of `plan`; each step says why it was done or not."""
        table = self._open()
        if table is None:
            return []
        return [*maintenance.maintain_table(table, plan), self._prune_vectors(table, plan)]

    # --- internals -------------------------------------------------------------------------------------------------

    def _known_vectors(self, digests: set[str]) -> set[str]:
        """Which of these digests have a vector, and possibly others: in the cache, or in rows of this embedder."""
        known = self._cache.known(sorted(digests))
        table = self._open()
        if known == digests or table is None or self._mismatch(table):
            return known
        return known | {digest for digest, _ in read_ledger(table).values()}

    def _prune_vectors(self, table: Any, plan: maintenance.MaintenancePlan) -> MaintenanceStep:
        versions = [self._existing(version) for version in maintenance.kept_versions(table, plan)]
        needed = {digest for version in versions for digest in read_digests(version)}
        embedders = {_vectors_of(version) for version in versions}
        return maintenance.prune_vectors(self._cache, needed, embedders, plan)

    @cached_property
    def _cache(self) -> VectorCache:
        return VectorCache(self._connect(), self._vectors, self._embedder.dimensions)

    @cached_property
    def _vectors(self) -> str:
        return vector_fingerprint(self._embedder, self._embed)

    @cached_property
    def _schema(self) -> Any:
        settings = json.dumps(self.settings, sort_keys=True).encode()
        metadata = {FINGERPRINT: self.fingerprint.encode(), VECTORS: self._vectors.encode(), SETTINGS: settings}
        return row_schema(self._embedder.dimensions, metadata)

    def _connect(self) -> Any:
        # Interval 0: a handle that was opened before another process's commit must see that commit.
        return lancedb.connect(self._uri, read_consistency_interval=timedelta(0))

    def _open(self, version: int | str | None = None) -> Any | None:
        """The table, checked out at `version`; None if there is none, or only the folder of a build killed early."""
        try:
            table = self._connect().open_table(TABLE)
        except ValueError as problem:
            if "was not found" not in str(problem):
                message = summarize_error(problem)[:MESSAGE_CHARACTERS]
                raise UserError(f"index.uri = {self._uri!r} cannot be opened: {message}") from problem
            return None
        if version is not None:
            _checkout(table, version, self._uri)
        return table

    def _existing(self, version: int | str | None = None) -> Any:
        table = self._open(version)
        if table is None:
            raise UserError(f"there is no index at {self._uri}: `ragtide run` builds it")
        return table

    def _mismatch(self, table: Any) -> str | None:
        """How the embedder or chunker that made a table's rows differs from the current one; None if equal."""
        metadata = table.schema.metadata or {}
        if metadata.get(FINGERPRINT, b"").decode() == self.fingerprint:
            return None
        return f"the index was built with {_differences(json.loads(metadata.get(SETTINGS, b'{}')), self.settings)}"


def _vectors_of(table: Any) -> str:
    """The vector fingerprint of the embedder that made a version's vectors."""
    return str((table.schema.metadata or {}).get(VECTORS, b"").decode())


def _differences(built: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """The differing settings, as `block.key = built (now current)`; if none differs, the weights or the code do."""
    pairs = [
        (f"{block}.{key}", built.get(block, {}).get(key), current[block][key])
        for block in current
        for key in current[block]
        if key not in RUNTIME_SETTINGS
    ]
    changed = [f"{key} = {old!r} (now {new!r})" for key, old, new in pairs if old != new]
    return ", ".join(changed) or "other weights of the embedder, or another version of the chunker or the converter"


def _checkout(table: Any, version: int | str, uri: str) -> None:
    try:
        table.checkout(version)
    except (RuntimeError, ValueError) as problem:
        message = f"the index at {uri} has no version {version}"
        raise UserError(f"{message}: it was deleted by hand, or params.yaml names another index") from problem
