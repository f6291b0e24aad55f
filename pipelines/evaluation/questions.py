"""Golden questions: reading the golden set, splitting off stale questions, and finding those of earlier snapshots."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import regex
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from ragtide.pipelines.data.jsonl import read_earlier_lines, read_lines
from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.data.snapshot import earlier_snapshots
from ragtide.pipelines.data.text import json_fields
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.scoring import documents_support, matches_format
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.evaluation import GoldenQuestion, ScorerName
from ragtide.pipelines.workspace import Workspace

# Below the golden folder: regression suites, one file each (evaluation/regression.py).
REGRESSION = "regression/"
# Characters of the texts that each format is tried on.
LONG_ANSWER = 1000
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class GoldenLine(BaseModel):
    """One line of a golden file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str | None = None
    question: Text
    answers: Annotated[tuple[Text, ...], Field(min_length=1)]
    docs: tuple[Text, ...] = ()
    format: str | None = None
    scorer: ScorerName = "contains"
    passage: Text | None = None

    @model_validator(mode="after")
    def _answers_can_be_graded(self) -> GoldenLine:
        if self.scorer == "json_f1" and any(json_fields(answer) is None for answer in self.answers):
            raise ValueError("each of the answers must be JSON, since scorer is json_f1")
        return self

    @field_validator("format")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
            regex.compile(value or "")
        except (re.error, regex.error, OverflowError, RecursionError) as problem:
            raise ValueError(f"not a regular expression ({problem})") from problem
        return value

    @model_validator(mode="after")
    def _format_is_fast(self) -> GoldenLine:
        """Match some long texts, so that a slow pattern is known by its line before an answer is scored."""
        for text in (*self.answers, "a", "A", "0", " ", "a ", "A0-") if self.format else ():
            matches_format(self.format or "", (text * LONG_ANSWER)[:LONG_ANSWER] + "\0")
        return self


@dataclass(frozen=True)
class GoldenSet:
    """The questions that a snapshot's documents can answer, and the ids of the stale ones that they cannot.

    `outdated_paths` are the paths in `docs` whose document has moved -> today's, which the questions name.
    """

    questions: tuple[GoldenQuestion, ...]
    stale: tuple[str, ...]
    outdated_paths: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Return a digest of the questions; scores are comparable only under the same one."""
        return json_digest([question.model_dump(mode="json") for question in self.questions])


def read_golden(
    folder: Path, files: Mapping[str, str], texts: Mapping[str, str], paths: DocumentPaths | None = None
) -> GoldenSet:
    """Read the golden questions of `files`; those whose documents were deleted or no longer state an answer are stale.

    `files` is path below `folder` -> MD5, `texts` document id -> text; documents that moved are followed by `paths`.
    Raises UserError for an invalid line, for two questions with the same id, and where there is no question at all.
    """
    questions = read_questions(folder, _golden_files(files))
    if not questions:
        example = '{"question": "…", "answers": ["…"], "docs": ["page.md"]}'
        raise UserError(f"{folder} holds no golden questions: add a .jsonl file with lines like {example}")
    paths = paths or DocumentPaths()
    outdated = paths.outdated(document for question in questions for document in question.docs)
    return replace(split_stale(follow_docs(questions, paths), texts), outdated_paths=outdated)


def follow_docs(questions: Iterable[GoldenQuestion], paths: DocumentPaths) -> tuple[GoldenQuestion, ...]:
    """The same questions; those about a document that has moved name it by today's path."""
    return tuple(
        question.model_copy(update={"docs": tuple(dict.fromkeys(map(paths.current, question.docs)))})
        for question in questions
    )


def read_questions(folder: Path, files: Mapping[str, str]) -> tuple[GoldenQuestion, ...]:
    """Read the questions of `files` (path -> MD5). Raises UserError for an invalid line or an id used twice."""
    questions: dict[str, GoldenQuestion] = {}
    for where, question in _identify(list(read_lines(folder, files, GoldenLine))):
        if question.id in questions:
            raise UserError(f"{where}: the id {question.id!r} is already used by another question: make it unique")
        questions[question.id] = question
    return tuple(questions.values())


