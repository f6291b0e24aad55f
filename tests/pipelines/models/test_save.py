"""Tests of model export: merged weights, tokenizer, base model alone and adapter alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.generator import TransformersGenerator, ignore_peft_warnings
from ragtide.pipelines.models.save import ExportFormat, save_model
from tests.tiny import TEMPLATE, one_thread, settings_for, write_byte_model, write_random_adapter

__all__ = ["one_thread"]  # A fixture: pytest finds it here.


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> TransformersGenerator:
    return TransformersGenerator(settings_for(write_byte_model(tmp_path_factory.mktemp("merge") / "base")))


@pytest.fixture(scope="module")
def adapter(generator: TransformersGenerator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_adapter(Path(generator.source), tmp_path_factory.mktemp("merge") / "adapter")


def unmerged(generator: TransformersGenerator, adapter: Path) -> Any:
    """Base and adapter beside each other, as they were trained."""
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(generator.source, dtype=torch.float32)
    with ignore_peft_warnings():
        return PeftModel.from_pretrained(base, str(adapter))


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(6, 46)[None]).logits


def test_merged_weights_give_the_logits_of_base_and_adapter_together(
    generator: TransformersGenerator, adapter: Path, tmp_path: Path
) -> None:
    save_model(generator, adapter, ExportFormat.SAFETENSORS, tmp_path)
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32))
    assert (merged - logits(unmerged(generator, adapter))).abs().max() < 1e-4
    assert (merged - logits(generator.load(None))).abs().max() > 1


def test_the_tokenizer_and_its_template_are_exported(
    generator: TransformersGenerator, adapter: Path, tmp_path: Path
) -> None:
    save_model(generator, adapter, ExportFormat.SAFETENSORS, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer("w1 w22")["input_ids"] == generator.tokenizer("w1 w22")["input_ids"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json", ".jinja"}


def test_without_an_adapter_the_base_is_written_as_it_is(generator: TransformersGenerator, tmp_path: Path) -> None:
    save_model(generator, None, ExportFormat.SAFETENSORS, tmp_path)
    written = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(logits(written), logits(generator.load(None)))


def test_the_adapter_alone_is_copied_as_it_is(generator: TransformersGenerator, adapter: Path, tmp_path: Path) -> None:
    save_model(generator, adapter, ExportFormat.ADAPTER, tmp_path)
    files = {path.name: path.read_bytes() for path in adapter.iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert torch.equal(logits(unmerged(generator, tmp_path)), logits(unmerged(generator, adapter)))


def test_a_missing_adapter_is_an_error(generator: TransformersGenerator, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--format safetensors") as raised:
        save_model(generator, None, ExportFormat.ADAPTER, tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
