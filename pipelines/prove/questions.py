"""Which questions is the assistant measured on? The golden set, and which of its questions still stand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from pipelines.errors import RefusalError
from pipelines.observe.jsonl import read_lines
from pipelines.prove.score import holds
from pipelines.records import Question, digest_of

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Line(BaseModel):
    """A line of a golden file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str | None = None
    question: Text
    answers: Annotated[tuple[Text, ...], Field(min_length=1)]
    docs: tuple[Text, ...] = ()
    format: str | None = None

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

    questions: tuple[Question, ...]
    stale: tuple[str, ...]

    def digest(self) -> str:
        """Scores are comparable only under the same digest."""
        return digest_of([question.model_dump(mode="json") for question in self.questions])


def read_golden(folder: Path, files: Mapping[str, str], texts: Mapping[str, str]) -> GoldenSet:
    """The golden questions of `files`; those whose documents are gone or hold no answer any more are stale.

    `files` is path below `folder` -> MD5, `texts` document id -> text. Raises RefusalError for a bad line, two
    questions of one id, or no question at all.
    """
    questions: dict[str, Question] = {}
    for where, line in read_lines(folder, files, Line):
        question = _question(line)
        if question.id in questions:
            raise RefusalError(f"{where}: a second question has the id {question.id!r}: give each its own")
        questions[question.id] = question
    if not questions:
        form = '{"question": "…", "answers": ["…"], "docs": ["page.md"]}'
        raise RefusalError(f"{folder} holds no golden questions: put a .jsonl file there with lines like {form}")
    return split_stale(tuple(questions.values()), texts)


def split_stale(questions: Sequence[Question], texts: Mapping[str, str]) -> GoldenSet:
    """Set questions aside that the documents cannot answer: they say something of the golden set, not of a release."""
    stale = {question.id for question in questions if not _stands(question, texts)}
    return GoldenSet(
        questions=tuple(question for question in questions if question.id not in stale), stale=tuple(sorted(stale))
    )


def _stands(question: Question, texts: Mapping[str, str]) -> bool:
    if not question.docs:
        return True
    return any(holds(texts.get(doc, ""), question.answers) for doc in question.docs)


def _question(line: Line) -> Question:
    return Question(
        id=line.id or digest_of([line.question, line.docs]),
        question=line.question,
        answers=line.answers,
        docs=line.docs,
        format=line.format,
    )
