"""Documents of the knowledge base as text, and the quarantine of those that cannot be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath

from ragtide.pipelines.data.formats.converter import CONVERTER, converter_signature, is_document
from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.formats.html import HTML
from ragtide.pipelines.data.reading.attempts import Attempt, AttemptNotes, interrupted_attempts, noted_attempts
from ragtide.pipelines.data.reading.pool import ReadingPool, ReadText, reading_pool
from ragtide.pipelines.data.reading.process import ReadingTask
from ragtide.pipelines.data.reading.sections import Piece
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.base import write_text_atomically
from ragtide.pipelines.records.data import Document, Quarantine, QuarantinedDocument, Snapshot
from ragtide.pipelines.workspace import Workspace

# Formats whose converted text is cached: conversion takes seconds.
SLOW = frozenset({".pdf", ".docx", ".pptx", ".xlsx"}) | HTML


# Reading runs ahead of the caller by at most so many documents, and by files of at most so many bytes together.
MAX_AHEAD = 256
MAX_AHEAD_BYTES = 50_000_000
# The text of a document and its chunks together may have so many characters for each byte of data.max_document_bytes:
# chunks repeat headings, and Office files are packed.
OUTPUT_FACTOR = 20
INTERRUPTED = "was being read when the run was killed: it may have taken all memory"


@dataclass(frozen=True)
class ReadDocument:
    """A document with the pieces that its text is cut into."""

    document: Document
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class _Call:
    """A document that is being read, with the size of its file in bytes; without a text where it is not read."""

    path: str
    size: int = 0
    text: Future[ReadText] | None = None


def supported_documents(snapshot: Snapshot) -> dict[str, str]:
    """Path -> digest of the files in a supported format; the other files in the folder are ignored."""
    return {path: digest for path, digest in snapshot.documents.items() if is_document(path)}


class DocumentReader:
    """Reads the documents of one snapshot and keeps track of those that fail, now or in earlier runs.

    A failed document is retried up to data.max_attempts times, and again once its content or the converter has
    changed (invariant bad-document-isolated, docs/invariants.md).
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot) -> None:
        self._workspace = workspace
        self._digests = supported_documents(snapshot)
        previous = {document.document: document for document in read_quarantine(workspace).documents}
        self._unusable = {
            path: _quarantined(path, None, reason, previous.get(path)) for path, reason in snapshot.unusable.items()
        }
        # A document whose content has changed since its failure starts without failures.
        self._failed_before = {
            path: document
            for path, document in previous.items()
            if document.digest and self._digests.get(path) == document.digest
        }
        self._conditions = _reading_conditions(workspace)
        self._interrupted = interrupted_attempts(workspace.reading)
        for (path, digest, conditions), count in sorted(self._interrupted.counts.items()):
            if self._digests.get(path) == digest and conditions == self._conditions:
                for _ in range(count):
                    self._failed_before[path] = _quarantined(path, digest, INTERRUPTED, self._failed_before.get(path))
        self._failed_now: dict[str, QuarantinedDocument] = {}
        self._readable: set[str] = set()

    @cached_property
    def due(self) -> dict[str, str]:
        """Path -> digest of the documents to read: all but those that have used up their attempts."""
        return {path: digest for path, digest in self._digests.items() if not self._is_exhausted(path)}

    @property
    def quarantined(self) -> tuple[QuarantinedDocument, ...]:
        """The unreadable documents known so far, from earlier runs and from this one, by path."""
        before = {path: document for path, document in self._failed_before.items() if path not in self._readable}
        return tuple(document for _, document in sorted({**before, **self._unusable, **self._failed_now}.items()))

    @property
    def retries(self) -> int:
        """How many quarantined documents will be retried although nothing has changed."""
        limit = self._workspace.params.data.max_attempts
        return sum(document.digest is not None and document.attempts < limit for document in self.quarantined)

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, ReadDocument | None]]:
        """(path, document) of `paths`, in order; None for a document that is not due or cannot be read.

        The documents are read in other processes, several at a time and ahead of the caller, within the limits of
        data.document_seconds and data.document_memory_mb. Raises UserError if a file changed since the snapshot.
        """
        pool, calls = reading_pool(), deque[_Call]()
        with noted_attempts(self._workspace.reading) as notes:
            try:
                for path in paths:
                    calls.append(self._submit(pool, path, notes))
                    while len(calls) > MAX_AHEAD or sum(call.size for call in calls) > MAX_AHEAD_BYTES:
                        yield self._receive(calls.popleft(), notes)
                while calls:
                    yield self._receive(calls.popleft(), notes)
            finally:
                pool.abandon(call.text for call in calls if call.text)

    def keep(self) -> None:
        """Write the quarantine file, without documents that are readable again or deleted."""
        quarantine = Quarantine(converter=self._conditions, documents=self.quarantined)
        if quarantine.documents or self._workspace.quarantine_file.is_file():
            quarantine.write(self._workspace.quarantine_file)
        self._interrupted.forget()

    def _submit(self, pool: ReadingPool, path: str, notes: AttemptNotes) -> _Call:
        """Ask the pool for a document that is due and has not failed yet."""
        if path not in self.due or path in self._failed_now:
            return _Call(path)
        file, data = self._workspace.kb / path, self._workspace.params.data
        size = file.stat().st_size if file.is_file() else 0
        if size > data.max_document_bytes:
            self._fail(
                path,
                f"has {size} bytes, more than data.max_document_bytes = {data.max_document_bytes}: "
                "split it, or raise the limit",
            )
            return _Call(path)
        cached = self._cached_text(path)
        task = ReadingTask(
            path=path,
            file=str(file),
            digest=self._digests[path],
            cached=str(cached) if cached and cached.is_file() else None,
            max_words=self._workspace.params.chunk.max_words,
            seconds=data.document_seconds,
            memory_mb=data.document_memory_mb,
            max_characters=OUTPUT_FACTOR * data.max_document_bytes,
        )
        return _Call(path, size, pool.submit(task, lambda: notes.start(self._attempt(path))))

    def _receive(self, call: _Call, notes: AttemptNotes) -> tuple[str, ReadDocument | None]:
        """The document that was asked for; a failure stays in the notes until the quarantine is written."""
        path = call.path
        if call.text is None:
            return path, None
        try:
            read = call.text.result()
        except DocumentError as problem:
            self._fail(path, str(problem))
            return path, None
        notes.finish(self._attempt(path))
        self._readable.add(path)
        if read.converted and (cached := self._cached_text(path)):
            write_text_atomically(cached, read.text)
        return path, ReadDocument(Document(id=path, text=read.text, digest=self._digests[path]), read.pieces)

    def _fail(self, path: str, reason: str) -> None:
        self._failed_now[path] = _quarantined(path, self._digests[path], reason, self._failed_before.get(path))

    def _cached_text(self, path: str) -> Path | None:
        """The file of the converted text, of formats whose text is cached: named by digest, converter and format."""
        ending = PurePosixPath(path).suffix.lower()
        return self._workspace.texts / f"{self._digests[path]}-{CONVERTER}{ending}" if ending in SLOW else None

    def _attempt(self, path: str) -> Attempt:
        return path, self._digests[path], self._conditions

    def _is_exhausted(self, path: str) -> bool:
        failed = self._failed_before.get(path)
        return failed is not None and failed.attempts >= self._workspace.params.data.max_attempts


