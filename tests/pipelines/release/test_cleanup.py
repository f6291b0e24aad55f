"""Does the disk become free of what no release needs, and of nothing else?"""

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
from ragtide.pipelines.registry.releases import LOST
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
    """A tuned retriever's folder, of so many days ago."""
    folder = write(project.workspace.tuned_embedders / name / "model.safetensors", name).parent
    then = time.time() - days * DAY
    os.utime(folder, (then, then))
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1 was made with a tuned retriever, release 2 with another, release 3, which is live, with none."""
    project = Project.open(write_project(tmp_path_factory.mktemp("upkeep") / "told"), no_progress)
    write(project.workspace.kb / "pump.md", "# Pump\n\n- End of life: 2027-01-01\n")
    for name in ("first", "second"):
        weights(project, name, days=30)
        release_of(project, BASE, tuned(name))
    release_of(project, BASE)
    return project.workspace.root


@pytest.fixture
def opened(told: Path, tmp_path: Path) -> Project:
    shutil.copytree(told, tmp_path / "told")
    return Project.open(tmp_path / "told", no_progress)


def step(project: Project, dry_run: bool = False) -> MaintenanceStep:
    return maintain_project(project, dry_run)[-1]


def kept(project: Project) -> list[str]:
    return sorted(path.name for path in project.workspace.tuned_embedders.iterdir())


def test_the_retrievers_of_releases_stay_however_old_and_whichever_is_live(opened: Project) -> None:
    done = step(opened)
    assert done == MaintenanceStep(
        step="sweep models", done=False, why="every tuned retriever is a release's, or younger than 7 days"
    )
    assert kept(opened) == ["first", "second"]


@pytest.mark.parametrize(("days", "stays"), [(6, True), (8, False)])
def test_one_that_was_refused_goes_once_it_is_old(opened: Project, days: int, stays: bool) -> None:
    folder = weights(opened, "refused", days)
    done = step(opened)
    assert (folder.is_dir(), done.done) == (stays, not stays)
    assert kept(opened) == ["first", *(["refused"] if stays else []), "second"]


def test_one_that_the_note_of_the_index_names_stays(opened: Project) -> None:
    weights(opened, "noted", days=30)
    live = opened.registry.champion()
    assert live is not None
    write_index_artifact(opened.workspace, live.index.model_copy(update={"tuned_embedder": tuned("noted")}))
    assert not step(opened).done
    assert "noted" in kept(opened)


def test_one_whose_release_was_struck_off_goes(opened: Project) -> None:
    opened.registry.tag_release("1", {LOST: "its rows are gone"})
    assert step(opened).why == "1 tuned retrievers older than 7 days that no release was made with"
    assert kept(opened) == ["second"]


def test_what_a_killed_writer_left_goes_at_once(opened: Project) -> None:
    space = opened.workspace
    for folder in (space.state, space.adapters, space.tuned_embedders, space.artifacts):
        write(folder / f"{PARTIAL_PREFIX}model-abc" / "new" / "half", "half")
    done = step(opened)
    assert done.why == (
        "0 tuned retrievers older than 7 days that no release was made with; 4 folders of killed writers"
    )
    assert not list(space.root.rglob(f"{PARTIAL_PREFIX}*"))
    assert kept(opened) == ["first", "second"]


def test_a_dry_run_says_the_same_and_does_nothing(opened: Project) -> None:
    weights(opened, "refused", days=30)
    write(opened.workspace.state / f"{PARTIAL_PREFIX}adapter.new-abc" / "half", "half")
    would = step(opened, dry_run=True)
    assert not would.done
    assert kept(opened) == ["first", "refused", "second"]
    done = step(opened)
    assert (done.done, done.why) == (True, would.why)
    assert kept(opened) == ["first", "second"]


def test_one_can_still_go_back_to_every_release(opened: Project) -> None:
    weights(opened, "refused", days=30)
    step(opened)
    for release in opened.registry.releases():
        opened.check_servable(release)


def test_before_anything_is_built_there_is_nothing_to_keep_up(tmp_path: Path) -> None:
    project = Project.open(write_project(tmp_path / "new"), no_progress)
    assert maintain_project(project) == []
    assert not project.workspace.tuned_embedders.exists()


def test_sizes_are_told_largest_first_of_what_is_there(tmp_path: Path) -> None:
    space = Project.open(write_project(tmp_path / "project"), no_progress).workspace
    write(space.state / "lance" / "data" / "a.lance", "x" * 300)
    write(space.state / "mlflow.db", "x" * 500)
    database = write(tmp_path / "prefect.db", "x" * 100)
    found = store_sizes(space, database)
    assert [(one.what, one.bytes) for one in found] == [
        ("MLflow's database", 500),
        ("index", 300),
        ("Prefect's database", 100),
    ]


def test_sizes_are_a_row_each() -> None:
    page = store_sizes_markdown([StoreSize("index", Path("/x/lance"), 2_340_000)])
    assert page.splitlines()[-1] == "| index | 2.3 | `/x/lance` |"
