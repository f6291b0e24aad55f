"""Publication of an accepted candidate: index and model go live together by one pointer move."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.adapters import adapter_folder
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.evaluation import Verdict
from ragtide.pipelines.records.release import Candidate, Release
from ragtide.pipelines.registry.runs import RunLog

# The prefix of the tag that keeps the index version of a release from being pruned.
RELEASE_TAG = "release-"


def publish_candidate(
    project: Project,
    log: RunLog,
    candidate: Candidate,
    verdict: Verdict,
    check_lease: Callable[[], None] = lambda: None,
) -> Release:
    """Make an accepted candidate live. The pointer moves last: a kill before that leaves the live release as it was.

    A retry in the same cycle continues with the release that the first attempt recorded completely, live or not.
    Raises UserError for a candidate that the gate rejected, and where another release went live since the candidate was
    compared with `candidate.previous`; `check_lease` raises it where the cycle has lost the writer lease.
    """
    if not verdict.accepted:
        raise UserError("the gate rejected this candidate: it cannot be released")
    release = project.registry.find_recorded(log.id, candidate.decision)
    if release is None:
        _require_unchanged_live(project, candidate, check_lease)
        release = _record(project, log, candidate, verdict)
    with project.registry.pointer_lock():
        if project.registry.live_release_id() != release.id:
            _require_unchanged_live(project, candidate, check_lease)
            project.registry.set_live(release)
    return release


def _require_unchanged_live(project: Project, candidate: Candidate, check_lease: Callable[[], None]) -> None:
    """Raise UserError where the lease is lost or another release is live than the candidate was compared with."""
    check_lease()
    live = project.registry.live_release_id()
    if live != candidate.previous:
        now, then = (f"release {number}" if number else "no release" for number in (live, candidate.previous))
        raise UserError(
            f"{now} is live now, but the candidate was compared with {then}: it is not published; "
            "the next run compares again"
        )


def _record(project: Project, log: RunLog, candidate: Candidate, verdict: Verdict) -> Release:
    """Record a complete release to which no pointer leads yet."""
    draft, index = project.registry.draft(log), project.index
    release = Release(
        **dict(candidate),
        id=draft.id,
        content=index.content(candidate.index.version),
        index_tag=f"{RELEASE_TAG}{draft.id}",
        scorecard=verdict.after,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    index.tag(release.index_tag, release.index.version)
    adapter = adapter_folder(project.workspace, release.model)
    if adapter is not None:
        log.folder(f"{draft.folder}/adapter", adapter)
    project.registry.record_release(release, draft, log)
    return release
