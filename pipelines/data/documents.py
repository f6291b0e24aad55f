"""Documents of the knowledge base as text, and the quarantine of those that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath

from ragtide.pipelines.data.formats.converter import CONVERTER, convert_document, converter_signature, is_document
from ragtide.pipelines.data.formats.errors import DocumentError
from ragtide.pipelines.data.formats.html import HTML
from ragtide.pipelines.data.hashing import read_verified
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.base import write_text_atomically
from ragtide.pipelines.records.data import Document, Quarantine, QuarantinedDocument, Snapshot
from ragtide.pipelines.workspace import Workspace

# Formats whose converted text is cached: conversion takes seconds.
SLOW = frozenset({".pdf", ".docx", ".pptx", ".xlsx"}) | HTML


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

    def read(self, path: str) -> Document | None:
        """A document's text; None if it cannot be read. Raises UserError if the file changed since the snapshot."""
        try:
            document = Document(id=path, text=self._read_text(path), digest=self._digests[path])
        except DocumentError as problem:
            before = self._failed_before.get(path)
            self._failed_now[path] = _quarantined(path, self._digests[path], str(problem), before)
            return None
        self._readable.add(path)
        return document

    def keep(self) -> None:
        """Write the quarantine file, without documents that are readable again or deleted."""
        quarantine = Quarantine(converter=_reading_conditions(self._workspace), documents=self.quarantined)
        if quarantine.documents or self._workspace.quarantine_file.is_file():
            quarantine.write(self._workspace.quarantine_file)

    def _read_text(self, path: str) -> str:
        file, limit = self._workspace.kb / path, self._workspace.params.data.max_document_bytes
        if file.is_file() and (size := file.stat().st_size) > limit:
            raise DocumentError(
                f"has {size} bytes, more than data.max_document_bytes = {limit}: split it, or raise the limit"
            )
        content = read_verified(file, self._digests[path])
        if PurePosixPath(path).suffix.lower() in SLOW:
            return self._convert_cached(path, content)
        return convert_document(path, content)

    def _convert_cached(self, path: str, content: bytes) -> str:
        """The converted text, from the cache where the digest, the converter and the format are the same."""
        cached = self._workspace.texts / f"{self._digests[path]}-{CONVERTER}{PurePosixPath(path).suffix.lower()}"
        if cached.is_file():
            return cached.read_text(encoding="utf-8")
        text = convert_document(path, content)
        write_text_atomically(cached, text)
        return text

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
    return f"{converter_signature()}/{data.max_document_bytes} bytes/{data.max_attempts} attempts"


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
