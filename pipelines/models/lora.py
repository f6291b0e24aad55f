"""LoRA fine-tuning (Hu et al. 2021, arXiv:2106.09685) with the loss on the answer tokens only.

A training loop of its own, which is faster than TRL's trainer at the same loss (bench/finetune.py): logits are
computed at the answer positions only, since logits over the vocabulary for the prompt cost more than the model
itself; and on a CPU each sample is a micro-batch of its own, without padding.

A run evaluates held-out samples at intervals, keeps the weights with the lowest held-out loss, and stops early when
that loss no longer falls. A checkpoint beside the adapter's folder lets a run resume after a kill, to the same
weights (bit for bit on one thread; on several threads and on a GPU, sums may differ in the last bits).
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
# Fewer held-out samples give no usable loss, and more take time without improving the estimate.
MIN_HELD_OUT, MAX_HELD_OUT = 4, 32
# The longest sample (tokens) for eager attention on a CPU, where the backward pass of fused attention is a tenth
# slower. Eager attention stores length x length scores for every layer: 1.2 GB more at 700 tokens (docs/log.md).
MAX_EAGER_TOKENS = 512
# Part of the checkpoint's key: increase it when the content of a checkpoint changes.
CHECKPOINT_FORMAT = 2


class LoraTrainer:
    """A Trainer of low-rank adapters on every linear layer of the base model."""

    def __init__(self, params: FinetuneParams, base: GenerateParams) -> None:
        self._params = params
        self._base = base

    def train(self, samples: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        import torch

        torch.manual_seed(self._params.seed)
        source = locate_generator(self._base.model)
        tokenizer = load_tokenizer(self._base, source)
        tokenized = [truncate_sample(tokenizer, sample, self._params.max_tokens) for sample in samples]
        schedule = plan_schedule(tokenized, self._params, weights_revision(source))
        run = _TrainingRun(self._load_with_adapter(source), schedule, self._params, tokenizer.pad_token_id)
        checkpoint = folder.with_name(f"{folder.name}.checkpoint")
        resumed_at = run.resume(checkpoint)
        stopped = run.train(checkpoint, progress)
        save_adapter(run.model, folder, self._base.model)
        checkpoint.unlink(missing_ok=True)
        last_losses = run.losses[-max(1, len(run.losses) // 10) :]
        return TrainingResult(
            final_loss=sum(last_losses) / len(last_losses),
            losses=tuple(run.losses),
            checks=tuple(run.checks),
            stopped=stopped,
            cut_short="max_minutes" in stopped,
            seen=sum(len(batch) for batch in schedule.batches[: len(run.losses)]),
            resumed_at=resumed_at,
        )

    def too_long(self, samples: Sequence[TrainingSample]) -> list[int]:
        """Positions of the samples whose answer alone exceeds finetune.max_tokens, which `train` rejects."""
        tokenizer = load_tokenizer(self._base, locate_generator(self._base.model))
        answer_tokens = [tokenize_sample(tokenizer, sample).answer_tokens for sample in samples]
        return [position for position, count in enumerate(answer_tokens) if count >= self._params.max_tokens]

    def _load_with_adapter(self, source: str) -> Any:
        from peft import LoraConfig, get_peft_model

        # float32 weights, under bfloat16 autocast if the hardware has it: on such a CPU 1.7 times as fast as bfloat16
        # weights (docs/log.md).
        model = load_base_model(self._base.model_copy(update={"dtype": "float32"}), source)
        settings = LoraConfig(
            r=self._params.rank, lora_alpha=2 * self._params.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with ignore_peft_warnings():
            adapted = get_peft_model(model, settings)
        _make_head_input_contiguous(model.get_output_embeddings())
        if has_native_bfloat16(model.device.type):
            _reduce_casts(adapted)
        return adapted


def _reduce_casts(model: Any) -> None:
    """Store frozen weights in bfloat16 and cast each layer's input once; residuals stay in float32.

    Autocast alone would cast the weights to the same bfloat16 values for every sample, each layer's input once for
    every matrix that reads it, and peft would cast the adapters' inputs to float32 and back (docs/log.md).
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = False
            for weight in layer.get_base_layer().parameters():
                weight.data = weight.data.bfloat16()
        elif type(layer).__name__.endswith("RMSNorm"):
            layer.register_forward_hook(lambda _layer, _inputs, output: output.bfloat16())
    # A new parameter, since the head's weight may be the embedding's tensor, which stays in float32.
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.bfloat16(), requires_grad=False)


def _make_head_input_contiguous(head: Any) -> None:
    """Copy the hidden states at the answer into a contiguous tensor before the output head.

    For a slice of all hidden states torch uses a batched product, for which it copies the head: 5 % of the time.
    """
    import torch

    head.register_forward_pre_hook(lambda _head, inputs: (inputs[0].clone(memory_format=torch.contiguous_format),))


