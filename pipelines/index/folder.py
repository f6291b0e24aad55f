"""Folder of documents as a source of the index, beside what an index version holds of them: moves and deletions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

from ragtide.pipelines.data.diff import pair_renames
from ragtide.pipelines.data.documents import DocumentReader, ReadDocument, require_documents, supported_documents
from ragtide.pipelines.data.moves import DocumentPaths, Page, Surroundings, find_absorbed, find_moves
from ragtide.pipelines.data.snapshot import earlier_documents
from ragtide.pipelines.history.approvals import read_approvals
from ragtide.pipelines.history.deletions import pending_deletions
from ragtide.pipelines.history.lost_content import LostContent, count_lost_rows, find_cut, find_emptied, removal_digest
from ragtide.pipelines.history.withheld import find_withheld
from ragtide.pipelines.index.chunking import chunks_of, join_passages
from ragtide.pipelines.index.source import ChunkedDocument, InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.records.data import Chunk, Snapshot
from ragtide.pipelines.sampling import evenly_spaced
from ragtide.pipelines.workspace import Workspace

# Documents that stay, at most, in whose text common sentences are looked for.
SAMPLED_DOCUMENTS = 100


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


class DocumentFolder:
    """The folder of documents as a source of the index: each document is read when it is asked for.

    Chunks stay, as the index `before` has them, of documents that cannot be read, of those that are withheld, and of
    those whose removal is pending: their deletion, or the loss of most of their text, which `compare_content` finds.
    `deleted` are the other deleted ones, `moves` indexed documents that stand under
    another path now.
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot, before: IndexVersion) -> None:
        self.library = DocumentReader(workspace, snapshot)
        self._earlier = partial(earlier_documents, workspace)
        self._read_ahead: dict[str, ReadDocument] = {}
        self._workspace, self._before, self._indexed = workspace, before, before.documents()
        self._approvals, indexed = read_approvals(workspace), self._indexed
        unreadable = {
            quarantined.document
            for quarantined in self.library.quarantined
            if quarantined.document not in self.library.due
        }
        self._present = supported_documents(snapshot)
        there = self._present.keys() | unreadable
        vanished = {name: digest for name, digest in indexed.items() if name not in there}
        moves = self._find_moves(vanished) if vanished else {}
        self.withheld = find_withheld(workspace, snapshot, self._present, indexed, self._approvals)
        withheld = self.withheld.digests.keys()
        self.moves = {name: now for name, now in moves.items() if now not in withheld}
        self._vanished = {name: digest for name, digest in vanished.items() if name not in moves}
        self.readable = {name: digest for name, digest in self.library.due.items() if name not in withheld}
        # Of a document that moved to a withheld one, the rows are still needed.
        self._staying = unreadable | withheld | (moves.keys() - self.moves.keys())
        self.lost = LostContent()
        self._hold(self._vanished)
        require_documents(workspace.kb, self.documents, self.library.quarantined)
        former = before.former_paths
        self.paths = DocumentPaths(self._present | self.documents, self.moves, former, self._earlier)

    def _hold(self, removals: Mapping[str, str]) -> None:
        """Keep the rows of what has to wait."""
        guard = self._workspace.params.deletion_guard
        self.pending_deletions = pending_deletions(removals, len(self._indexed), self._approvals, guard)
        pending = self.pending_deletions.keys()
        self.deleted = {name: digest for name, digest in self._vanished.items() if name not in pending}
        self.readable = {name: digest for name, digest in self.readable.items() if name not in pending}
        staying = self._staying | pending
        self.documents = self.readable | {name: digest for name, digest in self._indexed.items() if name in staying}

    @property
    def changed(self) -> list[str]:
        """The documents to read that are new or edited; none before there is an index."""
        return [name for name, digest in sorted(self.readable.items()) if self._indexed.get(name, "") != digest]

    @property
    def is_guarded(self) -> bool:
        """Whether so many documents are edited or deleted that the deletion guard may stop some of them."""
        edited = sum(name in self._indexed for name in self.changed)
        return edited + len(self._vanished) > self._workspace.params.deletion_guard.limit(len(self._indexed))

    def compare_content(self, documents: Mapping[str, ChunkedDocument]) -> None:
        """Let edited documents that lose most of their text count as deletions; `documents` are the changed ones.

        So do those that lose parts of it which, with all that is deleted, are more than the guard's limit.
        """
        after = {name: read.chunks for name, read in documents.items() if read.chunks is not None}
        edited = [name for name in after if name in self._indexed]
        live = InMemorySource.of(self._before.chunks([*edited, *self._vanished])).by_document
        before = {name: live[name] for name in edited if name in live}
        names = find_emptied(before, after)
        limit, removed = (
            self._workspace.params.deletion_guard.limit(len(self._indexed)),
            len(names) + len(self._vanished),
        )
        rest = {name: chunks for name, chunks in before.items() if name not in names}
        names += find_cut(rest, after, limit - removed if removed <= limit else limit)
        emptied = {name: removal_digest(self._indexed[name], self.readable[name]) for name in names}
        lost = [chunk for name in (*emptied, *self._vanished) for chunk in live.get(name, ())]
        texts = {name: join_passages(after[name]) for name in emptied}
        self.lost = LostContent(emptied, count_lost_rows(lost, after), texts)
        self._hold(self._vanished | emptied)

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

    def _find_moves(self, vanished: Mapping[str, str]) -> dict[str, str]:
        """Documents of the index that left their path -> where they are now: first those with the same content."""
        indexed = self._indexed
        new = {name: digest for name, digest in self._present.items() if name not in indexed}
        anywhere = {digest: name for name, digest in sorted(self._present.items(), reverse=True)}
        moves = {name: anywhere[digest] for name, digest in vanished.items() if digest in anywhere}
        moves |= {rename.before: rename.after for rename in pair_renames(vanished, new)}
        left = {name: digest for name, digest in vanished.items() if name not in moves}
        return moves | self._find_edited_moves(left, new, {*moves.values()}) if left else moves

    def _find_edited_moves(
        self, vanished: Mapping[str, str], new: Mapping[str, str], taken: Set[str]
    ) -> dict[str, str]:
        """Documents of the index that are nowhere as they were -> those that have most of what they said."""
        # Renamed at first and then edited: its content was under a name that is still in the folder.
        states = reversed([*self._earlier()])
        since = {digest: name for state in states for name, digest in state.items() if name in self._present}
        known = {name: since[digest] for name, digest in vanished.items() if digest in since}
        pages = self._read_pages(sorted((new.keys() | {*known.values()}) - taken))
        absent = {name for name in self._indexed if name not in self._present}
        staying = sorted(self._indexed.keys() - absent)
        samples = _indexed_pages(self._before, evenly_spaced(staying, SAMPLED_DOCUMENTS)).values()
        around, was = Surroundings(staying, [*samples], known), _indexed_pages(self._before, vanished)
        moves = find_moves(was, pages, around)
        left = {name: page for name, page in was.items() if name not in moves}
        return moves | find_absorbed(left, pages | self._read_grown(), around) if left else moves

    def _read_grown(self) -> dict[str, Page]:
        """The edited documents, with what they say besides what the index has of them."""
        due = self.library.due
        edited = sorted(name for name, digest in self._indexed.items() if name in due and due[name] != digest)
        before = _indexed_pages(self._before, edited)
        return {name: page.without(before[name]) for name, page in self._read_pages(edited).items() if name in before}

    def _read_pages(self, names: Sequence[str]) -> dict[str, Page]:
        """Documents in the folder as they are compared; each is read once."""
        read = {name: document for name, document in self.library.read(names) if document}
        self._read_ahead |= read
        return {name: Page.of(chunks_of(document.document, document.pieces)) for name, document in read.items()}


def _indexed_pages(before: IndexVersion, documents: Iterable[str]) -> dict[str, Page]:
    """Documents as the index has them, as they are compared."""
    return {name: Page.of(chunks) for name, chunks in InMemorySource.of(before.chunks(documents)).by_document.items()}
