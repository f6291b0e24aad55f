"""Tests of the disk space that a build requires, and of the words for a full disk."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from ragtide.pipelines import disk
from ragtide.pipelines.build import _require_training_space, require_index_space
from ragtide.pipelines.disk import MEGABYTE, RUN_BYTES, describe_full_disks, require_space
from ragtide.pipelines.errors import UserError
from tests.factories import delta, workspace, write

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that sets what every disk has free, in bytes."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2 * free, free, free))

    return set_free


def test_the_error_names_the_folder_what_is_free_and_what_is_needed(
    set_free: Callable[[int], None], tmp_path: Path
) -> None:
    folder = tmp_path / "does" / "not" / "exist"
    set_free(99 * MEGABYTE)
    require_space(folder, 99 * MEGABYTE, "a build")
    with pytest.raises(UserError) as error:
        require_space(folder, 100 * MEGABYTE, "a build")
    assert f"{folder} has 99 MB free, and a build needs about 100 MB" in str(error.value)


def test_nothing_is_built_with_less_than_what_any_run_needs(set_free: Callable[[int], None], tmp_path: Path) -> None:
    set_free(RUN_BYTES - 1)
    with pytest.raises(UserError):
        require_space(tmp_path, 0, "a run")


def test_an_index_needs_space_for_the_rows_that_change(set_free: Callable[[int], None], tmp_path: Path) -> None:
    project = workspace(tmp_path)
    changed = delta(upserted=1000, chunks_after=1_000_000)
    set_free(50 * MEGABYTE)
    require_index_space(project, changed, 384)
    with pytest.raises(UserError, match="1000000 rows"):
        require_index_space(project, changed.model_copy(update={"rebuild": "another embedder"}), 384)
    with pytest.raises(UserError):
        require_index_space(project, changed, 16 * 1024)


def test_an_index_in_a_bucket_needs_no_space_here(set_free: Callable[[int], None], tmp_path: Path) -> None:
    set_free(0)
    require_index_space(workspace(tmp_path, index={"uri": "s3://bucket/index"}), delta(), 384)


def test_training_needs_space_for_copies_of_the_largest_adapter(
    set_free: Callable[[int], None], tmp_path: Path
) -> None:
    project = workspace(tmp_path)
    set_free(60 * MEGABYTE)
    with pytest.raises(UserError, match="training"):
        _require_training_space(project)
    write(project.adapters / "small" / "weights", b"0" * 100)
    _require_training_space(project)
    write(project.adapters / "large" / "weights", b"0" * 11 * MEGABYTE)
    with pytest.raises(UserError, match="66 MB"):
        _require_training_space(project)


@pytest.mark.parametrize(
    ("free", "problem", "is_named"),
    [
        (100, "Timed out while attempting to connect to the server", True),
        (10 * MEGABYTE, "database or disk is full", True),
        (10 * MEGABYTE, "Disk quota exceeded", True),
        (10 * MEGABYTE, "No space left on device (os error 28)", True),
        (10 * MEGABYTE, "there is no release 7", False),
        (1000 * MEGABYTE, "disk I/O error", False),
    ],
)
def test_a_full_disk_is_named_where_it_may_be_the_cause(
    free: int, problem: str, is_named: bool, set_free: Callable[[int], None], tmp_path: Path
) -> None:
    set_free(free)
    described = describe_full_disks(problem, (tmp_path,))
    assert bool(described) is is_named
    assert not is_named or f"{tmp_path} has {free / MEGABYTE:.1f} MB free" in described


def test_what_is_free_is_read_from_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert disk.free_bytes(tmp_path / "a" / "b") > 0
