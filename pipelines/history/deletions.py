"""Deleted documents, and the guard against mass deletion.

Past a limit, deletions wait for an approval (invariant no-mass-deletion, docs/invariants.md).
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
    """Indexed documents (name -> digest of their rows) that are deleted from the folder: neither renamed nor `kept`.

    A document whose content is in the folder under another name was renamed: nothing is lost with its old name. So was
    one that was renamed and then edited: its content was under a name that is still in the folder, in one of the
    `earlier` states (name -> digest), which are read only where something seems to be deleted.
    """
    present, staying = set(folder.values()), set(kept)
    deleted = {
        document: digest
        for document, digest in sorted(indexed.items())
        if document not in folder and document not in staying and digest not in present
    }
    if not deleted:
        return {}
    renamed = {digest for documents in earlier for name, digest in documents.items() if name in folder}
    return {document: digest for document, digest in deleted.items() if digest not in renamed}


def pending_deletions(
    removals: Mapping[str, str], documents: int, approvals: Iterable[Approval], params: DeletionGuardParams
) -> dict[str, str]:
    """The deletions that need an approval: all that none covers, where these are more than the guard's limit.

    `documents` counts those that are indexed now. An approval covers a document at the digest that it named.
    """
    covered = {pair for approval in approvals for pair in approval.removals.items()}
    rest = {document: digest for document, digest in removals.items() if (document, digest) not in covered}
    return rest if len(rest) > params.limit(documents) else {}
