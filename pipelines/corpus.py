"""Corpus of a snapshot, read once: the knowledge base as the index is to hold it, and the training set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ragtide.pipelines.data.documents import DocumentReader, require_documents, supported_documents
from ragtide.pipelines.data.snapshot import earlier_documents
from ragtide.pipelines.history.approvals import read_approvals
from ragtide.pipelines.history.deletions import find_deleted, pending_deletions
from ragtide.pipelines.history.withheld import WithheldFiles, find_withheld
from ragtide.pipelines.index.chunking import chunks_of
from ragtide.pipelines.index.source import ChunkedDocument
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.records.data import Chunk, DataIssue, Document, QuarantinedDocument, Snapshot
from ragtide.pipelines.training.examples import Example, read_examples, validate_examples
from ragtide.pipelines.training.replay import CurrentExamples, ReplayExamples
from ragtide.pipelines.workspace import Workspace


class DocumentFolder:
    """The folder of documents as a source of the index: each document is read when it is asked for.

    Chunks stay, at the digest that `indexed` names (document -> digest), of documents that cannot be read, of those
    that are withheld, and of those whose deletion is pending.
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot, indexed: Mapping[str, str]) -> None:
        self.library = DocumentReader(workspace, snapshot)
        unreadable = {
            quarantined.document
            for quarantined in self.library.quarantined
            if quarantined.document not in self.library.due
        }
        approvals, folder = read_approvals(workspace), supported_documents(snapshot)
        deleted = find_deleted(indexed, folder, unreadable, earlier_documents(workspace))
        self.pending_deletions = pending_deletions(deleted, len(indexed), approvals, workspace.params.deletion_guard)
        self.withheld = find_withheld(workspace, snapshot, folder, indexed, approvals)
        withheld = self.withheld.digests.keys()
        self.readable = {name: digest for name, digest in self.library.due.items() if name not in withheld}
        self.deleted = {name: digest for name, digest in deleted.items() if name not in self.pending_deletions}
        staying = unreadable | self.pending_deletions.keys() | withheld
        kept = {name: digest for name, digest in indexed.items() if name in staying}
        self.documents = self.readable | kept
        require_documents(workspace.kb, self.documents, self.library.quarantined)

    @property
    def waiting(self) -> int:
        """How many documents may change the index although the folder stays as it is."""
        return len(self.pending_deletions) + len(self.withheld.waiting) + self.library.retries

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        readable = self.library.read([name for name in documents if name in self.readable])
        for name in documents:
            read = next(readable)[1] if name in self.readable else None
            yield ChunkedDocument(name, chunks_of(read.document, read.pieces) if read else None)


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


@dataclass(frozen=True)
class KnowledgeBase:
    """The documents of a snapshot and their chunks, as the index is to hold them.

    Documents that cannot be read, that are withheld, or whose deletion is pending (document -> digest), are in it as
    the live index has them. `deleted` are the indexed documents that are not in it any more. `waiting` counts those
    that may change the index although the folder stays as it is.
    """

    snapshot: Snapshot
    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    pending_deletions: Mapping[str, str] = field(default_factory=dict)
    deleted: Mapping[str, str] = field(default_factory=dict)
    quarantined: tuple[QuarantinedDocument, ...] = ()
    waiting: int = 0
    withheld: WithheldFiles = field(default_factory=WithheldFiles)

    @property
    def held(self) -> dict[str, str]:
        """What waits for an approval, document -> digest: deletions, and withheld documents."""
        return {**self.pending_deletions, **self.withheld.digests}

    @cached_property
    def texts(self) -> dict[str, str]:
        """Document id -> text."""
        return {document.id: document.text for document in self.documents}

    @cached_property
    def source(self) -> InMemorySource:
        """The chunks as a source of the index."""
        return InMemorySource.of(self.chunks)

    @property
    def chunks_by_document(self) -> Mapping[str, Sequence[Chunk]]:
        return self.source.by_document


