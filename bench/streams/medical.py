"""Pages of another domain: real passages about inherited diseases, with short facts that can be checked."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ragtide.pipelines.data.text import holds_answer

GENE = re.compile(r"\bmutations? in the ([A-Z][A-Z0-9]{2,9}) gene", re.IGNORECASE)
INHERITED = re.compile(r"\b(autosomal recessive|autosomal dominant|X-linked recessive|X-linked dominant)\b", re.I)
PATTERN = re.compile(r"\binherited in an? ([\w\-]+ \w+) (?:pattern|manner)")
MOST_CHARACTERS = 1500
PAGES = 50
SEED = 20261124


@dataclass(frozen=True)
class Passage:
    """A small page with a question about it."""

    path: str
    text: str
    question: str
    answer: str


def read_passages(folder: Path) -> tuple[Passage, ...]:
    """Read fifty pages of different diseases, alternating between questions about genes and about inheritance."""
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    random.Random(SEED).shuffle(rows)
    genes, patterns = list(_passages(rows, _gene)), list(_passages(rows, _pattern))
    passages: dict[str, Passage] = {}
    for pair in zip(genes, patterns, strict=False):
        for passage in pair:
            passages.setdefault(passage.path, passage)
    return tuple(passages.values())[:PAGES]


def _passages(
    rows: list[dict[str, str]], fact: Callable[[Mapping[str, str]], tuple[str, str] | None]
) -> Iterator[Passage]:
    for row in rows:
        pair = fact(row) if row["title"] and len(row["text"]) <= MOST_CHARACTERS else None
        if pair and not holds_answer(pair[0], [pair[1]]):
            name = re.sub(r"\W+", "-", row["title"].lower()).strip("-")
            yield Passage(f"medical/{name}.md", f"# {row['title']}\n\n{row['text']}\n", *pair)


def _gene(row: Mapping[str, str]) -> tuple[str, str] | None:
    """Return question and answer about the gene, if the passage names exactly one mutated gene."""
    genes = set(GENE.findall(row["text"]))
    return (f"Which gene is mutated in {row['title']}?", genes.pop()) if len(genes) == 1 else None


def _pattern(row: Mapping[str, str]) -> tuple[str, str] | None:
    """Return question and answer about the inheritance, if the passage names exactly one pattern."""
    stated, patterns = PATTERN.findall(row["text"]), {pattern.lower() for pattern in INHERITED.findall(row["text"])}
    if len(patterns) != 1 or not stated or stated[0].lower() not in patterns:
        return None
    return f"How is {row['title']} inherited?", stated[0]
