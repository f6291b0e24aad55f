"""Consistency check of index, tags, registry and snapshots: every mismatch with its place and a safe repair."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ragtide.pipelines.data.dvc import damaged_state_files, database_damage
from ragtide.pipelines.data.hashing import folder_hash
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.index.fingerprint import local_table_folder
from ragtide.pipelines.index.maintenance import orphaned_files, remove_paths
from ragtide.pipelines.index.rows import rows_digest
from ragtide.pipelines.models.adapters import adapter_digest
from ragtide.pipelines.models.weights import weights_digest
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.base import PARTIAL_PREFIX
from ragtide.pipelines.records.release import BuiltEmbedder, BuiltIndex, Release
from ragtide.pipelines.registry.backup import describe_way_back, is_emptied, restore_backup, set_database_aside
from ragtide.pipelines.registry.releases import DAMAGED
from ragtide.pipelines.release.publish import RELEASE_TAG
from ragtide.pipelines.release.rollback import roll_back
from ragtide.pipelines.workspace import Workspace

# How much of a library's error a mismatch quotes, in characters.
QUOTED_CHARACTERS = 160


@dataclass(frozen=True)
class Mismatch:
    """Two things that should agree and do not; `repair` corrects it, or is None where only the user can."""

    where: str
    what: str
    remedy: str
    repair: Callable[[], object] | None = None


def verify_project(project: Project) -> list[Mismatch]:
    """Return every mismatch, those of the live release first. Changes nothing."""
    live = project.registry.live_release_id()
    releases = sorted(project.registry.releases(), key=lambda release: (release.id != live, int(release.id)))
    mismatches = [*_check_pointer(project, releases, live)]
    for release in releases:
        mismatches += _check_index(project, release, is_live=release.id == live)
    mismatches += [*_check_adapters(project, releases, live), *_check_snapshots(project, releases)]
    mismatches += [*_check_tags(project, releases), *_check_index_artifact(project), *_check_remains(project)]
    return mismatches


def verify_databases(workspace: Workspace, prefect_database: Path) -> list[Mismatch]:
    """Return the damaged databases, without which nothing else can be checked. Changes nothing."""
    mlflow = workspace.mlflow_database
    mismatches = []
    if damage := "the file is empty" if is_emptied(mlflow) else database_damage(mlflow):
        what = f"MLflow's database {mlflow} is damaged ({damage})"
        mismatches.append(Mismatch("registry", what, describe_way_back(mlflow), partial(restore_backup, mlflow)))
    if damage := database_damage(prefect_database):
        what = f"Prefect's database {prefect_database} is damaged ({damage})"
        remedy = "move it aside: Prefect creates a new one, and `ragtide up` deploys again; past flow runs are lost"
        mismatches.append(Mismatch("Prefect", what, remedy, partial(set_database_aside, prefect_database)))
    return mismatches


def repair_mismatches(mismatches: list[Mismatch]) -> tuple[list[Mismatch], list[tuple[Mismatch, str]]]:
    """Repair what can be repaired: (repaired, remaining with the reason). The caller must hold the writer lease."""
    repaired: list[Mismatch] = []
    remaining: list[tuple[Mismatch, str]] = []
    for mismatch in mismatches:
        if mismatch.repair is None:
            remaining.append((mismatch, mismatch.remedy))
            continue
        try:
            mismatch.repair()
            repaired.append(mismatch)
        except (UserError, OSError) as problem:
            remaining.append((mismatch, str(problem)))
    return repaired, remaining


def _check_pointer(project: Project, releases: list[Release], live: str | None) -> Iterator[Mismatch]:
    """The alias must name a complete release."""
    if live is None or live in {release.id for release in releases}:
        return
    what = f"the live release {live} was never recorded completely"
    if not releases:
        yield Mismatch("registry", what, "run `ragtide run`, which makes a new release")
        return
    newest = max(releases, key=lambda release: int(release.id))
    repair = partial(project.registry.set_live, newest)
    yield Mismatch("registry", what, f"make release {newest.id}, the newest complete one, live", repair)


def _check_index(project: Project, release: Release, is_live: bool) -> Iterator[Mismatch]:
    """A release's index version must exist under its tag, with the rows that it had when it was released."""
    index, version, tag = project.index, release.index.version, release.index_tag
    where = f"index of release {release.id}" + (" (live)" if is_live else "")
    tagged = index.tags().get(tag)
    damage = _index_damage(project, release, version)
    if damage and is_live:
        rollback = _rollback_to_intact(project, release)
        remedy = "roll back to an intact release" if rollback else "run `ragtide run`, which rebuilds the index"
        yield Mismatch(where, damage, remedy, rollback)
    elif damage:
        repair = partial(_mark_damaged, project, release, damage)
        yield Mismatch(where, damage, "mark the release as damaged, so that nobody rolls back to it", repair)
    elif tagged is None:
        yield Mismatch(where, f"the tag {tag} is missing", "set the tag again", partial(index.tag, tag, version))
    elif tagged != version:
        what = f"the tag {tag} names index version {tagged} instead of {version}"
        yield Mismatch(where, what, f"move the tag to version {version}", partial(index.retag, tag, version))