@dataclass(frozen=True)
class TrainingSet:
    """The training examples of a snapshot, and the lines that are not trained on.

    `orphans` are examples whose document is deleted, `filtered` the issues of lines that are not trained on,
    `contradictory` those of examples that contradict each other, `replay` the examples of deleted files,
    `golden` the wordings of golden questions, which nothing may be trained on.
    """

    examples: tuple[Example, ...]
    orphans: tuple[Example, ...] = ()
    filtered: tuple[DataIssue, ...] = ()
    contradictory: tuple[DataIssue, ...] = ()
    replay: ReplayExamples = field(default_factory=ReplayExamples)
    golden: tuple[str, ...] = ()

    @property
    def with_replay(self) -> tuple[Example, ...]:
        """The examples that a retrain is trained on."""
        return (*self.examples, *self.replay.examples)


@dataclass(frozen=True)
class Corpus:
    """What a snapshot holds: each step takes the part that it needs."""

    knowledge: KnowledgeBase
    training: TrainingSet

    @property
    def snapshot(self) -> Snapshot:
        return self.knowledge.snapshot

    @property
    def current_examples(self) -> CurrentExamples:
        """The examples that a replay of older ones must not repeat or contradict."""
        return CurrentExamples(self.snapshot.examples, self.knowledge.texts, len(self.training.examples))


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
    """Read what `snapshot` names.

    With `keep` it is recorded which documents could not be read. An example that asks what one of the `golden`
    questions asks is filtered. Raises UserError where there is nothing to index.
    """
    knowledge = read_knowledge(workspace, snapshot, before, keep)
    return Corpus(knowledge, read_training_set(workspace, knowledge, golden))


def read_knowledge(workspace: Workspace, snapshot: Snapshot, before: IndexVersion, keep: bool = False) -> KnowledgeBase:
    """Read and chunk the documents; those that cannot be read stay as the index `before` has them."""
    folder = DocumentFolder(workspace, snapshot, before.documents())
    library = folder.library
    read = {name: document for name, document in library.read(sorted(folder.readable)) if document}
    if keep:
        library.keep()
    kept = before.chunks([name for name in folder.documents if name not in read])
    documents = [*(item.document for item in read.values()), *documents_from_chunks(kept)]
    require_documents(workspace.kb, {document.id: document.digest for document in documents}, library.quarantined)
    chunks = [chunk for item in read.values() for chunk in chunks_of(item.document, item.pieces)]
    return KnowledgeBase(
        snapshot=snapshot,
        documents=tuple(sorted(documents, key=lambda document: document.id)),
        chunks=tuple(sorted([*chunks, *kept], key=lambda chunk: chunk.key)),
        pending_deletions=folder.pending_deletions,
        deleted=folder.deleted,
        quarantined=library.quarantined,
        waiting=folder.waiting,
        withheld=folder.withheld,
    )


def read_training_set(workspace: Workspace, knowledge: KnowledgeBase, golden: Sequence[str]) -> TrainingSet:
    """Read and validate the training files of a snapshot, without replay."""
    train = workspace.params.data.train
    files = {f"{train}/{path}": digest for path, digest in knowledge.snapshot.examples.items()}
    texts = {name: text for name, text in knowledge.texts.items() if name in knowledge.chunks_by_document}
    validated = validate_examples(read_examples(workspace.root, files), texts, golden, workspace.params)
    return TrainingSet(
        examples=validated.examples,
        orphans=validated.orphans,
        filtered=validated.filtered,
        contradictory=validated.contradictory,
        golden=tuple(golden),
    )


def documents_from_chunks(chunks: Sequence[Chunk]) -> list[Document]:
    """Documents of which only the chunks are left."""
    return [
        Document(
            id=name,
            text="\n\n".join(chunk.text for chunk in of_document),
            digest=of_document[0].document_digest,
        )
        for name, of_document in InMemorySource.of(chunks).by_document.items()
    ]
