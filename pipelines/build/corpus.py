"""What is there to build from? One snapshot, read once: documents, their chunks, and the training examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipelines.build.chunk import chunk_document
from pipelines.build.examples import Example, read_examples, sift
from pipelines.build.index import Cut, Index
from pipelines.observe.documents import Library, documents_of, refuse_empty
from pipelines.observe.guard import approvals, hold, removed
from pipelines.observe.snapshot import earlier_documents
from pipelines.params import ChunkParams
from pipelines.records import Chunk, Document, Finding, SetAside, Snapshot
from pipelines.workspace import Workspace


class Folder:
    """The knowledge base as a source of the index: read when it is asked for, document by document.

    Rows stay, in the form that `indexed` names (document -> digest), of documents that cannot be read, and of those
    whose removal is `held`.
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot, indexed: Mapping[str, str]) -> None:
        self._chunk: ChunkParams = workspace.params.chunk
        self.library = Library(workspace, snapshot)
        unreadable = {one.document for one in self.library.set_aside if one.document not in self.library.due}
        gone = removed(indexed, documents_of(snapshot), unreadable, earlier_documents(workspace))
        self.held = hold(gone, len(indexed), approvals(workspace), workspace.params.guard)
        stays = {name: digest for name, digest in indexed.items() if name in unreadable or name in self.held}
        self.documents = self.library.due | stays
        refuse_empty(workspace.kb, self.documents, self.library.set_aside)

    @property
    def waiting(self) -> int:
        """What may bring another index although the folder stays as it is."""
        return len(self.held) + self.library.retries

    def read(self, documents: Sequence[str]) -> Iterator[Cut]:
        for name in documents:
            document = self.library.read(name) if name in self.library.due else None
            yield Cut(name, chunk_document(document, self._chunk) if document else None)


@dataclass(frozen=True)
class Older:
    """Examples to be taught once more, of training files that are gone (build/older.py).

    `files` are those files as they stood last (path -> MD5); `missing` the ones that DVC's cache holds no more.
    """

    examples: tuple[Example, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """The content of a snapshot, as the index is to hold it; `orphans` are examples whose page is gone.

    `left_out` says of lines of the training files why nothing is learnt from them, `contested` of examples that they
    contradict each other.
    Documents that cannot be read, or whose removal is `held`, are in it as the live index has them.
    """

    snapshot: Snapshot
    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    examples: tuple[Example, ...]
    orphans: tuple[Example, ...] = ()
    left_out: tuple[Finding, ...] = ()
    contested: tuple[Finding, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    set_aside: tuple[SetAside, ...] = ()
    waiting: int = 0
    older: Older = Older()

    @property
    def taught(self) -> tuple[Example, ...]:
        """What a retrain learns from."""
        return (*self.examples, *self.older.examples)

    @cached_property
    def texts(self) -> dict[str, str]:
        """Document id -> text."""
        return {document.id: document.text for document in self.documents}

    @cached_property
    def source(self) -> InMemory:
        """What the index is to hold."""
        return InMemory.of(self.chunks)

    @property
    def chunks_by_document(self) -> Mapping[str, Sequence[Chunk]]:
        return self.source.by_document


@dataclass(frozen=True)
class InMemory:
    """Documents that are cut already, as a source of the index."""

    by_document: Mapping[str, Sequence[Chunk]]

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> InMemory:
        """Chunks grouped by their document, in their order."""
        grouped: dict[str, list[Chunk]] = {}
        for chunk in chunks:
            grouped.setdefault(chunk.document, []).append(chunk)
        return cls(grouped)

    @property
    def documents(self) -> dict[str, str]:
        return {name: chunks[0].document_digest for name, chunks in self.by_document.items()}

    def read(self, documents: Sequence[str]) -> Iterator[Cut]:
        return (Cut(name, self.by_document[name]) for name in documents)


@dataclass(frozen=True)
class Rows:
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
    workspace: Workspace, snapshot: Snapshot, before: Rows, keep: bool = False, golden: Sequence[str] = ()
) -> Corpus:
    """Read what `snapshot` names; what cannot be read stays as the rows `before` hold it.

    With `keep` it is written down what could not be read. An example that asks what one of `golden` asks is left out.
    Raises RefusalError where there is nothing to index.
    """
    folder = Folder(workspace, snapshot, before.documents())
    library = folder.library
    read = {name: library.read(name) for name in sorted(library.due)}
    if keep:
        library.keep()
    lost = [name for name in folder.documents if read.get(name) is None]
    kept = before.chunks(lost)
    documents = [*(document for document in read.values() if document), *as_documents(kept)]
    refuse_empty(workspace.kb, {document.id: document.digest for document in documents}, library.set_aside)
    cut = [
        chunk for document in read.values() if document for chunk in chunk_document(document, workspace.params.chunk)
    ]
    chunks = sorted([*cut, *kept], key=lambda chunk: chunk.key)
    pages = {chunk.document for chunk in chunks}
    texts = {document.id: document.text for document in documents if document.id in pages}
    train = workspace.params.observe.train
    lines = read_examples(workspace.root, {f"{train}/{path}": digest for path, digest in snapshot.examples.items()})
    sifted = sift(lines, texts, golden, workspace.params)
    return Corpus(
        snapshot=snapshot,
        documents=tuple(sorted(documents, key=lambda document: document.id)),
        chunks=tuple(chunks),
        examples=sifted.examples,
        orphans=sifted.orphans,
        left_out=sifted.left_out,
        contested=sifted.contested,
        held=folder.held,
        set_aside=library.set_aside,
        waiting=folder.waiting,
    )


def as_documents(chunks: Sequence[Chunk]) -> list[Document]:
    """Documents of which only the rows are left."""
    return [
        Document(id=name, text="\n\n".join(chunk.text for chunk in some), digest=some[0].document_digest)
        for name, some in InMemory.of(chunks).by_document.items()
    ]
