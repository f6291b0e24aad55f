"""What does a document say? Files of the knowledge base as text; what cannot be read is set aside, with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath

from ragtide.pipelines.data.formats import (
    CONVERTER,
    HTML,
    DocumentError,
    convert_document,
    converter_signature,
    is_document,
)
from ragtide.pipelines.data.snapshot import read_verified
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.base import write_text_atomically
from ragtide.pipelines.records.data import Document, Quarantine, QuarantinedDocument, Snapshot
from ragtide.pipelines.workspace import Workspace

# Formats whose text is kept once it is converted.
SLOW = frozenset({".pdf", ".docx", ".pptx", ".xlsx"}) | HTML


def supported_documents(snapshot: Snapshot) -> dict[str, str]:
    """Path -> digest of the files that Ragtide reads; others lie in the folder unread."""
    return {path: digest for path, digest in snapshot.documents.items() if is_document(path)}


class DocumentReader:
    """Reads the documents of one snapshot, and knows which of them could not be read, now or before.

    What failed is tried again at most data.max_attempts times, or once its content or the converter has changed.
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot) -> None:
        self._workspace = workspace
        self._digests = supported_documents(snapshot)
        kept = {one.document: one for one in read_quarantine(workspace).documents}
        self._unusable = {path: _aside(path, None, why, kept.get(path)) for path, why in snapshot.unusable.items()}
        # What is another content by now has not failed yet.
        self._known = {path: one for path, one in kept.items() if one.digest and self._digests.get(path) == one.digest}
        self._failed: dict[str, QuarantinedDocument] = {}
        self._readable: set[str] = set()

    @cached_property
    def due(self) -> dict[str, str]:
        """Path -> digest of what is to be read: everything but what has failed often enough in this form."""
        return {path: digest for path, digest in self._digests.items() if not self._given_up(path)}

    @property
    def quarantined(self) -> tuple[QuarantinedDocument, ...]:
        """What cannot be read, as far as is known by now: from earlier times, and from what was tried since."""
        before = {path: one for path, one in self._known.items() if path not in self._readable}
        return tuple(one for _, one in sorted({**before, **self._unusable, **self._failed}.items()))

    @property
    def retries(self) -> int:
        """How many of them will be tried again although nothing has changed."""
        limit = self._workspace.params.data.max_attempts
        return sum(one.digest is not None and one.attempts < limit for one in self.quarantined)

    def read(self, path: str) -> Document | None:
        """A document's text; None where it cannot be read. Raises RefusalError where it changed since the snapshot."""
        try:
            document = Document(id=path, text=self._text(path), digest=self._digests[path])
        except DocumentError as problem:
            self._failed[path] = _aside(path, self._digests[path], str(problem), self._known.get(path))
            return None
        self._readable.add(path)
        return document

    def keep(self) -> None:
        """Write down what is set aside; what can be read again, or is gone, is struck off."""
        kept = Quarantine(converter=_means(self._workspace), documents=self.quarantined)
        if kept.documents or self._workspace.quarantine_file.is_file():
            kept.write(self._workspace.quarantine_file)

    def _text(self, path: str) -> str:
        file, limit = self._workspace.kb / path, self._workspace.params.data.max_document_bytes
        if file.is_file() and (size := file.stat().st_size) > limit:
            raise DocumentError(f"{size} bytes, over data.max_document_bytes = {limit}: split it, or raise the limit")
        content = read_verified(file, self._digests[path])
        if PurePosixPath(path).suffix.lower() in SLOW:
            return self._converted(path, content)
        return convert_document(path, content)

    def _converted(self, path: str, content: bytes) -> str:
        """A PDF takes seconds to convert: its text is kept under the digest of its bytes."""
        kept = self._workspace.texts / f"{self._digests[path]}-{CONVERTER}{PurePosixPath(path).suffix.lower()}"
        if kept.is_file():
            return kept.read_text(encoding="utf-8")
        text = convert_document(path, content)
        write_text_atomically(kept, text)
        return text

    def _given_up(self, path: str) -> bool:
        known = self._known.get(path)
        return known is not None and known.attempts >= self._workspace.params.data.max_attempts


def _aside(path: str, digest: str | None, reason: str, before: QuarantinedDocument | None) -> QuarantinedDocument:
    """One more try of a document; the first of a content that was not tried before. A file that cannot be opened has
    no content and counts no tries: it is looked at each time.
    """
    again = before if before is not None and before.digest == digest else None
    return QuarantinedDocument(
        document=path,
        digest=digest,
        reason=reason,
        attempts=(again.attempts if again else 0) + (digest is not None),
        since=again.since if again else datetime.now(UTC).isoformat(timespec="seconds"),
    )


def read_quarantine(workspace: Workspace) -> Quarantine:
    """What was set aside before; nothing counts against a document that failed by other means than today's."""
    path, means = workspace.quarantine_file, _means(workspace)
    kept = Quarantine.read(path) if path.is_file() else None
    return kept if kept and kept.converter == means else Quarantine(converter=means)


def _means(workspace: Workspace) -> str:
    """What decides, besides its content, whether a document can be read."""
    data = workspace.params.data
    return f"{converter_signature()}/{data.max_document_bytes} bytes/{data.max_attempts} attempts"


def require_documents(folder: Path, readable: Mapping[str, str], quarantined: tuple[QuarantinedDocument, ...]) -> None:
    """Raise RefusalError where there is nothing to index: an empty folder never empties an index (law 8)."""
    if readable:
        return
    if quarantined:
        first = quarantined[0]
        why = f"none of its {len(quarantined)} documents can be read ({first.document}: {first.reason})"
        raise UserError(f"{folder}: {why}: `ragtide status` lists them")
    raise UserError(f"{folder} holds no documents: README.md lists the formats that are read")
