"""Training examples: file format, and validation that filters examples which would train wrong answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from ragtide.pipelines.data.jsonl import InvalidLine, validate_lines
from ragtide.pipelines.data.moves import DocumentPaths
from ragtide.pipelines.data.text import NumberSet, json_fields, split_words
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import Params
from ragtide.pipelines.ports import Message
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import DataIssue, IssueKind
from ragtide.pipelines.training.leakage import find_leaks

# Issues that an error message lists; `ragtide examples` lists all of them.
MAX_LISTED_ISSUES = 3
MAX_SHOWN_LETTERS = 60
# Words of an answer that may be a fact of its page (docs/log.md).
SHORT_ANSWER = 8
# A capital letter or a digit after the first letter, or a sign of codes and addresses.
_FACT = re.compile(r"(?!^)[A-Z0-9]|[/_@]")
# Letters of a word that other forms of it have too, and those of a word that is compared.
STEM, STEM_WORD = 4, 3

# (role, text) of each message, with white space normalized.
Conversation: TypeAlias = tuple[tuple[str, str], ...]


def _require_text(text: str) -> str:
    if not text.strip():
        raise ValueError("contains only white space" if text else "is empty")
    return text


Text = Annotated[str, AfterValidator(_require_text)]


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Literal["system", "user", "assistant"]
    content: Text


class TrainingLine(BaseModel):
    """A line of a training file: prompt and completion, or messages; `doc` names the page with the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str | None = None
    prompt: Text | None = None
    completion: Text | None = None
    messages: tuple[ChatMessage, ...] = ()
    doc: str | None = None

    @model_validator(mode="after")
    def _is_a_conversation(self) -> TrainingLine:
        is_pair = bool(self.prompt and self.completion and not self.messages)
        if not is_pair and (self.prompt or self.completion or not self.messages):
            raise ValueError("should have prompt and completion, or messages")
        if not is_pair and [turn.role for turn in self.messages[-2:]] != ["user", "assistant"]:
            raise ValueError("messages should end with a user turn and the assistant's answer to it")
        return self


@dataclass(frozen=True)
class Example:
    """A conversation up to the last user turn, the answer to it, and the page with the answer, if any.

    `where` is its source, `file:line`.
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
        """Twelve hex digits of the conversation and the answer, whatever the source line and the page."""
        return json_digest([[[turn.role, turn.content] for turn in self.turns], self.completion])

    @property
    def conversation(self) -> Conversation:
        """The conversation up to the answer, with white space normalized."""
        return tuple((turn.role, " ".join(turn.content.split())) for turn in self.turns)

    def issue(self, kind: IssueKind, why: str) -> DataIssue:
        """A DataIssue at the example's source line."""
        return DataIssue(where=self.where, kind=kind, why=why)


@dataclass(frozen=True)
class ValidatedExamples:
    """The examples to train on, the orphans, whose page was deleted, and an issue for each of the other lines.

    `contradictory` are the issues of examples that are trained on although they contradict another one, which
    examples.contradictions = "keep" allows.
    """

    examples: tuple[Example, ...]
    orphans: tuple[Example, ...]
    filtered: tuple[DataIssue, ...]
    contradictory: tuple[DataIssue, ...] = ()


def read_examples(folder: Path, files: Mapping[str, str]) -> list[Example | DataIssue]:
    """An example or a data issue for each line of `files` (path below `folder` -> MD5), in order of path and line.

    Raises UserError for a file whose content no longer has its MD5.
    """
    return [
        DataIssue(where=where, kind=IssueKind.INVALID_LINE, why=line.why)
        if isinstance(line, InvalidLine)
        else Example.of(line, where)
        for where, line in validate_lines(folder, files, TrainingLine)
    ]


def follow_documents(lines: Sequence[Example | DataIssue], paths: DocumentPaths) -> list[Example | DataIssue]:
    """The same lines; examples of a document that has moved name it by today's path."""
    return [
        replace(line, doc=paths.current(line.doc)) if isinstance(line, Example) and line.doc else line for line in lines
    ]


