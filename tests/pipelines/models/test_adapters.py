"""Tests of adapter storage: content digests, deduplication, and errors for missing or foreign adapters."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.adapters import (
    BASE,
    AdapterBase,
    adapter_digest,
    adapter_folder,
    check_adapter_base,
    is_same_base,
    store_adapter,
)
from ragtide.pipelines.records.release import BuiltModel
from tests.factories import workspace, write


def test_an_adapters_digest_is_that_of_its_files_by_name_and_content(tmp_path: Path) -> None:
    seen = set()
    for number, (name, content) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("deep/a", "x"), ("ax", "")]):
        write(tmp_path / str(number) / name, content)
        seen.add(adapter_digest(tmp_path / str(number)))
    assert len(seen) == 5
    assert adapter_digest(write(tmp_path / "other/a", "x").parent) == adapter_digest(tmp_path / "0")
    assert {len(digest) for digest in seen} == {12}


def test_an_adapter_is_kept_under_its_digest_and_an_equal_one_only_once(tmp_path: Path) -> None:
    first = write(tmp_path / "first/weights", "w").parent
    digest = store_adapter(first, tmp_path / "kept", "model@1")
    assert not first.exists()
    kept = (tmp_path / "kept" / digest / "weights").stat()
    again = write(tmp_path / "again/weights", "w").parent
    assert store_adapter(again, tmp_path / "kept", "model@1") == digest
    assert not again.exists()
    assert (tmp_path / "kept" / digest / "weights").stat().st_ino == kept.st_ino


def test_an_adapter_is_kept_with_its_base_and_named_by_it_too(tmp_path: Path) -> None:
    made = [write(tmp_path / name / "weights", "w").parent for name in ("one", "other")]
    kept = [store_adapter(folder, tmp_path, f"model@{number}") for number, folder in enumerate(made)]
    assert kept[0] != kept[1]
    assert AdapterBase.read(tmp_path / kept[1] / BASE).base == "model@1"


@pytest.mark.parametrize(
    ("base", "other", "same"),
    [
        ("model@1", "model@1", True),
        ("model@1", "model@2", False),
        ("/here/model@1", "/there@home/model@1", True),
        ("reader-1", "reader-1", True),
        ("reader-1", "reader-2", False),
        ("reader-1", "model@1", False),
    ],
)
def test_a_base_is_identified_by_its_weights_not_by_its_folder(
    tmp_path: Path, base: str, other: str, same: bool
) -> None:
    assert is_same_base(base, other) is is_same_base(other, base) is same
    AdapterBase(base=base).write(tmp_path / "a1" / BASE)
    if same:
        check_adapter_base(tmp_path / "a1", other)
        return
    with pytest.raises(UserError, match=f"adapter a1 was trained on {base}, not on {other}: ") as raised:
        check_adapter_base(tmp_path / "a1", other)
    assert "\n" not in str(raised.value)


def test_an_adapter_without_a_recorded_base_passes(tmp_path: Path) -> None:
    check_adapter_base(write(tmp_path / "weights", "w").parent, "any@1")


def test_the_base_model_alone_has_no_folder(tmp_path: Path) -> None:
    assert adapter_folder(workspace(tmp_path), BuiltModel(base="b", adapter=None, examples=None, settings=None)) is None


def test_a_missing_adapter_is_an_error_that_names_its_folder(tmp_path: Path) -> None:
    model = BuiltModel(base="b", adapter="0123456789ab", examples=None, settings=None)
    with pytest.raises(UserError, match=r"adapters/0123456789ab is missing") as raised:
        adapter_folder(workspace(tmp_path), model)
    assert "\n" not in str(raised.value)
