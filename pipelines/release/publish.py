"""How does a candidate become live, and how does one go back? Index and model together, by one pointer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.adapters import adapter_folder
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.evaluation import Verdict
from ragtide.pipelines.records.release import Candidate, Release
from ragtide.pipelines.registry.runs import RunLog


def publish_candidate(
    project: Project, log: RunLog, candidate: Candidate, verdict: Verdict, check: Callable[[], None] = lambda: None
) -> Release:
    """Make an accepted candidate live. The pointer moves last: a kill before it leaves the live release as it was.

    Tried again in the same turn, it goes on with the release that was written down the first time, live or not.
    Raises RefusalError where another release has gone live since the candidate was held against `candidate.previous`;
    `check` raises it where the turn has lost the project to another.
    """
    if not verdict.accepted:
        raise UserError("a candidate that the gate refused is not released")
    release = project.registry.find_written(log)
    if release is None:
        _refuse_if_moved(project, candidate, check)
        release = _write_down(project, log, candidate, verdict)
    with project.registry.pointer_lock():
        if project.registry.live_release_id() != release.id:
            _refuse_if_moved(project, candidate, check)
            project.registry.set_live(release)
    return release


def _refuse_if_moved(project: Project, candidate: Candidate, check: Callable[[], None]) -> None:
    check()
    live = project.registry.live_release_id()
    if live != candidate.previous:
        now, then = (f"release {one}" if one else "nothing" for one in (live, candidate.previous))
        moved = f"{now} is live by now, and the candidate was held against {then}"
        raise UserError(f"{moved}: it is not published over it; the next run looks anew")


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
