"""Corpus of a snapshot, read once: the knowledge base as the index is to hold it, and the training set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from ragtide.pipelines.data.diff import pair_renames
from ragtide.pipelines.data.documents import DocumentReader, ReadDocument, require_documents, supported_documents
from ragtide.pipelines.data.moves import DocumentPaths, Page, Surroundings, find_moves
from ragtide.pipelines.data.snapshot import earlier_documents
from ragtide.pipelines.history.approvals import read_approvals
from ragtide.pipelines.history.deletions import pending_deletions
from ragtide.pipelines.history.withheld import WithheldFiles, find_withheld
from ragtide.pipelines.index.chunking import chunks_of
from ragtide.pipelines.index.source import ChunkedDocument
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.records.data import Chunk, DataIssue, Document, QuarantinedDocument, Snapshot
from ragtide.pipelines.sampling import evenly_spaced
from ragtide.pipelines.training.examples import Example, follow_documents, read_examples, validate_examples
from ragtide.pipelines.training.replay import CurrentExamples, ReplayExamples
from ragtide.pipelines.workspace import Workspace

# Documents that stay, at most, in whose text common sentences are looked for.
SAMPLED_DOCUMENTS = 100


class DocumentFolder:
    """The folder of documents as a source of the index: each document is read when it is asked for.

    Chunks stay, as the index `before` has them, of documents that cannot be read, of those that are withheld, and of
    those whose deletion is pending. `moves` are indexed documents that stand under another path now.
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot, before: IndexVersion) -> None:
        self.library = DocumentReader(workspace, snapshot)
        self._earlier = partial(earlier_documents, workspace)
        self._read_ahead: dict[str, ReadDocument] = {}
        indexed, approvals = before.documents(), read_approvals(workspace)
        unreadable = {
            quarantined.document
            for quarantined in self.library.quarantined
            if quarantined.document not in self.library.due
        }
        self._present = supported_documents(snapshot)
        gone = {name: digest for name, digest in indexed.items() if name not in self._present.keys() | unreadable}
        moves = self._find_moves(gone, indexed, before) if gone else {}
        self.withheld = find_withheld(workspace, snapshot, self._present, indexed, approvals)
        withheld = self.withheld.digests.keys()
        self.moves = {name: now for name, now in moves.items() if now not in withheld}
        deleted = {name: digest for name, digest in gone.items() if name not in moves}
        self.pending_deletions = pending_deletions(deleted, len(indexed), approvals, workspace.params.deletion_guard)
        self.readable = {name: digest for name, digest in self.library.due.items() if name not in withheld}
        # Of a document that moved to a withheld one, the rows are still needed.
        staying = unreadable | self.pending_deletions.keys() | withheld | (moves.keys() - self.moves.keys())
        kept = {name: digest for name, digest in indexed.items() if name in staying}
        self.documents = self.readable | kept
        require_documents(workspace.kb, self.documents, self.library.quarantined)
        former = before.former_paths
        self.paths = DocumentPaths(self._present | self.documents, self.moves, former, self._earlier)

    @property
    def waiting(self) -> int:
        """How many documents may change the index although the folder stays as it is."""
        return len(self.pending_deletions) + len(self.withheld.waiting) + self.library.retries

    def read(self, documents: Sequence[str]) -> Iterator[ChunkedDocument]:
        readable = self.read_documents([name for name in documents if name in self.readable])
        for name in documents:
            read = next(readable)[1] if name in self.readable else None
            yield ChunkedDocument(name, chunks_of(read.document, read.pieces) if read else None)

    def read_documents(self, names: Sequence[str]) -> Iterator[tuple[str, ReadDocument | None]]:
        """(name, document) of documents in the folder, in order; None for one that cannot be read."""
        ahead = self._read_ahead
        others = self.library.read([name for name in names if name not in ahead])
        return ((name, ahead[name]) if name in ahead else next(others) for name in names)

    def _find_moves(self, gone: Mapping[str, str], indexed: Mapping[str, str], before: IndexVersion) -> dict[str, str]:
        """Documents of the index that left their path -> where they are now: first those with the same content."""
        new = {name: digest for name, digest in self._present.items() if name not in indexed}
        anywhere = {digest: name for name, digest in sorted(self._present.items(), reverse=True)}
        moves = {name: anywhere[digest] for name, digest in gone.items() if digest in anywhere}
        moves |= {rename.before: rename.after for rename in pair_renames(gone, new)}
        edited = {name: digest for name, digest in gone.items() if name not in moves}
        if not edited:
            return moves
        # Renamed at first and then edited: its content was under a name that is still in the folder.
        states = reversed([*self._earlier()])
        since = {digest: name for state in states for name, digest in state.items() if name in self._present}
        known = {name: since[digest] for name, digest in edited.items() if digest in since}
        candidates = sorted((new.keys() | {*known.values()}) - {*moves.values()})
        self._read_ahead = {name: read for name, read in self.library.read(candidates) if read}
        pages = {name: Page.of(chunks_of(read.document, read.pieces)) for name, read in self._read_ahead.items()}
        staying = sorted(indexed.keys() - gone.keys())
        samples = _indexed_pages(before, evenly_spaced(staying, SAMPLED_DOCUMENTS)).values()
        return moves | find_moves(_indexed_pages(before, edited), pages, Surroundings(staying, [*samples], known))


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
    the live index has them. `waiting` counts those that may change the index although the folder stays as it is.
    `paths` has the moves of documents of the live index, and of earlier ones.
    """

    snapshot: Snapshot
    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    pending_deletions: Mapping[str, str] = field(default_factory=dict)
    quarantined: tuple[QuarantinedDocument, ...] = ()
    waiting: int = 0
    withheld: WithheldFiles = field(default_factory=WithheldFiles)
    paths: DocumentPaths = field(default_factory=DocumentPaths)

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
    `golden` the wordings of golden questions, which nothing may be trained on, `outdated_paths` the paths in lines
    whose document has moved -> today's.
    """

    examples: tuple[Example, ...]
    orphans: tuple[Example, ...] = ()
    filtered: tuple[DataIssue, ...] = ()
    contradictory: tuple[DataIssue, ...] = ()
    replay: ReplayExamples = field(default_factory=ReplayExamples)
    golden: tuple[str, ...] = ()
    outdated_paths: Mapping[str, str] = field(default_factory=dict)

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
        knowledge, count = self.knowledge, len(self.training.examples)
        return CurrentExamples(self.snapshot.examples, knowledge.texts, count, knowledge.paths)


