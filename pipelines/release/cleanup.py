"""What of all that was built does nothing need any more? Upkeep of the index, and of retrievers that nobody asks."""

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
from ragtide.pipelines.reports.markdown import markdown_table
from ragtide.pipelines.workspace import Workspace


def maintain_project(project: Project, dry_run: bool = False) -> list[MaintenanceStep]:
    """Every step of upkeep, done or only told; empty before anything is built. The project must be held for writing."""
    live = project.registry.champion()
    # The vectors that grow are those of the retriever that is live.
    embedder = project.embedder_for(live.index.tuned_embedder).embedder if live else project.models.embedder
    steps = maintain_index(project.workspace, embedder, dry_run)
    return [*steps, _sweep_models(project, dry_run)] if steps else []


@dataclass(frozen=True)
class StoreSize:
    """What a part of a project takes on this machine's disk."""

    what: str
    path: Path
    bytes: int


def store_sizes(workspace: Workspace, prefect_database: Path) -> list[StoreSize]:
    """How large index, databases and stores are, largest first. What lies in a bucket or on a server is not in it."""
    places = {
        "index": workspace.state / "lance",
        "MLflow's database": workspace.state / "mlflow.db",
        "MLflow's artifacts": workspace.state / "mlartifacts",
        "adapters": workspace.adapters,
        "tuned retrievers": workspace.tuned_embedders,
        "DVC's cache": workspace.root / ".dvc" / "cache",
        "Prefect's database": prefect_database,
    }
    found = [StoreSize(what, path, _bytes(path)) for what, path in places.items() if path.exists()]
    return sorted(found, key=lambda one: -one.bytes)


def store_sizes_markdown(found: Sequence[StoreSize]) -> str:
    """A row for each."""
    return markdown_table(
        ("what", "MB", "where"), [(one.what, f"{one.bytes / 1e6:.1f}", f"`{one.path}`") for one in found]
    )


def _bytes(path: Path) -> int:
    """A file of a store that is in use may vanish while it is being counted."""
    total = 0
    for file in path.rglob("*") if path.is_dir() else (path,):
        with suppress(OSError):
            total += file.lstat().st_size if not file.is_dir() else 0
    return total


def _sweep_models(project: Project, dry_run: bool) -> MaintenanceStep:
    """A tuned retriever is a hundred megabytes; one that goes is still in the MLflow run that made it."""
    days = project.workspace.params.maintenance.keep_days
    retrievers, halves = _idle_retrievers(project, days), list(_halves(project))
    if retrievers or halves:
        why = f"{len(retrievers)} tuned retrievers older than {days:g} days that no release was made with"
        why += f"; {len(halves)} folders of killed writers" if halves else ""
    else:
        why = f"every tuned retriever is a release's, or younger than {days:g} days"
    if not dry_run:
        remove_paths([*retrievers, *halves])
    return MaintenanceStep(step="sweep models", done=bool(retrievers or halves) and not dry_run, why=why)


def _idle_retrievers(project: Project, days: float) -> list[Path]:
    """Those that the gate refused, or whose release was struck off; not one that artifacts/index.json still names."""
    before = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    old = [path for path in _folders(project.workspace.tuned_embedders) if path.stat().st_mtime < before]
    if not old:
        return []
    noted = last_built_index(project.workspace)
    built = [release.index for release in project.registry.releases()] + ([noted] if noted else [])
    needed = {one.tuned_embedder.digest for one in built if one.tuned_embedder}
    return [path for path in old if path.name not in needed and not path.name.startswith(PARTIAL_PREFIX)]


def _halves(project: Project) -> Iterable[Path]:
    """With the project held for writing, these can be nobody else's."""
    space = project.workspace
    for folder in (space.state, space.adapters, space.tuned_embedders, space.artifacts):
        yield from (path for path in _folders(folder) if path.name.startswith(PARTIAL_PREFIX))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
