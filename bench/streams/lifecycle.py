"""Which pages and facts do the streams speak of? A small, fixed part of eight real quarters of software support.

24 pages move with the quarters and are asked about; 12 others are frozen at their first quarter and taught from, so
that the examples stay true. Half of the facts that are asked change over the quarters, half do not.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

from ragtide.pipelines.data.text import holds_answer

QUARTERS = range(20, 28)
MOVING, FROZEN = 24, 12
ASKED, TAUGHT_A_PAGE = 40, 4
MOST_BYTES, MOST_SECTIONS, LONGEST_ANSWER = 6000, 8, 20
# A fact that is called changing has another answer after at least so many of the seven moves.
FEWEST_CHANGES = 3
SEED = 20261124


@dataclass(frozen=True)
class Fact:
    """The answer stands verbatim in the page `doc`."""

    id: str
    question: str
    answer: str
    doc: str


@dataclass(frozen=True)
class Quarter:
    """Trimmed pages by name, and facts by id."""

    pages: Mapping[str, str]
    facts: Mapping[str, Fact]


@dataclass(frozen=True)
class Ground:
    """What all streams are made of. `asked` are ids of facts, changing and unchanging by turns; `taught` are facts."""

    quarters: tuple[Quarter, ...]
    moving: tuple[str, ...]
    frozen: tuple[str, ...]
    asked: tuple[str, ...]
    taught: tuple[Fact, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.moving, *self.frozen)

    def page(self, name: str, quarter: int) -> str:
        """The page at a quarter, counted from 0."""
        return self.quarters[quarter].pages[name]

    def fact(self, key: str, quarter: int) -> Fact:
        return self.quarters[quarter].facts[key]


def read_ground(folder: Path) -> Ground:
    """Choose from `folder`, which holds snapshot_NN/kb/*.md and snapshot_NN/facts.jsonl."""
    return choose(tuple(_read_quarter(folder / f"snapshot_{number}") for number in QUARTERS))


def _read_quarter(folder: Path) -> Quarter:
    pages = {path.name: path.read_text(encoding="utf-8") for path in sorted((folder / "kb").glob("*.md"))}
    lines = (folder / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    facts = [Fact(**json.loads(line)) for line in lines]
    return Quarter(
        {name: trim(text) for name, text in pages.items() if len(text.encode()) <= MOST_BYTES},
        {fact.id: fact for fact in facts},
    )


def sections(page: str) -> list[str]:
    """What stands before the first `##`, and what stands from each `##` to the next."""
    return re.split(r"(?m)^(?=## )", page)


def trim(page: str) -> str:
    """A page without the sections after its eighth: the newest releases stand first."""
    return "".join(sections(page)[: 1 + MOST_SECTIONS]).rstrip("\n") + "\n"


def is_clear(fact: Fact, page: str) -> bool:
    """Whether a fact has a short answer that stands in one section alone, the one that its question names."""
    if (
        len(fact.answer) > LONGEST_ANSWER
        or not re.search(r"\d", fact.answer)
        or holds_answer(fact.question, [fact.answer])
    ):
        return False
    found = [section for section in sections(page) if holds_answer(section, [fact.answer])]
    if len(found) != 1:
        return False
    heading = found[0].split("\n")[0].removeprefix("## ")
    return fact.id.endswith("|newest") or holds_answer(fact.question, [heading])


def choose(quarters: tuple[Quarter, ...]) -> Ground:
    """A fixed draw of pages and facts; the pages hold no code, which a re-wrap would have to know of."""
    draw = random.Random(SEED)
    names = sorted(set.intersection(*(set(quarter.pages) for quarter in quarters)))
    names = [name for name in names if not any("```" in quarter.pages[name] for quarter in quarters)]
    draw.shuffle(names)
    by_page = {name: facts_of(name, quarters[0]) for name in names}
    moving: dict[str, tuple[str, str]] = {}
    while len(moving) < MOVING:
        name = names.pop(0)
        changing, unchanging = split(by_page[name], quarters)
        if changing and unchanging:
            moving[name] = (draw.choice(changing), draw.choice(unchanging))
    frozen = {name: clear for name in names if len(clear := _clear(by_page[name], quarters[0])) >= TAUGHT_A_PAGE}
    taught_pages = tuple(frozen)[:FROZEN]
    taught = chain.from_iterable(draw.sample(frozen[name], TAUGHT_A_PAGE) for name in taught_pages)
    asked = _asked(list(moving.values()))
    return Ground(quarters, tuple(sorted(moving)), tuple(sorted(taught_pages)), asked, tuple(taught))


def facts_of(name: str, quarter: Quarter) -> list[Fact]:
    return sorted((fact for fact in quarter.facts.values() if fact.doc == name), key=lambda fact: fact.id)


def _clear(facts: Sequence[Fact], quarter: Quarter) -> list[Fact]:
    return [fact for fact in facts if is_clear(fact, quarter.pages[fact.doc])]


def _asked(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """By turns changing facts, of all pages but the last, and unchanging ones, of all but the first."""
    half = ASKED // 2
    changing, unchanging = [pair[0] for pair in pairs[:half]], [pair[1] for pair in pairs[-half:]]
    return tuple(chain.from_iterable(zip(changing, unchanging, strict=True)))


def split(facts: Sequence[Fact], quarters: Sequence[Quarter]) -> tuple[list[str], list[str]]:
    """The ids of those that change often and of those that never do, of facts that are clear in every quarter.

    An answer that has changed must not stand in the page any more, or a stale index could not be told by it.
    """
    changing, unchanging = [], []
    for first in facts:
        states = [quarter.facts.get(first.id) for quarter in quarters]
        history = [state for state in states if state is not None]
        if len(history) < len(quarters) or {state.question for state in history} != {first.question}:
            continue
        if not all(is_clear(state, quarter.pages[state.doc]) for state, quarter in zip(history, quarters, strict=True)):
            continue
        moves = [old.answer for old, new in pairwise(history) if old.answer != new.answer]
        if not moves:
            unchanging.append(first.id)
        elif len(moves) >= FEWEST_CHANGES and _leave_no_trace(history, quarters):
            changing.append(first.id)
    return changing, unchanging


def _leave_no_trace(history: Sequence[Fact], quarters: Sequence[Quarter]) -> bool:
    """Whether none of the earlier answers stands in a later quarter's page."""
    return not any(
        holds_answer(quarter.pages[now.doc], [past.answer for past in history[:place] if past.answer != now.answer])
        for place, (now, quarter) in enumerate(zip(history, quarters, strict=True))
    )
