"""Project maintenance: index compaction, and deletion of unreferenced embedders and partial folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ragtide.pipelines.build import maintain_index
from ragtide.pipelines.index.fingerprint import last_built_index
from ragtide.pipelines.index.maintenance import remove_paths
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.base import PARTIAL_PREFIX
from ragtide.pipelines.records.release import MaintenanceStep
from ragtide.pipelines.release.retention import delete_expired
from ragtide.pipelines.reports.markdown import markdown_table
from ragtide.pipelines.workspace import Workspace


def maintain_project(project: Project, dry_run: bool = False) -> list[MaintenanceStep]:
    """Run every maintenance step, or with `dry_run` only report it; none where there is nothing to maintain.

    The caller must hold the writer lease.
    """
    expired = delete_expired(project, dry_run)
    live = project.registry.champion()
    # The vector cache grows by the vectors of the live embedder.
    embedder = project.embedder_for(live.index.tuned_embedder).embedder if live else project.models.embedder
    steps = maintain_index(project.workspace, embedder, dry_run)
    if steps:
        return [
            *steps,
            *(content.step(dry_run) for content in expired),
            _delete_unreferenced_models(project, dry_run),
        ]
    return [content.step(dry_run) for content in expired if content.count]


@dataclass(frozen=True)
class StoreSize:
    """The disk space that one of a project's stores takes on this machine."""

    store: str
    path: Path
    bytes: int


def store_sizes(workspace: Workspace, prefect_database: Path) -> list[StoreSize]:
    """Return the sizes of index, databases and caches, largest first, without what is in a bucket or on a server."""
    stores = {
        "index": workspace.state / "lance",
        "MLflow database": workspace.state / "mlflow.db",
        "MLflow artifacts": workspace.state / "mlartifacts",
        "adapters": workspace.adapters,
        "fine-tuned embedders": workspace.tuned_embedders,
        "DVC cache": workspace.root / ".dvc" / "cache",
        "Prefect database": prefect_database,
    }
    sizes = [StoreSize(store, path, _bytes(path)) for store, path in stores.items() if path.exists()]
    return sorted(sizes, key=lambda size: -size.bytes)


def store_sizes_markdown(sizes: Sequence[StoreSize]) -> str:
    """Return a table with one row per store."""
    return markdown_table(
        ("store", "MB", "path"), [(size.store, f"{size.bytes / 1e6:.1f}", f"`{size.path}`") for size in sizes]
    )


def _bytes(path: Path) -> int:
    """Return the size of a file or folder; a store's file may disappear while it is counted, and then counts 0."""
    total = 0
    for file in path.rglob("*") if path.is_dir() else (path,):
        with suppress(OSError):
            total += file.lstat().st_size if not file.is_dir() else 0
    return total


def _delete_unreferenced_models(project: Project, dry_run: bool) -> MaintenanceStep:
    """Delete fine-tuned embedders of about 100 MB each; the MLflow run that trained one still has it."""
    days = project.workspace.params.maintenance.keep_days
    embedders, partial = _unreferenced_embedders(project, days), list(_partial_folders(project))
    if embedders or partial:
        why = f"{len(embedders)} fine-tuned embedders are older than {days:g} days and in no release"
        why += f"; {len(partial)} partial folders were left by killed writers" if partial else ""
    else:
        why = f"every fine-tuned embedder is in a release or at most {days:g} days old"
    if not dry_run:
        remove_paths([*embedders, *partial])
    return MaintenanceStep(step="delete unreferenced models", done=bool(embedders or partial) and not dry_run, why=why)


def _unreferenced_embedders(project: Project, days: float) -> list[Path]:
    """Return the embedders of rejected candidates and damaged releases, unless artifacts/index.json names them."""
    before = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    old = [path for path in _folders(project.workspace.tuned_embedders) if path.stat().st_mtime < before]
    if not old:
        return []
    last_built = last_built_index(project.workspace)
    indexes = [release.index for release in project.registry.releases()] + ([last_built] if last_built else [])
    needed = {index.tuned_embedder.digest for index in indexes if index.tuned_embedder}
    return [path for path in old if path.name not in needed and not path.name.startswith(PARTIAL_PREFIX)]


def _partial_folders(project: Project) -> Iterable[Path]:
    """Yield unfinished folders; with the writer lease held, no process is still writing them."""
    space = project.workspace
    for folder in (space.state, space.adapters, space.tuned_embedders, space.artifacts):
        yield from (path for path in _folders(folder) if path.name.startswith(PARTIAL_PREFIX))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
