"""Do table, tags, registry and snapshots agree? Each mismatch by name, and a mend where nothing is lost by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from ragtide.pipelines.data.hashing import folder_hash
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.index.fingerprint import local_table_folder
from ragtide.pipelines.index.maintenance import orphaned_files, remove_paths
from ragtide.pipelines.index.rows import rows_digest
from ragtide.pipelines.models.adapters import adapter_digest
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltIndex, Release
from ragtide.pipelines.registry.releases import LOST
from ragtide.pipelines.release.rollback import roll_back

TAG = "release-"


@dataclass(frozen=True)
class Mismatch:
    """Two things that should agree and do not. `mend` puts it right; None where nothing but the user can."""

    where: str
    what: str
    remedy: str
    mend: Callable[[], object] | None = None


def verify_project(project: Project) -> list[Mismatch]:
    """Everything that does not agree, the live release first. Changes nothing."""
    live = project.registry.live_release_id()
    releases = sorted(project.registry.releases(), key=lambda release: (release.id != live, int(release.id)))
    found = [*_pointer(project, releases, live)]
    for release in releases:
        found += _index(project, release, is_live=release.id == live)
    found += [*_adapter(project, releases, live), *_snapshots(project, releases)]
    found += [*_tags(project, releases), *_note(project), *_remains(project)]
    return found


def repair_mismatches(mismatches: list[Mismatch]) -> tuple[list[Mismatch], list[tuple[Mismatch, str]]]:
    """Mend what can be mended: (mended, left with the reason). The project must be held for writing."""
    mended: list[Mismatch] = []
    left: list[tuple[Mismatch, str]] = []
    for one in mismatches:
        if one.mend is None:
            left.append((one, one.remedy))
            continue
        try:
            one.mend()
            mended.append(one)
        except UserError as problem:
            left.append((one, str(problem)))
    return mended, left


def _pointer(project: Project, releases: list[Release], live: str | None) -> Iterator[Mismatch]:
    """The alias names a release that was written down to its end."""
    if live is None or live in {release.id for release in releases}:
        return
    what = f"what is live, release {live}, was never written down to its end"
    if not releases:
        yield Mismatch("registry", what, "`ragtide run` makes a release")
        return
    newest = max(releases, key=lambda release: int(release.id))
    yield Mismatch("registry", what, f"point back to release {newest.id}", partial(project.registry.set_live, newest))


def _index(project: Project, release: Release, is_live: bool) -> Iterator[Mismatch]:
    """A release's version is there under its tag, and holds what it held when it was released."""
    index, version, tag = project.index, release.index.version, release.index_tag
    where = f"index of release {release.id}" + (" (live)" if is_live else "")
    named = index.tags().get(tag)
    wrong = _rows(project, release, version)
    if wrong:
        if not is_live:
            strike = partial(_strike_off, project, release, wrong)
            yield Mismatch(where, wrong, "strike the release off: it cannot be gone back to", strike)
            return
        back = _way_back(project, release)
        remedy = "go back to a release that is whole" if back else "`ragtide run` builds an index anew"
        yield Mismatch(where, wrong, remedy, back)
    elif named is None:
        yield Mismatch(where, f"tag {tag} is gone", "set it again", partial(index.tag, tag, version))
    elif named != version:
        what = f"tag {tag} names version {named}, not {version}"
        yield Mismatch(where, what, "move it back", partial(index.retag, tag, version))


def _rows(project: Project, release: Release, version: int) -> str | None:
    """What is wrong with the rows of a release; None where they are what they were."""
    index = project.index
    try:
        rows = index.rows(version)
        if release.content and rows_digest(rows) != release.content:
            return f"version {version} holds {len(rows)} rows that are not the {release.index.rows} that were released"
        return "; ".join(index.flaws(version)) or None
    except UserError as problem:
        return str(problem)
    except (RuntimeError, ValueError, OSError) as problem:
        return f"version {version} cannot be read ({summarize_error(problem)[:160]})"


def _way_back(project: Project, live: Release) -> Callable[[], object] | None:
    """Going back to the newest release before the live one that is whole; None where there is none."""
    for release in reversed(project.registry.releases()):
        older = int(release.id) < int(live.id) and not _rows(project, release, release.index.version)
        if older and not _adapter_problem(project, release):
            why = "`ragtide verify --repair`: the index is not whole"
            return partial(_go_back, project, live, release, why)
    return None


