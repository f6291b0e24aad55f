"""How does the model learn from examples? LoRA (Hu et al. 2021, arXiv:2106.09685) with the loss on the answer only.

One loop of our own, in one file, because it is faster than TRL's trainer at the same loss (bench/finetune.py): logits
are computed at the answer's positions alone, since a full-vocabulary logit over the prompt costs more than the model
itself, and on a CPU each lesson goes through by itself, unpadded.

A run watches lessons that it does not train on, keeps the adapter that answers them best, and ends when it gets no
better. What it needs to go on stands in a checkpoint beside the adapter's folder: after a kill the same run goes on
from there, to the same weights (to the bit on one thread; on several, and on a GPU, sums may differ in the last bits).
"""

from __future__ import annotations

import json
import pickle
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.generator import (
    IGNORED,
    AnswerLogits,
    TokenizedSample,
    answer_logits,
    ignore_peft_warnings,
    load_base_model,
    load_tokenizer,
    tokenize_sample,
)
from ragtide.pipelines.models.weights import has_native_bfloat16, locate_generator, weights_revision
from ragtide.pipelines.params import FinetuneParams, GenerateParams
from ragtide.pipelines.ports import HeldOutCheck, Progress, TrainingResult, TrainingSample
from ragtide.pipelines.records.base import atomic_directory, json_digest

WARM_UP_SHARE = 0.05
# Fewer watched lessons tell nothing, and more cost time without telling more.
FEWEST_WATCHED, MOST_WATCHED = 4, 32
# On a CPU, the longest lesson (tokens) with attention by plain matrix products. Torch's fused attention goes backward
# slower there, by a tenth; but the plain one holds length x length scores of every layer: 1.2 GB more at 700 tokens
# (docs/log.md).
LONGEST_PLAIN = 512


