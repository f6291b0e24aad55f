"""Tests of snapshots: ids that depend on content alone and equal DVC's, recording, and earlier snapshots."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ragtide.pipelines.data.dvc import ensure_repository, run_dvc
from ragtide.pipelines.data.snapshot import (
    REMEMBERED,
    compose_snapshot,
    earlier_documents,
    record_snapshot,
    take_snapshot,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.workspace import Workspace
from tests.factories import md5, workspace, write
from tests.pipelines.data.folders import EMPTY, PAGES, put, recorded_files, recorded_id, tree

IGNORED = ["x.tmp", "guides/x.tmp", "drafts/one.md", "guides/drafts/two.md", ".git/HEAD", ".hg/store", "mod/.git"]
RULES = "# not part of the knowledge base\n\n*.tmp\n!keep.tmp\ndrafts/\n"


def test_a_file_that_moves_to_another_folder_changes_the_id() -> None:
    file = {"a.jsonl": md5("a")}
    snapshots = [compose_snapshot(file, {}, {}), compose_snapshot({}, file, {}), compose_snapshot({}, {}, file)]
    assert len({snapshot.id for snapshot in snapshots}) == 3
    assert [snapshot.kb_id for snapshot in snapshots[1:]] == [EMPTY, EMPTY]


def test_ids_have_the_form_of_dvc() -> None:
    snapshot = compose_snapshot({"a.md": md5("a")}, {}, {})
    for name in (snapshot.id, snapshot.kb_id, snapshot.train_id, snapshot.golden_id):
        assert len(name.removesuffix(".dir")) == 32
        assert int(name.removesuffix(".dir"), 16) >= 0
    assert (snapshot.train_id, snapshot.golden_id) == (EMPTY, EMPTY)


def test_a_snapshot_does_not_depend_on_file_times_or_the_order_of_writing(tmp_path: Path) -> None:
    early, late = workspace(tmp_path / "early"), workspace(tmp_path / "elsewhere" / "late")
    put(early.kb, PAGES, seconds=1)
    put(late.kb, dict(reversed(PAGES.items())), seconds=2_000_000_000)
    (late.kb / "empty folder").mkdir()
    assert take_snapshot(early) == take_snapshot(late)


def test_reverting_a_file_restores_the_old_id(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, PAGES)
    before = take_snapshot(project)
    write(project.kb / "index.md", "another start")
    between = take_snapshot(project)
    write(project.kb / "index.md", PAGES["index.md"])
    assert between.id != before.id
    assert take_snapshot(project) == before


def test_a_snapshot_names_each_file_with_the_md5_of_its_bytes(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, PAGES)
    put(project.train, {"t.jsonl": "sample"})
    put(project.golden, {"g.jsonl": "question"})
    snapshot = take_snapshot(project)
    assert snapshot.documents == {name: md5(text) for name, text in PAGES.items()}
    assert (snapshot.examples, snapshot.questions) == ({"t.jsonl": md5("sample")}, {"g.jsonl": md5("question")})


def test_taking_a_snapshot_changes_nothing_on_disk(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, PAGES)
    before = tree(tmp_path)
    take_snapshot(project)
    assert tree(tmp_path) == before
    assert not (tmp_path / ".dvc").exists()


@pytest.mark.parametrize(("made", "state"), [(True, "is empty"), (False, "does not exist")])
def test_a_project_without_documents_is_an_error(made: bool, state: str, tmp_path: Path) -> None:
    project = workspace(tmp_path)
    if not made:
        project.kb.rmdir()
    with pytest.raises(UserError, match=rf"data/kb {state}"):
        take_snapshot(project)


def test_examples_and_questions_may_be_missing(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    there = take_snapshot(project)
    project.train.rmdir()
    project.golden.rmdir()
    assert take_snapshot(project) == there


def test_a_page_next_to_a_folder_of_the_same_name_is_recorded(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"guide.md": "a", "guide/x.md": "b", "guide-b/y.md": "c", "gui de/z.md": "d"})
    assert record_snapshot(project).kb_id == recorded_id(tmp_path, "kb")


def test_links_to_files_in_the_folder_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(tmp_path / "elsewhere", {"other.md": "other"})
    put(project.kb, {"a.md": "there"})
    (project.kb / "folder").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (project.kb / "round").symlink_to(project.kb, target_is_directory=True)
    (project.kb / "page.md").symlink_to("a.md")
    snapshot = record_snapshot(project)
    assert (snapshot.documents, snapshot.unusable) == ({"a.md": md5("there"), "page.md": md5("there")}, {})
    assert recorded_files(tmp_path, "kb") == snapshot.documents


@pytest.fixture(scope="module")
def recorded_project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Snapshot]:
    """A project with names of every kind, ignored files and a link to a folder, recorded once."""
    project = workspace(tmp_path_factory.mktemp("recorded") / "project")
    put(project.root / "elsewhere", {"page.md": "not below the folder"})
    (project.kb / "linked").symlink_to(project.root / "elsewhere", target_is_directory=True)
    put(project.kb, PAGES | {"keep.tmp": "kept"} | dict.fromkeys(IGNORED, "ignored"))
    put(project.train, {"sub/t.jsonl": "sample"})
    write(project.root / ".dvcignore", RULES)
    snapshot = take_snapshot(project)
    recorded = record_snapshot(project)
    assert recorded == snapshot
    return project, recorded


def test_every_id_equals_dvcs_own(recorded_project: tuple[Workspace, Snapshot]) -> None:
    project, snapshot = recorded_project
    ids = [recorded_id(project.root, folder) for folder in ("kb", "train", "golden")]
    assert ids == [snapshot.kb_id, snapshot.train_id, snapshot.golden_id]
    assert ids[2] == EMPTY


def test_dvc_lists_and_ignores_the_same_files(recorded_project: tuple[Workspace, Snapshot]) -> None:
    project, snapshot = recorded_project
    assert recorded_files(project.root, "kb") == snapshot.documents
    assert snapshot.documents == {name: md5(text) for name, text in (PAGES | {"keep.tmp": "kept"}).items()}
    assert recorded_files(project.root, "train") == snapshot.examples == {"sub/t.jsonl": md5("sample")}


def test_a_recorded_snapshot_can_be_read_again(recorded_project: tuple[Workspace, Snapshot]) -> None:
    project, snapshot = recorded_project
    assert Snapshot.read(project.snapshot_file(snapshot.id)) == snapshot


def test_recording_unchanged_data_changes_nothing(recorded_project: tuple[Workspace, Snapshot]) -> None:
    project, snapshot = recorded_project
    before = tree(project.root / "data")
    assert {"kb.dvc", "train.dvc", "golden.dvc"} <= before.keys()
    os.utime(project.kb / "index.md", (77, 77))
    assert record_snapshot(project) == snapshot
    after = tree(project.root / "data")
    touched = {path for path in before | after if before.get(path) != after.get(path)}
    assert touched == {"kb/index.md"}
    assert before["kb/index.md"][0] == after["kb/index.md"][0]


def test_an_edit_updates_only_the_pointer_of_its_folder(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "old"})
    put(project.train, {"t.jsonl": "sample"})
    first = record_snapshot(project)
    pointers = tree(tmp_path / "data", "*.dvc")
    write(project.kb / "a.md", "new")
    second = record_snapshot(project)
    moved = tree(tmp_path / "data", "*.dvc")
    assert [name for name, pointer in pointers.items() if moved[name] != pointer] == ["kb.dvc"]
    assert (recorded_id(tmp_path, "kb"), second.train_id) == (second.kb_id, first.train_id)
    assert Snapshot.read(project.snapshot_file(first.id)) == first
    assert "up to date" in run_dvc(tmp_path, ["status"])


def test_inside_git_dvc_keeps_the_data_out_of_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    snapshot = record_snapshot(project)
    assert recorded_id(tmp_path, "kb") == snapshot.kb_id
    assert "/kb" in (tmp_path / "data" / ".gitignore").read_text(encoding="utf-8").splitlines()
    untracked = ["git", "status", "--porcelain", "--untracked-files=all"]
    listed = subprocess.run(untracked, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "data/kb.dvc" in listed
    assert "data/kb/a.md" not in listed


def test_an_existing_repository_is_unchanged(recorded_project: tuple[Workspace, Snapshot]) -> None:
    project, _ = recorded_project
    config = project.root / ".dvc" / "config"
    before = (config.read_bytes(), config.stat().st_mtime_ns)
    ensure_repository(project.root)
    assert (config.read_bytes(), config.stat().st_mtime_ns) == before


def test_earlier_documents_come_newest_first_without_unreadable_snapshots(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    assert list(earlier_documents(project)) == []
    for age, name in enumerate(["new.md", "old.md", "older.md"]):
        snapshot = compose_snapshot({name: md5(name)}, {}, {})
        snapshot.write(project.snapshot_file(snapshot.id))
        os.utime(project.snapshot_file(snapshot.id), (1000 - age, 1000 - age))
    os.utime(write(project.snapshot_file("broken"), "{"), (2000, 2000))
    assert [list(documents) for documents in earlier_documents(project)] == [["new.md"], ["old.md"], ["older.md"]]


def test_only_the_last_snapshots_are_searched(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    for number in range(REMEMBERED + 2):
        snapshot = compose_snapshot({f"{number}.md": md5(str(number))}, {}, {})
        snapshot.write(project.snapshot_file(snapshot.id))
        os.utime(project.snapshot_file(snapshot.id), (number, number))
    assert len(list(earlier_documents(project))) == REMEMBERED
