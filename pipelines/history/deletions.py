"""What waits for a person's yes, and what has been said? Past a limit, removals wait for an approval (law 8).

An answer covers what one plan holds back and no more; the last word about the same thing counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ragtide.pipelines.params import DeletionGuardParams
from ragtide.pipelines.records.decision import Approval


def find_deleted(
    indexed: Mapping[str, str],
    folder: Mapping[str, str],
    kept: Iterable[str],
    earlier: Iterable[Mapping[str, str]] = (),
) -> dict[str, str]:
    """Indexed documents (with the digest of their rows) that are gone from the folder; no renamed and no `kept` one.

    A document whose very content stands in the folder under another name has moved: nothing is lost with its old name.
    So has one that was renamed and then edited: its content stood under a name that is still in the folder, in one of
    the `earlier` states of it (name -> digest), which are looked at only where something seems to be gone.
    """
    there, staying = set(folder.values()), set(kept)
    gone = {
        document: digest
        for document, digest in sorted(indexed.items())
        if document not in folder and document not in staying and digest not in there
    }
    if not gone:
        return {}
    moved = {digest for documents in earlier for name, digest in documents.items() if name in folder}
    return {document: digest for document, digest in gone.items() if digest not in moved}


def pending_deletions(
    removals: Mapping[str, str], documents: int, approvals: Iterable[Approval], params: DeletionGuardParams
) -> dict[str, str]:
    """The removals that have to wait: all that no approval covers, where these are more than the guard's limit.

    `documents` is how many are indexed now. An approval covers a document in the very form that it named.
    """
    covered = {pair for approval in approvals for pair in approval.removals.items()}
    rest = {document: digest for document, digest in removals.items() if (document, digest) not in covered}
    return rest if len(rest) > params.limit(documents) else {}
