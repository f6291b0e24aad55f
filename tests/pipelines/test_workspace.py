"""Tests of a project's paths: distinct, below its root, and created only when needed; and of its write lock."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import Params
from ragtide.pipelines.workspace import Workspace
from tests.factories import workspace, write

DIGESTS = st.text("0123456789abcdef", min_size=12, max_size=12)


def paths_of(project: Workspace) -> dict[str, Path]:
    return {
        "kb": project.kb,
        "train": project.train,
        "golden": project.golden,
        "state": project.state,
        "adapters": project.adapters,
        "artifacts": project.artifacts,
        "snapshot": project.snapshot_file("abc.dir"),
        "plan": project.plan_file("abc"),
    }


def test_all_paths_are_distinct_and_below_the_root(tmp_path: Path) -> None:
    paths = paths_of(Workspace(tmp_path, Params()))
    assert all(path.is_relative_to(tmp_path) and path != tmp_path for path in paths.values())
    assert len(set(paths.values())) == len(paths)


def test_data_is_below_data_and_state_below_one_hidden_folder(tmp_path: Path) -> None:
    paths = paths_of(Workspace(tmp_path, Params()))
    assert {paths[name].parent for name in ("kb", "train", "golden")} == {tmp_path / "data"}
    assert all(paths[name].is_relative_to(tmp_path / ".ragtide") for name in ("state", "adapters", "snapshot", "plan"))
    # DVC must be able to version the outputs of its stages.
    assert not paths["artifacts"].is_relative_to(tmp_path / ".ragtide")


@pytest.mark.parametrize("folder", ["kb", "train", "golden"])
def test_data_folders_follow_the_settings(folder: str, tmp_path: Path) -> None:
    default = Workspace(tmp_path, Params())
    changed = workspace(tmp_path, data={folder: "elsewhere/deep"})
    assert paths_of(changed)[folder] == tmp_path / "elsewhere" / "deep"
    assert {name for name, path in paths_of(changed).items() if path != paths_of(default)[name]} == {folder}


@settings(derandomize=True, deadline=None)
@given(DIGESTS, DIGESTS)
def test_each_snapshot_and_each_plan_has_its_own_file(first: str, second: str) -> None:
    project = Workspace(Path("/project"), Params())
    for path_of in (project.snapshot_file, project.plan_file):
        assert (path_of(first) == path_of(second)) is (first == second)
    assert project.snapshot_file(first) != project.plan_file(first)


def test_two_projects_share_no_path(tmp_path: Path) -> None:
    first, second = (Workspace(tmp_path / name, Params()) for name in ("first", "second"))
    assert not set(paths_of(first).values()) & set(paths_of(second).values())
    assert first.index_uri != second.index_uri
    assert first.tracking_uri != second.tracking_uri


def test_a_project_is_opened_with_the_settings_of_its_file(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", "index: {top_k: 7}\n")
    opened = Workspace.open(tmp_path)
    assert opened.params.index.top_k == 7
    assert opened == Workspace(tmp_path.resolve(), opened.params)


def test_a_project_is_the_same_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "project" / "params.yaml", "")
    (tmp_path / "link").symlink_to(tmp_path / "project", target_is_directory=True)
    monkeypatch.chdir(tmp_path / "project")
    opened = [Workspace.open(path) for path in (Path(), tmp_path / "project", tmp_path / "link")]
    assert len({project.root for project in opened}) == 1
    assert opened[0].root.is_absolute()


def test_an_invalid_setting_is_an_error_before_anything_is_created(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", "index: {top_k: many}\n")
    with pytest.raises(UserError, match=r"params\.yaml: index\.top_k = 'many'"):
        Workspace.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_opening_a_project_creates_nothing(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", "")
    opened = Workspace.open(tmp_path)
    assert paths_of(opened)
    assert opened.index_uri.startswith(str(tmp_path.resolve()))
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_the_error_of_a_second_writer_names_the_project(tmp_path: Path) -> None:
    with workspace(tmp_path).write_lock(), pytest.raises(UserError) as error, workspace(tmp_path).write_lock():
        pytest.fail("two writers at once")
    assert str(error.value).startswith(f"another run is at work in {tmp_path}")
    assert "\n" not in str(error.value)


def test_a_failed_second_writer_leaves_the_lock_to_the_first(tmp_path: Path) -> None:
    with workspace(tmp_path).write_lock():
        for _ in range(3):
            with pytest.raises(UserError, match="another run"), workspace(tmp_path).write_lock():
                pytest.fail("two writers at once")


def test_a_reader_needs_no_lock(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", "")
    with Workspace.open(tmp_path).write_lock():
        assert Workspace.open(tmp_path).kb == tmp_path.resolve() / "data" / "kb"


def test_an_error_inside_the_lock_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^a\.md is not UTF-8$"), workspace(tmp_path).write_lock():
        raise UserError("a.md is not UTF-8")
    with workspace(tmp_path).write_lock():
        assert (tmp_path / ".ragtide" / "writer.lock").exists()