@dataclass(frozen=True)
class IndexVersion:
    """A version of the index, None where there is none yet, and the former paths of its documents -> those since."""

    index: Index
    version: int | str | None
    former_paths: Mapping[str, str] = field(default_factory=dict)

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
    folder = DocumentFolder(workspace, snapshot, before)
    library = folder.library
    read = {name: document for name, document in folder.read_documents(sorted(folder.readable)) if document}
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
        quarantined=library.quarantined,
        waiting=folder.waiting,
        withheld=folder.withheld,
        paths=folder.paths,
    )


def read_training_set(workspace: Workspace, knowledge: KnowledgeBase, golden: Sequence[str]) -> TrainingSet:
    """Read and validate the training files of a snapshot, without replay."""
    train = workspace.params.data.train
    files = {f"{train}/{path}": digest for path, digest in knowledge.snapshot.examples.items()}
    texts = {name: text for name, text in knowledge.texts.items() if name in knowledge.chunks_by_document}
    lines, paths = read_examples(workspace.root, files), knowledge.paths
    validated = validate_examples(follow_documents(lines, paths), texts, golden, workspace.params)
    named = [line.doc for line in lines if isinstance(line, Example) and line.doc]
    return TrainingSet(
        examples=validated.examples,
        orphans=validated.orphans,
        filtered=validated.filtered,
        contradictory=validated.contradictory,
        golden=tuple(golden),
        outdated_paths=paths.outdated(named),
    )


def _indexed_pages(before: IndexVersion, documents: Iterable[str]) -> dict[str, Page]:
    """Documents as the index has them, as they are compared."""
    return {name: Page.of(chunks) for name, chunks in InMemorySource.of(before.chunks(documents)).by_document.items()}


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
