"""Is a snapshot's id that of the content alone, and the very one that DVC gives it? And does looking change nothing?"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from dvc_data.hashfile import tree as dvc_tree
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from hypothesis import given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from ragtide.pipelines.data.dvc import check_stages, commit_stages, ensure_repository, run_dvc
from ragtide.pipelines.data.snapshot import (
    HIDDEN,
    HIDDEN_END,
    REMEMBERED,
    compose_snapshot,
    earlier_documents,
    folder_hash,
    list_files,
    read_earlier_file,
    read_verified,
    record_snapshot,
    take_snapshot,
)
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.workspace import Workspace
from tests.factories import md5, workspace, write

ROOT = Path(__file__).parents[3]
EMPTY = "d751713988987e9331980363e24189ce.dir"
PAGES = {
    "index.md": "start",
    "guides/setup.md": "set up",
    "guides/deep/er/down.md": "down",
    "with space/ä ö.md": "umlauts",
    "日本/é.md": "composed",
    "e\u0301.md": "decomposed",
    'it\'s "q".md': "quotes",
    "[x]*?.md": "globs",
    "#hash %20.md": "signs",
    "-dash.md": "dash",
    "back\\slash.md": "backslash",
    "😀.md": "smile",
    "empty.md": "",
    "twin.md": "start",
}
IGNORED = ["x.tmp", "guides/x.tmp", "drafts/one.md", "guides/drafts/two.md", ".git/HEAD", ".hg/store", "mod/.git"]
RULES = "# what is not for readers\n\n*.tmp\n!keep.tmp\ndrafts/\n"

NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=4)
# Paths that sort otherwise by their parts than as they are written.
ALIKE = st.lists(st.sampled_from(["a", "a-b", "a b", "a.md"]), min_size=1, max_size=3).map("/".join)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MANIFESTS = st.dictionaries(PATHS, st.sampled_from([md5(text) for text in "xyz"]), max_size=5)
law = settings(derandomize=True, deadline=None)
Spoil = Callable[[Path], None]
Tree = dict[str, tuple[bytes | str, int]]


def tree(root: Path, pattern: str = "*") -> Tree:
    """Everything below a folder: path -> (content, time of its last change)."""
    paths = [path for path in root.rglob(pattern) if ".dvc" not in path.relative_to(root).parts]
    return {
        str(path.relative_to(root)): (path.read_bytes() if path.is_file() else "folder", path.stat().st_mtime_ns)
        for path in paths
    }


def put(folder: Path, files: dict[str, str], seconds: int = 0) -> None:
    """Write `files` in their order, as last changed `seconds` after 1970."""
    for name, content in files.items():
        os.utime(write(folder / name, content), (seconds, seconds))


def recorded_id(root: Path, folder: str) -> str:
    """What DVC wrote into the pointer of one data folder."""
    [out] = yaml.safe_load((root / "data" / f"{folder}.dvc").read_text(encoding="utf-8"))["outs"]
    return str(out["md5"])


def recorded_files(root: Path, folder: str) -> dict[str, str]:
    """DVC's own list of a data folder's files: path -> MD5."""
    digest = recorded_id(root, folder)
    listed = root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    return {one["relpath"]: one["md5"] for one in json.loads(listed.read_text(encoding="utf-8"))}


@law
@given(MANIFESTS, st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_change_an_id(files: dict[str, str], random: object) -> None:
    paths = list(files)
    random.shuffle(paths)  # type: ignore[attr-defined]
    turned = {path: files[path] for path in paths}
    assert folder_hash(turned) == folder_hash(files)
    assert compose_snapshot(turned, files, {}).id == compose_snapshot(files, turned, {}).id


@law
@given(MANIFESTS, MANIFESTS)
def test_two_folders_have_one_hash_exactly_when_they_hold_the_same(one: dict[str, str], two: dict[str, str]) -> None:
    assert (folder_hash(one) == folder_hash(two)) is (one == two)


@law
@given(st.lists(MANIFESTS, min_size=3, max_size=3), st.lists(MANIFESTS, min_size=3, max_size=3))
def test_two_snapshots_have_one_id_exactly_when_all_folders_are_equal(
    one: list[dict[str, str]], two: list[dict[str, str]]
) -> None:
    assert (compose_snapshot(*one).id == compose_snapshot(*two).id) is (one == two)


def test_a_file_that_moves_to_another_folder_changes_the_id() -> None:
    file = {"a.jsonl": md5("a")}
    snapshots = [compose_snapshot(file, {}, {}), compose_snapshot({}, file, {}), compose_snapshot({}, {}, file)]
    assert len({one.id for one in snapshots}) == 3
    assert [one.kb_id for one in snapshots[1:]] == [EMPTY, EMPTY]


def test_ids_have_the_form_of_dvc() -> None:
    snapshot = compose_snapshot({"a.md": md5("a")}, {}, {})
    for name in (snapshot.id, snapshot.kb_id, snapshot.train_id, snapshot.golden_id):
        assert len(name.removesuffix(".dir")) == 32
        assert int(name.removesuffix(".dir"), 16) >= 0
    assert (snapshot.train_id, snapshot.golden_id) == (EMPTY, EMPTY)


def test_the_same_content_is_the_same_snapshot_whatever_the_times_and_the_order_of_writing(tmp_path: Path) -> None:
    early, late = workspace(tmp_path / "early"), workspace(tmp_path / "elsewhere" / "late")
    put(early.kb, PAGES, seconds=1)
    put(late.kb, dict(reversed(PAGES.items())), seconds=2_000_000_000)
    (late.kb / "empty folder").mkdir()
    assert take_snapshot(early) == take_snapshot(late)


def test_a_file_that_was_put_back_brings_the_old_id_back(tmp_path: Path) -> None:
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
    put(project.train, {"t.jsonl": "lesson"})
    put(project.golden, {"g.jsonl": "question"})
    snapshot = take_snapshot(project)
    assert snapshot.documents == {name: md5(text) for name, text in PAGES.items()}
    assert (snapshot.examples, snapshot.questions) == ({"t.jsonl": md5("lesson")}, {"g.jsonl": md5("question")})


def test_looking_changes_nothing_on_disk(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, PAGES)
    before = tree(tmp_path)
    take_snapshot(project)
    assert tree(tmp_path) == before
    assert not (tmp_path / ".dvc").exists()


@pytest.mark.parametrize(("made", "state"), [(True, "is empty"), (False, "does not exist")])
def test_a_project_without_documents_is_refused(made: bool, state: str, tmp_path: Path) -> None:
    project = workspace(tmp_path)
    if not made:
        project.kb.rmdir()
    with pytest.raises(UserError, match=rf"data/kb {state}: put your documents there"):
        take_snapshot(project)


def test_examples_and_questions_may_be_missing(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    there = take_snapshot(project)
    project.train.rmdir()
    project.golden.rmdir()
    assert take_snapshot(project) == there


def test_files_are_listed_with_slashes_and_in_order_of_path(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["z.md", "b/z.md", "b/a/c.md", "A.md"], ""))
    assert list_files(tmp_path, tmp_path, GitIgnoreSpec([])) == ["A.md", "b/a/c.md", "b/z.md", "z.md"]


@law
@given(MANIFESTS | st.dictionaries(ALIKE, st.just(md5("x"))))
def test_the_hash_of_a_folder_is_the_one_that_dvc_makes(files: dict[str, str]) -> None:
    its_own = dvc_tree.Tree()
    for path, digest in files.items():
        its_own.add(tuple(path.split("/")), Meta(), HashInfo("md5", digest))
    its_own.digest()
    assert its_own.hash_info is not None
    assert its_own.hash_info.value == folder_hash(files)


def test_a_page_beside_a_folder_of_its_name_is_recorded(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"guide.md": "a", "guide/x.md": "b", "guide-b/y.md": "c", "gui de/z.md": "d"})
    assert record_snapshot(project).kb_id == recorded_id(tmp_path, "kb")


def test_rules_of_dvcignore_are_for_paths_below_the_project(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "b.tmp": "b", "drafts/c.md": "c", "deep/drafts/d.md": "d"})
    write(tmp_path / ".dvcignore", "  /data/kb/drafts/\ndata/kb/*.tmp\n")
    recorded = record_snapshot(project)
    assert set(recorded.documents) == {"a.md", "deep/drafts/d.md"}
    assert recorded.kb_id == recorded_id(tmp_path, "kb")


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD\nouts:\n=======\n", "outs: []\n", "wdir: .\n"])
def test_a_pointer_that_dvc_did_not_write_is_named(content: str, tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    write(tmp_path / "data/kb.dvc", content)
    with pytest.raises(UserError, match=r"data/kb\.dvc is not a pointer that DVC wrote"):
        record_snapshot(project)
    assert (tmp_path / "data/kb.dvc").read_text(encoding="utf-8") == content


def test_dvc_says_itself_why_it_refuses(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", ".dvcignore": "*.tmp"})
    with pytest.raises(UserError, match="dvcignore"):
        record_snapshot(project)


def test_links_to_folders_are_not_followed_and_links_to_files_within_are(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(tmp_path / "elsewhere", {"other.md": "other"})
    put(project.kb, {"a.md": "there"})
    (project.kb / "folder").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (project.kb / "round").symlink_to(project.kb, target_is_directory=True)
    (project.kb / "page.md").symlink_to("a.md")
    looked = record_snapshot(project)
    assert (looked.documents, looked.unusable) == ({"a.md": md5("there"), "page.md": md5("there")}, {})
    assert recorded_files(tmp_path, "kb") == looked.documents


# --- files that are none that one could read ----------------------------------------------------------------------


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
    (dangling, "is a link to nothing"),
    (loop, "is a link to nothing"),
    (ring, "is a link to nothing"),
    (leaving, "is a link that leaves the folder"),
    (leaving_by_the_root, "is a link that leaves the folder"),
    (pipe, "is not a regular file"),
    (linked_pipe, "is not a regular file"),
]
unusable_kinds = pytest.mark.parametrize(("spoil", "why"), UNUSABLE, ids=lambda one: getattr(one, "__name__", ""))


@unusable_kinds
def test_what_dvc_could_not_take_is_listed_with_its_reason_and_in_no_id(spoil: Spoil, why: str, tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    write(tmp_path / ".dvcignore", "*.tmp\n")
    without = take_snapshot(project)
    spoil(project.kb)
    looked = take_snapshot(project)
    assert looked.unusable == {"page.md": why}
    assert looked.model_copy(update={"unusable": {}}) == without


def test_dvc_records_the_rest(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    for spoil, _ in UNUSABLE:
        spoil(write(project.kb / spoil.__name__ / "good.md", "good").parent)
    looked = record_snapshot(project)
    assert len(looked.unusable) > len(UNUSABLE)
    assert recorded_files(tmp_path, "kb") == looked.documents
    assert set(looked.documents) == {"a.md", *(f"{spoil.__name__}/good.md" for spoil, _ in UNUSABLE)}


@unusable_kinds
@pytest.mark.parametrize("folder", ["train", "golden"])
def test_among_the_examples_and_the_questions_it_is_refused(
    spoil: Spoil, why: str, folder: str, tmp_path: Path
) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    write(tmp_path / ".dvcignore", "*.tmp\n")
    spoil(tmp_path / "data" / folder)
    with pytest.raises(UserError, match=rf"{folder}/page\.md {why}: put it right or remove it"):
        take_snapshot(project)


@unusable_kinds
def test_a_folder_that_holds_nothing_else_is_refused(spoil: Spoil, why: str, tmp_path: Path) -> None:
    project = workspace(tmp_path)
    write(tmp_path / ".dvcignore", "*.tmp\n")
    spoil(project.kb)
    with pytest.raises(UserError, match=r"data/kb holds no file that can be read: put your documents there"):
        take_snapshot(project)
    assert why


def test_a_file_that_may_not_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "locked.md": "locked"})
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and may(path, mode))
    looked = record_snapshot(project)
    assert looked.unusable == {"locked.md": "cannot be read (Permission denied)"}
    assert recorded_files(tmp_path, "kb") == looked.documents == {"a.md": md5("a")}


def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "locked/b.md": "b"})
    scan = os.scandir

    def locked(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(UserError, match=r"kb/locked cannot be read \(Permission denied\): put it right or remove it"):
        take_snapshot(project)


def test_a_name_that_is_not_utf_8_is_listed_in_a_form_that_can_be_shown(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    for name in (b"caf\xe9.md", b"\xff/deep.md"):
        write(project.kb / os.fsdecode(name), "text")
    looked = record_snapshot(project)
    assert looked.unusable == dict.fromkeys([r"caf\xe9.md", r"\xff/deep.md"], "has a name that is not UTF-8")
    assert Snapshot.read(project.snapshot_file(looked.id)) == looked
    assert recorded_files(tmp_path, "kb") == looked.documents == {"a.md": md5("a")}


def test_a_name_that_is_not_utf_8_hides_no_other_file(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "café.md": "the same name as UTF-8", "caf3.md": "another"})
    write(project.kb / os.fsdecode(b"caf\xe9.md"), "text")
    write(project.kb / "line\nbreak.md", "a name over two lines is good")
    (project.kb / "two\nlines.md").symlink_to("nothing")
    write(project.kb / "two lines.md", "good")
    looked = record_snapshot(project)
    assert set(looked.unusable) == {r"caf\xe9.md", "two\nlines.md"}
    assert recorded_files(tmp_path, "kb") == looked.documents


def test_dvc_is_told_of_names_with_every_sign(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"index.md": "start", "x.md": "good", "[x]a.md": "good", "deep/[x]b?.md": "good"})
    for name in PAGES:
        if name not in ("index.md", "empty.md"):
            write(project.kb / "deep" / name, "").unlink()
            dangling(project.kb, f"deep/{name}")
    looked = record_snapshot(project)
    assert set(looked.unusable) == {f"deep/{name}" for name in PAGES if name not in ("index.md", "empty.md")}
    assert recorded_files(tmp_path, "kb") == looked.documents


def test_what_is_hidden_from_dvc_is_written_anew_each_time_and_vanishes_when_it_is_mended(tmp_path: Path) -> None:
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
    put(project.kb, {"two.md": "mended"})
    looked = record_snapshot(project)
    assert rules.read_text(encoding="utf-8") == "# mine\n*.tmp\n"
    assert recorded_files(tmp_path, "kb") == looked.documents == {"a.md": md5("a"), "two.md": md5("mended")}


def test_what_the_user_writes_below_the_block_stays(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a", "b.tmp": "b"})
    dangling(project.kb)
    block = f"{HIDDEN}\n/data/kb/gone.md\n{HIDDEN_END}\n"
    rules = write(tmp_path / ".dvcignore", f"{block}*.tmp\n")
    looked = record_snapshot(project)
    (project.kb / "page.md").unlink()
    assert record_snapshot(project) == looked.model_copy(update={"unusable": {}})
    assert rules.read_text(encoding="utf-8") == "*.tmp\n"


def test_without_rules_and_without_such_files_no_file_of_rules_is_made(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    ensure_repository(tmp_path)
    (tmp_path / ".dvcignore").unlink()
    record_snapshot(project)
    assert not (tmp_path / ".dvcignore").exists()


def test_what_the_users_own_rules_leave_out_is_not_listed(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    dangling(project.kb, "x.tmp")
    write(tmp_path / ".dvcignore", "*.tmp\n")
    assert take_snapshot(project).unusable == {}


def test_looking_at_such_files_changes_nothing(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "a"})
    for spoil in (leaving, pipe):
        (project.kb / "page.md").unlink(missing_ok=True)
        spoil(project.kb)
        before = sorted(path.name for path in tmp_path.rglob("*"))
        take_snapshot(project)
        assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_file_is_read_as_the_snapshot_knows_it(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    page = write(project.kb / "page.md", b"old\r\n\x00\xff")
    assert read_verified(page, take_snapshot(project).documents["page.md"]) == b"old\r\n\x00\xff"


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("new", r"page\.md changed while it was being read: run again"),
        (None, r"page\.md cannot be read \(No such file or directory\): put it right or remove it"),
    ],
    ids=["changed", "gone"],
)
def test_a_file_that_is_not_what_the_snapshot_knows_is_refused(now: str | None, said: str, tmp_path: Path) -> None:
    if now is not None:
        write(tmp_path / "page.md", now)
    with pytest.raises(UserError, match=said):
        read_verified(tmp_path / "page.md", md5("old"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Snapshot]:
    """A project with names of every kind, ignored files and a link to a folder, recorded once."""
    project = workspace(tmp_path_factory.mktemp("kept") / "project")
    put(project.root / "elsewhere", {"page.md": "not below the folder"})
    (project.kb / "linked").symlink_to(project.root / "elsewhere", target_is_directory=True)
    put(project.kb, PAGES | {"keep.tmp": "kept"} | dict.fromkeys(IGNORED, "not for readers"))
    put(project.train, {"sub/t.jsonl": "lesson"})
    write(project.root / ".dvcignore", RULES)
    looked = take_snapshot(project)
    recorded = record_snapshot(project)
    assert recorded == looked
    return project, recorded


def test_every_id_is_the_one_that_dvc_gives(kept: tuple[Workspace, Snapshot]) -> None:
    project, snapshot = kept
    ids = [recorded_id(project.root, folder) for folder in ("kb", "train", "golden")]
    assert ids == [snapshot.kb_id, snapshot.train_id, snapshot.golden_id]
    assert ids[2] == EMPTY


def test_dvc_lists_the_same_files_and_ignores_the_same(kept: tuple[Workspace, Snapshot]) -> None:
    project, snapshot = kept
    assert recorded_files(project.root, "kb") == snapshot.documents
    assert snapshot.documents == {name: md5(text) for name, text in (PAGES | {"keep.tmp": "kept"}).items()}
    assert recorded_files(project.root, "train") == snapshot.examples == {"sub/t.jsonl": md5("lesson")}


def test_a_recorded_snapshot_can_be_read_again(kept: tuple[Workspace, Snapshot]) -> None:
    project, snapshot = kept
    assert Snapshot.read(project.snapshot_file(snapshot.id)) == snapshot


def test_recording_the_same_again_changes_nothing(kept: tuple[Workspace, Snapshot]) -> None:
    project, snapshot = kept
    before = tree(project.root / "data")
    assert {"kb.dvc", "train.dvc", "golden.dvc"} <= before.keys()
    os.utime(project.kb / "index.md", (77, 77))
    assert record_snapshot(project) == snapshot
    after = tree(project.root / "data")
    touched = {path for path in before | after if before.get(path) != after.get(path)}
    assert touched == {"kb/index.md"}
    assert before["kb/index.md"][0] == after["kb/index.md"][0]


def test_an_edit_moves_the_pointer_of_its_own_folder_alone(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    put(project.kb, {"a.md": "old"})
    put(project.train, {"t.jsonl": "lesson"})
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


def test_a_repository_that_is_there_already_is_left_as_it_is(kept: tuple[Workspace, Snapshot]) -> None:
    project, _ = kept
    config = project.root / ".dvc" / "config"
    before = (config.read_bytes(), config.stat().st_mtime_ns)
    ensure_repository(project.root)
    assert (config.read_bytes(), config.stat().st_mtime_ns) == before


def test_what_dvc_says_is_passed_on_in_one_line(kept: tuple[Workspace, Snapshot]) -> None:
    project, _ = kept
    with pytest.raises(UserError) as refusal:
        run_dvc(project.root, ["add", "data/nothing"])
    assert str(refusal.value).startswith(f"`dvc add data/nothing` in {project.root} failed: ")
    assert "'data/nothing' does not exist" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_dvc_prints_is_returned(kept: tuple[Workspace, Snapshot]) -> None:
    project, _ = kept
    assert run_dvc(project.root, ["root"]).strip() == "."


def with_stages(root: Path, stages: str | None, params: str = "index: {}\nscore: {}\n") -> Workspace:
    project = workspace(root)
    write(root / "params.yaml", params)
    if stages is not None:
        write(root / "dvc.yaml", stages)
    return project


@pytest.mark.parametrize(
    "stages",
    [
        None,
        "stages: {}",
        "stages: {one: {cmd: x}}",
        "stages: {one: {cmd: x, params: [index]}, two: {cmd: y, params: [index, score]}}",
        "stages: {one: {cmd: x, params: [index, {other.yaml: [block]}]}}",
    ],
    ids=["no file", "no stages", "no params", "blocks that are there", "another file"],
)
def test_stages_that_name_what_is_there_are_fine(stages: str | None, tmp_path: Path) -> None:
    project = with_stages(tmp_path, stages)
    before = tree(tmp_path)
    check_stages(project)
    assert tree(tmp_path) == before


def test_the_stages_that_a_new_project_gets_name_what_is_there() -> None:
    project = Workspace.open(ROOT)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert any(stage.get("params") for stage in stages.values())
    check_stages(project)


@pytest.mark.parametrize(
    ("params", "missing"),
    [("index: {}\n", "score"), ("score: {}\n", "index"), ("", "index, score"), ("chunk: {}\n", "index, score")],
)
def test_a_block_that_dvc_yaml_names_and_params_yaml_lacks_is_refused(
    params: str, missing: str, tmp_path: Path
) -> None:
    project = with_stages(tmp_path, "stages: {one: {params: [score, index]}, two: {params: [index]}}", params)
    first = missing.split(",", maxsplit=1)[0]
    with pytest.raises(UserError) as refusal:
        check_stages(project)
    assert str(refusal.value) == (
        f"{tmp_path / 'params.yaml'} has no block {missing}, which dvc.yaml names: "
        f"put it there (`{first}: {{}}` takes the defaults)"
    )


@pytest.mark.parametrize("stages", ["stages: [one]", "stages: {one: 3}", "stages: {", "- stages"])
def test_a_dvc_yaml_of_another_form_is_named(stages: str, tmp_path: Path) -> None:
    project = with_stages(tmp_path, stages)
    with pytest.raises(UserError, match=r"dvc\.yaml holds no stages that DVC can read: ") as refusal:
        check_stages(project)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("stages", [[], ["index"]], ids=["no stages", "no dvc.yaml"])
def test_without_stages_there_is_nothing_to_commit(stages: list[str], tmp_path: Path) -> None:
    project = with_stages(tmp_path, None if stages else "stages: {}")
    before = tree(tmp_path)
    commit_stages(project, stages)
    assert tree(tmp_path) == before


def test_a_committed_stage_is_up_to_date(tmp_path: Path) -> None:
    stage = "stages: {index: {cmd: build, deps: [data/kb], params: [index], outs: [{made.txt: {cache: false}}]}}"
    project = with_stages(tmp_path, stage)
    put(project.kb, {"a.md": "a"})
    record_snapshot(project)
    write(tmp_path / "made.txt", "made")
    commit_stages(project, ["index"])
    assert "up to date" in run_dvc(tmp_path, ["status"])
    locked = yaml.safe_load((tmp_path / "dvc.lock").read_text(encoding="utf-8"))["stages"]["index"]
    assert [dep["md5"] for dep in locked["deps"]] == [take_snapshot(project).kb_id]


# --- what was recorded earlier -------------------------------------------------------------------------------------


def test_earlier_documents_come_newest_first_and_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    assert list(earlier_documents(space)) == []
    for age, name in enumerate(["new.md", "old.md", "older.md"]):
        taken = compose_snapshot({name: md5(name)}, {}, {})
        taken.write(space.snapshot_file(taken.id))
        os.utime(space.snapshot_file(taken.id), (1000 - age, 1000 - age))
    os.utime(write(space.snapshot_file("broken"), "{"), (2000, 2000))
    assert [list(documents) for documents in earlier_documents(space)] == [["new.md"], ["old.md"], ["older.md"]]


def test_only_the_last_snapshots_are_looked_through(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    for number in range(REMEMBERED + 2):
        taken = compose_snapshot({f"{number}.md": md5(str(number))}, {}, {})
        taken.write(space.snapshot_file(taken.id))
        os.utime(space.snapshot_file(taken.id), (number, number))
    assert len(list(earlier_documents(space))) == REMEMBERED


def test_a_file_of_an_earlier_snapshot_is_read_out_of_dvcs_cache(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    put(space.kb, {"a.md": "as it was"})
    before = record_snapshot(space).documents["a.md"]
    put(space.kb, {"a.md": "as it is"})
    record_snapshot(space)
    assert read_earlier_file(space, before) == b"as it was"
    assert read_earlier_file(space, md5("never seen")) is None


def test_a_file_is_read_from_where_dvcs_config_says_that_its_cache_is(tmp_path: Path) -> None:
    space = workspace(tmp_path / "project")
    ensure_repository(space.root)
    run_dvc(space.root, ["cache", "dir", str(tmp_path / "shared")])
    put(space.kb, {"a.md": "as it was"})
    digest = record_snapshot(space).documents["a.md"]
    assert list((tmp_path / "shared").rglob(digest[2:]))
    assert read_earlier_file(space, digest) == b"as it was"


def test_a_file_that_is_not_whole_any_more_counts_as_not_there(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    put(space.kb, {"a.md": "as it was"})
    digest = record_snapshot(space).documents["a.md"]
    [kept] = space.root.glob(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}")
    kept.chmod(0o644)
    kept.write_text("another", encoding="utf-8")
    assert read_earlier_file(space, digest) is None
