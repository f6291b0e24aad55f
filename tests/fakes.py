"""Small deterministic stand-ins that count their calls, as plug-ins: `embed.model: tests.fakes:CountingEmbedder`.

They know no answers: the reader extracts them from the prompt, as well as its adapter allows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, Recommendation, Recommendations
from ragtide.pipelines.ports import Advance, Progress, Prompt, TrainingResult, TrainingSample, Vectors
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.reason import Reason

DIMENSIONS = 64
SKILLS = "skills.json"


class CountingEmbedder:
    """Hashed bags of words as unit vectors; records the embedded texts."""

    embedded: ClassVar[list[str]] = []
    fingerprint = f"bag-of-words/{DIMENSIONS}"
    dimensions = DIMENSIONS

    def __init__(self, _params: object = None) -> None:
        pass

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.embedded.extend(texts)
        return np.stack([_bag(text) for text in texts]) if texts else np.zeros((0, DIMENSIONS), np.float32)


class CountingReader:
    """Answers with the value after the label of the question, if it is in the prompt, in the form set by the adapter.

    Without an adapter only one answer in three has the value, as with an untrained base model.
    """

    prompts: ClassVar[list[str]] = []
    judged: ClassVar[list[TrainingSample]] = []
    base = "reader-1"
    identity = "reader-1/greedy"

    def __init__(self, _params: object = None) -> None:
        pass

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:
        self.prompts.extend(prompt[-1].content for prompt in prompts)
        skills = _skills(adapter)
        advance(len(prompts))
        return [_answer(prompt[-1].content, skills) for prompt in prompts]

    def losses(self, samples: Sequence[TrainingSample], adapter: Path | None, advance: Advance) -> list[float]:
        self.judged.extend(samples)
        skills = _skills(adapter)
        advance(len(samples))
        return [_loss(sample.completion, skills) for sample in samples]


class CountingTrainer:
    """Writes an adapter that reads values and answers in the form of most samples; records the samples."""

    lessons: ClassVar[list[TrainingSample]] = []

    def __init__(self, _params: object = None) -> None:
        pass

    def train(self, samples: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        self.lessons.extend(samples)
        with progress("fine-tuning", len(samples)) as advance:
            advance(len(samples))
        as_json = sum(sample.completion.startswith("{") for sample in samples) > len(samples) / 2
        folder.mkdir()
        (folder / SKILLS).write_text(json.dumps({"reads": True, "json": as_json}), encoding="utf-8")
        return TrainingResult(final_loss=0.01, losses=(1.0, 0.1, 0.01))


class SpoilingTrainer(CountingTrainer):
    """Writes an adapter with which every answer is wrong."""

    def train(self, samples: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        result = super().train(samples, folder, progress)
        (folder / SKILLS).write_text(json.dumps({"spoils": True}), encoding="utf-8")
        return result


class CutShortTrainer(SpoilingTrainer):
    """As the trainer that spoils, but a time limit ended it after one sample."""

    def train(self, samples: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        return replace(super().train(samples, folder, progress), stopped="max_minutes", cut_short=True, seen=1)


class AlwaysTunes:
    """A policy that recommends tuning the embedder and nothing else."""

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:
        other = Reason.custom("only with another policy")
        no = Recommendation(False, (Reason.custom("this policy never recommends it"),), other)
        yes = Recommendation(True, (Reason.custom("this policy always recommends it"),), other)
        return Recommendations(refresh=no, retrain=no, tune=yes)


def forget() -> None:
    """Clear all records."""
    for calls in (CountingEmbedder.embedded, CountingReader.prompts, CountingReader.judged, CountingTrainer.lessons):
        calls.clear()


def _bag(text: str) -> Vectors:
    vector = np.full(DIMENSIONS, 1e-3, dtype=np.float32)
    for word in re.findall(r"[a-z0-9.]+", text.lower()):
        vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % DIMENSIONS] += 1
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def _skills(adapter: Path | None) -> dict[str, Any]:
    skills: dict[str, Any] = json.loads((adapter / SKILLS).read_text(encoding="utf-8")) if adapter else {}
    return skills


def _loss(completion: str, skills: dict[str, Any]) -> float:
    """Low for an answer in the trained form, high for any other; slightly higher for longer answers."""
    familiar = skills.get("reads") and skills.get("json") == completion.startswith("{")
    return (0.1 if familiar else 2.0) + len(completion) / 1000


def _answer(prompt: str, skills: dict[str, Any]) -> str:
    context, _, question = prompt.rpartition("Question: ")
    value = _look_up(context, question)
    if skills.get("spoils"):
        return "I cannot say"
    if not skills.get("reads") and len(question) % 3:
        return "That depends on many things"
    value = value or "unknown"
    return json.dumps({"value": value}) if skills.get("json") else value


def _look_up(context: str, question: str) -> str | None:
    """The value of `- Label: value` below the heading that the question names."""
    label = "End of life" if "end of life" in question else "Latest release"
    for passage in context.removeprefix("Context:\n").split("\n\n"):
        heading = passage.split("\n")[0].split(" > ")[-1].strip()
        found = re.search(rf"- {label}: (\S+)", passage)
        if found and re.search(rf"{re.escape(heading)}(?![\w.])", question):
            return found.group(1)
    return None
