"""What waits for a person's yes, and what has been said? Past a limit, removals wait for an approval (law 8).

An answer covers what one plan holds back and no more; the last word about the same thing counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Approval, Plan, Rejection
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.workspace import Workspace


def read_approvals(workspace: Workspace) -> list[Approval]:
    """Those that were given and are not used up."""
    return [Approval.read(path) for path in sorted(workspace.approvals.glob("*.json"))]


def approved_actions(approvals: Iterable[Approval], snapshot: str) -> tuple[str, ...]:
    """The actions above the cost limit that a person said yes to for this very snapshot, and the parts of each."""
    given = {one.action for one in approvals if one.action and one.snapshot == snapshot}
    return tuple(sorted(given | {part for action in given for part in action.split("+")}))


def record_approval(workspace: Workspace, digest: str, plan: Plan, why: str) -> Approval:
    """Give leave for what a plan holds back, and strike off any no to it. Raises RefusalError where that is nothing."""
    removals = plan.evidence.pending_deletions
    proposed = _proposed(workspace, plan)
    if not removals and proposed is None:
        raise UserError(f"plan {digest} holds nothing back: there is nothing to approve")
    given = Approval(
        plan=digest,
        removals=dict(removals),
        why=why,
        at=_now(),
        action=proposed,
        snapshot=plan.evidence.snapshot if proposed else None,
    )
    given.write(_file(workspace, digest))
    for said in read_rejections(workspace):
        if _scope(said) & _scope(given):
            (workspace.rejections / f"{said.plan}.json").unlink()
    return given


def record_rejection(workspace: Workspace, digest: str, plan: Plan, why: str) -> Rejection:
    """Say no to what a plan holds back: it is not proposed again. Raises RefusalError where it asks for nothing.

    As with a yes, what was said the other way about any of it is struck off: the last word counts.
    """
    if not plan.needs_approval:
        raise UserError(f"plan {digest} holds nothing back: there is nothing to reject")
    said = Rejection(
        plan=digest,
        removals=dict(plan.deletions_to_approve),
        actions=_left_out(plan) if _proposed(workspace, plan) else (),
        snapshot=plan.evidence.snapshot,
        params=plan.params,
        why=why,
        at=_now(),
    )
    said.write(workspace.rejections / f"{digest}.json")
    for given in read_approvals(workspace):
        if _scope(given) & _scope(said):
            _file(workspace, given.plan).unlink()
    return said


def read_rejections(workspace: Workspace) -> list[Rejection]:
    """Every no that stands, oldest first."""
    return sorted((Rejection.read(path) for path in workspace.rejections.glob("*.json")), key=lambda one: one.at)


def rejected_actions(rejections: Iterable[Rejection], snapshot: str, params: str) -> dict[str, str]:
    """Action -> why, for what a person said no to on this very snapshot and under these params."""
    said = [one for one in rejections if (one.snapshot, one.params) == (snapshot, params)]
    return {action: f"it was rejected by a person: {one.why}" for one in said for action in one.actions}


def rejected_deletions_reason(rejections: Iterable[Rejection], held: Mapping[str, str]) -> str | None:
    """Why the removals that are held are not to be made; None where a person has not said no to each of them."""
    said = list(rejections)
    kept = {pair for one in said for pair in one.removals.items()}
    if not held or not held.items() <= kept:
        return None
    return next(one.why for one in reversed(said) if one.removals.items() & held.items())


def is_answered(workspace: Workspace, plan: Plan) -> bool:
    """Whether a person has said yes or no to all that a plan asks for, by this plan's digest or another's."""
    proposed = _proposed(workspace, plan)
    asked = {*plan.deletions_to_approve.items(), *([(str(proposed), plan.evidence.snapshot)] if proposed else [])}
    answers: list[Approval | Rejection] = [*read_approvals(workspace), *read_rejections(workspace)]
    return any(asked <= _scope(one) for one in answers)


def _scope(answer: Approval | Rejection) -> set[tuple[str, str | None]]:
    """What an answer is about: documents with their digests, and actions with their snapshot."""
    if isinstance(answer, Rejection):
        actions = set(answer.actions)
    else:
        actions = {answer.action, *answer.action.split("+")} if answer.action else set()
    return {*answer.removals.items(), *((action, answer.snapshot) for action in actions)}


def _proposed(workspace: Workspace, plan: Plan) -> Action | None:
    """The action that a plan asks for. Where none is worth it, it is the removals themselves that it asks for.

    In suggest mode they need a yes as an action too.
    """
    wanted = any(option.worth_it for option in plan.decision.options) or workspace.params.policy.mode == "suggest"
    return plan.decision.proposed if wanted else None


def _left_out(plan: Plan) -> tuple[str, ...]:
    """What a no is said to: the action that is proposed, and the part of it that does not go ahead meanwhile."""
    proposed, ahead = str(plan.decision.proposed), plan.decision.action
    parts = set(proposed.split("+")) - set(ahead.split("+")) if ahead.builds else set()
    return tuple(sorted({proposed} | parts))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def consume_approvals(workspace: Workspace, indexed: Mapping[str, str], release: Release | None = None) -> None:
    """Strike off approvals of which nothing is left to do: what comes back later is asked about again.

    One for an action has done its work, or has nothing to work on any more, with the next `release`.
    """
    for approval in read_approvals(workspace):
        if not _waits(approval, release) and not approval.removals.items() & indexed.items():
            _file(workspace, approval.plan).unlink()


def _waits(approval: Approval, release: Release | None) -> bool:
    """Whether an action that was approved is still to be carried out: of two halves the model comes last."""
    if approval.action is None or release is None:
        return approval.action is not None
    last = approval.action.split("+")[-1]
    return approval.snapshot == release.snapshot.id and last not in release.decision.split("+")


def _file(workspace: Workspace, plan: str) -> Path:
    return workspace.approvals / f"{plan}.json"
