"""Withheld documents: those that took answers from golden questions at the gate, and wait for a person.

The rest of a change goes live without them (invariant lost-answers-isolated). A withheld content is not built and
proven again, under whatever name, before it is approved or the golden folder changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ragtide.pipelines.records.data import Snapshot, Withheld, WithheldDocument
from ragtide.pipelines.records.decision import Approval
from ragtide.pipelines.workspace import Workspace


@dataclass(frozen=True)
class WithheldFiles:
    """The withheld documents of a snapshot under their present names: those that wait, and those that are approved."""

    waiting: tuple[WithheldDocument, ...] = ()
    approved: tuple[WithheldDocument, ...] = ()

    @property
    def digests(self) -> dict[str, str]:
        """The documents that are not to be indexed as they are now, with their digests."""
        return {withheld.document: withheld.digest for withheld in self.waiting}


def read_withheld(workspace: Workspace) -> tuple[WithheldDocument, ...]:
    """The documents that were withheld and not released since."""
    path = workspace.withheld_file
    return Withheld.read(path).documents if path.is_file() else ()


def withheld_now(workspace: Workspace, snapshot: Snapshot) -> tuple[WithheldDocument, ...]:
    """The withheld documents whose content is in the snapshot, and that lost answers to today's golden questions."""
    present = set(snapshot.documents.values())
    return tuple(
        entry for entry in read_withheld(workspace) if entry.golden == snapshot.golden_id and entry.digest in present
    )


def find_withheld(
    workspace: Workspace,
    snapshot: Snapshot,
    documents: Mapping[str, str],
    indexed: Mapping[str, str],
    approvals: Iterable[Approval],
) -> WithheldFiles:
    """Which of a snapshot's `documents` are withheld, and which of them an approval covers (name -> digest each).

    A content that the live index holds (`indexed`) is none of them, nor is one that was withheld for other questions
    than those of today's golden folder.
    """
    withheld = {entry.digest: entry for entry in withheld_now(workspace, snapshot)}
    if not withheld:
        return WithheldFiles()
    live = set(indexed.values())
    present = [
        withheld[digest].model_copy(update={"document": name})
        for name, digest in sorted(documents.items())
        if digest in withheld and digest not in live
    ]
    covered = {pair for approval in approvals for pair in approval.documents.items()}
    approved = tuple(entry for entry in present if (entry.document, entry.digest) in covered)
    return WithheldFiles(tuple(entry for entry in present if entry not in approved), approved)


def withhold_documents(workspace: Workspace, snapshot: Snapshot, lost: Mapping[str, tuple[str, ...]]) -> None:
    """Withhold documents of `snapshot`; `lost` is name -> ids of the questions lost to it.

    Forgets entries whose content is no longer in the folder, and those of another golden folder.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = {
        snapshot.documents[name]: WithheldDocument(
            document=name, digest=snapshot.documents[name], questions=questions, golden=snapshot.golden_id, since=now
        )
        for name, questions in lost.items()
    }
    kept = [entry for entry in withheld_now(workspace, snapshot) if entry.digest not in new]
    write_withheld(workspace, [*kept, *new.values()])


def write_withheld(workspace: Workspace, documents: Iterable[WithheldDocument]) -> None:
    """Write the list of withheld documents, by name."""
    entries = tuple(sorted(documents, key=lambda entry: (entry.document, entry.digest)))
    if entries or workspace.withheld_file.is_file():
        Withheld(documents=entries).write(workspace.withheld_file)


def release_documents(workspace: Workspace, indexed: Mapping[str, str]) -> None:
    """Forget the withheld documents whose content the live index holds now (`indexed`: name -> digest)."""
    live, entries = set(indexed.values()), read_withheld(workspace)
    if any(entry.digest in live for entry in entries):
        write_withheld(workspace, [entry for entry in entries if entry.digest not in live])
