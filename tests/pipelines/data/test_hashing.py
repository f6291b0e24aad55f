"""Tests of content hashes: equality with DVC's own, file listing and verified reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc_data.hashfile import tree as dvc_tree
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from hypothesis import given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from ragtide.pipelines.data.hashing import folder_hash, list_files, read_verified
from ragtide.pipelines.data.snapshot import (
    compose_snapshot,
    take_snapshot,
)
from ragtide.pipelines.errors import UserError
from tests.factories import md5, workspace, write
from tests.pipelines.data.folders import put

NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=4)
# Paths whose order differs between sorting by parts and sorting as strings.
SIMILAR_PATHS = st.lists(st.sampled_from(["a", "a-b", "a b", "a.md"]), min_size=1, max_size=3).map("/".join)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MANIFESTS = st.dictionaries(PATHS, st.sampled_from([md5(text) for text in "xyz"]), max_size=5)
law = settings(derandomize=True, deadline=None)


@law
@given(MANIFESTS, st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_change_an_id(files: dict[str, str], random: object) -> None:
    paths = list(files)
    random.shuffle(paths)  # type: ignore[attr-defined]
    reordered = {path: files[path] for path in paths}
    assert folder_hash(reordered) == folder_hash(files)
    assert compose_snapshot(reordered, files, {}).id == compose_snapshot(files, reordered, {}).id


@law
@given(MANIFESTS, MANIFESTS)
def test_two_folders_have_the_same_hash_exactly_when_their_files_are_equal(
    one: dict[str, str], two: dict[str, str]
) -> None:
    assert (folder_hash(one) == folder_hash(two)) is (one == two)


@law
@given(st.lists(MANIFESTS, min_size=3, max_size=3), st.lists(MANIFESTS, min_size=3, max_size=3))
def test_two_snapshots_have_the_same_id_exactly_when_all_folders_are_equal(
    one: list[dict[str, str]], two: list[dict[str, str]]
) -> None:
    assert (compose_snapshot(*one).id == compose_snapshot(*two).id) is (one == two)


def test_files_are_listed_with_slashes_and_in_order_of_path(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["z.md", "b/z.md", "b/a/c.md", "A.md"], ""))
    assert list_files(tmp_path, tmp_path, GitIgnoreSpec([])) == ["A.md", "b/a/c.md", "b/z.md", "z.md"]


@law
@given(MANIFESTS | st.dictionaries(SIMILAR_PATHS, st.just(md5("x"))))
def test_a_folder_hash_equals_dvcs_own(files: dict[str, str]) -> None:
    dvc_tree_of_files = dvc_tree.Tree()
    for path, digest in files.items():
        dvc_tree_of_files.add(tuple(path.split("/")), Meta(), HashInfo("md5", digest))
    dvc_tree_of_files.digest()
    assert dvc_tree_of_files.hash_info is not None
    assert dvc_tree_of_files.hash_info.value == folder_hash(files)


def test_read_verified_returns_the_bytes_in_the_snapshot(tmp_path: Path) -> None:
    project = workspace(tmp_path)
    page = write(project.kb / "page.md", b"old\r\n\x00\xff")
    assert read_verified(page, take_snapshot(project).documents["page.md"]) == b"old\r\n\x00\xff"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("new", r"page\.md changed while it was being read: run the command again"),
        (None, r"page\.md cannot be read \(No such file or directory\): fix or remove it"),
    ],
    ids=["changed", "deleted"],
)
def test_read_verified_raises_for_a_changed_or_deleted_file(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        write(tmp_path / "page.md", content)
    with pytest.raises(UserError, match=message):
        read_verified(tmp_path / "page.md", md5("old"))
