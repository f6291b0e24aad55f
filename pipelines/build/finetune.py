"""How does the model learn from examples? LoRA (Hu et al. 2021, arXiv:2106.09685) with the loss on the answer only.

One loop of our own, in one file, because it computes logits at the answer's positions alone: a full-vocabulary logit
over the prompt costs more than the model itself (docs/log.md).
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.build.generate import IGNORED, Encoded, encode, foretell, load_base, load_tokenizer, peft_warnings
from pipelines.build.weights import computes_in_bfloat16, locate_generator
from pipelines.errors import RefusalError
from pipelines.params import FinetuneParams, GenerateParams
from pipelines.ports import Lesson, Progress, Trained

WARM_UP_SHARE = 0.05


class LoraTrainer:
    """A Trainer of low-rank adapters on every linear layer of the base model."""

    def __init__(self, params: FinetuneParams, base: GenerateParams) -> None:
        self._params = params
        self._base = base

    def train(self, lessons: Sequence[Lesson], folder: Path, progress: Progress) -> Trained:
        import torch

        torch.manual_seed(self._params.seed)
        source = locate_generator(self._base.model)
        tokenizer = load_tokenizer(self._base, source)
        encoded = [fit(tokenizer, lesson, self._params.max_tokens) for lesson in lessons]
        model = self._adapted(source)
        batches = _batches(encoded, self._params)
        losses = _descend(model, batches, tokenizer.pad_token_id, self._params, progress)
        save(model, folder, self._base.model)
        tail = losses[-max(1, len(losses) // 10) :]
        return Trained(final_loss=sum(tail) / len(tail), losses=tuple(losses))

    def _adapted(self, source: str) -> Any:
        from peft import LoraConfig, get_peft_model

        # float32 weights, under bfloat16 autocast where the hardware has it: on such a CPU 1.7 times the speed of
        # bfloat16 weights (docs/log.md).
        model = load_base(self._base.model_copy(update={"dtype": "float32"}), source)
        settings = LoraConfig(
            r=self._params.rank, lora_alpha=2 * self._params.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with peft_warnings():
            return get_peft_model(model, settings)


def fit(tokenizer: Any, lesson: Lesson, max_tokens: int) -> Encoded:
    """A lesson as tokens: a prompt too long loses its beginning, never the question or the answer at its end."""
    whole = encode(tokenizer, lesson)
    if whole.answer_tokens >= max_tokens:
        start = lesson.completion[:40]
        raise RefusalError(f"an example's answer is over finetune.max_tokens = {max_tokens} tokens: {start!r}…")
    return whole.cut(max_tokens)


def _batches(encoded: Sequence[Encoded], params: FinetuneParams) -> list[list[Encoded]]:
    """Batches of like length, in random order, anew for each pass."""
    shuffle = random.Random(params.seed)
    ordered = sorted(encoded, key=lambda one: len(one.ids))
    epoch = [ordered[at : at + params.batch_size] for at in range(0, len(ordered), params.batch_size)]
    batches: list[list[Encoded]] = []
    for _ in range(params.passes(len(encoded))):
        shuffle.shuffle(epoch)
        batches += epoch
    return batches


def _descend(
    model: Any, batches: Sequence[list[Encoded]], pad: int, params: FinetuneParams, progress: Progress
) -> list[float]:
    import torch

    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=params.learning_rate, weight_decay=0.0)
    warm_up = max(1, int(WARM_UP_SHARE * len(batches)))
    losses: list[float] = []
    model.train()
    with progress("fine-tuning", len(batches)) as advance:
        for step, batch in enumerate(batches):
            share = min(1.0, (step + 1) / warm_up) * (1.0 - step / len(batches))
            optimizer.param_groups[0]["lr"] = params.learning_rate * share
            loss = _loss(model, batch, pad)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            advance(1)
    return losses


def _loss(model: Any, batch: list[Encoded], pad: int) -> Any:
    """Mean cross-entropy (nats) an answer token of the whole batch."""
    import torch

    device = model.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=computes_in_bfloat16(device)):
        told = foretell(model, batch, pad)
    logits = told.logits.float()
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), told.labels.reshape(-1), ignore_index=IGNORED
    )


def save(model: Any, folder: Path, base: str) -> None:
    """Write the adapter as safetensors; its base is recorded by the name in params.yaml, not by a machine's path."""
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(str(unfinished))
    settings = unfinished / "adapter_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    # peft writes a set in whatever order it has; the adapter is named by its content.
    content |= {"base_model_name_or_path": base, "target_modules": sorted(content["target_modules"])}
    settings.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (unfinished / "README.md").unlink(missing_ok=True)
    unfinished.replace(folder)
