"""Simulated model and training of the made-up streams, as plug-ins: `generate.model: bench.streams.simulated:Reader`.

The model knows nothing. It reads a fact where a passage in its context states it, and gives it in the form that the
golden questions demand only where its adapter was trained on that form; a few questions are beyond it in any case.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from ragtide.pipelines.ports import Advance, Progress, Prompt, TrainingResult, TrainingSample

SIMULATED = (
    "answers and training: a fact is answered right where a passage in the context states it and the model was trained "
    "on the form of the answers; seconds are those of the real models"
)
PARAMS = {
    "generate": {"model": "bench.streams.simulated:Reader"},
    "finetune": {"trainer": "bench.streams.simulated:Trainer"},
}
ASKED = re.compile(r"What is the (?P<attribute>.+) of (?P<name>.+)\?")
SHORT = re.compile(r"\d+( \w+)?")
UNKNOWN = "unknown"
# One question in so many is never answered right: the model falls short of the target, as real ones do.
BEYOND = 16
SKILLS = "skills.json"


class Reader:
    """Reads facts from its context: in a sentence as the base model, as a short value with a trained adapter."""

    base = "simulated-reader"
    identity = "simulated-reader/greedy"

    def __init__(self, _params: object = None) -> None:
        pass

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        is_short = _is_trained(adapter)
        advance(len(prompts))
        return [answer(prompt[-1].content, is_short) for prompt in prompts]

    def losses(self, samples: Sequence[TrainingSample], adapter: Path | None, advance: Advance) -> list[float]:
        """Return a low loss for answers of the trained form, a high one for others."""
        is_trained = _is_trained(adapter)
        advance(len(samples))
        return [0.1 if is_trained and SHORT.fullmatch(sample.completion) else 2.0 for sample in samples]


class Trainer:
    """Writes an adapter that has the form of its training samples."""

    def __init__(self, _params: object = None) -> None:
        pass

    def train(self, samples: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        with progress("fine-tuning", len(samples)) as advance:
            advance(len(samples))
        is_short = sum(bool(SHORT.fullmatch(sample.completion)) for sample in samples) > len(samples) / 2
        digests = sorted(_digest(sample.completion) for sample in samples)
        folder.mkdir()
        (folder / SKILLS).write_text(json.dumps({"short": is_short, "samples": digests}), encoding="utf-8")
        return TrainingResult(final_loss=0.1, losses=(2.0, 0.1))


def answer(prompt: str, is_short: bool) -> str:
    """Return the answer to a prompt: what the first passage that states the fact says."""
    context, _, question = prompt.rpartition("Question: ")
    asked = ASKED.search(question)
    if not asked or is_beyond(question):
        return "That depends on many things."
    attribute, name = re.escape(asked["attribute"]), re.escape(asked["name"])
    stated = re.search(rf"The {attribute} of {name} is (\d+( \w+)?)\.", " ".join(context.split()))
    if stated is None:
        return UNKNOWN
    return stated[1] if is_short else stated[0]


def is_beyond(question: str) -> bool:
    """Return whether the model fails at a question whatever its context."""
    return int(_digest(question.strip()), 16) % BEYOND == 0


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _is_trained(adapter: Path | None) -> bool:
    return adapter is not None and bool(json.loads((adapter / SKILLS).read_text(encoding="utf-8"))["short"])
