"""What does the model learn from? Training examples, checked line by line; what would teach it wrong is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from ragtide.pipelines.data.jsonl import InvalidLine, validate_lines
from ragtide.pipelines.data.text import NumberSet
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import Message
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import DataIssue, IssueKind
from ragtide.pipelines.training.leakage import find_leaks

# Findings that a refusal names; `ragtide examples` lists them all.
NAMED = 3
SHOWN_LETTERS = 60


def _is_said(text: str) -> str:
    if not text.strip():
        raise ValueError("holds nothing but white space" if text else "is empty")
    return text


Text = Annotated[str, AfterValidator(_is_said)]


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Literal["system", "user", "assistant"]
    content: Text


class TrainingLine(BaseModel):
    """A line of a training file: prompt and completion, or messages; `doc` names the page that holds the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str | None = None
    prompt: Text | None = None
    completion: Text | None = None
    messages: tuple[ChatMessage, ...] = ()
    doc: str | None = None

    @model_validator(mode="after")
    def _is_a_conversation(self) -> TrainingLine:
        alone = bool(self.prompt and self.completion and not self.messages)
        if not alone and (self.prompt or self.completion or not self.messages):
            raise ValueError("should hold prompt and completion, or messages")
        if not alone and [turn.role for turn in self.messages[-2:]] != ["user", "assistant"]:
            raise ValueError("messages should end with a user's turn and the assistant's answer to it")
        return self


@dataclass(frozen=True)
class Example:
    """A conversation up to the user's last turn, the answer to it, and the page that holds the answer, if any.

    `where` is the line that it was read from.
    """

    turns: tuple[Message, ...]
    completion: str
    doc: str | None
    where: str = field(default="", compare=False)

    @classmethod
    def of(cls, line: TrainingLine, where: str = "") -> Example:
        if line.prompt and line.completion:
            return cls((Message("user", line.prompt),), line.completion, line.doc, where)
        *turns, last = line.messages
        return cls(tuple(Message(turn.role, turn.content) for turn in turns), last.content, line.doc, where)

    @property
    def question(self) -> str:
        return self.turns[-1].content

    @property
    def digest(self) -> str:
        """Twelve hex digits: the same conversation and answer have the same, wherever they and their page stand."""
        return json_digest([[[turn.role, turn.content] for turn in self.turns], self.completion])

    @property
    def conversation(self) -> tuple[tuple[str, str], ...]:
        """What is asked, white space aside."""
        return tuple((turn.role, " ".join(turn.content.split())) for turn in self.turns)

    def flaw(self, kind: IssueKind, why: str) -> DataIssue:
        """Why this example is left out."""
        return DataIssue(where=self.where, kind=kind, why=why)


@dataclass(frozen=True)
class ValidatedExamples:
    """The examples that are learnt from; `orphans` name a page that is gone, and `filtered` says why of every other.

    `contradictory` says of examples which other they contradict, where examples.contradictions is "keep".
    """

    examples: tuple[Example, ...]
    orphans: tuple[Example, ...]
    filtered: tuple[DataIssue, ...]
    contradictory: tuple[DataIssue, ...] = ()


def read_examples(folder: Path, files: Mapping[str, str]) -> list[Example | DataIssue]:
    """An example, or why it is none, for each line of `files` (path below `folder` -> MD5), in order of path and line.

    Raises RefusalError for a file that changed since.
    """
    return [
        DataIssue(where=where, kind=IssueKind.BAD_LINE, why=line.why)
        if isinstance(line, InvalidLine)
        else Example.of(line, where)
        for where, line in validate_lines(folder, files, TrainingLine)
    ]


