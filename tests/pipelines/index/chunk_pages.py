"""Chunks and sources for tests of the index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.source import ChunkedDocument
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Chunk
from tests.factories import SHORT, HashEmbedder, chunk, document

NAMES = ("a.md", "guide/b.md", "it's.md", "neu ü.md")
SENTENCES = (
    "The lantern burns for nine hours on one filling of oil.",
    "A harbour pilot comes aboard two miles before the light, and leaves again at the mole.",
    "Version 4 of the lantern reaches its end of life in March of the next year.",
    "Orders over fifty crowns are sent without a fee, by the next post that leaves the town in the morning.",
)
HOSTILE = (
    "o'hara.md",
    "' OR '1'='1",
    "'; DROP TABLE chunks; --",
    "document IS NOT NULL",
    'double "quotes".md',
    "back\\slash\\.md",
    "new\nline.md",
    "tab\t.md",
    "per%cent_.md",
    "*",
    "`tick`",
    "日本語 \u202e.md",
    "é.md",
    "e\u0301.md",
    " ",
    "{name}",
)


class Renamed(HashEmbedder):
    fingerprint = "hash-8-of-another-kind"


class Wider(HashEmbedder):
    """Vectors of twice the width."""

    fingerprint = "hash-16"
    dimensions = 16

    def embed(self, texts: Sequence[str]) -> Any:
        narrow = super().embed(texts)
        return np.concatenate([narrow, narrow], axis=1) / 2**0.5


class ScriptedSource:
    """A source of given chunks that records what is read; at read number `fails_at` it raises an error."""

    def __init__(
        self, chunks_of: Mapping[str, Sequence[Chunk] | None], digests: Mapping[str, str] | None = None
    ) -> None:
        self.chunks_of = chunks_of
        self.documents = dict(digests or {name: f"digest of {name}" for name in chunks_of})
        self.reads: list[str] = []
        self.fails_at: int | None = None

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        for name in documents:
            if self.fails_at is not None and len(self.reads) == self.fails_at:
                raise UserError(f"{name} changed while it was being read")
            self.reads.append(name)
            yield ChunkedDocument(name, self.chunks_of[name])


def page(name: str, *sentences: str, chunking: ChunkParams = SHORT) -> list[Chunk]:
    """A page's chunks, cut by the real chunker: one for each sentence."""
    return chunk_documents([document(name, "# Page\n\n" + "\n\n".join(sentences))], chunking)


def many(count: int) -> list[Chunk]:
    """Documents of one chunk each, all different."""
    return [chunk(f"{number:03}.md", f"text {number}") for number in range(count)]


def keys_of(chunks: Sequence[Chunk]) -> set[tuple[str, int]]:
    return {chunk.key for chunk in chunks}


def ledger_of(chunks: Sequence[Chunk]) -> dict[tuple[str, int], tuple[str, str]]:
    return {chunk.key: (chunk.digest, chunk.document_digest) for chunk in chunks}


def digests_of(chunks: Sequence[Chunk]) -> set[str]:
    return {chunk.digest for chunk in chunks}


def two_passages(name: str = "a.md") -> list[Chunk]:
    return page(name, *SENTENCES[:2])


def another_file(chunks: Sequence[Chunk]) -> list[Chunk]:
    return [chunk.model_copy(update={"document_digest": "another file"}) for chunk in chunks]