def validate_examples(
    lines: Sequence[Example | DataIssue], pages: Mapping[str, str], golden: Sequence[str], params: Params
) -> ValidatedExamples:
    """Separate the lines to train on from the others; each other line gets one issue, the first that applies:

    - overlong: the answer has so many words that its tokens exceed finetune.max_tokens in any case;
    - leak: the question repeats one of the `golden` questions (training/leakage.py);
    - stale: the answer states a number, a date or a version that does not occur on its page; or it is short, looks
      like a fact (a name, a number or a code), and none of its words occurs there, not even in another form;
    - contradiction: another line answers the same conversation differently. As it is unknown which answer is right,
      both are filtered, unless examples.contradictions is "keep", for questions with several right answers. Stale
      answers are not compared, since the page shows that they are wrong;
    - duplicate: an earlier line has the same conversation and answer.

    `pages` is document -> text. Validating the resulting examples again finds no further issue.
    """
    examples = [line for line in lines if isinstance(line, Example)]
    issues = {line.where: line for line in lines if isinstance(line, DataIssue)}
    issues |= {issue.where: issue for issue in _individual_issues(examples, pages, golden, params)}
    sound = [example for example in examples if example.where not in issues]
    orphans = tuple(example for example in sound if example.doc is not None and example.doc not in pages)
    candidates = [example for example in sound if example.doc is None or example.doc in pages]
    groups, keeps = _by_conversation(candidates), params.examples.contradictions == "keep"
    duplicates = {issue.where: issue for issue in _duplicates(groups)}
    advice = "both are trained on" if keeps else "keep one of them"
    contradictions = {issue.where: issue for issue in _contradictions(groups, advice)}
    issues |= duplicates if keeps else duplicates | contradictions
    valid = tuple(example for example in candidates if example.where not in issues)
    return ValidatedExamples(
        examples=valid,
        orphans=orphans,
        filtered=tuple(issues[line.where] for line in lines if line.where in issues),
        contradictory=tuple(contradictions[example.where] for example in valid if example.where in contradictions),
    )


def require_valid(issues: Sequence[DataIssue], params: Params) -> None:
    """Raise UserError if there are issues and examples.on_invalid is "refuse"."""
    if params.examples.on_invalid == "refuse" and issues:
        listed = "; ".join(f"{issue.where}: {issue.kind}: {issue.why}" for issue in issues[:MAX_LISTED_ISSUES])
        more = f"; and {len(issues) - MAX_LISTED_ISSUES} more" if len(issues) > MAX_LISTED_ISSUES else ""
        lines = f"{len(issues)} training lines are" if len(issues) > 1 else "1 training line is"
        how = "correct or delete the lines that `ragtide examples` lists, or set examples.on_invalid to skip"
        raise UserError(f"{lines} invalid ({listed}{more}): {how}")


# --- issues of examples --------------------------------------------------------------------------------------------


def _individual_issues(
    examples: Sequence[Example], pages: Mapping[str, str], golden: Sequence[str], params: Params
) -> Iterator[DataIssue]:
    """The issues of single examples: overlong, leak and stale."""
    leaks = find_leaks([example.question for example in examples], golden, params.examples.leak_similarity)
    docs = {example.doc for example in examples if example.doc in pages}
    numbers = {doc: NumberSet.of(pages[doc]) for doc in docs if doc}
    stems = {doc: _stems(pages[doc]) for doc in docs if doc}
    limit = params.finetune.max_tokens
    for example, leak in zip(examples, leaks, strict=True):
        doc = example.doc
        missing = numbers[doc].lack(example.completion, example.question) if doc in numbers else None
        if len(example.completion.split()) >= limit:
            yield example.issue(IssueKind.OVERLONG, f"the answer exceeds finetune.max_tokens = {limit} tokens")
        elif leak:
            yield example.issue(IssueKind.LEAK, f"repeats the golden question {_shorten(leak.golden)}")
        elif missing:
            yield example.issue(IssueKind.STALE, f"the answer states {missing}, which {doc} no longer contains")
        elif doc in stems and _is_foreign(example.completion, stems[doc]):
            yield example.issue(IssueKind.STALE, f"the answer stands nowhere in {doc}")


def _is_foreign(answer: str, page: Set[str]) -> bool:
    """Whether a short answer that looks like a fact has no word in common with a page, given by its stems."""
    if len(answer.split()) > SHORT_ANSWER or json_fields(answer) is not None or not _FACT.search(answer.strip()):
        return False
    stems = _stems(answer)
    return bool(stems) and not stems & page


def _stems(text: str) -> frozenset[str]:
    """The beginnings of the words of a text that are long enough to differ from others."""
    return frozenset(word.key[:STEM] for word in split_words(text) if len(word.key) >= STEM_WORD)


def _by_conversation(examples: Sequence[Example]) -> list[list[list[Example]]]:
    """The examples grouped by conversation, and within each by answer."""
    groups: dict[Conversation, dict[str, list[Example]]] = {}
    for example in examples:
        groups.setdefault(example.conversation, {}).setdefault(example.completion.strip(), []).append(example)
    return [list(answers.values()) for answers in groups.values()]


def _contradictions(groups: Sequence[Sequence[Sequence[Example]]], advice: str) -> Iterator[DataIssue]:
    for answers in groups:
        first, *others = answers
        for same_answer in answers if others else ():
            other = (others[0] if same_answer is first else first)[0]
            why = f"{other.where} gives another answer: {advice}"
            yield from (example.issue(IssueKind.CONTRADICTION, why) for example in same_answer)


def _duplicates(groups: Sequence[Sequence[Sequence[Example]]]) -> Iterator[DataIssue]:
    for first, *others in (same_answer for answers in groups for same_answer in answers):
        yield from (example.issue(IssueKind.DUPLICATE, f"repeats {first.where}") for example in others)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= MAX_SHOWN_LETTERS else f'"{line[:MAX_SHOWN_LETTERS]}…"'
