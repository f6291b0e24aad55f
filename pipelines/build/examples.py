"""What does the model learn from? Training examples, checked line by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.errors import RefusalError
from pipelines.observe.jsonl import read_lines
from pipelines.ports import Message
from pipelines.records import digest_of

Text = Annotated[str, Field(min_length=1)]


class Turn(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Literal["system", "user", "assistant"]
    content: Text


class Line(BaseModel):
    """A line of a training file: prompt and completion, or messages; `doc` names the page that holds the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str | None = None
    prompt: Text | None = None
    completion: Text | None = None
    messages: tuple[Turn, ...] = ()
    doc: str | None = None


@dataclass(frozen=True)
class Example:
    """A conversation up to the user's last turn, the answer to it, and the page that holds the answer, if any."""

    turns: tuple[Message, ...]
    completion: str
    doc: str | None

    @property
    def question(self) -> str:
        return self.turns[-1].content

    @property
    def digest(self) -> str:
        """Twelve hex digits: the same conversation and answer have the same, wherever they and their page stand."""
        return digest_of([[[turn.role, turn.content] for turn in self.turns], self.completion])


def read_examples(folder: Path, files: Mapping[str, str]) -> list[Example]:
    """The training examples of `files` (path below `folder` -> MD5), in order of file and line.

    Raises RefusalError at the first bad line.
    """
    return [_example(where, line) for where, line in read_lines(folder, files, Line)]


def _example(where: str, line: Line) -> Example:
    if line.messages and not (line.prompt or line.completion):
        *turns, last = line.messages
        if last.role != "assistant" or not turns or turns[-1].role != "user":
            raise RefusalError(f"{where}: messages should end with a user's turn and the assistant's answer to it")
        return Example(tuple(Message(turn.role, turn.content) for turn in turns), last.content, line.doc)
    if line.prompt and line.completion and not line.messages:
        return Example((Message("user", line.prompt),), line.completion, line.doc)
    raise RefusalError(f"{where}: should hold prompt and completion, or messages")
