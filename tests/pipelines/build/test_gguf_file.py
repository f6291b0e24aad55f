"""Is the model in a GGUF file the one that went in, to the numbers and the tokens, and is an unsure one refused?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

from pipelines.build.generate import load_base, load_tokenizer
from pipelines.build.gguf_file import CUTS, PRECISIONS, _interleave, write_gguf
from pipelines.errors import RefusalError
from pipelines.ports import quiet
from tests.tiny import MARKS, TEMPLATE, one_thread, settings_for, write_byte_model, write_tiny_model

__all__ = ["one_thread"]  # A fixture: pytest finds it here.

TEXT = "<user> w1 w22  isn't 3.14\n\n caf\u00e9 <end> <assistant> "
# How far the logits may be off, as a share of their length, by how the weights are written.
OFF = {"f32": 1e-5, "f16": 0.01, "bf16": 0.05, "q8_0": 0.1}


def written(folder: Path, precision: str = "f32") -> Path:
    """The GGUF file of the model in `folder`."""
    params = settings_for(folder)
    path = folder / "model.gguf"
    write_gguf(load_base(params, str(folder)), load_tokenizer(params, str(folder)), path, precision, quiet)
    return path


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(6, 46)[None]).logits


def distance(one: Any, other: Any) -> float:
    return float((one - other).norm() / one.norm())


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


# --- the numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_transformers_reads_the_same_model_back(tmp_path: Path, precision: str) -> None:
    folder = write_byte_model(tmp_path)
    before = logits(load_base(settings_for(folder), str(folder)))
    written(folder, precision)
    after = logits(AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32))
    assert distance(before, before.roll(1, dims=1)) > 0.5
    assert distance(before, after) < OFF[precision]


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"kind": "Qwen2"}, id="qwen2"),
        pytest.param({"tie_word_embeddings": True}, id="tied"),
        pytest.param({"num_key_value_heads": 4}, id="as many keys"),
        pytest.param({"num_key_value_heads": 1}, id="one key"),
        pytest.param({"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}, id="another rope"),
        pytest.param({"rms_norm_eps": 0.01}, id="another norm"),
    ],
)
def test_models_of_other_forms_are_read_back_too(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = write_byte_model(tmp_path, **config)
    before = logits(load_base(settings_for(folder), str(folder)))
    written(folder)
    after = logits(AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32))
    assert distance(before, after) < OFF["f32"]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_the_order_of_rows_is_the_one_that_transformers_takes_back(heads: int, halves: int, columns: int) -> None:
    weights = torch.arange(heads * 2 * halves * columns).reshape(-1, columns)
    back = LlamaTensorProcessor()._reverse_permute_weights(_interleave(weights, heads).numpy(), heads, heads)
    assert torch.equal(torch.from_numpy(back.copy()), weights)


def test_vectors_stay_in_full_precision_and_rows_that_do_not_fit_a_block_in_half(tmp_path: Path) -> None:
    folder = write_byte_model(tmp_path, intermediate_size=72)
    kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(written(folder, "q8_0")).tensors}
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert {kinds["blk.1.attn_q.weight"], kinds["token_embd.weight"], kinds["output.weight"]} == {"Q8_0"}


# --- the tokens ----------------------------------------------------------------------------------------------------


def test_the_tokenizer_is_read_back_with_its_marks_and_its_template(tmp_path: Path) -> None:
    folder = write_byte_model(tmp_path)
    said = fields(written(folder))
    before = load_tokenizer(settings_for(folder), str(folder))
    tokens = [*before.convert_ids_to_tokens(range(len(before))), *(f"[PAD{len(before) + at}]" for at in range(4))]
    assert said["tokenizer.ggml.tokens"] == tokens
    kinds = [gguf.TokenType(kind).name for kind in said["tokenizer.ggml.token_type"]]
    assert kinds[: len(MARKS)] == ["CONTROL"] * len(MARKS)
    assert set(kinds[len(MARKS) : -4]) == {"NORMAL"}
    assert kinds[-4:] == ["UNUSED"] * 4
    assert said["tokenizer.ggml.eos_token_id"] == MARKS.index("<end>")
    assert said["tokenizer.ggml.padding_token_id"] == MARKS.index("<pad>")
    assert said["tokenizer.chat_template"] == TEMPLATE
    after = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    assert after(TEXT, add_special_tokens=False)["input_ids"] == before(TEXT, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", CUTS.values())
def test_the_way_that_text_is_cut_is_named(tmp_path: Path, name: str) -> None:
    [form] = [form for form, cut in CUTS.items() if cut == name]
    steps = [
        {"type": part, "individual_digits": True, "add_prefix_space": False, "use_regex": True}
        if part in ("ByteLevel", "Digits")
        else {"type": "Split", "pattern": {"Regex": part}, "behavior": "Isolated", "invert": False}
        for part in form
    ]
    steps[-1] |= {"trim_offsets": True, "use_regex": name in ("gpt-2", "smollm")}
    folder = with_cut(write_byte_model(tmp_path), {"type": "Sequence", "pretokenizers": steps})
    assert fields(written(folder))["tokenizer.ggml.pre"] == name


def with_cut(folder: Path, before: dict[str, Any]) -> Path:
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"pre_tokenizer": before}), encoding="utf-8")
    return folder


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ],
)
def test_a_way_of_cutting_text_that_has_no_name_is_refused(tmp_path: Path, before: dict[str, Any]) -> None:
    folder = with_cut(write_byte_model(tmp_path), before)
    with pytest.raises(RefusalError, match=r"a tokenizer that cuts text by .*known: gpt-2, smollm") as refusal:
        written(folder)
    assert "\n" not in str(refusal.value)
    assert not (folder / "model.gguf").exists()


def test_a_tokenizer_that_merges_no_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match=r"a tokenizer of type WordLevel \(known: BPE\): `--format safetensors`"):
        written(write_tiny_model(tmp_path))
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"kind": "Mistral"}, r"no GGUF for mistral models \(known: llama, qwen2\)"),
        ({"rope_parameters": {"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0}}, "with rope 'linear'"),
        ({"hidden_act": "gelu"}, "and 'gelu'"),
    ],
)
def test_a_network_that_is_not_known_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    folder = write_byte_model(tmp_path, **config)
    with pytest.raises(RefusalError, match=said) as refusal:
        written(folder)
    assert "\n" not in str(refusal.value)
    assert not (folder / "model.gguf").exists()
