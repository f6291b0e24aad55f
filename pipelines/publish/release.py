"""How does a candidate become live, and how does one go back? Index and model together, by one pointer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from pipelines.build.adapters import adapter_folder
from pipelines.build.index import Index
from pipelines.errors import RefusalError
from pipelines.observe.past import ROLLBACK
from pipelines.publish.registry import Registry, RunLog
from pipelines.records import Candidate, Release, Verdict
from pipelines.workspace import Workspace


def publish(
    workspace: Workspace, registry: Registry, index: Index, log: RunLog, candidate: Candidate, verdict: Verdict
) -> Release:
    """Make an accepted candidate live. The pointer moves last: a kill before it leaves the live release as it was."""
    if not verdict.accepted:
        raise RefusalError("a candidate that the gate refused is not released")
    live = registry.champion()
    draft = registry.draft(log)
    release = Release(
        **dict(candidate),
        id=draft.id,
        content=index.content(candidate.index.version),
        index_tag=f"release-{draft.id}",
        scorecard=verdict.after,
        previous=live.id if live else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    index.tag(release.index_tag, release.index.version)
    adapter = adapter_folder(workspace, release.model)
    if adapter is not None:
        log.folder(f"{draft.folder}/adapter", adapter)
    registry.describe(release, draft, log)
    registry.point(release)
    return release


def rollback(
    registry: Registry, release_id: str | None, why: str, serves: Callable[[Release], None] = lambda _: None
) -> Release:
    """Move the pointer back, to the release before the live one or to `release_id`. Index and model go together.

    The release that is left is marked, so that the same data does not bring it back. Raises RefusalError where there
    is nothing to go back to; `serves` raises it for a release that could not be served.
    """
    live = registry.champion()
    if live is None:
        raise RefusalError("nothing is live yet: `ragtide run` makes the first release")
    target_id = release_id or live.previous
    if target_id is None:
        raise RefusalError(f"release {live.id} is the first: there is none before it")
    if target_id == live.id:
        raise RefusalError(f"release {live.id} is live already")
    target = registry.release(target_id)
    serves(target)
    # What is undone is written down before the pointer moves: a kill in between must not let the next turn redo it.
    with registry.by_hand("rollback", {"decision": ROLLBACK, "reason": why, "undone_release": live.id}) as log:
        registry.point(target)
        log.tags({"outcome": f"release {target.id} is live again", "release": target.id})
        registry.mark(live.id, {"rolled_back": why})
    return target
