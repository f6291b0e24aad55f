"""How does a model leave for elsewhere? Its adapter merged in, as a folder or one GGUF file; or the adapter alone.

What is written are the weights that answer here, in the precision in which they answer here (generate.dtype).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import RefusalError
from pipelines.ports import Progress

if TYPE_CHECKING:
    # The command line offers the forms below before it needs a model.
    from pipelines.build.generate import TransformersGenerator

GGUF_FILE = "model.gguf"


class Format(StrEnum):
    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    ADAPTER = "adapter"


class Precision(StrEnum):
    """How the weights of a GGUF file are written."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"


@dataclass(frozen=True)
class Form:
    """What is to be written; `precision` is for GGUF alone."""

    format: Format
    precision: Precision = Precision.F16


def write_model(
    generator: TransformersGenerator, adapter: Path | None, form: Form, folder: Path, progress: Progress
) -> None:
    """Write the base model with `adapter` merged into it (None: the base alone) into `folder`, which is there.

    Raises RefusalError where there is no adapter to write, or no GGUF for such a model.
    """
    if form.format is Format.ADAPTER:
        if adapter is None:
            raise RefusalError("the release has no adapter: `--format safetensors` or gguf writes its base model")
        shutil.copytree(adapter, folder, dirs_exist_ok=True)
        return
    model = generator.load(adapter)
    if form.format is Format.GGUF:
        from pipelines.build.gguf_file import write_gguf

        write_gguf(model, generator.tokenizer, folder / GGUF_FILE, form.precision, progress)
        return
    model.save_pretrained(folder)
    generator.tokenizer.save_pretrained(folder)
