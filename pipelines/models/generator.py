"""How does the model answer? transformers, greedily, in batches of like length, with or without an adapter.

What a batch takes is bounded by generate.tokens_at_once, padding and answers counted: keys and values (SmolLM2-135M:
23 KB a token in bfloat16) and what its widest layer computes. One prompt longer than that is a batch of its own.
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

IGNORED = -100
# A token of an answer takes logits over the whole vocabulary: as much memory as so many tokens of a prompt take.
ANSWER_TOKEN = 16


@dataclass(frozen=True)
class TokenizedSample:
    """A lesson as token ids; the last `answer_tokens` of them are the answer and its end mark."""

    ids: list[int]
    answer_tokens: int

    def cut(self, max_tokens: int) -> TokenizedSample:
        """The last `max_tokens` tokens; one before the answer always stays, since it foretells the answer's first."""
        return TokenizedSample(self.ids[-max_tokens:], min(self.answer_tokens, max_tokens - 1))

    @property
    def room(self) -> int:
        """How many of generate.tokens_at_once its loss takes."""
        return max(len(self.ids), ANSWER_TOKEN * self.answer_tokens)


@dataclass(frozen=True)
class AnswerLogits:
    """What a model expects where the answers stand, and what stands there; a shorter answer is at the end of its row.

    `logits` is float of shape (lessons, longest answer, vocabulary); `labels` are token ids of shape (lessons, longest
    answer), IGNORED before a shorter answer.
    """

    logits: Any
    labels: Any