def truncate_sample(tokenizer: Any, sample: TrainingSample, max_tokens: int) -> TokenizedSample:
    """The sample as at most `max_tokens` token ids, cut at the beginning of its prompt.

    Raises UserError if the answer alone has too many tokens.
    """
    tokenized = tokenize_sample(tokenizer, sample)
    if tokenized.answer_tokens >= max_tokens:
        start = sample.completion[:40]
        raise UserError(f"the answer {start!r}… of an example exceeds finetune.max_tokens = {max_tokens} tokens")
    return tokenized.truncate(max_tokens)


# --- schedule ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingSchedule:
    """The batches of a run in order, its held-out samples, and a digest of everything that the weights depend on."""

    batches: Sequence[list[TokenizedSample]]
    held_out: Sequence[TokenizedSample]
    key: str


def plan_schedule(samples: Sequence[TokenizedSample], params: FinetuneParams, base: str) -> TrainingSchedule:
    """Split the samples into held-out ones and batches; the result does not depend on the order of `samples`.

    `base` is the revision of the base model's weights.
    """
    ordered = sorted(samples, key=lambda sample: (len(sample.ids), sample.ids))
    positions = _held_out_positions(len(ordered), params)
    held_out = [ordered[position] for position in sorted(positions)]
    trained = [sample for position, sample in enumerate(ordered) if position not in positions]
    # The time limit does not change the steps before it, so that a run resumes under another limit.
    settings = params.model_dump(mode="json", exclude={"max_minutes"})
    content = [[sample.ids, sample.answer_tokens] for sample in ordered]
    return TrainingSchedule(
        batches=_shuffled_batches(trained, params),
        held_out=held_out,
        key=json_digest([CHECKPOINT_FORMAT, base, settings, content]),
    )


