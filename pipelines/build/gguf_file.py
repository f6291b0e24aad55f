"""How does a model become one file for llama.cpp? GGUF, for the architectures and tokenizers that we know to lay out.

The layout is that of llama.cpp's convert_hf_to_gguf.py. Whatever it is not sure of is refused: a file that llama.cpp
reads and answers nonsense from is worse than none.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from pipelines.errors import RefusalError
from pipelines.ports import Progress

# `model_type` of a config -> the architecture by llama.cpp's name.
ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}
# How weights are written -> what a file says of itself.
PRECISIONS = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
INSTEAD = "`--format safetensors` writes any model, and llama.cpp's own convert_hf_to_gguf.py may know it"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How a tokenizer cuts text before it merges -> llama.cpp's name for it.
CUTS = {
    ("ByteLevel",): "gpt-2",
    ("Digits", "ByteLevel"): "smollm",
    (f"{_WORDS}\\p{{N}}{_REST}", "ByteLevel"): "qwen2",
    (f"{_WORDS}\\p{{N}}{{1,3}}{_REST}", "ByteLevel"): "llama-bpe",
}


@dataclass(frozen=True)
class Vocabulary:
    """Every token by its id, what kind each is, and how llama.cpp calls the way that text is cut."""

    tokens: list[str]
    kinds: list[gguf.TokenType]
    cut: str


def write_gguf(model: Any, tokenizer: Any, path: Path, precision: str, progress: Progress) -> None:
    """Write a transformers model with its tokenizer and chat template as one GGUF file; `precision` of PRECISIONS.

    Vectors (norms, biases) stay in float32, and so does in float16 what q8_0 does not fit (rows of 32 weights).
    Raises RefusalError for an architecture or a tokenizer that is not known here.
    """
    architecture = _architecture(model.config)
    with tempfile.TemporaryDirectory() as scratch:
        # The tokenizer's own files: gguf reads merges, marks and template from them.
        tokenizer.save_pretrained(scratch)
        vocabulary = _vocabulary(Path(scratch), model.config.vocab_size)
        writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
        _describe(writer, model.config, PRECISIONS[precision])
        _tokenizer(writer, vocabulary, Path(scratch))
    tensors = list(_tensors(model, architecture))
    with progress("writing GGUF", len(tensors)) as advance:
        for name, weights in tensors:
            kind = _kind(weights, precision)
            writer.add_tensor(name, gguf.quantize(weights.detach().float().cpu().numpy(), kind), raw_dtype=kind)
            advance(1)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    writer.close()


def _architecture(config: Any) -> gguf.MODEL_ARCH:
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if config.model_type not in ARCHITECTURES:
        raise RefusalError(f"no GGUF for {config.model_type} models (known: {', '.join(ARCHITECTURES)}): {INSTEAD}")
    if rope != "default" or config.hidden_act != "silu":
        raise RefusalError(f"no GGUF for a model with rope {rope!r} and {config.hidden_act!r}: {INSTEAD}")
    return ARCHITECTURES[config.model_type]


def _describe(writer: gguf.GGUFWriter, config: Any, file_type: gguf.LlamaFileType) -> None:
    """What llama.cpp must know to build the network."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


# --- the tokenizer -------------------------------------------------------------------------------------------------


def _tokenizer(writer: gguf.GGUFWriter, vocabulary: Vocabulary, folder: Path) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.cut)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    gguf.SpecialVocab(folder, load_merges=True, n_vocab=len(vocabulary.tokens)).add_to_gguf(writer, quiet=True)


def _vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary in tokenizer.json, filled up to the `size` of the model's embedding."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"model": {"type": "unknown"}}
    if content["model"]["type"] != "BPE":
        raise RefusalError(f"no GGUF for a tokenizer of type {content['model']['type']} (known: BPE): {INSTEAD}")
    tokens = [f"[PAD{at}]" for at in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for token, at in content["model"]["vocab"].items():
        tokens[at], kinds[at] = token, gguf.TokenType.NORMAL
    for added in content["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"], kind
    return Vocabulary(tokens, kinds, _cut(content["pre_tokenizer"] or {"type": "none"}))


def _cut(before: dict[str, Any]) -> str:
    """llama.cpp's name for a pre-tokenizer, as tokenizer.json has it."""
    steps = before.get("pretokenizers", [before])
    form = tuple(step["pattern"].get("Regex") if step["type"] == "Split" else step["type"] for step in steps)
    # ByteLevel cuts by itself as GPT-2 did, but not after a Split.
    as_known = steps[-1].get("use_regex", True) is (steps[0]["type"] != "Split")
    if form not in CUTS or not as_known or any(step.get("add_prefix_space") for step in steps):
        known = ", ".join(CUTS.values())
        raise RefusalError(f"no GGUF for a tokenizer that cuts text by {form} (known: {known}): {INSTEAD}")
    return CUTS[form]


# --- the weights ---------------------------------------------------------------------------------------------------


def _tensors(model: Any, architecture: gguf.MODEL_ARCH) -> Iterator[tuple[str, Any]]:
    """Each tensor by the name that llama.cpp has for it."""
    config = model.config
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weights in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise RefusalError(f"no GGUF for a model with a tensor {name}: {INSTEAD}")
        part = name.split(".")[-2]
        interleaved = architecture is gguf.MODEL_ARCH.LLAMA and part in heads
        yield known, _interleave(weights, heads[part]) if interleaved else weights


def _interleave(weights: Any, heads: int) -> Any:
    """Rows of a head's two halves in turn: llama.cpp rotates neighbours of a llama, transformers halves."""
    rows = weights.shape[0]
    paired = weights.reshape(heads, 2, rows // heads // 2, *weights.shape[1:])
    return paired.swapaxes(1, 2).reshape(weights.shape)


def _kind(weights: Any, precision: str) -> gguf.GGMLQuantizationType:
    kind = gguf.GGMLQuantizationType[precision.upper()]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    if weights.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    return kind if weights.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16
