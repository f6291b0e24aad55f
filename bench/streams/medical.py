"""Which pages of another domain join? Real passages about inherited diseases, with short facts that can be checked."""

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
    """A small page, and a fact that stands in it."""

    path: str
    text: str
    question: str
    answer: str


def read_passages(folder: Path) -> tuple[Passage, ...]:
    """Fifty pages of different diseases, by turns about a gene and about inheritance."""
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    random.Random(SEED).shuffle(rows)
    genes, patterns = list(_passages(rows, _gene)), list(_passages(rows, _pattern))
    found: dict[str, Passage] = {}
    for pair in zip(genes, patterns, strict=False):
        for passage in pair:
            found.setdefault(passage.path, passage)
    return tuple(found.values())[:PAGES]


def _passages(
    rows: list[dict[str, str]], fact: Callable[[Mapping[str, str]], tuple[str, str] | None]
) -> Iterator[Passage]:
    for row in rows:
        known = fact(row) if row["title"] and len(row["text"]) <= MOST_CHARACTERS else None
        if known and not holds_answer(known[0], [known[1]]):
            name = re.sub(r"\W+", "-", row["title"].lower()).strip("-")
            yield Passage(f"medical/{name}.md", f"# {row['title']}\n\n{row['text']}\n", *known)


def _gene(row: Mapping[str, str]) -> tuple[str, str] | None:
    """The only gene that the passage calls mutated."""
    genes = set(GENE.findall(row["text"]))
    return (f"Which gene is mutated in {row['title']}?", genes.pop()) if len(genes) == 1 else None


def _pattern(row: Mapping[str, str]) -> tuple[str, str] | None:
    """The only way of inheritance that the passage speaks of."""
    said, ways = PATTERN.findall(row["text"]), {way.lower() for way in INHERITED.findall(row["text"])}
    if len(ways) != 1 or not said or said[0].lower() not in ways:
        return None
    return f"How is {row['title']} inherited?", said[0]
