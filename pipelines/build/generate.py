"""How does the model answer? transformers, greedily, in batches of like length, with or without an adapter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from safetensors import SafetensorError

from pipelines.build.weights import available_cores, choose_device, choose_dtype, locate_generator, not_loaded, revision
from pipelines.errors import RefusalError
from pipelines.params import GenerateParams
from pipelines.ports import Advance, Lesson, Prompt

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """A lesson as token ids; the last `answer_tokens` of them are the answer and its end mark."""

    ids: list[int]
    answer_tokens: int

    def cut(self, max_tokens: int) -> Encoded:
        """The last `max_tokens` tokens; one before the answer always stays, since it foretells the answer's first."""
        return Encoded(self.ids[-max_tokens:], min(self.answer_tokens, max_tokens - 1))


@dataclass(frozen=True)
class Foretold:
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
            return f"{self._params.model}@{revision(self.source)}"
        except (OSError, ValueError) as problem:
            raise not_loaded("generate.model", self._params.model, problem) from problem

    @cached_property
    def identity(self) -> str:
        dtype = choose_dtype(self._params.dtype, choose_device(self._params.device))
        return f"{self.base}/{dtype}/greedy-{self._params.max_new_tokens}"

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self._params, self.source)

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        import torch

        texts = [render(self.tokenizer, prompt) for prompt in prompts]
        answers = [""] * len(texts)
        with torch.inference_mode():
            for batch in _alike([len(text) for text in texts], self._params.batch_size):
                for at, answer in zip(batch, self._batch([texts[at] for at in batch], adapter), strict=True):
                    answers[at] = answer
                advance(len(batch))
        return answers

    def losses(self, lessons: Sequence[Lesson], adapter: Path | None, advance: Advance) -> list[float]:
        import torch

        encoded = [encode(self.tokenizer, lesson) for lesson in lessons]
        losses = [0.0] * len(encoded)
        with torch.inference_mode():
            for batch in _alike([len(one.ids) for one in encoded], self._params.batch_size):
                found = self._batch_losses([encoded[at] for at in batch], adapter)
                for at, loss in zip(batch, found, strict=True):
                    losses[at] = loss
                advance(len(batch))
        return losses

    def _batch_losses(self, batch: list[Encoded], adapter: Path | None) -> list[float]:
        from torch.nn.functional import cross_entropy

        model = self._model(adapter)
        # What the model cannot see at once is cut as in training: a measurement refuses no example.
        window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        told = foretell(model, [one.cut(window or len(one.ids)) for one in batch], self.tokenizer.pad_token_id)
        # Row by row, so that only one lesson's logits are there in float32 and in logarithms at a time.
        rows = zip(told.logits, told.labels, strict=True)
        return [float(cross_entropy(logits.float(), labels, ignore_index=IGNORED)) for logits, labels in rows]

    def _batch(self, texts: list[str], adapter: Path | None) -> list[str]:
        model = self._model(adapter)
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        output = model.generate(
            **inputs,
            max_new_tokens=self._params.max_new_tokens,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _model(self, adapter: Path | None) -> Any:
        key = str(adapter)
        if key not in self._adapted:
            # One adapter at a time: merged into weights of its own, it costs nothing a token.
            self._adapted = {key: self._load(adapter)}
        return self._adapted[key]

    def _load(self, adapter: Path | None) -> Any:
        model = load_base(self._params, self.source)
        if adapter is None:
            return model.eval()
        from peft import PeftModel

        with peft_warnings():
            return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()


def _alike(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """The places of `lengths` in batches: like lengths share one, so that little of it is padding."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return (order[at : at + size] for at in range(0, len(order), size))


@contextmanager
def peft_warnings() -> Iterator[None]:
    """peft 0.21 asks transformers 5.23 for a property by the name that it had before; nothing a user can mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def render(tokenizer: Any, prompt: Prompt) -> str:
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


def encode(tokenizer: Any, lesson: Lesson) -> Encoded:
    """A lesson as tokens: the prompt as the model is asked it, the answer, and the end mark."""
    prompt = tokenizer(render(tokenizer, lesson.prompt), add_special_tokens=False)["input_ids"]
    answer = tokenizer(lesson.completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return Encoded(ids=prompt + answer, answer_tokens=len(answer))


def foretell(model: Any, batch: Sequence[Encoded], pad: int) -> Foretold:
    """Logits at the answers alone; padding on the left brings all answers to the end, where logits are made."""
    import torch

    width = max(len(one.ids) for one in batch)
    tail = max(one.answer_tokens for one in batch)
    ids = torch.full((len(batch), width), pad)
    labels = torch.full((len(batch), tail), IGNORED)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    for row, one in enumerate(batch):
        ids[row, width - len(one.ids) :] = torch.tensor(one.ids)
        mask[row, width - len(one.ids) :] = 1
        labels[row, tail - one.answer_tokens :] = torch.tensor(one.ids[-one.answer_tokens :])
    output = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(model.device),
        logits_to_keep=tail + 1,
    )
    # The logit at one position foretells the token at the next.
    return Foretold(logits=output.logits[:, :-1], labels=labels.to(model.device))


def load_tokenizer(params: GenerateParams, source: str) -> Any:
    """The tokenizer, padding on the left so that every answer begins at the same place."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    except (OSError, ValueError) as problem:
        raise not_loaded("generate.model", params.model, problem) from problem
    if tokenizer.chat_template is None:
        raise RefusalError(f"generate.model = {params.model!r} has no chat template: choose an instruction-tuned model")
    if tokenizer.eos_token is None:
        raise RefusalError(f"generate.model = {params.model!r} has no end mark (eos_token), so its answers never end")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load_base(params: GenerateParams, source: str) -> Any:
    """The base model in generate.dtype on generate.device. Raises RefusalError where it is not to be had."""
    import torch
    from transformers import AutoModelForCausalLM

    # MLflow and LanceDB keep threads of their own; the model does the work of the moment.
    torch.set_num_threads(available_cores())
    device = choose_device(params.device)
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, choose_dtype(params.dtype, device)))
    except (OSError, ValueError, SafetensorError) as problem:
        raise not_loaded("generate.model", params.model, problem) from problem
    return model.to(device)
