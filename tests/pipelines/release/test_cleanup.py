"""Tests of project maintenance: deletion of unreferenced embedders and partial folders, and store sizes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ragtide.pipelines.build import write_index_artifact
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.base import PARTIAL_PREFIX
from ragtide.pipelines.records.release import BuiltEmbedder, MaintenanceStep
from ragtide.pipelines.registry.releases import DAMAGED
from ragtide.pipelines.release.cleanup import StoreSize, maintain_project, store_sizes, store_sizes_markdown
from tests.conftest import write_project
from tests.factories import BASE, write
from tests.projects import release_of

DAY = 24 * 3600


def tuned(name: str) -> BuiltEmbedder:
    return BuiltEmbedder(
        digest=name, base="b", settings="s", pairs=2, sketch=(), steps=1, final_loss=0.1, seconds=1.0, run="none"
    )


def weights(project: Project, name: str, days: float) -> Path:
    """The folder of a fine-tuned embedder, last changed so many days ago."""
    folder = write(project.workspace.tuned_embedders / name / "model.safetensors", name).parent
    then = time.time() - days * DAY
    os.utime(folder, (then, then))
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases 1 and 2 have different fine-tuned embedders; release 3, which is live, has none."""
    project = Project.open(write_project(tmp_path_factory.mktemp("cleanup") / "project"), no_progress)
    write(project.workspace.kb / "pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    for name in ("first", "second"):
        weights(project, name, days=30)
        release_of(project, BASE, tuned(name))
    release_of(project, BASE)
    return project.workspace.root


@pytest.fixture
def opened(template: Path, tmp_path: Path) -> Project:
    shutil.copytree(template, tmp_path / "project")
    return Project.open(tmp_path / "project", no_progress)


def step(project: Project, dry_run: bool = False) -> MaintenanceStep:
    return maintain_project(project, dry_run)[-1]


def kept(project: Project) -> list[str]:
    return sorted(path.name for path in project.workspace.tuned_embedders.iterdir())


def test_embedders_of_releases_are_kept_whatever_their_age(opened: Project) -> None:
    done = step(opened)
    assert (done.step, done.done) == ("delete unreferenced models", False)
    assert "7 days" in done.why
    assert kept(opened) == ["first", "second"]


@pytest.mark.parametrize(("days", "stays"), [(6, True), (8, False)])
def test_the_embedder_of_a_rejected_candidate_is_deleted_once_it_is_old(
    opened: Project, days: int, stays: bool
) -> None:
    folder = weights(opened, "rejected", days)
    done = step(opened)
    assert (folder.is_dir(), done.done) == (stays, not stays)
    assert kept(opened) == ["first", *(["rejected"] if stays else []), "second"]


def test_an_embedder_that_the_index_artifact_names_is_kept(opened: Project) -> None:
    weights(opened, "last-built", days=30)
    live = opened.registry.champion()
    assert live is not None
    write_index_artifact(opened.workspace, live.index.model_copy(update={"tuned_embedder": tuned("last-built")}))
    assert not step(opened).done
    assert "last-built" in kept(opened)


def test_the_embedder_of_a_damaged_release_is_deleted(opened: Project) -> None:
    opened.registry.tag_release("1", {DAMAGED: "its rows are missing"})
    assert step(opened).why.startswith("1 fine-tuned embedders")
    assert kept(opened) == ["second"]


def test_partial_folders_are_deleted_whatever_their_age(opened: Project) -> None:
    space = opened.workspace
    for folder in (space.state, space.adapters, space.tuned_embedders, space.artifacts):
        write(folder / f"{PARTIAL_PREFIX}model-abc" / "new" / "half", "half")
    done = step(opened)
    assert done.why.startswith("0 fine-tuned embedders")
    assert "4 partial folders" in done.why
    assert not list(space.root.rglob(f"{PARTIAL_PREFIX}*"))
    assert kept(opened) == ["first", "second"]


def test_a_dry_run_reports_the_same_and_deletes_nothing(opened: Project) -> None:
    weights(opened, "rejected", days=30)
    write(opened.workspace.state / f"{PARTIAL_PREFIX}adapter.new-abc" / "half", "half")
    would = step(opened, dry_run=True)
    assert not would.done
    assert kept(opened) == ["first", "rejected", "second"]
    done = step(opened)
    assert (done.done, done.why) == (True, would.why)
    assert kept(opened) == ["first", "second"]


def test_every_release_can_still_be_served(opened: Project) -> None:
    weights(opened, "rejected", days=30)
    step(opened)
    for release in opened.registry.releases():
        opened.check_servable(release)


def test_before_anything_is_built_there_is_no_maintenance(tmp_path: Path) -> None:
    project = Project.open(write_project(tmp_path / "new"), no_progress)
    assert maintain_project(project) == []
    assert not project.workspace.tuned_embedders.exists()


def test_sizes_of_existing_stores_are_listed_largest_first(tmp_path: Path) -> None:
    space = Project.open(write_project(tmp_path / "project"), no_progress).workspace
    write(space.state / "lance" / "data" / "a.lance", "x" * 300)
    write(space.state / "mlflow.db", "x" * 500)
    database = write(tmp_path / "prefect.db", "x" * 100)
    sizes = store_sizes(space, database)
    assert [(size.store, size.bytes) for size in sizes] == [
        ("MLflow database", 500),
        ("index", 300),
        ("Prefect database", 100),
    ]


def test_each_store_has_a_row() -> None:
    page = store_sizes_markdown([StoreSize("index", Path("/x/lance"), 2_340_000)])
    assert page.splitlines()[-1] == "| index | 2.3 | `/x/lance` |"
