"""Tests of ignored and unusable files: reasons, listing, and the block in .dvcignore that hides them from DVC."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ragtide.pipelines.data.dvc import ensure_repository
from ragtide.pipelines.data.ignore import HIDDEN, HIDDEN_END
from ragtide.pipelines.data.snapshot import (
    record_snapshot,
    take_snapshot,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.data import Snapshot
from tests.factories import md5, workspace, write
from tests.pipelines.data.folders import PAGES, put, recorded_files, recorded_id

MakeUnusable = Callable[[Path], None]


def test_dvcignore_rules_apply_to_paths_below_the_project(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "b.tmp": "b", "drafts/c.md": "c", "deep/drafts/d.md": "d"})
    write(tmp_path / ".dvcignore", "  /data/kb/drafts/\ndata/kb/*.tmp\n")
    recorded = record_snapshot(project)
    assert set(recorded.documents) == {"a.md", "deep/drafts/d.md"}
    assert recorded.kb_id == recorded_id(tmp_path, "kb")


def dangling(folder: Path, name: str = "page.md") -> None:
    (folder / name).symlink_to(folder / "nothing.md")


def loop(folder: Path) -> None:
    (folder / "page.md").symlink_to("page.md")


def ring(folder: Path) -> None:
    (folder / "page.md").symlink_to("ring.tmp")
    (folder / "ring.tmp").symlink_to("page.md")


def leaving(folder: Path) -> None:
    (folder / "page.md").symlink_to(write(folder.parents[2] / "elsewhere" / "secret.md", "secret"))


def leaving_by_the_root(folder: Path) -> None:
    (folder / "page.md").symlink_to("/etc/passwd")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "page.md")


def linked_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.tmp")
    (folder / "page.md").symlink_to("pipe.tmp")


UNUSABLE = [
    (dangling, "is a broken link"),
    (loop, "is a broken link"),
    (ring, "is a broken link"),
    (leaving, "is a link that leaves the folder"),
    (leaving_by_the_root, "is a link that leaves the folder"),
    (pipe, "is not a regular file"),
    (linked_pipe, "is not a regular file"),
]
unusable_kinds = pytest.mark.parametrize(
    ("make_unusable", "reason"), UNUSABLE, ids=lambda value: getattr(value, "__name__", "")
)


@unusable_kinds
def test_an_unusable_file_is_listed_with_its_reason_and_does_not_change_the_id(
    make_unusable: MakeUnusable, reason: str, tmp_path: Path
) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    write(tmp_path / ".dvcignore", "*.tmp\n")
    without = take_snapshot(project)
    make_unusable(project.kb)
    snapshot = take_snapshot(project)
    assert snapshot.unusable == {"page.md": reason}
    assert snapshot.model_copy(update={"unusable": {}}) == without


def test_dvc_records_the_usable_files(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    for make_unusable, _ in UNUSABLE:
        make_unusable(write(project.kb / make_unusable.__name__ / "good.md", "good").parent)
    snapshot = record_snapshot(project)
    assert len(snapshot.unusable) > len(UNUSABLE)
    assert recorded_files(tmp_path, "kb") == snapshot.documents
    assert set(snapshot.documents) == {"a.md", *(f"{make_unusable.__name__}/good.md" for make_unusable, _ in UNUSABLE)}


@unusable_kinds
@pytest.mark.parametrize("folder", ["train", "golden"])
def test_an_unusable_file_among_examples_or_questions_is_an_error(
    make_unusable: MakeUnusable, reason: str, folder: str, tmp_path: Path
) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    write(tmp_path / ".dvcignore", "*.tmp\n")
    make_unusable(tmp_path / "data" / folder)
    with pytest.raises(UserError, match=rf"{folder}/page\.md {reason}: fix or remove it"):
        take_snapshot(project)


@unusable_kinds
def test_a_knowledge_base_of_unusable_files_alone_is_an_error(
    make_unusable: MakeUnusable, reason: str, tmp_path: Path
) -> None:
    project = workspace(tmp_path)
    write(tmp_path / ".dvcignore", "*.tmp\n")
    make_unusable(project.kb)
    with pytest.raises(UserError, match=r"data/kb holds no readable file"):
        take_snapshot(project)
    assert reason


def test_a_file_without_read_permission_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "locked.md": "locked"})
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and may(path, mode))
    snapshot = record_snapshot(project)
    assert snapshot.unusable == {"locked.md": "cannot be read (Permission denied)"}
    assert recorded_files(tmp_path, "kb") == snapshot.documents == {"a.md": md5("a")}


def test_a_folder_without_read_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "locked/b.md": "b"})
    scan = os.scandir

    def locked(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(UserError, match=r"kb/locked cannot be read \(Permission denied\): fix or remove it"):
        take_snapshot(project)


def test_a_file_name_that_is_not_utf_8_is_listed_with_escapes(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    for name in (b"caf\xe9.md", b"\xff/deep.md"):
        write(project.kb / os.fsdecode(name), "text")
    snapshot = record_snapshot(project)
    assert snapshot.unusable == dict.fromkeys([r"caf\xe9.md", r"\xff/deep.md"], "has a name that is not UTF-8")
    assert Snapshot.read(project.snapshot_file(snapshot.id)) == snapshot
    assert recorded_files(tmp_path, "kb") == snapshot.documents == {"a.md": md5("a")}


def test_a_file_name_that_is_not_utf_8_hides_no_other_file(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "café.md": "the same name as UTF-8", "caf3.md": "another"})
    write(project.kb / os.fsdecode(b"caf\xe9.md"), "text")
    write(project.kb / "line\nbreak.md", "a name over two lines is good")
    (project.kb / "two\nlines.md").symlink_to("nothing")
    write(project.kb / "two lines.md", "good")
    snapshot = record_snapshot(project)
    assert set(snapshot.unusable) == {r"caf\xe9.md", "two\nlines.md"}
    assert recorded_files(tmp_path, "kb") == snapshot.documents


def test_unusable_files_with_special_characters_are_hidden_from_dvc(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"index.md": "start", "x.md": "good", "[x]a.md": "good", "deep/[x]b?.md": "good"})
    for name in PAGES:
        if name not in ("index.md", "empty.md"):
            write(project.kb / "deep" / name, "").unlink()
            dangling(project.kb, f"deep/{name}")
    snapshot = record_snapshot(project)
    assert set(snapshot.unusable) == {f"deep/{name}" for name in PAGES if name not in ("index.md", "empty.md")}
    assert recorded_files(tmp_path, "kb") == snapshot.documents


def test_the_hiding_block_is_rewritten_each_time_and_removed_when_all_files_are_usable(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    rules = write(tmp_path / ".dvcignore", "# mine\n*.tmp\n")
    record_snapshot(project)
    assert rules.read_text(encoding="utf-8") == "# mine\n*.tmp\n"
    dangling(project.kb, "one.md")
    record_snapshot(project)
    record_snapshot(project)
    hidden = [HIDDEN, "/data/kb/one.md", HIDDEN_END]
    assert rules.read_text(encoding="utf-8").splitlines() == ["# mine", "*.tmp", *hidden]
    (project.kb / "one.md").unlink()
    dangling(project.kb, "two.md")
    record_snapshot(project)
    hidden[1] = "/data/kb/two.md"
    assert rules.read_text(encoding="utf-8").splitlines() == ["# mine", "*.tmp", *hidden]
    (project.kb / "two.md").unlink()
    put(project.kb, {"two.md": "repaired"})
    snapshot = record_snapshot(project)
    assert rules.read_text(encoding="utf-8") == "# mine\n*.tmp\n"
    assert recorded_files(tmp_path, "kb") == snapshot.documents == {"a.md": md5("a"), "two.md": md5("repaired")}


def test_user_rules_below_the_hiding_block_are_kept(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "b.tmp": "b"})
    dangling(project.kb)
    block = f"{HIDDEN}\n/data/kb/gone.md\n{HIDDEN_END}\n"
    rules = write(tmp_path / ".dvcignore", f"{block}*.tmp\n")
    snapshot = record_snapshot(project)
    (project.kb / "page.md").unlink()
    assert record_snapshot(project) == snapshot.model_copy(update={"unusable": {}})
    assert rules.read_text(encoding="utf-8") == "*.tmp\n"


def test_without_unusable_files_no_dvcignore_is_created(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    ensure_repository(tmp_path)
    (tmp_path / ".dvcignore").unlink()
    record_snapshot(project)
    assert not (tmp_path / ".dvcignore").exists()


def test_a_file_ignored_by_the_user_is_not_listed_as_unusable(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    dangling(project.kb, "x.tmp")
    write(tmp_path / ".dvcignore", "*.tmp\n")
    assert take_snapshot(project).unusable == {}


def test_taking_a_snapshot_of_unusable_files_changes_nothing(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    for make_unusable in (leaving, pipe):
        (project.kb / "page.md").unlink(missing_ok=True)
        make_unusable(project.kb)
        before = sorted(path.name for path in tmp_path.rglob("*"))
        take_snapshot(project)
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