def validate_examples(
    lines: Sequence[Example | DataIssue], pages: Mapping[str, str], golden: Sequence[str], params: Params
) -> ValidatedExamples:
    """What is to be learnt from `lines`, and why each of the others is not; each has one finding, the first of these.

    - overlong: the answer has so many words that its tokens are over finetune.max_tokens in any case,
    - leak: it asks what one of the `golden` questions asks (training/leakage.py),
    - stale: its answer states a number, a date or a version that stands nowhere on its page,
    - contradiction: the same conversation is answered in another way elsewhere; nobody can tell which is right, so
      both are left out, unless examples.contradictions is "keep", since there may be several right answers. A stale
      answer contradicts nobody: there the page has told which is right;
    - duplicate: an earlier line says the same.

    `pages` is document -> text. What is left has no finding when it is sifted again.
    """
    examples = [one for one in lines if isinstance(one, Example)]
    found = {one.where: one for one in lines if isinstance(one, DataIssue)}
    found |= {flaw.where: flaw for flaw in _alone(examples, pages, golden, params)}
    orphans = tuple(one for one in examples if one.where not in found and one.doc is not None and one.doc not in pages)
    gone = {one.where for one in orphans}
    left = [one for one in examples if one.where not in found and one.where not in gone]
    asked, keeps = _by_conversation(left), params.examples.contradictions == "keep"
    same = {flaw.where: flaw for flaw in _duplicates(asked)}
    odd = {flaw.where: flaw for flaw in _contradictions(asked, "both are learnt" if keeps else "keep one")}
    found |= same if keeps else same | odd
    return ValidatedExamples(
        examples=tuple(one for one in left if one.where not in found),
        orphans=orphans,
        filtered=tuple(found[one.where] for one in lines if one.where in found),
        contradictory=tuple(odd[one.where] for one in left if one.where in odd and one.where not in found),
    )


def require_valid(findings: Sequence[DataIssue], params: Params) -> None:
    """Raise RefusalError where there are any and examples.on_invalid is "refuse"."""
    if params.examples.on_invalid == "refuse" and findings:
        first = "; ".join(f"{one.where}: {one.kind}: {one.why}" for one in findings[:NAMED])
        more = f"; and {len(findings) - NAMED} more" if len(findings) > NAMED else ""
        lines = f"{len(findings)} training lines are" if len(findings) > 1 else "1 training line is"
        mend = "mend or remove what `ragtide examples` lists, or set examples.on_invalid to skip"
        raise UserError(f"{lines} not fit to learn from ({first}{more}): {mend}")


# --- what is wrong with an example ---------------------------------------------------------------------------------


def _alone(
    examples: Sequence[Example], pages: Mapping[str, str], golden: Sequence[str], params: Params
) -> Iterator[DataIssue]:
    """What is wrong with an example whatever the others are."""
    leaked = find_leaks([one.question for one in examples], golden, params.examples.leak_similarity)
    docs = {one.doc for one in examples if one.doc in pages}
    numbers = {doc: NumberSet.of(pages[doc]) for doc in docs if doc}
    limit = params.finetune.max_tokens
    for one, leak in zip(examples, leaked, strict=True):
        lacking = numbers[one.doc].lack(one.completion, one.question) if one.doc in numbers else None
        if len(one.completion.split()) >= limit:
            yield one.flaw(IssueKind.OVERLONG, f"its answer is over finetune.max_tokens = {limit}")
        elif leak:
            yield one.flaw(IssueKind.LEAK, f"asks what the golden question {_short(leak.golden)} asks")
        elif lacking:
            yield one.flaw(IssueKind.STALE, f"{one.doc} says otherwise now: {lacking} stands nowhere on it")


def _by_conversation(examples: Sequence[Example]) -> list[list[list[Example]]]:
    """For each conversation the examples by what they answer."""
    asked: dict[tuple[tuple[str, str], ...], dict[str, list[Example]]] = {}
    for one in examples:
        asked.setdefault(one.conversation, {}).setdefault(one.completion.strip(), []).append(one)
    return [list(answers.values()) for answers in asked.values()]


def _contradictions(asked: Sequence[Sequence[Sequence[Example]]], then: str) -> Iterator[DataIssue]:
    for answers in asked:
        first, *others = answers
        for same in answers if others else ():
            other = (others[0] if same is first else first)[0]
            yield from (one.flaw(IssueKind.CONTRADICTION, f"{other.where} answers otherwise: {then}") for one in same)


def _duplicates(asked: Sequence[Sequence[Sequence[Example]]]) -> Iterator[DataIssue]:
    for first, *others in (same for answers in asked for same in answers):
        yield from (one.flaw(IssueKind.DUPLICATE, f"says the same as {first.where}") for one in others)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= SHOWN_LETTERS else f'"{line[:SHOWN_LETTERS]}…"'
