"""What does an example look like to the model? With passages before it, as retrieval returns them when it is asked."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from pipelines.build.examples import Example
from pipelines.build.prompts import conversation_prompt
from pipelines.build.search import Reader
from pipelines.ports import Lesson
from pipelines.records import Chunk

# Raised when lessons are made in another way, so that an adapter of the old ones is not taken for one of the new.
LESSONS = "passages-for-all"


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