def _go_back(project: Project, live: Release, target: Release, why: str) -> None:
    roll_back(project.registry, target.id, why, project.check_servable)
    _strike_off(project, live, why)


def _strike_off(project: Project, release: Release, why: str) -> None:
    """A release that is lost is none to go back to, and keeps no version from being pruned."""
    project.registry.tag_release(release.id, {LOST: why})
    if project.index.has_tag(release.index_tag):
        project.index.untag(release.index_tag)


def _adapter(project: Project, releases: list[Release], live: str | None) -> Iterator[Mismatch]:
    for release in releases:
        problem = _adapter_problem(project, release)
        if problem:
            where = f"adapter of release {release.id}" + (" (live)" if release.id == live else "")
            yield Mismatch(where, problem, "fetch it from MLflow", partial(_fetch, project, release))


def _adapter_problem(project: Project, release: Release) -> str | None:
    if release.model.adapter is None:
        return None
    folder = project.workspace.adapters / release.model.adapter
    if not folder.is_dir():
        return f"{release.model.adapter} is not on this machine"
    if adapter_digest(folder) != release.model.adapter:
        return f"{release.model.adapter} does not hold the weights that its name stands for"
    return None


def _fetch(project: Project, release: Release) -> None:
    """Bring an adapter back; one that is wrong makes room first, and stays where MLflow has none."""
    folder = project.workspace.adapters / str(release.model.adapter)
    wrong = folder.with_name(folder.name + ".wrong")
    if folder.is_dir():
        folder.replace(wrong)
    try:
        project.registry.fetch_adapter(release, folder)
    finally:
        if wrong.is_dir() and not folder.is_dir():
            wrong.replace(folder)
        shutil.rmtree(wrong, ignore_errors=True)
    if problem := _adapter_problem(project, release):
        raise UserError(f"{problem}, in MLflow neither: `ragtide rollback --to` a release that is whole, or retrain")


def _snapshots(project: Project, releases: list[Release]) -> Iterator[Mismatch]:
    """The manifest of a release's data is there, and its id is that of its files."""
    for snapshot in {release.snapshot.id: release.snapshot for release in releases}.values():
        if folder_hash(snapshot.documents) != snapshot.kb_id:
            what = f"snapshot {snapshot.id} lists other documents than its id stands for"
            yield Mismatch("snapshot", what, "`ragtide run` takes a new one")
        file = project.workspace.snapshot_file(snapshot.id)
        if not file.is_file():
            yield Mismatch("snapshot", f"{file} is gone", "write it again", partial(snapshot.write, file))


def _tags(project: Project, releases: list[Release]) -> Iterator[Mismatch]:
    """A tag without a release is what a run left that was killed between the tag and the pointer."""
    known = {release.index_tag for release in releases}
    for tag in sorted(project.index.tags()):
        if tag.startswith(TAG) and tag not in known:
            what = f"tag {tag} belongs to no release"
            yield Mismatch("index", what, "take it away", partial(project.index.untag, tag))


def _note(project: Project) -> Iterator[Mismatch]:
    """artifacts/index.json names a version that the table has."""
    note = project.workspace.artifacts / "index.json"
    if not note.is_file():
        return
    try:
        version = BuiltIndex.read(note).version
        problem = (
            None
            if project.index.has_version(version)
            else f"the index at {project.workspace.index_uri} has no version {version}"
        )
    except UserError as unreadable:
        problem = str(unreadable)
    if problem:
        yield Mismatch("artifacts/index.json", problem, "remove it: `ragtide run` writes it anew", note.unlink)


def _remains(project: Project) -> Iterator[Mismatch]:
    """What killed runs leave: files of a writer, and runs that still say that they are at work."""
    table = local_table_folder(project.workspace.index_uri)
    files = list(orphaned_files(table.parent)) if table is not None else []
    if files:
        what = f"{len(files)} files of killed writers"
        yield Mismatch("index", what, "remove them", partial(remove_paths, files))
    for run in project.registry.running_cycles():
        what = f"{run.name} says that it is running"
        yield Mismatch("history", what, "close it as killed", partial(project.registry.close_killed, run))
