"""Which questions is the assistant measured on? The golden set, and which of its questions still stand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from ragtide.pipelines.data.jsonl import read_earlier_lines, read_lines
from ragtide.pipelines.data.snapshot import earlier_snapshots
from ragtide.pipelines.data.text import json_fields
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.scoring import supports_answer
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.evaluation import GoldenQuestion, ScorerName
from ragtide.pipelines.workspace import Workspace

# Below the golden folder: questions of earlier skills, a file each (evaluation/regression.py).
REGRESSION = "regression/"
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class GoldenLine(BaseModel):
    """A line of a golden file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str | None = None
    question: Text
    answers: Annotated[tuple[Text, ...], Field(min_length=1)]
    docs: tuple[Text, ...] = ()
    format: str | None = None
    scorer: ScorerName = "contains"

    @model_validator(mode="after")
    def _answers_can_be_graded(self) -> GoldenLine:
        if self.scorer == "json_f1" and any(json_fields(answer) is None for answer in self.answers):
            raise ValueError("answers should be JSON, each of them, where scorer is json_f1")
        return self

    @field_validator("format")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, OverflowError, RecursionError) as problem:
            raise ValueError(f"not a regular expression ({problem})") from problem
        return value


@dataclass(frozen=True)
class GoldenSet:
    """Questions that can be asked of a snapshot, and the ids of those that no longer can."""

    questions: tuple[GoldenQuestion, ...]
    stale: tuple[str, ...]

    def digest(self) -> str:
        """Scores are comparable only under the same digest."""
        return json_digest([question.model_dump(mode="json") for question in self.questions])


def read_golden(folder: Path, files: Mapping[str, str], texts: Mapping[str, str]) -> GoldenSet:
    """The golden questions of `files`; those whose documents are gone or hold no answer any more are stale.

    `files` is path below `folder` -> MD5, `texts` document id -> text. Raises RefusalError for a bad line, two
    questions of one id, or no question at all.
    """
    questions = read_questions(folder, _of_the_set(files))
    if not questions:
        form = '{"question": "…", "answers": ["…"], "docs": ["page.md"]}'
        raise UserError(f"{folder} holds no golden questions: put a .jsonl file there with lines like {form}")
    return split_stale(questions, texts)


def read_questions(folder: Path, files: Mapping[str, str]) -> tuple[GoldenQuestion, ...]:
    """Every question of `files` (path below `folder` -> MD5). Raises RefusalError for a bad line or a second id."""
    questions: dict[str, GoldenQuestion] = {}
    for where, line in read_lines(folder, files, GoldenLine):
        question = _question(line)
        if question.id in questions:
            raise UserError(f"{where}: a second question has the id {question.id!r}: give each its own")
        questions[question.id] = question
    return tuple(questions.values())


def golden_wordings(workspace: Workspace, files: Mapping[str, str]) -> list[str]:
    """What every golden line of `files` asks, those of earlier skills too: nothing of it may be taught.

    Raises RefusalError for a bad line, and for one that asks for a judge where score.judge names none.
    """
    asked = []
    for where, line in read_lines(workspace.golden, files, GoldenLine):
        if line.scorer == "judge" and workspace.params.score.judge is None:
            raise UserError(f"{where}: scorer is judge, and score.judge in params.yaml names no model: name one")
        asked.append(line.question)
    return asked


def earlier_questions(workspace: Workspace, golden: GoldenSet, texts: Mapping[str, str]) -> tuple[GoldenQuestion, ...]:
    """Golden questions of the last snapshots that the set holds no more, and the documents can still answer.

    One whose id or whose wording is in the set today has been replaced, not dropped: then what the set says counts.
    """
    ids = {*golden.stale, *(question.id for question in golden.questions)}
    asked = {question.question for question in golden.questions}
    read: set[str] = set()
    found: list[GoldenQuestion] = []
    for snapshot in earlier_snapshots(workspace):
        files = {path: digest for path, digest in _of_the_set(snapshot.questions).items() if digest not in read}
        read |= {*files.values()}
        for _, line in read_earlier_lines(workspace, files, GoldenLine):
            question = _question(line)
            judged = question.scorer != "judge" or workspace.params.score.judge is not None
            if judged and question.id not in ids and question.question not in asked:
                found.append(question)
                ids.add(question.id)
                asked.add(question.question)
    return split_stale(found, texts).questions


def split_stale(questions: Sequence[GoldenQuestion], texts: Mapping[str, str]) -> GoldenSet:
    """Set questions aside that the documents cannot answer: they say something of the golden set, not of a release."""
    stale = {question.id for question in questions if not _stands(question, texts)}
    return GoldenSet(
        questions=tuple(question for question in questions if question.id not in stale), stale=tuple(sorted(stale))
    )


def _stands(question: GoldenQuestion, texts: Mapping[str, str]) -> bool:
    if not question.docs:
        return True
    return any(supports_answer(texts.get(doc, ""), question) for doc in question.docs)


def _of_the_set(files: Mapping[str, str]) -> dict[str, str]:
    """The files of the golden set itself: those of earlier skills are others."""
    return {path: digest for path, digest in files.items() if not path.startswith(REGRESSION)}


def _question(line: GoldenLine) -> GoldenQuestion:
    return GoldenQuestion(
        id=line.id or json_digest([line.question, line.docs]),
        question=line.question,
        answers=line.answers,
        docs=line.docs,
        format=line.format,
        scorer=line.scorer,
    )
