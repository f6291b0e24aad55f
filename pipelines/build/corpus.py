"""What is there to build from? One snapshot, read once: documents, their chunks, and the training examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pipelines.build.chunk import chunk_documents
from pipelines.build.examples import Example, read_examples
from pipelines.observe.documents import read_documents
from pipelines.records import Chunk, Document, Snapshot
from pipelines.workspace import Workspace


@dataclass(frozen=True)
class Corpus:
    """The content of a snapshot; `orphans` are examples whose page is gone, from which nothing can be learnt."""

    snapshot: Snapshot
    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    examples: tuple[Example, ...]
    orphans: tuple[Example, ...] = ()

    @cached_property
    def texts(self) -> dict[str, str]:
        """Document id -> text."""
        return {document.id: document.text for document in self.documents}

    @cached_property
    def chunks_by_document(self) -> dict[str, list[Chunk]]:
        grouped: dict[str, list[Chunk]] = {}
        for chunk in self.chunks:
            grouped.setdefault(chunk.document, []).append(chunk)
        return grouped


def read_corpus(workspace: Workspace, snapshot: Snapshot) -> Corpus:
    """Read what `snapshot` names. Raises RefusalError for the first document or line that cannot be used."""
    documents = read_documents(workspace.kb, snapshot, workspace.params.observe.max_document_bytes)
    chunks = chunk_documents(documents, workspace.params.chunk)
    pages = {None, *(chunk.document for chunk in chunks)}
    examples = read_examples(workspace.train, snapshot.examples)
    return Corpus(
        snapshot=snapshot,
        documents=tuple(documents),
        chunks=tuple(chunks),
        examples=tuple(example for example in examples if example.doc in pages),
        orphans=tuple(example for example in examples if example.doc not in pages),
    )
