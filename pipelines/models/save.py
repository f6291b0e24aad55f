"""A release's model as files for other engines: the base model with the adapter merged in, or the adapter alone.

The weights are those that answer here, in the precision in which they answer here (generate.dtype). vLLM, Ollama and
llama.cpp's converter read the safetensors folder.
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
    """Write the base model with `adapter` merged into it (None: the base model alone) into the existing `folder`.

    Raises RefusalError where the adapter alone is asked for and there is none.
    """
    if form is ExportFormat.ADAPTER:
        if adapter is None:
            raise UserError("the release has no adapter: `--format safetensors` writes its base model")
        shutil.copytree(adapter, folder, dirs_exist_ok=True)
        return
    model = generator.load(adapter)
    model.save_pretrained(folder)
    generator.tokenizer.save_pretrained(folder)
