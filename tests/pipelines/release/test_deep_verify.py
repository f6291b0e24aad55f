"""Tests of deep verification: damaged contents of DVC's cache, of embedders and of the index are named and repaired."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ragtide.pipelines.data.dvc import run_dvc
from ragtide.pipelines.data.dvc_cache import cached_object, is_damaged
from ragtide.pipelines.data.snapshot import record_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.fingerprint import local_table_folder
from ragtide.pipelines.models.weights import weights_digest
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import BuiltEmbedder
from ragtide.pipelines.release import deep_verify
from ragtide.pipelines.release.deep_verify import verify_contents
from ragtide.pipelines.release.verify import Mismatch, repair_mismatches, verify_project
from tests.conftest import write_project
from tests.factories import release, write
from tests.pipelines.release.test_verify import OLD, fill, trained
from tests.projects import release_of


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a live release whose data DVC has versioned."""
    root = write_project(tmp_path_factory.mktemp("deep") / "project")
    fill(root, OLD)
    project = Project.open(root, no_progress)
    record_snapshot(project.workspace)
    release_of(project, trained(project, "first"))
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    shutil.copytree(template, tmp_path / "project")
    return Project.open(tmp_path / "project", no_progress)


def pump(project: Project) -> str:
    """The digest of the live release's document pump.md."""
    return project.registry.live().snapshot.documents["pump.md"]


def rot(path: Path, before: bytes, after: bytes) -> None:
    """Change bytes of a file in place, as a failing disk does."""
    content = path.read_bytes()
    assert before in content
    path.chmod(0o644)
    path.write_bytes(content.replace(before, after))
    path.chmod(0o444)


def damages(project: Project) -> list[Mismatch]:
    return list(verify_contents(project))


def test_whole_contents_have_no_mismatch(project: Project) -> None:
    assert damages(project) == []


def test_a_damaged_object_is_restored_from_the_data_folder(project: Project) -> None:
    object_ = cached_object(project.workspace.root, pump(project))
    intact = object_.read_bytes()
    rot(object_, b"Pump", b"Pumb")
    [damage] = damages(project)
    assert damage.where == "DVC's cache"
    assert str(object_) in damage.what
    assert "kb/pump.md" in damage.what
    assert repair_mismatches([damage]) == ([damage], [])
    assert object_.read_bytes() == intact
    assert damages(project) == []


def test_a_damaged_object_without_another_copy_is_set_aside_and_not_restored(project: Project) -> None:
    workspace, digest = project.workspace, pump(project)
    rot(cached_object(workspace.root, digest), b"Pump", b"Pumb")
    (workspace.kb / "pump.md").unlink()
    [damage] = damages(project)
    assert repair_mismatches([damage]) == ([damage], [])
    assert b"Pumb" in (workspace.state / "damaged" / digest).read_bytes()
    with pytest.raises(UserError):
        run_dvc(workspace.root, ["checkout", "-f", "data/kb.dvc"])
    assert not (workspace.kb / "pump.md").exists()
    # What the live release needs and nobody has stays a mismatch.
    [missing] = damages(project)
    assert (missing.repair, "missing" in missing.what) == (None, True)


def test_a_damaged_list_of_a_folder_is_written_again(project: Project) -> None:
    kept = cached_object(project.workspace.root, project.registry.live().snapshot.kb_id)
    intact = kept.read_bytes()
    rot(kept, b"pump.md", b"../evil")
    [damage] = damages(project)
    repair_mismatches([damage])
    assert kept.read_bytes() == intact
    assert damages(project) == []


def test_a_missing_object_of_the_live_release_is_cached_again(project: Project) -> None:
    cached_object(project.workspace.root, pump(project)).unlink()
    [damage] = damages(project)
    repair_mismatches([damage])
    assert not is_damaged(project.workspace.root, pump(project))
    assert damages(project) == []


def test_a_damaged_text_in_the_index_is_named_with_its_document(project: Project) -> None:
    folder = local_table_folder(project.workspace.index_uri)
    assert folder is not None
    for file in (folder / "data").glob("*.lance"):
        if b"End of life" in file.read_bytes():
            rot(file, b"End of life: 2029", b"End of life: 2099")
    [damage] = damages(Project.open(project.workspace.root, no_progress))
    assert "tank.md" in damage.what


def test_a_damaged_cache_of_vectors_is_deleted_and_filled_again(project: Project) -> None:
    [cache] = Path(project.workspace.index_uri).glob("vectors-*.lance")
    for file in (cache / "data").glob("*.lance"):
        file.write_bytes(file.read_bytes()[:20])
    reopened = Project.open(project.workspace.root, no_progress)
    [damage] = [mismatch for mismatch in verify_project(reopened) if cache.stem in mismatch.what]
    assert repair_mismatches([damage]) == ([damage], [])
    reopened = Project.open(project.workspace.root, no_progress)
    assert not [mismatch for mismatch in verify_project(reopened) if cache.stem in mismatch.what]
    release_of(reopened, reopened.registry.live().model)


def test_damaged_weights_of_an_embedder_are_named_although_size_and_time_are_the_same(project: Project) -> None:
    made = write(project.workspace.tuned_embedders / "new" / "model.safetensors", "weights").parent
    digest = weights_digest(made)
    folder = made.rename(made.with_name(digest))
    weights_digest(folder)
    tuned = BuiltEmbedder(digest=digest, base="b", settings="s", pairs=1, sketch=(), steps=1, final_loss=0.1, seconds=1)
    built = release()
    built = built.model_copy(update={"index": built.index.model_copy(update={"tuned_embedder": tuned})})
    assert list(deep_verify._check_embedders(project, [built])) == []

    file = folder / "model.safetensors"
    before = file.stat()
    file.write_text("wEights", encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    [damage] = deep_verify._check_embedders(project, [built])
    assert str(folder) in damage.what
    # MLflow does not have it either: nothing is lost by the attempt.
    assert repair_mismatches([damage])[0] == []
    assert file.read_text(encoding="utf-8") == "wEights"