def locate_questions(folder: Path, files: Mapping[str, str]) -> Iterator[tuple[str, GoldenQuestion]]:
    """The golden questions of `files` with their places, FILE:NUMBER."""
    return _identify(list(read_lines(folder, _golden_files(files), GoldenLine)))


def locate_earlier_questions(workspace: Workspace, files: Mapping[str, str]) -> Iterator[tuple[str, GoldenQuestion]]:
    """As `locate_questions`, but for files of an earlier snapshot that are still in DVC's cache."""
    return _identify(list(read_earlier_lines(workspace, _golden_files(files), GoldenLine)))


def _identify(lines: Sequence[tuple[str, GoldenLine]]) -> Iterator[tuple[str, GoldenQuestion]]:
    """The questions of lines with their places; those without an id have one of their wording."""
    wordings = Counter(line.question for _, line in lines if line.id is None)
    for where, line in lines:
        question = _question(line)
        if line.id is None and wordings[line.question] > 1:
            # The same words about other pages are another question, in whatever order the lines stand.
            question = question.model_copy(update={"id": json_digest([line.question, line.docs])})
        yield where, question


def golden_wordings(workspace: Workspace, files: Mapping[str, str]) -> list[str]:
    """Return the question of every line of `files`, regression suites included: none may be trained on.

    Raises UserError for an invalid line, and for one whose scorer is the judge where score.judge is not set.
    """
    wordings = []
    for where, line in read_lines(workspace.golden, files, GoldenLine):
        if line.scorer == "judge" and workspace.params.score.judge is None:
            raise UserError(f"{where}: scorer is judge, but score.judge in params.yaml is not set: set it to a model")
        wordings.append(line.question)
    return wordings


def earlier_questions(
    workspace: Workspace, golden: GoldenSet, texts: Mapping[str, str], paths: DocumentPaths
) -> tuple[GoldenQuestion, ...]:
    """Return the golden questions of recent snapshots that the set no longer holds but the documents still answer.

    A question whose id or wording is in the set today was replaced, not removed: the current one counts.
    """
    ids = {*golden.stale, *(question.id for question in golden.questions)}
    wordings = {question.question for question in golden.questions}
    read: set[str] = set()
    removed: list[GoldenQuestion] = []
    for snapshot in earlier_snapshots(workspace):
        files = {path: digest for path, digest in _golden_files(snapshot.questions).items() if digest not in read}
        read |= {*files.values()}
        for _, line in read_earlier_lines(workspace, files, GoldenLine):
            question = _question(line)
            gradable = question.scorer != "judge" or workspace.params.score.judge is not None
            if gradable and question.id not in ids and question.question not in wordings:
                removed.append(question)
                ids.add(question.id)
                wordings.add(question.question)
    return split_stale(follow_docs(removed, paths), texts).questions


def earlier_lines(workspace: Workspace, before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, object]]:
    """Return the questions of an earlier snapshot's files (path -> MD5), each by its fields without the id.

    Empty where no file of the golden set itself has changed since.
    """
    earlier, today = _golden_files(before), _golden_files(after)
    if earlier == today:
        return []
    return [
        _question(line).model_dump(exclude={"id"}) for _, line in read_earlier_lines(workspace, earlier, GoldenLine)
    ]


def split_stale(questions: Sequence[GoldenQuestion], texts: Mapping[str, str]) -> GoldenSet:
    """Split off questions that the documents cannot answer: they show a fault of the golden set, not of a release."""
    stale = {question.id for question in questions if not _is_answerable(question, texts)}
    return GoldenSet(
        questions=tuple(question for question in questions if question.id not in stale), stale=tuple(sorted(stale))
    )


def _is_answerable(question: GoldenQuestion, texts: Mapping[str, str]) -> bool:
    if not question.docs:
        return True
    return documents_support([texts[doc] for doc in question.docs if doc in texts], question)


def _golden_files(files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of the golden set itself, without those of the regression suites."""
    return {path: digest for path, digest in files.items() if not path.startswith(REGRESSION)}


def _question(line: GoldenLine) -> GoldenQuestion:
    return GoldenQuestion(
        id=line.id or json_digest(line.question),
        question=line.question,
        answers=line.answers,
        docs=line.docs,
        format=line.format,
        scorer=line.scorer,
        passage=line.passage,
    )
