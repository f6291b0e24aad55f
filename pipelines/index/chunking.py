"""Chunks of documents: pieces of their text below their headings, and an overview, with digests that identify them.

A chunk's text begins with its heading path, so that it can be found and read on its own; it does not contain the
file's path, so that a moved file needs no new vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ragtide.pipelines.data.reading.sections import Piece, cut_text
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import OVERVIEW, Chunk, Document

# Changed by hand whenever the same document would be cut in another way; part of the index's fingerprint.
CHUNKER = "structure-5"


def chunk_documents(documents: Iterable[Document], params: ChunkParams) -> list[Chunk]:
    """The chunks of `documents`, in order, cut in this process: for texts that are known to be harmless."""
    return [chunk for document in documents for chunk in chunk_document(document, params)]


def chunk_document(document: Document, params: ChunkParams) -> list[Chunk]:
    """The chunks of one document, cut in this process."""
    return chunks_of(document, cut_text(document.id, document.text, params.max_words))


def chunks_of(document: Document, pieces: Iterable[Piece]) -> list[Chunk]:
    """The pieces of a document as its chunks in order of position: its overview, and its passages, numbered from 0."""
    ordered = sorted(pieces, key=lambda piece: not piece.is_overview)
    first = OVERVIEW if ordered and ordered[0].is_overview else 0
    return [_chunk(document, position, piece) for position, piece in enumerate(ordered, first)]


def join_passages(chunks: Iterable[Chunk]) -> str:
    """The text of a document of which only the chunks are at hand."""
    return "\n\n".join(chunk.text for chunk in chunks if not chunk.is_overview)


def _chunk(document: Document, position: int, piece: Piece) -> Chunk:
    text = "\n".join(part for part in (piece.heading, piece.body) if part)
    return Chunk(
        document=document.id,
        position=position,
        heading=piece.heading,
        text=text,
        digest=text_digest(text),
        document_digest=document.digest,
    )


def text_digest(text: str) -> str:
    """SHA-256 (32 hex digits) of a text with runs of white space as one blank, so that a re-wrap changes nothing."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:32]
