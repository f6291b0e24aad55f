"""Rows of the index table: their schema, conversion to and from chunks, and queries on an opened version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from lancedb.expr import col

from ragtide.pipelines.index.chunking import text_digest
from ragtide.pipelines.index.vector_cache import vectors_by_digest
from ragtide.pipelines.ports import Vectors
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.sampling import evenly_spaced

KEY = ["document", "position"]
LEDGER = [*KEY, "digest", "document_digest"]
# (document, position) -> (digest of the chunk, digest of the document).
Ledger: TypeAlias = Mapping[tuple[str, int], tuple[str, str]]


@dataclass(frozen=True)
class SampledRows:
    """Some rows of a version: their texts, and their vectors in the same order, shape (texts, dimensions), float32."""

    texts: tuple[str, ...]
    vectors: Vectors


def row_schema(dimensions: int, metadata: Mapping[bytes, bytes]) -> pa.Schema:
    """The columns of the table, with `metadata` of the embedder and the settings that made the rows."""
    fields = [(name, pa.int32() if name == "position" else pa.string()) for name in [*LEDGER, "heading", "text"]]
    return pa.schema([*fields, ("vector", pa.list_(pa.float32(), dimensions))], metadata=dict(metadata))


def rows_of_chunks(chunks: Sequence[Chunk], vectors: Mapping[str, Vectors], schema: pa.Schema) -> pa.RecordBatch:
    """One row for each chunk, with its vector by digest."""
    columns: list[Any] = [[getattr(chunk, name) for chunk in chunks] for name in schema.names[:-1]]
    arrays = [pa.array(values, schema.field(at).type) for at, values in enumerate(columns)]
    stacked = np.asarray([vectors[chunk.digest] for chunk in chunks], dtype=np.float32)
    width = schema.field("vector").type.list_size
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(stacked.ravel(), pa.float32()), width))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def read_columns(table: Any, names: Sequence[str]) -> pa.Table:
    """These columns of every row."""
    return table.search().select(list(names)).limit(max(1, table.count_rows())).to_arrow()


def read_ledger(table: Any) -> dict[tuple[str, int], tuple[str, str]]:
    """The key and the digests of every row."""
    rows = read_columns(table, LEDGER)
    documents, positions, digests, document_digests = (rows[name].to_pylist() for name in LEDGER)
    keys = zip(documents, positions, strict=True)
    return dict(zip(keys, zip(digests, document_digests, strict=True), strict=True))


def read_document_ledger(table: Any) -> dict[str, tuple[str, int]]:
    """Document -> (its digest, number of its rows)."""
    rows = read_columns(table, ["document", "document_digest"])
    counts = Counter(zip(rows["document"].to_pylist(), rows["document_digest"].to_pylist(), strict=True))
    return {document: (digest, count) for (document, digest), count in counts.items()}


def read_digests(table: Any) -> set[str]:
    """The digests of all chunks."""
    return set(read_columns(table, ["digest"])["digest"].to_pylist())


def read_chunks(table: Any, documents: Iterable[str]) -> list[Chunk]:
    """The chunks of these documents, in order of key."""
    names = sorted(documents)
    if not names:
        return []
    query = table.search().where(col("document").isin(names)).select([*LEDGER, "heading", "text"])
    chunks = [Chunk(**row) for row in query.limit(table.count_rows()).to_list()]
    return sorted(chunks, key=lambda chunk: chunk.key)


def find_damaged_documents(table: Any) -> list[str]:
    """The documents with a text that is not the one of its digest, sorted; every column of every row is read."""
    damaged: set[str] = set()
    for batch in table.search().limit(max(1, table.count_rows())).to_batches():
        documents, texts, digests = (batch[name].to_pylist() for name in ("document", "text", "digest"))
        rows = zip(documents, texts, digests, strict=True)
        damaged |= {document for document, text, digest in rows if text_digest(text) != digest}
    return sorted(damaged)


def read_vectors(table: Any, digests: Iterable[str]) -> dict[str, Vectors]:
    """Digest -> vector, of those digests that the rows hold."""
    wanted = sorted(digests)
    if not wanted:
        return {}
    query = table.search().where(col("digest").isin(wanted)).select(["digest", "vector"])
    return vectors_by_digest(query.limit(table.count_rows()).to_arrow())


def sample_rows(table: Any, limit: int) -> SampledRows:
    """At most `limit` rows, evenly spaced in order of key, whatever the order in which they were written."""
    keys = table.search().select(KEY).with_row_id(True).limit(max(1, table.count_rows())).to_arrow()
    by_key = [(name, "ascending") for name in KEY]
    ids = keys.sort_by(by_key)["_rowid"].to_pylist()
    rows = table.take_row_ids(evenly_spaced(ids, limit)).select([*KEY, "text", "vector"]).to_arrow().sort_by(by_key)
    vectors = np.asarray(rows["vector"].combine_chunks().flatten(), dtype=np.float32)
    width = table.schema.field("vector").type.list_size
    return SampledRows(tuple(rows["text"].to_pylist()), vectors.reshape(rows.num_rows, width))


def rows_digest(ledger: Ledger) -> str:
    """A digest of all keys and digests: same rows, same digest."""
    return json_digest([[*key, *row] for key, row in sorted(ledger.items())])
