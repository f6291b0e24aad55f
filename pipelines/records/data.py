"""Which nouns does Ragtide speak of? Frozen records, written and read as versioned JSON.

The vocabulary is the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from pydantic import Field

from ragtide.pipelines.records.base import Record

# --- observe -------------------------------------------------------------------------------------------------------


class Document(Record):
    """One file of the knowledge base as text (Markdown or plain); `digest` is the MD5 of its bytes, as in DVC."""

    id: str
    text: str
    digest: str


class Chunk(Record):
    """A passage of a document. Its key is (document, position); the digest only finds a vector to reuse."""

    document: str
    position: int
    heading: str
    text: str
    digest: str
    document_digest: str

    @property
    def key(self) -> tuple[str, int]:
        return (self.document, self.position)


class Snapshot(Record):
    """What is in the three data folders. Every id is DVC's content hash: 32 hex digits and `.dir`.

    `unusable` says of files of the knowledge base why they are none that could be read; they are in no id.
    """

    id: str
    kb_id: str
    train_id: str
    golden_id: str
    documents: dict[str, str]
    examples: dict[str, str]
    questions: dict[str, str]
    unusable: dict[str, str] = Field(default_factory=dict)


class QuarantinedDocument(Record):
    """A document that could not be read: why, how often it was tried in this form, and since when.

    `digest` is that of the content that was tried; None for a file that cannot be opened, which counts no attempts.
    """

    document: str
    digest: str | None
    reason: str
    attempts: int
    since: str


class Quarantine(Record):
    """The documents that are set aside, and the means that could not read them: converter and limit in bytes."""

    converter: str
    documents: tuple[QuarantinedDocument, ...] = ()


class Rename(Record):
    """The same content under another path."""

    before: str
    after: str


class ChangeSet(Record):
    """What differs between two snapshots; empty exactly when their ids are equal."""

    before: str | None
    after: str
    added: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    renamed: tuple[Rename, ...] = ()
    removed: tuple[str, ...] = ()
    examples_changed: bool = False
    questions_changed: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.touches_documents or self.examples_changed or self.questions_changed)

    @property
    def touches_documents(self) -> bool:
        return bool(self.added or self.edited or self.renamed or self.removed)


class IndexDelta(Record):
    """What a refresh would change for the live release's readers, in chunks.

    `new` counts chunks whose text the live index does not hold and `gone` live chunks whose text will be in none;
    `upserted` and `deleted` count rows, which also move when a document grows; `to_embed` counts texts without vector.
    `documents_deleted` counts documents of which no row will be left, `documents_renamed` those of them whose very content
    stands under another name; `rebuild` says why no live row can stay, if so.
    """

    chunks_after: int
    chunks_before: int
    new: int
    gone: int
    upserted: int
    deleted: int
    to_embed: int
    documents_deleted: int = 0
    documents_renamed: int = 0
    rebuild: str | None = None

    @property
    def is_empty(self) -> bool:
        return self.upserted == 0 and self.deleted == 0 and self.rebuild is None

    @property
    def changed_share(self) -> float:
        """The share of the index's chunks that would be other ones."""
        return min(1.0, max(self.new, self.gone) / max(1, self.chunks_after))


class IssueKind(StrEnum):
    """What can be wrong with a line of the training files."""

    BAD_LINE = "bad line"
    OVERLONG = "overlong answer"
    LEAK = "leak"
    STALE = "stale answer"
    CONTRADICTION = "contradiction"
    DUPLICATE = "duplicate"


class DataIssue(Record):
    """A line that nothing is learnt from: where it stands (file and number), what is wrong with it, and why."""

    where: str
    kind: IssueKind
    why: str


def count_issues(findings: Iterable[DataIssue]) -> dict[str, int]:
    """How many findings there are of each kind that there is."""
    return dict(Counter(one.kind.value for one in sorted(findings, key=lambda one: one.kind)))
