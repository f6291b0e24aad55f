"""Do so many documents vanish that one should ask first? Past a limit, removals wait for an approval (law 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pipelines.errors import RefusalError
from pipelines.params import GuardParams
from pipelines.records import Approval
from pipelines.workspace import Workspace


def removed(indexed: Mapping[str, str], folder: Mapping[str, str], kept: Iterable[str]) -> dict[str, str]:
    """Indexed documents (with the digest of their rows) that are gone from the folder; no renamed and no `kept` one.

    A document whose very content stands in the folder under another name has moved: nothing is lost with its old name.
    """
    there, staying = set(folder.values()), set(kept)
    return {
        document: digest
        for document, digest in sorted(indexed.items())
        if document not in folder and document not in staying and digest not in there
    }


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


def approve(workspace: Workspace, plan: str, removals: Mapping[str, str], why: str) -> Approval:
    """Give leave for what a plan holds back. Raises RefusalError where it holds nothing back."""
    if not removals:
        raise RefusalError(f"plan {plan} holds no removal back: there is nothing to approve")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given = Approval(plan=plan, removals=dict(removals), why=why, at=now)
    given.write(_file(workspace, plan))
    return given


def use_up(workspace: Workspace, indexed: Mapping[str, str]) -> None:
    """Strike off approvals of which nothing is left to remove: what comes back later is asked about again."""
    for approval in approvals(workspace):
        if not approval.removals.items() & indexed.items():
            _file(workspace, approval.plan).unlink()


def _file(workspace: Workspace, plan: str) -> Path:
    return workspace.approvals / f"{plan}.json"
