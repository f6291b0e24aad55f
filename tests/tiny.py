"""Tiny untrained Llama and BERT models for tests with the real libraries.

The tokenizers have a vocabulary of words and a chat template, so that transformers and peft run as with large models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.models import generator
from ragtide.pipelines.params import GenerateParams

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
MARKS = ("<unk>", "<pad>", "<end>", "<system>", "<user>", "<assistant>")
WORDS = tuple(f"w{number}" for number in range(90))
BERT_WIDTH, BERT_TOKENS = 16, 32


def write_tiny_model(folder: Path, seed: int = 0, **special: str | None) -> Path:
    """A Llama of two layers with a vocabulary of words and a chat template, in `folder`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate([*MARKS, *WORDS])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    settings: dict[str, Any] = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<end>"} | special
    settings["additional_special_tokens"] = list(MARKS[3:])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, chat_template=TEMPLATE, **settings)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(MARKS) + len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=MARKS.index("<end>"),
        pad_token_id=MARKS.index("<pad>"),
        # Large, so that the untrained model has confident predictions, and one training step changes them.
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_byte_model(folder: Path, kind: str = "Llama", seed: int = 0, **config: Any) -> Path:
    """As `write_tiny_model`, with a byte-level BPE tokenizer; `config` overrides settings of the model."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[*MARKS], initial_alphabet=alphabet, show_progress=False
    )
    tokens.train_from_iterator([" ".join(WORDS)], trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens, chat_template=TEMPLATE, pad_token="<pad>", eos_token="<end>"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    usual = {
        # A few more than the tokenizer has, as in many models.
        "vocab_size": len(fast) + 4,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": MARKS.index("<end>"),
        "pad_token_id": MARKS.index("<pad>"),
        "initializer_range": 0.3,
    }
    settings = getattr(transformers, f"{kind}Config")(**(usual | config))
    getattr(transformers, f"{kind}ForCausalLM")(settings).save_pretrained(folder)
    return folder


def write_random_adapter(base: Path, folder: Path, seed: int = 1) -> Path:
    """An adapter with random weights for the model in `base`, as peft writes it."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    with generator.ignore_peft_warnings():
        lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        get_peft_model(generator.load_base_model(settings_for(base), str(base)), lora).save_pretrained(str(folder))
    return folder


def write_tiny_bert(folder: Path, kind: str, words: Sequence[str], seed: int = 0, **config: Any) -> Path:
    """A BERT of one layer over a vocabulary of words, as `kind` of transformers, with its tokenizer, in `folder`."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = {word: at for at, word in enumerate([*marks.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=BERT_TOKENS, **marks)
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    usual = {
        "vocab_size": len(vocabulary),
        "hidden_size": BERT_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": BERT_TOKENS,
    }
    getattr(transformers, kind)(transformers.BertConfig(**usual, **config)).save_pretrained(folder)
    return folder


def settings_for(folder: Path | str, **changed: Any) -> GenerateParams:
    usual: dict[str, Any] = {"device": "cpu", "dtype": "float32", "max_new_tokens": 6, "tokens_at_once": 128}
    return GenerateParams(model=str(folder), **(usual | changed))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One torch thread: a tiny model gains nothing from a second, and on a busy machine they wait for each other."""
    import torch

    usual = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        # The number of threads that the generator sets.
        patch.setattr(generator, "available_cores", lambda: 1)
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(usual)
