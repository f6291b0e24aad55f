"""What is a stream? States of a project's data in their order, and what is right to do about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import GoldenQuestion


@dataclass(frozen=True)
class Step:
    """One state of the data.

    `documents` is path below the knowledge base -> Markdown text; `examples` are lines of a training file, whose `doc`
    is such a path, which an accident may have taken. `questions` are golden questions, on which evidence is gathered.
    `truth` is what quality is measured on: the same, unless the step is an accident, where the truth still asks for
    what has vanished.
    `right` names the actions that are right here, earlier steps having been put right; None where that is not clear.
    """

    documents: Mapping[str, str]
    examples: tuple[dict[str, str], ...]
    questions: tuple[GoldenQuestion, ...]
    truth: tuple[GoldenQuestion, ...]
    right: frozenset[Action] | None
    what: str


@dataclass(frozen=True)
class Stream:
    """`steps[0]` is the state that a first release is made of. What is tuned is tuned on one half of the streams."""

    name: str
    steps: tuple[Step, ...]
    half: Literal["tune", "test"]

    def training_sets(self) -> int:
        """How many different sets of prompts and completions a model could be trained on."""
        return len({frozenset((one["prompt"], one["completion"]) for one in step.examples) for step in self.steps})
