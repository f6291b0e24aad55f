"""Does every thing of a project have one place below its folder, and does a lock keep writers alone out?"""

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


def places(project: Workspace) -> dict[str, Path]:
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


def test_every_place_is_below_the_projects_folder_and_no_two_are_the_same(tmp_path: Path) -> None:
    found = places(Workspace(tmp_path, Params()))
    assert all(path.is_relative_to(tmp_path) and path != tmp_path for path in found.values())
    assert len(set(found.values())) == len(found)


def test_data_lies_under_data_and_what_ragtide_keeps_for_itself_under_one_hidden_folder(tmp_path: Path) -> None:
    found = places(Workspace(tmp_path, Params()))
    assert {found[name].parent for name in ("kb", "train", "golden")} == {tmp_path / "data"}
    assert all(found[name].is_relative_to(tmp_path / ".ragtide") for name in ("state", "adapters", "snapshot", "plan"))
    # DVC must be able to version what its stages write.
    assert not found["artifacts"].is_relative_to(tmp_path / ".ragtide")


@pytest.mark.parametrize("folder", ["kb", "train", "golden"])
def test_a_data_folder_is_the_one_that_params_name(folder: str, tmp_path: Path) -> None:
    usual = Workspace(tmp_path, Params())
    moved = workspace(tmp_path, data={folder: "elsewhere/deep"})
    assert places(moved)[folder] == tmp_path / "elsewhere" / "deep"
    assert {name for name, path in places(moved).items() if path != places(usual)[name]} == {folder}


@settings(derandomize=True, deadline=None)
@given(DIGESTS, DIGESTS)
def test_each_snapshot_and_each_plan_has_a_file_of_its_own(one: str, two: str) -> None:
    project = Workspace(Path("/project"), Params())
    for place in (project.snapshot_file, project.plan_file):
        assert (place(one) == place(two)) is (one == two)
    assert project.snapshot_file(one) != project.plan_file(one)


def test_two_projects_share_no_place(tmp_path: Path) -> None:
    one, two = (Workspace(tmp_path / name, Params()) for name in ("one", "two"))
    assert not set(places(one).values()) & set(places(two).values())
    assert one.index_uri != two.index_uri
    assert one.tracking_uri != two.tracking_uri


def test_a_project_is_opened_with_the_settings_of_its_file(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", "index: {top_k: 7}\n")
    opened = Workspace.open(tmp_path)
    assert opened.params.index.top_k == 7
    assert opened == Workspace(tmp_path.resolve(), opened.params)


def test_a_project_is_the_same_from_wherever_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "project" / "params.yaml", "")
    (tmp_path / "link").symlink_to(tmp_path / "project", target_is_directory=True)
    monkeypatch.chdir(tmp_path / "project")
    opened = [Workspace.open(path) for path in (Path(), tmp_path / "project", tmp_path / "link")]
    assert len({one.root for one in opened}) == 1
    assert opened[0].root.is_absolute()


def test_a_wrong_setting_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", "index: {top_k: many}\n")
    with pytest.raises(UserError, match=r"params\.yaml: index\.top_k = 'many'"):
        Workspace.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_opening_and_asking_for_places_makes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", "")
    opened = Workspace.open(tmp_path)
    assert places(opened)
    assert opened.index_uri.startswith(str(tmp_path.resolve()))
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_second_writer_is_told_which_project_is_held(tmp_path: Path) -> None:
    with workspace(tmp_path).write_lock(), pytest.raises(UserError) as refusal, workspace(tmp_path).write_lock():
        pytest.fail("two writers at once")
    assert str(refusal.value).startswith(f"another run is at work in {tmp_path}: wait for it")
    assert "\n" not in str(refusal.value)


def test_a_writer_that_was_refused_leaves_the_first_its_lock(tmp_path: Path) -> None:
    with workspace(tmp_path).write_lock():
        for _ in range(3):
            with pytest.raises(UserError, match="another run"), workspace(tmp_path).write_lock():
                pytest.fail("two writers at once")


def test_a_reader_needs_no_lock(tmp_path: Path) -> None:
    write(tmp_path / "params.yaml", "")
    with Workspace.open(tmp_path).write_lock():
        assert Workspace.open(tmp_path).kb == tmp_path.resolve() / "data" / "kb"


def test_a_refusal_inside_the_lock_is_passed_on_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^a\.md is not UTF-8$"), workspace(tmp_path).write_lock():
        raise UserError("a.md is not UTF-8")
    with workspace(tmp_path).write_lock():
        assert (tmp_path / ".ragtide" / "writer.lock").exists()
