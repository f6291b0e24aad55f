"""Do so many documents vanish that one should ask first? Past a limit, removals wait for an approval (law 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pipelines.errors import RefusalError
from pipelines.params import GuardParams
from pipelines.records import Approval, Plan, Release
from pipelines.workspace import Workspace


def removed(
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


def hold(
    removals: Mapping[str, str], documents: int, approvals: Iterable[Approval], params: GuardParams
) -> dict[str, str]:
    """The removals that have to wait: all that no approval covers, where these are more than the guard's limit.

    `documents` is how many are indexed now. An approval covers a document in the very form that it named.
    """
    covered = {pair for approval in approvals for pair in approval.removals.items()}
    rest = {document: digest for document, digest in removals.items() if (document, digest) not in covered}
    return rest if len(rest) > params.limit(documents) else {}


def approvals(workspace: Workspace) -> list[Approval]:
    """Those that were given and are not used up."""
    return [Approval.read(path) for path in sorted(workspace.approvals.glob("*.json"))]


def approved_actions(approvals: Iterable[Approval], snapshot: str) -> tuple[str, ...]:
    """The actions above the cost limit that a person said yes to for this very snapshot, and the parts of each."""
    given = {one.action for one in approvals if one.action and one.snapshot == snapshot}
    return tuple(sorted(given | {part for action in given for part in action.split("+")}))


def approve(workspace: Workspace, digest: str, plan: Plan, why: str) -> Approval:
    """Give leave for what a plan holds back. Raises RefusalError where it holds nothing back."""
    removals = plan.evidence.held
    # Where no action is worth it, what is proposed is the removals themselves.
    wanted = any(option.worth_it for option in plan.decision.options)
    proposed = plan.decision.proposed if wanted else None
    if not removals and proposed is None:
        raise RefusalError(f"plan {digest} holds nothing back: there is nothing to approve")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given = Approval(
        plan=digest,
        removals=dict(removals),
        why=why,
        at=now,
        action=proposed,
        snapshot=plan.evidence.snapshot if proposed else None,
    )
    given.write(_file(workspace, digest))
    return given


def use_up(workspace: Workspace, indexed: Mapping[str, str], release: Release | None = None) -> None:
    """Strike off approvals of which nothing is left to do: what comes back later is asked about again.

    One for an action has done its work, or has nothing to work on any more, with the next `release`.
    """
    for approval in approvals(workspace):
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
