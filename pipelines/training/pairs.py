"""What can the retriever learn from? A heading and what stands under it, a question and the passage that answers it."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ragtide.pipelines.index.search import Passage, Retriever
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.samples import best_chunk

# Raised when pairs are made in another way, so that a retriever taught by the old ones is not taken for one of the new.
PAIRS = "headings-and-questions"
# reStructuredText roles (:class:`Name <target>`), and the marks of code and emphasis: nobody asks with them.
_ROLE = re.compile(r":[\w:+-]+:`~?([^`<]+?)(?:\s*<[^`]*>)?`")
_MARKS = re.compile(r"[`*]+")
# Passages that are looked at for each negative that is wanted.
LOOKED_AT = 10


@dataclass(frozen=True)
class TrainingPair:
    """A query, a passage that answers it, and passages that are near it and do not.

    What else may answer it: the section of that `heading`, or where it is None any passage of the document.
    """

    query: str
    passage: str
    document: str
    heading: str | None
    negatives: tuple[str, ...] = ()


def build_pairs(
    by_document: Mapping[str, Sequence[Chunk]], examples: Iterable[Example], but_not: Collection[str] = ()
) -> list[TrainingPair]:
    """Every pair there is, each query once, ordered by query: the same whatever the order of pages and examples.

    `but_not` are queries that test the retriever (golden questions): no pair asks one of them, nor has one of them as
    its heading. A query with two answers teaches neither.
    """
    tested = {_bare(query) for query in but_not}
    chunks = [chunk for chunks in by_document.values() for chunk in chunks]
    headings = [pair for pair in _heading_pairs(chunks) if _bare(_last(pair.heading or "")) not in tested]
    made = {pair for pair in [*headings, *_question_pairs(by_document, examples)] if _bare(pair.query) not in tested}
    once: dict[tuple[str, str], TrainingPair] = {}
    for pair in sorted(made, key=lambda pair: (pair.query, pair.passage, pair.document, pair.heading or "")):
        once.setdefault((_bare(pair.query), pair.passage), pair)
    answers = Counter(query for query, _ in once)
    return [pair for (query, _), pair in once.items() if answers[query] == 1]


def draw_pairs(pairs: Sequence[TrainingPair], most: int, seed: int) -> list[TrainingPair]:
    """At most `most` of `pairs`, in random order."""
    return random.Random(seed).sample(pairs, min(most, len(pairs)))


def add_hard_negatives(pairs: Sequence[TrainingPair], reader: Retriever, negatives: int) -> list[TrainingPair]:
    """Pairs with the passages that the live retriever takes for the nearest and that do not answer, best first.

    Those that it takes for nearer than the right one are among them: leaving them out, as is usual (NV-Retriever,
    Moreira et al. 2024, arXiv:2407.15831), would leave out the releases of a product that differ in a number alone.
    """
    if negatives == 0:
        return list(pairs)
    passages = reader.search([pair.query for pair in pairs], LOOKED_AT * (1 + negatives), by="vector")
    return [
        replace(pair, negatives=tuple(one.text for one in some if not _answers(one, pair))[:negatives])
        for pair, some in zip(pairs, passages, strict=True)
    ]


def _answers(passage: Passage, pair: TrainingPair) -> bool:
    same = passage.document == pair.document and pair.heading in (None, passage.heading)
    return same or passage.text == pair.passage


def _heading_pairs(chunks: Iterable[Chunk]) -> list[TrainingPair]:
    """A section's heading and its first chunk; a heading without a word, or with nothing below it, makes none."""
    first: dict[tuple[str, str], Chunk] = {}
    for chunk in sorted(chunks, key=lambda chunk: chunk.key):
        first.setdefault((chunk.document, chunk.heading), chunk)
    told = [chunk for chunk in first.values() if chunk.text != chunk.heading and _bare(_last(chunk.heading))]
    return [TrainingPair(_query(chunk.heading), chunk.text, chunk.document, chunk.heading) for chunk in told]


def _query(heading: str) -> str:
    """What somebody would ask who looks for that section: its heading, and the page's title, without which many a
    heading says nothing."""
    title, last = _plain(heading.split(" > ", maxsplit=1)[0]), _plain(_last(heading))
    return last if last == title or last.endswith("?") else f"{last} ({title})"


def _question_pairs(by_document: Mapping[str, Sequence[Chunk]], examples: Iterable[Example]) -> list[TrainingPair]:
    """An example's question and the chunk of its page that shares most words with question and answer: a guess."""
    pairs = []
    for example in examples:
        if example.doc is not None:
            chunk = best_chunk(f"{example.question} {example.completion}", by_document[example.doc])
            pairs.append(TrainingPair(example.question, chunk.text, chunk.document, heading=None))
    return pairs


def _last(heading: str) -> str:
    return heading.rsplit(" > ", maxsplit=1)[-1]


def _plain(heading: str) -> str:
    return _MARKS.sub("", _ROLE.sub(r"\1", heading)).strip()


def _bare(text: str) -> str:
    """A text's words alone, so that two spellings of one question count as one."""
    return " ".join(re.findall(r"\w+", _plain(text).lower()))