class TransformersGenerator:
    """A Generator over a causal language model; the weights are loaded on first use and kept."""

    def __init__(self, params: GenerateParams) -> None:
        self._params = params
        self._adapted: dict[str, Any] = {}

    @cached_property
    def source(self) -> str:
        """The folder or hub id that the weights come from."""
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

        asked = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        answers = [""] * len(asked)
        room = [len(ids) + self._params.max_new_tokens for ids in asked]
        with torch.inference_mode():
            for batch in token_batches(room, self._params.tokens_at_once):
                for at, answer in zip(batch, self._batch([asked[at] for at in batch], adapter), strict=True):
                    answers[at] = answer
                advance(len(batch))
        return answers

    def losses(self, lessons: Sequence[TrainingSample], adapter: Path | None, advance: Advance) -> list[float]:
        import torch

        encoded = [tokenize_sample(self.tokenizer, lesson) for lesson in lessons]
        losses = [0.0] * len(encoded)
        with torch.inference_mode():
            for batch in token_batches([one.room for one in encoded], self._params.tokens_at_once):
                found = self._batch_losses([encoded[at] for at in batch], adapter)
                for at, loss in zip(batch, found, strict=True):
                    losses[at] = loss
                advance(len(batch))
        return losses

    def _batch_losses(self, batch: list[TokenizedSample], adapter: Path | None) -> list[float]:
        from torch.nn.functional import cross_entropy

        model = self._model(adapter)
        # What the model cannot see at once is cut as in training: a measurement refuses no example.
        window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        told = answer_logits(model, [one.cut(window or len(one.ids)) for one in batch], self.tokenizer.pad_token_id)
        # Row by row, so that only one lesson's logits are there in float32 and in logarithms at a time.
        rows = zip(told.logits, told.labels, strict=True)
        return [float(cross_entropy(logits.float(), labels, ignore_index=IGNORED)) for logits, labels in rows]

    def _batch(self, asked: list[list[int]], adapter: Path | None) -> list[str]:
        model, pad = self._model(adapter), self.tokenizer.pad_token_id
        start = shared_prefix_cache(model, asked)
        read = start.get_seq_length() if start is not None else 0
        ids = pad_left(asked, pad, after=read).to(model.device)
        output = model.generate(
            input_ids=ids,
            attention_mask=pad_left([[1] * len(one) for one in asked], 0, after=read).to(model.device),
            past_key_values=start,
            max_new_tokens=self._params.max_new_tokens,
            do_sample=False,
            pad_token_id=pad,
        )
        new = output[:, ids.shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _model(self, adapter: Path | None) -> Any:
        key = str(adapter)
        if key not in self._adapted:
            # One adapter at a time: merged into weights of its own, it costs nothing a token.
            self._adapted = {key: self.load(adapter)}
        return self._adapted[key]

    def load(self, adapter: Path | None) -> Any:
        """The base model with the adapter's weights merged into its own. Raises RefusalError for another base's."""
        model = load_base_model(self._params, self.source)
        if adapter is None:
            return model.eval()
        check_adapter_base(adapter, self.base)
        from peft import PeftModel

        with ignore_peft_warnings():
            return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()


@contextmanager
def ignore_peft_warnings() -> Iterator[None]:
    """peft 0.21 asks transformers 5.23 for a property by the name that it had before; nothing a user can mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def render_prompt(tokenizer: Any, prompt: Prompt) -> str:
    """A prompt as the model's own chat template writes it, up to where the answer begins."""
    turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except TemplateError:
        if turns[0]["role"] != "system":
            raise
        # Some models know no system role: what it says goes before the first question.
        system, user, *others = turns
        first = {"role": user["role"], "content": f"{system['content']}\n\n{user['content']}"}
        return str(tokenizer.apply_chat_template([first, *others], tokenize=False, add_generation_prompt=True))


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """A prompt as tokens, up to where the answer begins."""
    ids: list[int] = tokenizer(render_prompt(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    return ids


def tokenize_sample(tokenizer: Any, lesson: TrainingSample) -> TokenizedSample:
    """A lesson as tokens: the prompt as the model is asked it, the answer, and the end mark."""
    prompt = prompt_ids(tokenizer, lesson.prompt)
    answer = tokenizer(lesson.completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return TokenizedSample(ids=prompt + answer, answer_tokens=len(answer))


def answer_logits(model: Any, batch: Sequence[TokenizedSample], pad: int) -> AnswerLogits:
    """Logits at the answers alone; padding on the left brings all answers to the end, where logits are made."""
    mask = pad_left([[1] * len(one.ids) for one in batch], 0)
    labels = pad_left([one.ids[-one.answer_tokens :] for one in batch], IGNORED)
    output = model(
        input_ids=pad_left([one.ids for one in batch], pad).to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(model.device),
        logits_to_keep=labels.shape[1] + 1,
    )
    # The logit at one position foretells the token at the next.
    return AnswerLogits(logits=output.logits[:, :-1], labels=labels.to(model.device))


def pad_left(rows: Sequence[list[int]], filler: int, after: int = 0) -> Any:
    """Rows of integers as a tensor of shape (rows, longest row), filled up on the left, or `after` their first ones."""
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row[:after], *[filler] * (width - len(row)), *row[after:]] for row in rows])


def shared_prefix_cache(model: Any, asked: Sequence[list[int]]) -> Any:
    """What all prompts begin with, as a cache of keys and values with a row for each: read once, not once a prompt.

    None where they share nothing, and where the model does not attend to everything before (a sliding window, a state
    carried on): there the padding that comes after this start would be in the way.
    """
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    # The last token stays to be read: it foretells the answer's first.
    shared = commonprefix([ids[:-1] for ids in asked])  # noqa: RUF071 - of tokens, not of paths
    cache = DynamicCache(config=model.config)
    if len(asked) == 1 or not shared or {type(layer) for layer in cache.layers} != {DynamicLayer}:
        return None
    model(input_ids=torch.tensor([shared]).to(model.device), past_key_values=cache, logits_to_keep=1)
    cache.batch_repeat_interleave(len(asked))
    return cache


def load_tokenizer(params: GenerateParams, source: str) -> Any:
    """The tokenizer, padding on the left so that every answer begins at the same place."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    except (OSError, ValueError) as problem:
        raise load_error("generate.model", params.model, problem) from problem
    if tokenizer.chat_template is None:
        raise UserError(f"generate.model = {params.model!r} has no chat template: choose an instruction-tuned model")
    if tokenizer.eos_token is None:
        raise UserError(f"generate.model = {params.model!r} has no end mark (eos_token), so its answers never end")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load_base_model(params: GenerateParams, source: str) -> Any:
    """The base model in generate.dtype on generate.device. Raises RefusalError where it is not to be had."""
    import torch
    from transformers import AutoModelForCausalLM

    # MLflow and LanceDB keep threads of their own; the model does the work of the moment.
    torch.set_num_threads(available_cores())
    device = choose_device(params.device)
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, choose_dtype(params.dtype, device)))
    except (OSError, ValueError, SafetensorError) as problem:
        raise load_error("generate.model", params.model, problem) from problem
    return model.to(device)
