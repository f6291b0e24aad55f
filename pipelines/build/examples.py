"""What does the model learn from? Training examples, checked line by line, with contexts as retrieval returns them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.build.prompts import conversation_prompt
from pipelines.build.search import Reader
from pipelines.errors import RefusalError
from pipelines.observe.jsonl import read_lines
from pipelines.ports import Lesson, Message
from pipelines.records import Chunk, digest_of

# Raised when lessons are made in another way, so that an adapter of the old ones is not taken for one of the new.
LESSONS = "passages-for-all"
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


def lessons(
    examples: Sequence[Example], by_document: Mapping[str, Sequence[Chunk]], reader: Reader, top_k: int, seed: int
) -> list[Lesson]:
    """Examples with what retrieval really returns for them, and the right chunk always among it.

    So the model learns to find the answer among near misses (RAFT, Zhang et al. 2024, arXiv:2403.10131). An example
    without `doc` is about behaviour alone: it has no right chunk, but passages before it, as it will have when it is
    asked. A `doc` is a key of `by_document`.
    """
    found = reader.search([example.question for example in examples], top_k)
    shuffle = random.Random(seed)
    return [
        _lesson(example, [hit.text for hit in hits], by_document, top_k, shuffle)
        for example, hits in zip(examples, found, strict=True)
    ]


def _lesson(
    example: Example, found: list[str], by_document: Mapping[str, Sequence[Chunk]], top_k: int, shuffle: random.Random
) -> Lesson:
    contexts = list(found)
    if example.doc is not None:
        right = best_chunk(f"{example.question} {example.completion}", by_document[example.doc]).text
        if right not in contexts:
            # The worst distractor makes room, and the right chunk stands anywhere: its place must not give it away.
            contexts = contexts[: top_k - 1]
            contexts.insert(shuffle.randint(0, len(contexts)), right)
    return Lesson(prompt=conversation_prompt(example.turns, contexts), completion=example.completion)


def best_chunk(text: str, chunks: Sequence[Chunk]) -> Chunk:
    """The chunk that shares the most distinct words with `text`; of equals the first."""
    words = _words(text)
    return max(chunks, key=lambda chunk: (len(words & _words(chunk.text)), -chunk.position))


def _words(text: str) -> set[str]:
    return {word.strip(".").lower() for word in re.findall(r"[\w.\-]+", text)} - {""}
