"""Data change: the snapshot compared with the live release, and a person's answers about its deletions."""

from __future__ import annotations

from collections.abc import Sequence

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.data.diff import diff_snapshots
from ragtide.pipelines.history.approvals import rejected_deletions_reason, rejected_documents_reason
from ragtide.pipelines.records.data import IndexDelta
from ragtide.pipelines.records.decision import Rejection
from ragtide.pipelines.records.evidence import DataChange, GoldenLosses
from ragtide.pipelines.records.release import Release


def describe_data_change(
    knowledge: KnowledgeBase,
    release: Release | None,
    delta: IndexDelta,
    rejections: Sequence[Rejection] = (),
    deleted_training_documents: Sequence[str] = (),
    golden: GoldenLosses | None = None,
) -> DataChange:
    """The knowledge base compared with the live release; `delta` is what a refresh would change in the index."""
    withheld = knowledge.withheld.digests
    return DataChange(
        snapshot=knowledge.snapshot.id,
        live_release=release.id if release else None,
        changes=diff_snapshots(release.snapshot if release else None, knowledge.snapshot, knowledge.paths.current),
        delta=delta,
        pending_deletions=dict(knowledge.pending_deletions),
        deletions_rejected_reason=rejected_deletions_reason(rejections, knowledge.pending_deletions),
        withheld=withheld,
        withheld_rejected_reason=rejected_documents_reason(rejections, withheld),
        approved_documents=len(knowledge.withheld.approved),
        quarantined={document.document: document.reason for document in knowledge.quarantined},
        deleted_training_documents=tuple(deleted_training_documents),
        emptied_documents=tuple(sorted(knowledge.lost.emptied)),
        lost_rows=knowledge.lost.rows,
        golden=golden or GoldenLosses(),
    )
