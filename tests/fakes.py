"""Small deterministic stand-ins that count their calls, as plug-ins: `embed.model: tests.fakes:CountingEmbedder`.

They know nothing of the answers: the reader reads what is in the prompt, as well as its adapter has taught it to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, Recommendation, Recommendations
from ragtide.pipelines.ports import Advance, Progress, Prompt, TrainingResult, TrainingSample, Vectors
from ragtide.pipelines.records.evidence import Evidence

DIMENSIONS = 64
SKILLS = "skills.json"


class CountingEmbedder:
    """Hashed bags of words as unit vectors; counts the texts that it was given."""

    embedded: ClassVar[list[str]] = []
    fingerprint = f"bag-of-words/{DIMENSIONS}"
    dimensions = DIMENSIONS

    def __init__(self, _params: object = None) -> None:
        pass

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.embedded.extend(texts)
        return np.stack([_bag(text) for text in texts]) if texts else np.zeros((0, DIMENSIONS), np.float32)


class CountingReader:
    """Reads the value after the asked-for label, if it is in the prompt; how it answers, the adapter says.

    Without an adapter it rambles, as a base model does: the value is there in one answer of three.
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

    def losses(self, lessons: Sequence[TrainingSample], adapter: Path | None, advance: Advance) -> list[float]:
        self.judged.extend(lessons)
        skills = _skills(adapter)
        advance(len(lessons))
        return [_loss(lesson.completion, skills) for lesson in lessons]


class CountingTrainer:
    """Learns the form of the answers that it is shown, and to read; counts the lessons."""

    lessons: ClassVar[list[TrainingSample]] = []

    def __init__(self, _params: object = None) -> None:
        pass

    def train(self, lessons: Sequence[TrainingSample], folder: Path, progress: Progress) -> TrainingResult:
        self.lessons.extend(lessons)
        with progress("fine-tuning", len(lessons)) as advance:
            advance(len(lessons))
        as_json = sum(lesson.completion.startswith("{") for lesson in lessons) > len(lessons) / 2
        folder.mkdir()
        (folder / SKILLS).write_text(json.dumps({"reads": True, "json": as_json}), encoding="utf-8")
        return TrainingResult(final_loss=0.01, losses=(1.0, 0.1, 0.01))


class AlwaysTunes:
    """A policy that wants a better retriever and nothing else, wherever there is one to be had."""

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:
        no = Recommendation(False, "it is not asked for", "it would be with another policy")
        return Recommendations(
            refresh=no, retrain=no, tune=Recommendation(True, "it is always asked for", "it would not be otherwise")
        )


def forget() -> None:
    """Set all counts back to nothing."""
    for calls in (CountingEmbedder.embedded, CountingReader.prompts, CountingReader.judged, CountingTrainer.lessons):
        calls.clear()


def _bag(text: str) -> Vectors:
    vector = np.full(DIMENSIONS, 1e-3, dtype=np.float32)
    for word in re.findall(r"[a-z0-9.]+", text.lower()):
        vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % DIMENSIONS] += 1
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def _skills(adapter: Path | None) -> dict[str, Any]:
    learnt: dict[str, Any] = json.loads((adapter / SKILLS).read_text(encoding="utf-8")) if adapter else {}
    return learnt


def _loss(completion: str, skills: dict[str, Any]) -> float:
    """Low for an answer in the form that was learnt, high for any other; longer answers are a little harder."""
    familiar = skills.get("reads") and skills.get("json") == completion.startswith("{")
    return (0.1 if familiar else 2.0) + len(completion) / 1000


def _answer(prompt: str, skills: dict[str, Any]) -> str:
    context, _, question = prompt.rpartition("Question: ")
    value = _look_up(context, question)
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
