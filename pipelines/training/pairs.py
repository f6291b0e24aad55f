"""Training pairs for the embedder: headings with their sections, and questions with the passages that answer them."""

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

# Part of the tuning settings: change it when pairs are built differently, so that embedders tuned before count as old.
PAIRS_VERSION = "headings-and-questions"
# The markup of code and emphasis, which no query contains.
_MARKS = re.compile(r"[`*]+")
# Passages searched for each hard negative wanted.
CANDIDATES_PER_NEGATIVE = 10


@dataclass(frozen=True)
class TrainingPair:
    """A query, a passage that answers it, and hard negatives: similar passages that do not answer it.

    Other passages under `heading`, or of the whole document if it is None, may also answer the query.
    """

    query: str
    passage: str
    document: str
    heading: str | None
    negatives: tuple[str, ...] = ()


def build_pairs(
    by_document: Mapping[str, Sequence[Chunk]], examples: Iterable[Example], excluded: Collection[str] = ()
) -> list[TrainingPair]:
    """All training pairs, each query once, ordered by query whatever the order of pages and examples.

    `excluded` are the golden questions, which evaluate retrieval: no pair has one of them as its query or heading.
    A query with two different passages makes no pair.
    """
    excluded_words = {_normalized(query) for query in excluded}
    chunks = [chunk for chunks in by_document.values() for chunk in chunks if not chunk.is_overview]
    headings = [
        pair for pair in _heading_pairs(chunks) if _normalized(_last_part(pair.heading or "")) not in excluded_words
    ]
    candidates = [*headings, *_question_pairs(by_document, examples)]
    allowed = {pair for pair in candidates if _normalized(pair.query) not in excluded_words}
    unique: dict[tuple[str, str], TrainingPair] = {}
    for pair in sorted(allowed, key=lambda pair: (pair.query, pair.passage, pair.document, pair.heading or "")):
        unique.setdefault((_normalized(pair.query), pair.passage), pair)
    passage_counts = Counter(query for query, _ in unique)
    return [pair for (query, _), pair in unique.items() if passage_counts[query] == 1]


def draw_pairs(pairs: Sequence[TrainingPair], limit: int, seed: int) -> list[TrainingPair]:
    """A random sample of at most `limit` pairs, in random order."""
    return random.Random(seed).sample(pairs, min(limit, len(pairs)))


def add_hard_negatives(pairs: Sequence[TrainingPair], retriever: Retriever, negatives: int) -> list[TrainingPair]:
    """The pairs with up to `negatives` hard negatives each: the passages nearest to the query that do not answer it.

    Passages ranked above the positive are included. Excluding them, as is usual (NV-Retriever, Moreira et al. 2024,
    arXiv:2407.15831), would exclude the releases of a product that differ only in a number.
    """
    if negatives == 0:
        return list(pairs)
    ranked_passages = retriever.search(
        [pair.query for pair in pairs], CANDIDATES_PER_NEGATIVE * (1 + negatives), by="vector"
    )
    return [
        replace(pair, negatives=tuple(passage.text for passage in passages if not _answers(passage, pair))[:negatives])
        for pair, passages in zip(pairs, ranked_passages, strict=True)
    ]


def _answers(passage: Passage, pair: TrainingPair) -> bool:
    is_same_section = passage.document == pair.document and (
        passage.is_overview or pair.heading in (None, passage.heading)
    )
    return is_same_section or passage.text == pair.passage


def _heading_pairs(chunks: Iterable[Chunk]) -> list[TrainingPair]:
    """Pairs of a section's heading and its first chunk; headings without words or without text below make none."""
    first: dict[tuple[str, str], Chunk] = {}
    for chunk in sorted(chunks, key=lambda chunk: chunk.key):
        first.setdefault((chunk.document, chunk.heading), chunk)
    usable = [
        chunk for chunk in first.values() if chunk.text != chunk.heading and _normalized(_last_part(chunk.heading))
    ]
    return [TrainingPair(_heading_query(chunk.heading), chunk.text, chunk.document, chunk.heading) for chunk in usable]


def _heading_query(heading: str) -> str:
    """A query for a section: its heading with the page's title, since many headings are ambiguous without it."""
    title, last = _plain(heading.split(" > ", maxsplit=1)[0]), _plain(_last_part(heading))
    return last if last == title or last.endswith("?") else f"{last} ({title})"


def _question_pairs(by_document: Mapping[str, Sequence[Chunk]], examples: Iterable[Example]) -> list[TrainingPair]:
    """Pairs of an example's question and the chunk of its page with the largest word overlap, a heuristic."""
    pairs = []
    for example in examples:
        if example.doc is not None:
            chunk = best_chunk(f"{example.question} {example.completion}", by_document[example.doc])
            pairs.append(TrainingPair(example.question, chunk.text, chunk.document, heading=None))
    return pairs


def _last_part(heading: str) -> str:
    return heading.rsplit(" > ", maxsplit=1)[-1]


def _plain(heading: str) -> str:
    return _MARKS.sub("", _replace_roles(heading)).strip()


def _replace_roles(heading: str) -> str:
    """Replace reStructuredText roles, such as :class:`Name <target>`, by their names."""
    # Not by a pattern, which would try each colon of a long run of them.
    parts = heading.split("`")
    plain: list[str] = []
    at = 0
    while at < len(parts) - 2:
        start, name = _role_start(parts[at]), _role_name(parts[at + 1])
        if start is None or name is None:
            plain += [parts[at], "`"]
            at += 1
        else:
            plain += [parts[at][:start], name]
            at += 2
    return "".join(plain) + "`".join(parts[at:])


def _role_start(text: str) -> int | None:
    """Where the role begins that `text` ends with, such as :py:class: (its backtick not included); None without one."""
    run = len(text)
    while run and (text[run - 1].isalnum() or text[run - 1] in "_:+-"):
        run -= 1
    start = text.find(":", run)
    return start if text.endswith(":") and start < len(text) - 2 else None


def _role_name(content: str) -> str | None:
    """The name in a role's content, `Name`, `~Name` or `Name <target>`; None if it is not a role's content."""
    for text in dict.fromkeys((content.removeprefix("~"), content)):
        name, bracket, target = text.partition("<")
        if name and (not bracket or target.endswith(">")):
            return (name.rstrip() or name[0]) if bracket else name
    return None


def _normalized(text: str) -> str:
    """The words in lower case, so that two spellings of a question compare equal."""
    return " ".join(re.findall(r"\w+", _plain(text).lower()))
