"""Corpus of a snapshot, read once: the knowledge base as the index is to hold it, and the training set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ragtide.pipelines.data.documents import DocumentReader, require_documents, supported_documents
from ragtide.pipelines.data.snapshot import earlier_documents
from ragtide.pipelines.history.approvals import read_approvals
from ragtide.pipelines.history.deletions import find_deleted, pending_deletions
from ragtide.pipelines.history.lost_content import LostContent, count_lost_rows, find_emptied, removal_digest
from ragtide.pipelines.history.withheld import WithheldFiles, find_withheld
from ragtide.pipelines.index.chunking import chunks_of
from ragtide.pipelines.index.source import ChunkedDocument, InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.records.data import Chunk, DataIssue, Document, QuarantinedDocument, Snapshot
from ragtide.pipelines.training.examples import Example, read_examples, validate_examples
from ragtide.pipelines.training.replay import CurrentExamples, ReplayExamples
from ragtide.pipelines.workspace import Workspace


class DocumentFolder:
    """The folder of documents as a source of the index: each document is read when it is asked for.

    Chunks stay, at the digest that `indexed` names (document -> digest), of documents that cannot be read, of those
    that are withheld, and of those whose removal is pending: their deletion, or the loss of most of their text, which
    `compare_content` finds.
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot, indexed: Mapping[str, str]) -> None:
        self.library = DocumentReader(workspace, snapshot)
        unreadable = {
            quarantined.document
            for quarantined in self.library.quarantined
            if quarantined.document not in self.library.due
        }
        self._workspace, self._indexed, self._unreadable = workspace, indexed, unreadable
        self._approvals, folder = read_approvals(workspace), supported_documents(snapshot)
        self._deleted = find_deleted(indexed, folder, unreadable, earlier_documents(workspace))
        self.withheld = find_withheld(workspace, snapshot, folder, indexed, self._approvals)
        withheld = self.withheld.digests.keys()
        self.readable = {name: digest for name, digest in self.library.due.items() if name not in withheld}
        self.lost = LostContent()
        self._hold(self._deleted)
        require_documents(workspace.kb, self.documents, self.library.quarantined)

    def _hold(self, removals: Mapping[str, str]) -> None:
        """Keep the rows of what has to wait."""
        guard = self._workspace.params.deletion_guard
        self.pending_deletions = pending_deletions(removals, len(self._indexed), self._approvals, guard)
        self.readable = {name: digest for name, digest in self.readable.items() if name not in self.pending_deletions}
        staying = self._unreadable | self.pending_deletions.keys() | self.withheld.digests.keys()
        self.documents = self.readable | {name: digest for name, digest in self._indexed.items() if name in staying}

    @property
    def changed(self) -> list[str]:
        """The documents to read that are new or edited; none before there is an index."""
        return [name for name, digest in sorted(self.readable.items()) if self._indexed.get(name, "") != digest]

    @property
    def is_guarded(self) -> bool:
        """Whether so many documents are edited or deleted that the deletion guard may stop some of them."""
        edited = sum(name in self._indexed for name in self.changed)
        return edited + len(self._deleted) > self._workspace.params.deletion_guard.limit(len(self._indexed))

    def compare_content(self, before: IndexVersion, documents: Mapping[str, ChunkedDocument]) -> None:
        """Let edited documents that lose most of their text count as deletions; `documents` are the changed ones."""
        after = {name: read.chunks for name, read in documents.items() if read.chunks is not None}
        edited = [name for name in after if name in self._indexed]
        live = InMemorySource.of(before.chunks([*edited, *self._deleted])).by_document
        emptied = {
            name: removal_digest(self._indexed[name], self.readable[name])
            for name in find_emptied({name: live[name] for name in edited if name in live}, after)
        }
        lost = [chunk for name in (*emptied, *self._deleted) for chunk in live.get(name, ())]
        texts = {name: "\n\n".join(chunk.text for chunk in after[name]) for name in emptied}
        self.lost = LostContent(emptied, count_lost_rows(lost, after), texts)
        self._hold(self._deleted | emptied)

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
class KnowledgeBase:
    """The documents of a snapshot and their chunks, as the index is to hold them.

    Documents that cannot be read, that are withheld, or whose removal is pending (document -> digest), are in it as
    the live index has them. `lost` is what it no longer says of the live index. `waiting` counts those that
    may change the index although the folder stays as it is.
    """

    snapshot: Snapshot
    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    pending_deletions: Mapping[str, str] = field(default_factory=dict)
    quarantined: tuple[QuarantinedDocument, ...] = ()
    waiting: int = 0
    withheld: WithheldFiles = field(default_factory=WithheldFiles)
    lost: LostContent = field(default_factory=LostContent)

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
    chunked = {
        name: ChunkedDocument(name, chunks_of(read[name].document, read[name].pieces))
        for name in folder.changed
        if name in read
    }
    folder.compare_content(before, chunked)
    read = {name: item for name, item in read.items() if name in folder.readable}
    kept = before.chunks([name for name in folder.documents if name not in read])
    documents = [*(item.document for item in read.values()), *documents_from_chunks(kept)]
    require_documents(workspace.kb, {document.id: document.digest for document in documents}, library.quarantined)
    chunks = [chunk for item in read.values() for chunk in chunks_of(item.document, item.pieces)]
    return KnowledgeBase(
        snapshot=snapshot,
        documents=tuple(sorted(documents, key=lambda document: document.id)),
        chunks=tuple(sorted([*chunks, *kept], key=lambda chunk: chunk.key)),
        pending_deletions=folder.pending_deletions,
        quarantined=library.quarantined,
        waiting=folder.waiting,
        withheld=folder.withheld,
        lost=folder.lost,
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
