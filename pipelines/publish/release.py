"""How does a candidate become live, and how does one go back? Index and model together, by one pointer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from pipelines.build.adapters import adapter_folder
from pipelines.errors import RefusalError
from pipelines.observe.past import ROLLBACK
from pipelines.publish.project import Project
from pipelines.publish.registry import Registry, RunLog
from pipelines.records import Candidate, Release, Verdict


def publish(
    project: Project, log: RunLog, candidate: Candidate, verdict: Verdict, check: Callable[[], None] = lambda: None
) -> Release:
    """Make an accepted candidate live. The pointer moves last: a kill before it leaves the live release as it was.

    Tried again in the same turn, it goes on with the release that was written down the first time, live or not.
    Raises RefusalError where another release has gone live since the candidate was held against `candidate.previous`;
    `check` raises it where the turn has lost the project to another.
    """
    if not verdict.accepted:
        raise RefusalError("a candidate that the gate refused is not released")
    release = project.registry.written(log)
    if release is None:
        _refuse_if_moved(project, candidate, check)
        release = _write_down(project, log, candidate, verdict)
    with project.registry.pointing():
        if project.registry.pointed_at() != release.id:
            _refuse_if_moved(project, candidate, check)
            project.registry.point(release)
    return release


def _refuse_if_moved(project: Project, candidate: Candidate, check: Callable[[], None]) -> None:
    check()
    live = project.registry.pointed_at()
    if live != candidate.previous:
        now, then = (f"release {one}" if one else "nothing" for one in (live, candidate.previous))
        moved = f"{now} is live by now, and the candidate was held against {then}"
        raise RefusalError(f"{moved}: it is not published over it; the next run looks anew")


def _write_down(project: Project, log: RunLog, candidate: Candidate, verdict: Verdict) -> Release:
    """A release that is whole, and that nobody points at yet."""
    draft, index = project.registry.draft(log), project.index
    release = Release(
        **dict(candidate),
        id=draft.id,
        content=index.content(candidate.index.version),
        index_tag=f"release-{draft.id}",
        scorecard=verdict.after,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    index.tag(release.index_tag, release.index.version)
    adapter = adapter_folder(project.workspace, release.model)
    if adapter is not None:
        log.folder(f"{draft.folder}/adapter", adapter)
    project.registry.describe(release, draft, log)
    return release


def rollback(
    registry: Registry, release_id: str | None, why: str, serves: Callable[[Release], None] = lambda _: None
) -> Release:
    """Move the pointer back, to the release before the live one or to `release_id`. Index and model go together.

    A run may be at work: it publishes nothing over what is live then. The release that is left is marked, so that the
    same data does not bring it back. Raises RefusalError where there is nothing to go back to; `serves` raises it for
    a release that could not be served.
    """
    with registry.pointing():
        return _go_back(registry, release_id, why, serves)


def _go_back(registry: Registry, release_id: str | None, why: str, serves: Callable[[Release], None]) -> Release:
    live = registry.live()
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
