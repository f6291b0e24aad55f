"""Corpus of a snapshot, read once: the knowledge base as the index is to hold it, and the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ragtide.pipelines.data.documents import require_documents
from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.history.lost_content import LostContent
from ragtide.pipelines.history.withheld import WithheldFiles
from ragtide.pipelines.index.chunking import chunks_of, join_passages
from ragtide.pipelines.index.folder import DocumentFolder, IndexVersion
from ragtide.pipelines.index.source import ChunkedDocument, InMemorySource
from ragtide.pipelines.records.data import Chunk, DataIssue, Document, QuarantinedDocument, Snapshot
from ragtide.pipelines.training.examples import Example, follow_documents, read_examples, validate_examples
from ragtide.pipelines.training.replay import CurrentExamples, ReplayExamples
from ragtide.pipelines.workspace import Workspace


@dataclass(frozen=True)
class KnowledgeBase:
    """The documents of a snapshot and their chunks, as the index is to hold them.

    Documents that cannot be read, that are withheld, or whose removal is pending (document -> digest), are in it as
    the live index has them. `deleted` are the indexed documents that are not in it any more, `lost` is what it no
    longer says of the live index. `waiting` counts those that may change the index although the folder stays as it
    is. `paths` has the moves of documents of the live index, and of earlier ones.
    """

    snapshot: Snapshot
    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    pending_deletions: Mapping[str, str] = field(default_factory=dict)
    deleted: Mapping[str, str] = field(default_factory=dict)
    quarantined: tuple[QuarantinedDocument, ...] = ()
    waiting: int = 0
    withheld: WithheldFiles = field(default_factory=WithheldFiles)
    paths: DocumentPaths = field(default_factory=DocumentPaths)
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
    chunked = {
        name: ChunkedDocument(name, chunks_of(read[name].document, read[name].pieces))
        for name in folder.changed
        if name in read
    }
    folder.compare_content(chunked)
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
        deleted=folder.deleted,
        quarantined=library.quarantined,
        waiting=folder.waiting,
        withheld=folder.withheld,
        paths=folder.paths,
        lost=folder.lost,
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


def documents_from_chunks(chunks: Sequence[Chunk]) -> list[Document]:
    """Documents of which only the chunks are left."""
    return [
        Document(
            id=name,
            text=join_passages(of_document),
            digest=of_document[0].document_digest,
        )
        for name, of_document in InMemorySource.of(chunks).by_document.items()
    ]
