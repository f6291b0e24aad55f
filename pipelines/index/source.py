"""Sources of an index: the chunked documents that it is to hold, read one after the other and grouped into windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ragtide.pipelines.records.data import Chunk

# Chunks in memory at a time; a killed build has to embed at most so many again.
WINDOW = 1024


@dataclass(frozen=True)
class ChunkedDocument:
    """A document as its chunks; None if it cannot be read now, so that the index keeps the rows that it has of it."""

    document: str
    chunks: Sequence[Chunk] | None


class IndexSource(Protocol):
    """The documents that an index is to hold."""

    @property
    def documents(self) -> Mapping[str, str]:
        """Document -> digest of its content."""
        ...

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        """The chunks of these documents, in this order. May be called twice and then returns the same."""
        ...


@dataclass(frozen=True)
class FallbackSource:
    """A source for a rebuild: a document that cannot be read now keeps the chunks that the index has of it."""

    source: IndexSource
    indexed_chunks: Callable[[Sequence[str]], Sequence[Chunk]]

    @property
    def documents(self) -> Mapping[str, str]:
        return self.source.documents

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        for document in self.source.read(documents):
            indexed = self.indexed_chunks([document.document]) if document.chunks is None else ()
            yield ChunkedDocument(document.document, indexed) if indexed else document


@dataclass(frozen=True)
class InMemorySource:
    """Chunked documents as a source of the index."""

    by_document: Mapping[str, Sequence[Chunk]]

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> InMemorySource:
        """Chunks grouped by their document, in their order."""
        grouped: dict[str, list[Chunk]] = {}
        for chunk in chunks:
            grouped.setdefault(chunk.document, []).append(chunk)
        return cls(grouped)

    @property
    def documents(self) -> dict[str, str]:
        return {name: chunks[0].document_digest for name, chunks in self.by_document.items()}

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        return (ChunkedDocument(name, self.by_document[name]) for name in documents)


def document_windows(documents: Iterable[ChunkedDocument]) -> Iterator[list[ChunkedDocument]]:
    """Documents grouped until a group has at least WINDOW chunks."""
    window: list[ChunkedDocument] = []
    size = 0
    for document in documents:
        window.append(document)
        size += len(document.chunks or ())
        if size >= WINDOW:
            yield window
            window, size = [], 0
    if window:
        yield window
