"""Records of a stream: the states of a project's data in order, with the right actions for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import GoldenQuestion


@dataclass(frozen=True)
class Step:
    """A state of the data.

    `documents` is path below the knowledge base -> Markdown text; `examples` are lines of a training file, whose `doc`
    is such a path; an accident may have deleted that document. The evidence is gathered on `questions`, the golden
    questions. Quality is measured on `truth`: the same questions, unless the step is an accident; then `truth` still
    has the questions about the deleted documents. `right` are the actions that are right if every earlier step was
    handled right; None where that is not clear-cut.

    `facts` are all facts that users may ask about besides the golden questions, by an id that stays the same when the
    answer changes. `changed_facts` are those of them that changed (bench/streams/changed_facts.py): they are scored as
    well, and are never part of the evidence or of the golden set.
    """

    documents: Mapping[str, str]
    examples: tuple[dict[str, str], ...]
    questions: tuple[GoldenQuestion, ...]
    truth: tuple[GoldenQuestion, ...]
    right: frozenset[Action] | None
    description: str
    facts: Mapping[str, GoldenQuestion] = field(default_factory=dict)
    changed_facts: tuple[GoldenQuestion, ...] = ()


@dataclass(frozen=True)
class Stream:
    """A named sequence of steps; the first release is built from `steps[0]`.

    Policies' settings are tuned on the streams of the split "tune" alone. `simulated` says which part of an outcome is
    simulated, and how; empty where all of it is real. `params` are settings of the project, by block, that differ from
    those of the other streams.
    """

    name: str
    steps: tuple[Step, ...]
    split: Literal["tune", "test"]
    simulated: str = ""
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def training_sets(self) -> int:
        """Count the distinct training sets (sets of prompts and completions) of the steps."""
        sets = [frozenset((line["prompt"], line["completion"]) for line in step.examples) for step in self.steps]
        return len(set(sets))