def _index_damage(project: Project, release: Release, version: int) -> str | None:
    """Return what is wrong with the rows of a release, or None where they are those that were released."""
    index = project.index
    try:
        rows = index.rows(version)
        if rows_digest(rows) != release.content:
            return (
                f"index version {version} has {len(rows)} rows that are not "
                f"the {release.index.rows} rows that were released"
            )
        return "; ".join(index.defects(version)) or None
    except UserError as problem:
        return str(problem)
    except (RuntimeError, ValueError, OSError) as problem:
        return f"index version {version} cannot be read ({summarize_error(problem)[:QUOTED_CHARACTERS]})"


def _rollback_to_intact(project: Project, live: Release) -> Callable[[], object] | None:
    """Return the rollback to the newest intact release before the live one, or None where there is none."""
    for release in reversed(project.registry.releases()):
        is_intact = int(release.id) < int(live.id) and not _index_damage(project, release, release.index.version)
        if is_intact and not _adapter_damage(project, release):
            return partial(_roll_back_and_mark, project, live, release)
    return None


def _roll_back_and_mark(project: Project, live: Release, target: Release) -> None:
    why = "`ragtide verify --repair`: the index of the live release is damaged"
    roll_back(project.registry, target.id, why, project.check_servable)
    _mark_damaged(project, live, why)


def _mark_damaged(project: Project, release: Release, why: str) -> None:
    """Exclude a release from rollback, and drop its tag, which would keep its index version from being pruned."""
    project.registry.tag_release(release.id, {DAMAGED: why})
    if project.index.has_tag(release.index_tag):
        project.index.untag(release.index_tag)


def _check_adapters(project: Project, releases: list[Release], live: str | None) -> Iterator[Mismatch]:
    """Each release's adapter must be on this machine, with the weights that its name stands for."""
    for release in releases:
        damage = _adapter_damage(project, release)
        if damage:
            where = f"adapter of release {release.id}" + (" (live)" if release.id == live else "")
            yield Mismatch(where, damage, "download it from MLflow", partial(_replace_adapter, project, release))


def _adapter_damage(project: Project, release: Release) -> str | None:
    if release.model.adapter is None:
        return None
    folder = project.workspace.adapters / release.model.adapter
    if not folder.is_dir():
        return f"the adapter {release.model.adapter} is not on this machine"
    if adapter_digest(folder) != release.model.adapter:
        return f"the weights of the adapter {release.model.adapter} are not those that its name, a digest, stands for"
    return None


def _replace_adapter(project: Project, release: Release) -> None:
    """Download an adapter."""
    folder = project.workspace.adapters / str(release.model.adapter)
    _replace_folder(folder, partial(project.registry.fetch_adapter, release, folder))
    if damage := _adapter_damage(project, release):
        raise UserError(f"{damage}, nor are those in MLflow: `ragtide rollback --to` an intact release, or retrain")


