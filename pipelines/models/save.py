"""Export of a release's model for other engines: base model and adapter merged, or the adapter alone.

The weights are written in the precision in which Ragtide runs them (generate.dtype). vLLM, Ollama and llama.cpp's
converter read the safetensors folder.
"""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ragtide.pipelines.errors import UserError

if TYPE_CHECKING:
    from ragtide.pipelines.models.generator import TransformersGenerator


class ExportFormat(StrEnum):
    """What `ragtide export` writes."""

    SAFETENSORS = "safetensors"
    ADAPTER = "adapter"


def save_model(generator: TransformersGenerator, adapter: Path | None, form: ExportFormat, folder: Path) -> None:
    """Write the model into the existing `folder`, in the format `form`.

    SAFETENSORS writes the base model with `adapter` merged into it (None: the base model alone); ADAPTER copies the
    adapter's files and raises UserError if there is no adapter.
    """
    if form is ExportFormat.ADAPTER:
        if adapter is None:
            raise UserError("the release has no adapter: `--format safetensors` writes its base model")
        shutil.copytree(adapter, folder, dirs_exist_ok=True)
        return
    model = generator.load(adapter)
    model.save_pretrained(folder)
    generator.tokenizer.save_pretrained(folder)