def _held_out_positions(samples: int, params: FinetuneParams) -> set[int]:
    """Evenly spaced positions in the order of length; empty if there would be fewer than MIN_HELD_OUT."""
    count = min(MAX_HELD_OUT, round(params.held_out_share * samples))
    if count < MIN_HELD_OUT:
        return set()
    return {(2 * number + 1) * samples // (2 * count) for number in range(count)}


def _shuffled_batches(ordered: Sequence[TokenizedSample], params: FinetuneParams) -> list[list[TokenizedSample]]:
    """Batches of samples of similar length, shuffled again for each pass."""
    shuffle = random.Random(params.seed)
    epoch = [list(ordered[start : start + params.batch_size]) for start in range(0, len(ordered), params.batch_size)]
    batches: list[list[TokenizedSample]] = []
    for _ in range(params.passes(len(ordered))):
        shuffle.shuffle(epoch)
        batches += epoch
    return batches


# --- training run --------------------------------------------------------------------------------------------------


@dataclass
class _TrainingRun:
    """A model in training, with the loss of each step and the held-out checks so far."""

    model: Any
    schedule: TrainingSchedule
    params: FinetuneParams
    pad: int
    losses: list[float] = field(default_factory=list)
    checks: list[HeldOutCheck] = field(default_factory=list)

    def __post_init__(self) -> None:
        import torch

        self._weights = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=self.params.learning_rate, weight_decay=0.0)
        self._best_weights = self._copy_weights()
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The duration of the run so far, including that of killed processes up to their last checkpoint."""
        return time.perf_counter() - self._started

    def train(self, checkpoint: Path, progress: Progress) -> str:
        """Train to the end of the schedule or an early stop, and leave the best weights in the model.

        Returns the reason why the training ended.
        """
        with progress("fine-tuning", len(self.schedule.batches)) as advance:
            advance(len(self.losses))
            while not (stopped := self._stop_reason()):
                self._step(self.schedule.batches[len(self.losses)])
                if len(self.losses) % self.params.check_every_steps == 0:
                    self._check_held_out()
                    self._save_checkpoint(checkpoint)
                advance(1)
        if self.schedule.held_out:
            if not self.checks or self.checks[-1].step != len(self.losses):
                self._check_held_out()
            self._restore_weights(self._best_weights)
        return stopped

    def _stop_reason(self) -> str:
        """Why the training is over; empty while it goes on."""
        if len(self.losses) == len(self.schedule.batches):
            return "all training steps were completed"
        limit, patience = self.params.max_minutes, self.params.patience
        if limit is not None and self.losses and self.seconds >= 60 * limit:
            return f"the time limit finetune.max_minutes = {limit:g} was reached"
        best = min(range(len(self.checks)), key=lambda number: self.checks[number].loss, default=0)
        if len(self.checks) - 1 - best >= patience:
            return f"the loss on held-out samples did not fall in {patience} consecutive checks"
        return ""

    def _step(self, batch: Sequence[TokenizedSample]) -> None:
        import torch

        self._optimizer.param_groups[0]["lr"] = self._learning_rate()
        self.model.train()
        tokens, loss = sum(sample.answer_tokens for sample in batch), 0.0
        for micro_batch in micro_batches(batch, self.model.device.type):
            mean_loss = sum_answer_loss(self.model, micro_batch, self.pad) / tokens
            mean_loss.backward()
            loss += float(mean_loss.detach())
        torch.nn.utils.clip_grad_norm_(self._weights.values(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.losses.append(loss)

    def _learning_rate(self) -> float:
        """The learning rate of the next step: linear warm-up, then linear decay to 0."""
        done, total = len(self.losses), len(self.schedule.batches)
        warm_up = min(1.0, (done + 1) / max(1, int(WARM_UP_SHARE * total)))
        return self.params.learning_rate * (warm_up * (1.0 - done / total))

    def _check_held_out(self) -> None:
        """Evaluate the held-out samples, and keep the weights if they are the best so far."""
        if not self.schedule.held_out:
            return
        self.checks.append(check_held_out(self.model, self.schedule.held_out, self.pad, len(self.losses)))
        if self.checks[-1].loss <= min(check.loss for check in self.checks):
            self._best_weights = self._copy_weights()

    def _copy_weights(self) -> dict[str, Any]:
        return {name: weight.detach().clone() for name, weight in self._weights.items()}

    def _restore_weights(self, weights: dict[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(weights[name])

    # --- checkpoint ---

    def _save_checkpoint(self, path: Path) -> None:
        """Write, atomically, everything that the rest of the run depends on."""
        import torch

        state = {
            "key": self.schedule.key,
            "losses": self.losses,
            "checks": [(check.step, check.loss, check.score) for check in self.checks],
            "seconds": self.seconds,
            "weights": self._copy_weights(),
            "best_weights": self._best_weights,
            "optimizer": self._optimizer.state_dict(),
            "random_state": torch.get_rng_state(),
        }
        unfinished = path.with_name(f"{path.name}.tmp")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def resume(self, path: Path) -> int:
        """Load the last checkpoint of this run; returns the number of steps done, 0 without such a checkpoint."""
        import torch

        if not path.is_file():
            return 0
        try:
            state = torch.load(path, map_location=self.model.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            # A damaged checkpoint costs the steps done, which is no reason to fail: the run starts over.
            return 0
        if state.get("key") != self.schedule.key:
            return 0
        self.losses = list(state["losses"])
        self._started -= state["seconds"]
        self.checks = [HeldOutCheck(*check) for check in state["checks"]]
        self._restore_weights(state["weights"])
        self._best_weights = state["best_weights"]
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random_state"].cpu())
        return len(self.losses)


# --- loss ----------------------------------------------------------------------------------------------------------


def micro_batches(batch: Sequence[TokenizedSample], device: str) -> list[Sequence[TokenizedSample]]:
    """The batch in parts for one forward pass each: single samples on a CPU, without padding; all on a GPU."""
    return [[sample] for sample in batch] if device == "cpu" else [batch]


def sum_answer_loss(model: Any, batch: Sequence[TokenizedSample], pad: int) -> Any:
    """The cross-entropy (nats) summed over all answer tokens of the batch, a scalar tensor."""
    import torch

    logits, labels = _flatten(_batch_logits(model, batch, pad))
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")


def check_held_out(model: Any, samples: Sequence[TokenizedSample], pad: int, step: int) -> HeldOutCheck:
    """The loss per answer token, and the share of answers that greedy decoding would reproduce exactly.

    Both come from one forward pass per sample (every label is the argmax of its logits), which is far cheaper than
    generating the answers.
    """
    import torch

    loss, correct = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for sample in samples:
            logits, labels = _flatten(_batch_logits(model, [sample], pad))
            loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            correct += bool((logits.argmax(-1) == labels).all())
    tokens = sum(sample.answer_tokens for sample in samples)
    return HeldOutCheck(step=step, loss=loss / tokens, score=correct / len(samples))


def _batch_logits(model: Any, batch: Sequence[TokenizedSample], pad: int) -> AnswerLogits:
    import torch

    device = model.device.type
    if device == "cpu":
        longest = max(len(sample.ids) for sample in batch)
        model.set_attn_implementation("eager" if longest <= MAX_EAGER_TOKENS else "sdpa")
    with torch.autocast(device, dtype=torch.bfloat16, enabled=has_native_bfloat16(device)):
        return answer_logits(model, batch, pad)


def _flatten(answers: AnswerLogits) -> tuple[Any, Any]:
    """Logits of shape (tokens, vocabulary) in float32, and labels of shape (tokens,)."""
    return answers.logits.float().reshape(-1, answers.logits.shape[-1]), answers.labels.reshape(-1)


# --- adapter -------------------------------------------------------------------------------------------------------


def save_adapter(model: Any, folder: Path, base: str) -> None:
    """Write the adapter as safetensors, with its base as named in params.yaml, not by a path of this machine."""
    with atomic_directory(folder) as unfinished:
        model.save_pretrained(str(unfinished))
        settings = unfinished / "adapter_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        # peft writes this set in arbitrary order; sorted, equal adapters have equal digests.
        content |= {"base_model_name_or_path": base, "target_modules": sorted(content["target_modules"])}
        settings.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (unfinished / "README.md").unlink(missing_ok=True)
