"""Approvals and rejections of what a plan holds back.

An answer covers what one plan holds back and no more; the last answer about the same thing counts (invariant
no-mass-deletion, docs/invariants.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.lost_content import removed_content
from ragtide.pipelines.history.withheld import read_withheld
from ragtide.pipelines.policy.rules import lost_golden
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Approval, Plan, Rejection
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.workspace import Workspace

# A document with the digest of its rows, or an action with its snapshot.
Scope: TypeAlias = set[tuple[str | Action, str | None]]


def read_approvals(workspace: Workspace) -> list[Approval]:
    """The approvals that are not used up."""
    return [Approval.read(path) for path in sorted(workspace.approvals.glob("*.json"))]


def approved_actions(approvals: Iterable[Approval], snapshot: str) -> tuple[Action, ...]:
    """The actions that a person approved for this very snapshot, and the parts of each; the cheapest first."""
    given = {approval.action for approval in approvals if approval.action and approval.snapshot == snapshot}
    return tuple(sorted(given | {part for action in given for part in action.parts}))


def is_action_approved(workspace: Workspace) -> bool:
    """Whether a person approved an action for the data as it is now: a change elsewhere must not undo that."""
    approvals = read_approvals(workspace)
    return bool(approvals) and bool(approved_actions(approvals, take_snapshot(workspace).id))


def record_approval(workspace: Workspace, digest: str, plan: Plan, why: str) -> Approval:
    """Approve what a plan holds back, and delete rejections of it. Raises UserError where it holds nothing back."""
    deletions, withheld = plan.evidence.data.pending_deletions, plan.evidence.data.withheld
    proposed = _proposed(workspace, plan)
    if not deletions and not withheld and proposed is None:
        raise UserError(f"plan {digest} holds nothing back: there is nothing to approve")
    approval = Approval(
        plan=digest,
        removals=dict(deletions),
        why=why,
        at=_now(),
        action=proposed,
        snapshot=plan.evidence.data.snapshot if proposed else None,
        documents=dict(withheld),
        questions=(*plan.evidence.data.golden.lost, *plan.evidence.data.golden.pending) if proposed else (),
    )
    approval.write(_file(workspace, digest))
    for rejection in read_rejections(workspace):
        if _scope(rejection) & _scope(approval):
            (workspace.rejections / f"{rejection.plan}.json").unlink()
    return approval


def record_rejection(workspace: Workspace, digest: str, plan: Plan, why: str) -> Rejection:
    """Decline what a plan holds back, so that it is not proposed again, and delete approvals of any of it.

    Raises UserError where the plan holds nothing back.
    """
    if not plan.needs_approval:
        raise UserError(f"plan {digest} holds nothing back: there is nothing to reject")
    rejection = Rejection(
        plan=digest,
        removals=dict(plan.deletions_to_approve),
        actions=_declined_actions(plan) if _proposed(workspace, plan) else (),
        snapshot=plan.evidence.data.snapshot,
        params=plan.params,
        why=why,
        at=_now(),
        documents=dict(plan.documents_to_approve),
    )
    rejection.write(workspace.rejections / f"{digest}.json")
    for approval in read_approvals(workspace):
        if _scope(approval) & _scope(rejection):
            _file(workspace, approval.plan).unlink()
    return rejection


def read_rejections(workspace: Workspace) -> list[Rejection]:
    """Every rejection that is in force, oldest first."""
    rejections = (Rejection.read(path) for path in workspace.rejections.glob("*.json"))
    return sorted(rejections, key=lambda rejection: rejection.at)


def rejected_actions(rejections: Iterable[Rejection], snapshot: str, params: str) -> dict[Action, str]:
    """Action -> why, for what a person declined for this very snapshot and these params."""
    about_this = [rejection for rejection in rejections if (rejection.snapshot, rejection.params) == (snapshot, params)]
    return {
        action: f"a person declined it: {rejection.why}" for rejection in about_this for action in rejection.actions
    }


def rejected_deletions_reason(rejections: Iterable[Rejection], pending: Mapping[str, str]) -> str | None:
    """Why the pending deletions are not to be made; None where a person has not declined each of them."""
    return _reason_to_keep([(rejection.removals, rejection.why) for rejection in rejections], pending)


def rejected_documents_reason(rejections: Iterable[Rejection], withheld: Mapping[str, str]) -> str | None:
    """Why the withheld documents are not to be released; None where a person has not declined each of them."""
    return _reason_to_keep([(rejection.documents, rejection.why) for rejection in rejections], withheld)


def _reason_to_keep(declined: Sequence[tuple[Mapping[str, str], str]], waiting: Mapping[str, str]) -> str | None:
    """The last reason for which one of `waiting` was declined; None unless each of them was."""
    everything = {pair for documents, _ in declined for pair in documents.items()}
    if not waiting or not waiting.items() <= everything:
        return None
    return next(why for documents, why in reversed(declined) if documents.items() & waiting.items())


def is_answered(workspace: Workspace, plan: Plan) -> bool:
    """Whether a person has answered all that a plan asks for, under this plan's digest or another's."""
    proposed = _proposed(workspace, plan)
    asked: Scope = {*plan.deletions_to_approve.items(), *plan.documents_to_approve.items()}
    if proposed:
        asked.add((proposed, plan.evidence.data.snapshot))
    answers: list[Approval | Rejection] = [*read_approvals(workspace), *read_rejections(workspace)]
    return any(asked <= _scope(answer) for answer in answers)


def _scope(answer: Approval | Rejection) -> Scope:
    """What an answer is about."""
    if isinstance(answer, Rejection):
        actions = set(answer.actions)
    else:
        actions = {answer.action, *answer.action.parts} if answer.action else set()
    return {*answer.removals.items(), *answer.documents.items(), *((action, answer.snapshot) for action in actions)}


def _proposed(workspace: Workspace, plan: Plan) -> Action | None:
    """The action that a plan asks for; None where it is the deletions themselves that it asks for.

    The same holds for withheld documents. In suggest mode both need an approval as an action too.
    """
    wanted = any(option.worth_it for option in plan.decision.options) or workspace.params.policy.mode == "suggest"
    # An approval of removals covers the golden questions that they put out of play: both stand in the plan.
    wanted = wanted or lost_golden(plan.evidence.data, with_pending=True) is not None
    return plan.decision.proposed if wanted else None


def _declined_actions(plan: Plan) -> tuple[Action, ...]:
    """The proposed action, and the part of it that does not go ahead meanwhile."""
    proposed, ahead = plan.decision.proposed, plan.decision.action
    if proposed is None:
        return ()
    parts = set(proposed.parts) - set(ahead.parts) if ahead.builds else set()
    return tuple(sorted({proposed} | parts))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def consume_approvals(workspace: Workspace, indexed: Mapping[str, str], release: Release | None = None) -> None:
    """Delete approvals that have nothing left to allow, so that a later change is asked about again.

    An approval of an action is used up, or has no data left that it is about, with the next `release`.
    """
    for approval in read_approvals(workspace):
        is_to_delete = any(indexed.get(name) == removed_content(digest) for name, digest in approval.removals.items())
        is_to_release = any(
            approval.documents.get(entry.document) == entry.digest for entry in read_withheld(workspace)
        )
        if not (_is_open(approval, release) or is_to_delete or is_to_release):
            _file(workspace, approval.plan).unlink()


def _is_open(approval: Approval, release: Release | None) -> bool:
    """Whether an approved action is still to be carried out: of two components the model comes last."""
    if approval.action is None or release is None:
        return approval.action is not None
    return approval.snapshot == release.snapshot.id and approval.action.parts[-1] not in release.decision.parts


def _file(workspace: Workspace, plan: str) -> Path:
    return workspace.approvals / f"{plan}.json"
