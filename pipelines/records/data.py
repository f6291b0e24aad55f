"""Records of the data: documents, chunks, snapshots, changes, the quarantine, and issues in training files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from pydantic import Field

from ragtide.pipelines.records.base import Record

# The position of a document's overview; its passages are numbered from 0.
OVERVIEW = -1


class Document(Record):
    """One file of the knowledge base as text (Markdown or plain); `digest` is the MD5 of its bytes, as in DVC."""

    id: str
    text: str
    digest: str


class Chunk(Record):
    """A passage of a document, or its overview, which says nothing that its passages do not.

    Its key is (document, position); `digest` identifies a vector that can be reused.
    """

    document: str
    position: int
    heading: str
    text: str
    digest: str
    document_digest: str

    @property
    def key(self) -> tuple[str, int]:
        return (self.document, self.position)

    @property
    def is_overview(self) -> bool:
        return self.position == OVERVIEW


class Snapshot(Record):
    """The content of the three data folders: path -> MD5 of every file. Ids are DVC's content hashes (32 hex digits
    and `.dir`).

    `unusable` is path -> reason of the files of the knowledge base that cannot be read; they are part of no id.
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
    """A document that could not be read: the reason, the attempts with this content, and the first failure's time.

    `digest` is that of the content; None for a file that cannot be opened, which counts no attempts.
    """

    document: str
    digest: str | None
    reason: str
    attempts: int
    since: str


class Quarantine(Record):
    """The unreadable documents, and the converter with its limits that failed to read them."""

    converter: str
    documents: tuple[QuarantinedDocument, ...] = ()


class WithheldDocument(Record):
    """A document that took answers from golden questions at the gate, so that it does not go live unapproved.

    `digest` is that of the content, `questions` are the ids of the questions that were lost to it, `golden` is the id
    of the golden folder that they were asked from, `since` the time at which it was withheld.
    """

    document: str
    digest: str
    questions: tuple[str, ...]
    golden: str
    since: str


class Withheld(Record):
    """The documents that are withheld."""

    documents: tuple[WithheldDocument, ...] = ()


class Rename(Record):
    """A document under another path; `edited` where its content has changed too."""

    before: str
    after: str
    edited: bool = False


class ChangeSet(Record):
    """The difference between two snapshots; empty exactly when their ids are equal."""

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
    """What a refresh would change for readers of the live release.

    `new` counts chunks whose text the live index does not hold, `removed` live chunks whose text will be deleted;
    `upserted` and `deleted` count rows, which also change position when a document grows; `to_embed` counts texts
    without a vector. `documents_deleted` counts documents that will have no row left, `documents_renamed` those of them
    that stand under another name; `rebuild` says why no live row can be kept, if so.
    """

    chunks_after: int
    chunks_before: int
    new: int
    removed: int
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
        """The share of the index's chunks that would change, 0 to 1."""
        return min(1.0, max(self.new, self.removed) / max(1, self.chunks_after))


class IssueKind(StrEnum):
    """The kinds of issues in lines of the training files."""

    INVALID_LINE = "invalid line"
    OVERLONG = "overlong answer"
    LEAK = "leak"
    STALE = "stale answer"
    CONTRADICTION = "contradiction"
    DUPLICATE = "duplicate"


class DataIssue(Record):
    """A line that is filtered from training: its place (FILE:NUMBER), the kind of issue, and the explanation."""

    where: str
    kind: IssueKind
    why: str


def count_issues(issues: Iterable[DataIssue]) -> dict[str, int]:
    """Kind -> number of issues, of the kinds that occur, in order of kind."""
    return dict(Counter(issue.kind.value for issue in sorted(issues, key=lambda issue: issue.kind)))
