"""Text generation and answer losses of a transformers model: greedy, batched by length, with an optional adapter.

generate.tokens_at_once bounds the memory of a batch, padding and answers included: keys and values (SmolLM2-135M:
23 KB per token in bfloat16) and the activations of its widest layer. A longer prompt is a batch of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os.path import commonprefix
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from safetensors import SafetensorError

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.adapters import check_adapter_base
from ragtide.pipelines.models.embedder import token_batches
from ragtide.pipelines.models.weights import (
    available_cores,
    choose_device,
    choose_dtype,
    load_error,
    locate_generator,
    weights_revision,
)
from ragtide.pipelines.params import GenerateParams
from ragtide.pipelines.ports import Advance, Prompt, TrainingSample

# The label of positions without a loss, as torch's cross_entropy expects it.
IGNORED = -100
# Cost of an answer token, whose logits over the vocabulary take as much memory as this many prompt tokens.
ANSWER_TOKEN_COST = 16


@dataclass(frozen=True)
class TokenizedSample:
    """A training sample as token ids; the last `answer_tokens` are the answer and its end-of-sequence token."""

    ids: list[int]
    answer_tokens: int

    def truncate(self, max_tokens: int) -> TokenizedSample:
        """The last `max_tokens` tokens, at least one from the prompt: its logits predict the first answer token."""
        return TokenizedSample(self.ids[-max_tokens:], min(self.answer_tokens, max_tokens - 1))

    @property
    def token_cost(self) -> int:
        """The part of generate.tokens_at_once that computing its loss takes."""
        return max(len(self.ids), ANSWER_TOKEN_COST * self.answer_tokens)


@dataclass(frozen=True)
class AnswerLogits:
    """Logits and labels at the answer positions of a batch, right-aligned.

    `logits` has shape (samples, longest answer, vocabulary). `labels` are token ids of shape (samples, longest
    answer), IGNORED before a shorter answer.
    """

    logits: Any
    labels: Any


class TransformersGenerator:
    """A Generator over a causal language model of transformers; the weights are loaded on first use and kept."""

    def __init__(self, params: GenerateParams) -> None:
        self._params = params
        self._adapted: dict[str, Any] = {}

    @cached_property
    def source(self) -> str:
        """The folder or hub id of the weights."""
        return locate_generator(self._params.model)

    @cached_property
    def base(self) -> str:
        try:
            return f"{self._params.model}@{weights_revision(self.source)}"
        except (OSError, ValueError) as problem:
            raise load_error("generate.model", self._params.model, problem) from problem

    @cached_property
    def identity(self) -> str:
        dtype = choose_dtype(self._params.dtype, choose_device(self._params.device))
        return f"{self.base}/{dtype}/greedy-{self._params.max_new_tokens}"

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self._params, self.source)

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        import torch

        token_ids = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        token_costs = [len(ids) + self._params.max_new_tokens for ids in token_ids]
        answers = [""] * len(token_ids)
        with torch.inference_mode():
            for batch in token_batches(token_costs, self._params.tokens_at_once):
                batch_answers = self._generate_batch([token_ids[position] for position in batch], adapter)
                for position, answer in zip(batch, batch_answers, strict=True):
                    answers[position] = answer
                advance(len(batch))
        return answers

    def losses(self, samples: Sequence[TrainingSample], adapter: Path | None, advance: Advance) -> list[float]:
        import torch

        tokenized = [tokenize_sample(self.tokenizer, sample) for sample in samples]
        losses = [0.0] * len(tokenized)
        with torch.inference_mode():
            for batch in token_batches([sample.token_cost for sample in tokenized], self._params.tokens_at_once):
                batch_losses = self._batch_losses([tokenized[position] for position in batch], adapter)
                for position, loss in zip(batch, batch_losses, strict=True):
                    losses[position] = loss
                advance(len(batch))
        return losses

    def _batch_losses(self, batch: list[TokenizedSample], adapter: Path | None) -> list[float]:
        from torch.nn.functional import cross_entropy

        model = self._model(adapter)
        # A sample over the model's context window is truncated as in training, so that every example gets a loss.
        window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        truncated = [sample.truncate(window or len(sample.ids)) for sample in batch]
        answers = answer_logits(model, truncated, self.tokenizer.pad_token_id)
        # Row by row, so that only one sample's logits exist in float32 and as log-probabilities at a time.
        rows = zip(answers.logits, answers.labels, strict=True)
        return [float(cross_entropy(logits.float(), labels, ignore_index=IGNORED)) for logits, labels in rows]

    def _generate_batch(self, token_ids: list[list[int]], adapter: Path | None) -> list[str]:
        model, pad = self._model(adapter), self.tokenizer.pad_token_id
        prefix_cache = shared_prefix_cache(model, token_ids)
        prefix_length = prefix_cache.get_seq_length() if prefix_cache is not None else 0
        input_ids = pad_left(token_ids, pad, after=prefix_length).to(model.device)
        output = model.generate(
            input_ids=input_ids,
            attention_mask=pad_left([[1] * len(ids) for ids in token_ids], 0, after=prefix_length).to(model.device),
            past_key_values=prefix_cache,
            max_new_tokens=self._params.max_new_tokens,
            do_sample=False,
            pad_token_id=pad,
        )
        answer_ids = output[:, input_ids.shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(answer_ids, skip_special_tokens=True)]

    def _model(self, adapter: Path | None) -> Any:
        key = str(adapter)
        if key not in self._adapted:
            # Only one adapter is kept: merged into a copy of the weights, it adds no cost per token.
            self._adapted = {key: self.load(adapter)}
        return self._adapted[key]

    def load(self, adapter: Path | None) -> Any:
        """The base model with the adapter merged into its weights. Raises UserError for an adapter of another base."""
        model = load_base_model(self._params, self.source)
        if adapter is None:
            return model.eval()
        check_adapter_base(adapter, self.base)
        from peft import PeftModel

        with ignore_peft_warnings():
            return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()


@contextmanager
def ignore_peft_warnings() -> Iterator[None]:
    """Hide a deprecation warning that peft 0.21 triggers in transformers 5.23, about which a user can do nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def render_prompt(tokenizer: Any, prompt: Prompt) -> str:
    """The prompt as text, by the model's chat template, up to the start of the answer."""
    turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except TemplateError:
        if turns[0]["role"] != "system":
            raise
        # The templates of some models reject the system role: its text is put before the first user turn.
        system, user, *others = turns
        first = {"role": user["role"], "content": f"{system['content']}\n\n{user['content']}"}
        return str(tokenizer.apply_chat_template([first, *others], tokenize=False, add_generation_prompt=True))


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The prompt as token ids, up to the start of the answer."""
    ids: list[int] = tokenizer(render_prompt(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    return ids


def tokenize_sample(tokenizer: Any, sample: TrainingSample) -> TokenizedSample:
    """The sample as token ids: the prompt as at inference, the answer, and the end-of-sequence token."""
    prompt = prompt_ids(tokenizer, sample.prompt)
    answer = tokenizer(sample.completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return TokenizedSample(ids=prompt + answer, answer_tokens=len(answer))


def answer_logits(model: Any, batch: Sequence[TokenizedSample], pad: int) -> AnswerLogits:
    """Logits at the answer positions only: left padding aligns all answers at the end of their rows."""
    mask = pad_left([[1] * len(sample.ids) for sample in batch], 0)
    labels = pad_left([sample.ids[-sample.answer_tokens :] for sample in batch], IGNORED)
    output = model(
        input_ids=pad_left([sample.ids for sample in batch], pad).to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(model.device),
        logits_to_keep=labels.shape[1] + 1,
    )
    # The logits at one position predict the token at the next.
    return AnswerLogits(logits=output.logits[:, :-1], labels=labels.to(model.device))


def pad_left(rows: Sequence[list[int]], filler: int, after: int = 0) -> Any:
    """Rows of integers as a tensor of shape (rows, longest row); padding goes behind the first `after` integers."""
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row[:after], *[filler] * (width - len(row)), *row[after:]] for row in rows])


def shared_prefix_cache(model: Any, token_ids: Sequence[list[int]]) -> Any:
    """Keys and values of the tokens with which all prompts begin, computed once, with a row for each prompt.

    None for a single prompt or without a shared prefix, and for models whose layers do not attend to all earlier
    tokens (sliding window, recurrent state): the padding behind the prefix would distort their output.
    """
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    # Without the last token of each prompt, which must be computed: its logits predict the first answer token.
    prefix = commonprefix([ids[:-1] for ids in token_ids])  # noqa: RUF071 - of tokens, not of paths
    cache = DynamicCache(config=model.config)
    if len(token_ids) == 1 or not prefix or {type(layer) for layer in cache.layers} != {DynamicLayer}:
        return None
    model(input_ids=torch.tensor([prefix]).to(model.device), past_key_values=cache, logits_to_keep=1)
    cache.batch_repeat_interleave(len(token_ids))
    return cache


def load_tokenizer(params: GenerateParams, source: str) -> Any:
    """The tokenizer, padding on the left so that all answers of a batch begin at the same position."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    except (OSError, ValueError) as problem:
        raise load_error("generate.model", params.model, problem) from problem
    if tokenizer.chat_template is None:
        raise UserError(f"generate.model = {params.model!r} has no chat template: choose an instruction-tuned model")
    if tokenizer.eos_token is None:
        raise UserError(f"generate.model = {params.model!r} has no end-of-sequence token (eos_token): choose another")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load_base_model(params: GenerateParams, source: str) -> Any:
    """The base model in generate.dtype on generate.device. Raises UserError if it cannot be loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    # All cores: the threads of MLflow and LanceDB are idle while the model computes.
    torch.set_num_threads(available_cores())
    device = choose_device(params.device)
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, choose_dtype(params.dtype, device)))
    except (OSError, ValueError, SafetensorError) as problem:
        raise load_error("generate.model", params.model, problem) from problem
    return model.to(device)
