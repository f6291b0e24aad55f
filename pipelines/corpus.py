"""What is there to build from? One snapshot, read once: documents, their chunks, and the training examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ragtide.pipelines.data.documents import DocumentReader, require_documents, supported_documents
from ragtide.pipelines.data.snapshot import earlier_documents
from ragtide.pipelines.history.approvals import read_approvals
from ragtide.pipelines.history.deletions import find_deleted, pending_deletions
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.index.source import ChunkedDocument
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.params import ChunkParams
from ragtide.pipelines.records.data import Chunk, DataIssue, Document, QuarantinedDocument, Snapshot
from ragtide.pipelines.training.examples import Example, read_examples, validate_examples
from ragtide.pipelines.training.replay import CurrentExamples, ReplayExamples
from ragtide.pipelines.workspace import Workspace


class DocumentFolder:
    """The knowledge base as a source of the index: read when it is asked for, document by document.

    Rows stay, in the form that `indexed` names (document -> digest), of documents that cannot be read, and of those
    whose removal is `held`.
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot, indexed: Mapping[str, str]) -> None:
        self._chunk: ChunkParams = workspace.params.chunk
        self.library = DocumentReader(workspace, snapshot)
        unreadable = {one.document for one in self.library.quarantined if one.document not in self.library.due}
        gone = find_deleted(indexed, supported_documents(snapshot), unreadable, earlier_documents(workspace))
        self.pending_deletions = pending_deletions(
            gone, len(indexed), read_approvals(workspace), workspace.params.deletion_guard
        )
        stays = {
            name: digest for name, digest in indexed.items() if name in unreadable or name in self.pending_deletions
        }
        self.documents = self.library.due | stays
        require_documents(workspace.kb, self.documents, self.library.quarantined)

    @property
    def waiting(self) -> int:
        """What may bring another index although the folder stays as it is."""
        return len(self.pending_deletions) + self.library.retries

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        for name in documents:
            document = self.library.read(name) if name in self.library.due else None
            yield ChunkedDocument(name, chunk_document(document, self._chunk) if document else None)


@dataclass(frozen=True)
class Corpus:
    """The content of a snapshot, as the index is to hold it; `orphans` are examples whose page is gone.

    `filtered` says of lines of the training files why nothing is learnt from them, `contradictory` of examples that they
    contradict each other.
    Documents that cannot be read, or whose removal is `held`, are in it as the live index has them.
    """

    snapshot: Snapshot
    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    examples: tuple[Example, ...]
    orphans: tuple[Example, ...] = ()
    filtered: tuple[DataIssue, ...] = ()
    contradictory: tuple[DataIssue, ...] = ()
    pending_deletions: Mapping[str, str] = field(default_factory=dict)
    quarantined: tuple[QuarantinedDocument, ...] = ()
    waiting: int = 0
    replay: ReplayExamples = field(default_factory=ReplayExamples)

    @property
    def training_examples(self) -> tuple[Example, ...]:
        """What a retrain learns from."""
        return (*self.examples, *self.replay.examples)

    @property
    def current_examples(self) -> CurrentExamples:
        """What a replay of older examples is drawn beside."""
        return CurrentExamples(self.snapshot.examples, self.texts, len(self.examples))

    @cached_property
    def texts(self) -> dict[str, str]:
        """Document id -> text."""
        return {document.id: document.text for document in self.documents}

    @cached_property
    def source(self) -> InMemorySource:
        """What the index is to hold."""
        return InMemorySource.of(self.chunks)

    @property
    def chunks_by_document(self) -> Mapping[str, Sequence[Chunk]]:
        return self.source.by_document


@dataclass(frozen=True)
class InMemorySource:
    """Documents that are cut already, as a source of the index."""

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


@dataclass(frozen=True)
class IndexVersion:
    """A version of the index; None where there is none yet."""

    index: Index
    version: int | str | None

    def documents(self) -> dict[str, str]:
        """Document -> digest."""
        return self.index.documents(self.version) if self.version is not None else {}

    def chunks(self, documents: Iterable[str]) -> list[Chunk]:
        """The chunks of those documents, in order of key."""
        return self.index.chunks(documents, self.version) if self.version is not None else []


def read_corpus(
    workspace: Workspace, snapshot: Snapshot, before: IndexVersion, keep: bool = False, golden: Sequence[str] = ()
) -> Corpus:
    """Read what `snapshot` names; what cannot be read stays as the rows `before` hold it.

    With `keep` it is written down what could not be read. An example that asks what one of `golden` asks is left out.
    Raises RefusalError where there is nothing to index.
    """
    folder = DocumentFolder(workspace, snapshot, before.documents())
    library = folder.library
    read = {name: library.read(name) for name in sorted(library.due)}
    if keep:
        library.keep()
    lost = [name for name in folder.documents if read.get(name) is None]
    kept = before.chunks(lost)
    documents = [*(document for document in read.values() if document), *documents_from_chunks(kept)]
    require_documents(workspace.kb, {document.id: document.digest for document in documents}, library.quarantined)
    cut = [
        chunk for document in read.values() if document for chunk in chunk_document(document, workspace.params.chunk)
    ]
    chunks = sorted([*cut, *kept], key=lambda chunk: chunk.key)
    pages = {chunk.document for chunk in chunks}
    texts = {document.id: document.text for document in documents if document.id in pages}
    train = workspace.params.data.train
    lines = read_examples(workspace.root, {f"{train}/{path}": digest for path, digest in snapshot.examples.items()})
    sifted = validate_examples(lines, texts, golden, workspace.params)
    return Corpus(
        snapshot=snapshot,
        documents=tuple(sorted(documents, key=lambda document: document.id)),
        chunks=tuple(chunks),
        examples=sifted.examples,
        orphans=sifted.orphans,
        filtered=sifted.filtered,
        contradictory=sifted.contradictory,
        pending_deletions=folder.pending_deletions,
        quarantined=library.quarantined,
        waiting=folder.waiting,
    )


def documents_from_chunks(chunks: Sequence[Chunk]) -> list[Document]:
    """Documents of which only the rows are left."""
    return [
        Document(id=name, text="\n\n".join(chunk.text for chunk in some), digest=some[0].document_digest)
        for name, some in InMemorySource.of(chunks).by_document.items()
    ]