def replace_embedder(project: Project, tuned: BuiltEmbedder) -> None:
    """Download a fine-tuned embedder again. Raises UserError where MLflow does not have the weights either."""
    folder = project.workspace.tuned_embedders / tuned.digest
    _replace_folder(folder, partial(project.registry.fetch_embedder, tuned, folder))
    if weights_digest(folder, reread=True) != tuned.digest:
        raise UserError(f"the weights of {folder} are damaged, also in MLflow: `ragtide rollback --to` another release")


def _replace_folder(folder: Path, fetch: Callable[[], None]) -> None:
    """Fetch a folder; a damaged one is moved away first, and back where it cannot be fetched."""
    damaged = folder.with_name(f"{PARTIAL_PREFIX}{folder.name}")
    if folder.is_dir():
        folder.replace(damaged)
    try:
        fetch()
    finally:
        if damaged.is_dir() and not folder.is_dir():
            damaged.replace(folder)
        shutil.rmtree(damaged, ignore_errors=True)


def _check_snapshots(project: Project, releases: list[Release]) -> Iterator[Mismatch]:
    """The manifest of a release's snapshot must exist, and its id must be the digest of its files."""
    for snapshot in {release.snapshot.id: release.snapshot for release in releases}.values():
        if folder_hash(snapshot.documents) != snapshot.kb_id:
            what = f"snapshot {snapshot.id} does not list the documents that its id stands for"
            yield Mismatch("snapshot", what, "run `ragtide run`, which takes a new snapshot")
        file = project.workspace.snapshot_file(snapshot.id)
        if not file.is_file():
            yield Mismatch("snapshot", f"the file {file} is missing", "write it again", partial(snapshot.write, file))


def _check_tags(project: Project, releases: list[Release]) -> Iterator[Mismatch]:
    """A tag without a release is left by a run that was killed between setting the tag and moving the pointer."""
    known = {release.index_tag for release in releases}
    for tag in sorted(project.index.tags()):
        if tag.startswith(RELEASE_TAG) and tag not in known:
            what = f"the tag {tag} belongs to no release"
            yield Mismatch("index", what, "delete the tag", partial(project.index.untag, tag))


def _check_index_artifact(project: Project) -> Iterator[Mismatch]:
    """The file artifacts/index.json must name an existing version of the index."""
    file = project.workspace.index_artifact
    if not file.is_file():
        return
    problem = None
    try:
        version = BuiltIndex.read(file).version
        if not project.index.has_version(version):
            problem = f"it names version {version}, which the index at {project.workspace.index_uri} does not have"
    except UserError as unreadable:
        problem = str(unreadable)
    if problem:
        yield Mismatch("artifacts/index.json", problem, "delete it: `ragtide run` writes a new one", file.unlink)


def _check_remains(project: Project) -> Iterator[Mismatch]:
    """Killed runs leave unfinished files, and MLflow runs that are still recorded as running."""
    table = local_table_folder(project.workspace.index_uri)
    files = list(orphaned_files(table.parent)) if table is not None else []
    if files:
        what = f"{len(files)} unfinished files of killed writers"
        yield Mismatch("index", what, "delete them", partial(remove_paths, files))
    for name, problem in project.index.damaged_caches().items():
        what = f"the cache {name} of vectors cannot be read ({problem[:QUOTED_CHARACTERS]})"
        yield Mismatch(
            "index", what, "delete it: the next build fills it again", partial(project.index.drop_cache, name)
        )
    for file in damaged_state_files(project.workspace.root):
        yield Mismatch("DVC", f"its working file {file} is damaged", "delete it: DVC makes it again", file.unlink)
    for cycle in project.registry.running_cycles():
        what = f"{cycle.name} is recorded as running, but its process has ended"
        yield Mismatch("history", what, "record it as killed", partial(project.registry.close_killed, cycle))