def _quarantined(path: str, digest: str | None, reason: str, before: QuarantinedDocument | None) -> QuarantinedDocument:
    """A quarantine entry with one more attempt; the first for a content that had not failed before.

    A file that cannot be opened has no digest and counts no attempts: it is checked in every run.
    """
    same = before if before is not None and before.digest == digest else None
    return QuarantinedDocument(
        document=path,
        digest=digest,
        reason=reason,
        attempts=(same.attempts if same else 0) + (digest is not None),
        since=same.since if same else datetime.now(UTC).isoformat(timespec="seconds"),
    )


def read_quarantine(workspace: Workspace) -> Quarantine:
    """The quarantine of earlier runs; empty where the converter or the limits have changed since."""
    path, conditions = workspace.quarantine_file, _reading_conditions(workspace)
    quarantine = Quarantine.read(path) if path.is_file() else None
    return quarantine if quarantine and quarantine.converter == conditions else Quarantine(converter=conditions)


def _reading_conditions(workspace: Workspace) -> str:
    """What decides, besides its content, whether a document can be read: the converter and the limits."""
    data = workspace.params.data
    limits = f"{data.max_document_bytes} bytes/{data.document_seconds:g} s/{data.document_memory_mb} MB"
    return f"{converter_signature()}/{limits}/{data.max_attempts} attempts"


def require_documents(folder: Path, readable: Mapping[str, str], quarantined: tuple[QuarantinedDocument, ...]) -> None:
    """Raise UserError where there is nothing to index.

    An empty folder never empties an index (invariant no-mass-deletion, docs/invariants.md).
    """
    if readable:
        return
    if quarantined:
        first = quarantined[0]
        reason = f"none of its {len(quarantined)} documents can be read ({first.document}: {first.reason})"
        raise UserError(f"{folder}: {reason}; `ragtide status` lists them")
    raise UserError(f"{folder} holds no documents: docs/own-data.md lists the supported formats")