class LoraTrainer:
    """A Trainer of low-rank adapters on every linear layer of the base model."""

    def __init__(self, params: FinetuneParams, base: GenerateParams) -> None:
        self._params = params
        self._base = base

    def train(self, lessons: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        import torch

        torch.manual_seed(self._params.seed)
        source = locate_generator(self._base.model)
        tokenizer = load_tokenizer(self._base, source)
        encoded = [truncate_sample(tokenizer, lesson, self._params.max_tokens) for lesson in lessons]
        course = plan_schedule(encoded, self._params, weights_revision(source))
        run = _Run(self._adapted(source), course, self._params, tokenizer.pad_token_id)
        checkpoint = folder.with_name(f"{folder.name}.checkpoint")
        resumed_at = run.resume(checkpoint)
        stopped = run.go_on(checkpoint, progress)
        save_adapter(run.model, folder, self._base.model)
        checkpoint.unlink(missing_ok=True)
        tail = run.losses[-max(1, len(run.losses) // 10) :]
        return TrainingResult(
            final_loss=sum(tail) / len(tail),
            losses=tuple(run.losses),
            watched=tuple(run.watched),
            stopped=stopped,
            seen=sum(len(batch) for batch in course.batches[: len(run.losses)]),
            resumed_at=resumed_at,
        )

    def too_long(self, lessons: Sequence[TrainingSample]) -> list[int]:
        """The places of lessons whose answer alone is over finetune.max_tokens: `train` would refuse them."""
        tokenizer = load_tokenizer(self._base, locate_generator(self._base.model))
        limit = self._params.max_tokens
        return [at for at, lesson in enumerate(lessons) if tokenize_sample(tokenizer, lesson).answer_tokens >= limit]

    def _adapted(self, source: str) -> Any:
        from peft import LoraConfig, get_peft_model

        # float32 weights, under bfloat16 autocast where the hardware has it: on such a CPU 1.7 times the speed of
        # bfloat16 weights (docs/log.md).
        model = load_base_model(self._base.model_copy(update={"dtype": "float32"}), source)
        settings = LoraConfig(
            r=self._params.rank, lora_alpha=2 * self._params.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with ignore_peft_warnings():
            adapted = get_peft_model(model, settings)
        _one_product(model.get_output_embeddings())
        if has_native_bfloat16(model.device.type):
            _spare_casts(adapted)
        return adapted


def _spare_casts(model: Any) -> None:
    """Frozen weights in bfloat16, and each layer's input cast once.

    Autocast would cast the weights anew for each lesson, to these very values, the input of each layer once for every
    matrix that reads it, and peft the adapters' inputs to float32 and back (docs/log.md). What the layers add to each
    other stays in float32.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = False
            for weight in layer.get_base_layer().parameters():
                weight.data = weight.data.bfloat16()
        elif type(layer).__name__.endswith("RMSNorm"):
            layer.register_forward_hook(lambda _layer, _seen, said: said.bfloat16())
    # The embedding may be the same tensor, and stays as it is.
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.bfloat16(), requires_grad=False)


def _one_product(head: Any) -> None:
    """Let the head read the states at the answer as a matrix of their own.

    As a slice of all states torch multiplies them in batches, for which it first copies the head: 5 % of the time.
    """
    import torch

    head.register_forward_pre_hook(lambda _head, seen: (seen[0].clone(memory_format=torch.contiguous_format),))


def truncate_sample(tokenizer: Any, lesson: TrainingSample, max_tokens: int) -> TokenizedSample:
    """A lesson as tokens: a prompt too long loses its beginning, never the question or the answer at its end."""
    whole = tokenize_sample(tokenizer, lesson)
    if whole.answer_tokens >= max_tokens:
        start = lesson.completion[:40]
        raise UserError(f"an example's answer is over finetune.max_tokens = {max_tokens} tokens: {start!r}…")
    return whole.cut(max_tokens)


# --- what is done, and in which order ------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingSchedule:
    """The batches of a run in their order, the lessons that it is watched on, and what tells it from other runs."""

    batches: Sequence[list[TokenizedSample]]
    watched: Sequence[TokenizedSample]
    key: str


def plan_schedule(encoded: Sequence[TokenizedSample], params: FinetuneParams, base: str) -> TrainingSchedule:
    """Which lessons are watched and which are trained on, and when; the same for the same lessons in any order."""
    ordered = sorted(encoded, key=lambda one: (len(one.ids), one.ids))
    held_out = _held_out(len(ordered), params)
    watched = [ordered[at] for at in sorted(held_out)]
    rest = [one for at, one in enumerate(ordered) if at not in held_out]
    # How long it may take does not change what is done until then.
    settings = params.model_dump(mode="json", exclude={"max_minutes"})
    key = json_digest([base, settings, [[one.ids, one.answer_tokens] for one in ordered]])
    return TrainingSchedule(_batches(rest, params), watched, key)


def _held_out(lessons: int, params: FinetuneParams) -> set[int]:
    """Places in the order of length, evenly spaced; none where they would be too few to tell anything."""
    count = min(MOST_WATCHED, round(params.held_out_share * lessons))
    if count < FEWEST_WATCHED:
        return set()
    return {(2 * at + 1) * lessons // (2 * count) for at in range(count)}


def _batches(ordered: Sequence[TokenizedSample], params: FinetuneParams) -> list[list[TokenizedSample]]:
    """Batches of like length, in random order, anew for each pass."""
    shuffle = random.Random(params.seed)
    epoch = [list(ordered[at : at + params.batch_size]) for at in range(0, len(ordered), params.batch_size)]
    batches: list[list[TokenizedSample]] = []
    for _ in range(params.passes(len(ordered))):
        shuffle.shuffle(epoch)
        batches += epoch
    return batches


# --- the run -------------------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """A model on its course, as far as it has come."""

    model: Any
    course: TrainingSchedule
    params: FinetuneParams
    pad: int
    losses: list[float] = field(default_factory=list)
    watched: list[HeldOutCheck] = field(default_factory=list)

    def __post_init__(self) -> None:
        import torch

        self._weights = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=self.params.learning_rate, weight_decay=0.0)
        self._best = self._copy()
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long this run has taken, that of killed processes counted."""
        return time.perf_counter() - self._began

    def go_on(self, checkpoint: Path, progress: Progress) -> str:
        """Train until something ends it, leaving the best weights in the model; returns what ended it."""
        with progress("fine-tuning", len(self.course.batches)) as advance:
            advance(len(self.losses))
            while not (ended := self._ended()):
                self._step(self.course.batches[len(self.losses)])
                if len(self.losses) % self.params.check_every_steps == 0:
                    self._look()
                    self._keep(checkpoint)
                advance(1)
        if self.course.watched:
            if not self.watched or self.watched[-1].step != len(self.losses):
                self._look()
            self._restore(self._best)
        return ended

    def _ended(self) -> str:
        """Why there is nothing more to do; empty while there is."""
        if len(self.losses) == len(self.course.batches):
            return "all passes are done"
        limit, patience = self.params.max_minutes, self.params.patience
        if limit is not None and self.losses and self.seconds >= 60 * limit:
            return f"finetune.max_minutes = {limit:g} were over"
        best = min(range(len(self.watched)), key=lambda at: self.watched[at].loss, default=0)
        if len(self.watched) - 1 - best >= patience:
            return f"the loss on held-out lessons did not fall at {patience} checks in turn"
        return ""

    def _step(self, batch: Sequence[TokenizedSample]) -> None:
        import torch

        done, total = len(self.losses), len(self.course.batches)
        share = min(1.0, (done + 1) / max(1, int(WARM_UP_SHARE * total))) * (1.0 - done / total)
        self._optimizer.param_groups[0]["lr"] = self.params.learning_rate * share
        self.model.train()
        tokens, loss = sum(one.answer_tokens for one in batch), 0.0
        for part in micro_batches(batch, self.model.device.type):
            of_part = sum_answer_loss(self.model, part, self.pad) / tokens
            of_part.backward()
            loss += float(of_part.detach())
        torch.nn.utils.clip_grad_norm_(self._weights.values(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.losses.append(loss)

    def _look(self) -> None:
        """How well the held-out lessons are answered now; the best weights so far are kept."""
        if not self.course.watched:
            return
        self.watched.append(check_held_out(self.model, self.course.watched, self.pad, len(self.losses)))
        if self.watched[-1].loss <= min(one.loss for one in self.watched):
            self._best = self._copy()

    def _copy(self) -> dict[str, Any]:
        return {name: weight.detach().clone() for name, weight in self._weights.items()}

    def _restore(self, weights: dict[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(weights[name])

    # --- the checkpoint ---

    def _keep(self, path: Path) -> None:
        """Write down all that the rest of the run depends on; a reader never sees half of it."""
        import torch

        state = {
            "key": self.course.key,
            "losses": self.losses,
            "watched": [(one.step, one.loss, one.score) for one in self.watched],
            "seconds": self.seconds,
            "weights": self._copy(),
            "best": self._best,
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        unfinished = path.with_name(f"{path.name}.tmp")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def resume(self, path: Path) -> int:
        """Go back to where this very run was last kept; returns the steps done then, 0 where there is no such run."""
        import torch

        if not path.is_file():
            return 0
        try:
            state = torch.load(path, map_location=self.model.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            # Not worth a refusal: the run begins anew.
            return 0
        if state.get("key") != self.course.key:
            return 0
        self.losses = list(state["losses"])
        self._began -= state["seconds"]
        self.watched = [HeldOutCheck(*one) for one in state["watched"]]
        self._restore(state["weights"])
        self._best = state["best"]
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"].cpu())
        return len(self.losses)


# --- the loss ------------------------------------------------------------------------------------------------------


def micro_batches(batch: Sequence[TokenizedSample], device: str) -> list[Sequence[TokenizedSample]]:
    """What goes through the model together: on a CPU a lesson at a time, so that nothing is padding or masked."""
    return [[one] for one in batch] if device == "cpu" else [batch]


def sum_answer_loss(model: Any, batch: Sequence[TokenizedSample], pad: int) -> Any:
    """The cross-entropy (nats) of all the answers' tokens, added up."""
    import torch

    logits, labels = _flat(_batch_logits(model, batch, pad))
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")


def check_held_out(model: Any, lessons: Sequence[TokenizedSample], pad: int, step: int) -> HeldOutCheck:
    """Loss a token, and the share of answers that the model foretells to the last token: greedily it would give them.

    Both come of one look at each lesson, which is far cheaper than to have the answers written.
    """
    import torch

    loss, right = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for one in lessons:
            logits, labels = _flat(_batch_logits(model, [one], pad))
            loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            right += bool((logits.argmax(-1) == labels).all())
    tokens = sum(one.answer_tokens for one in lessons)
    return HeldOutCheck(step=step, loss=loss / tokens, score=right / len(lessons))


def _batch_logits(model: Any, batch: Sequence[TokenizedSample], pad: int) -> AnswerLogits:
    import torch

    device = model.device.type
    if device == "cpu":
        longest = max(len(one.ids) for one in batch)
        model.set_attn_implementation("eager" if longest <= LONGEST_PLAIN else "sdpa")
    with torch.autocast(device, dtype=torch.bfloat16, enabled=has_native_bfloat16(device)):
        return answer_logits(model, batch, pad)


def _flat(told: AnswerLogits) -> tuple[Any, Any]:
    """Logits of shape (tokens, vocabulary) in float32, and labels of shape (tokens,)."""
    return told.logits.float().reshape(-1, told.logits.shape[-1]), told.labels.reshape(-1)


# --- the adapter ---------------------------------------------------------------------------------------------------


def save_adapter(model: Any, folder: Path, base: str) -> None:
    """Write the adapter as safetensors; its base is recorded by the name in params.yaml, not by a machine's path."""
    with atomic_directory(folder) as unfinished:
        model.save_pretrained(str(unfinished))
        settings = unfinished / "adapter_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        # peft writes a set in whatever order it has; the adapter is named by its content.
        content |= {"base_model_name_or_path": base, "target_modules": sorted(content["target_modules"])}
        settings.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (unfinished / "README.md").unlink(missing_ok=True)
