"""Base data of the streams: a small, fixed part of eight real quarters of software support pages.

24 pages change with the quarters and have golden questions; 12 others are frozen at their first quarter and have
training examples, so that these stay true. Half of the facts asked for change over the quarters, half do not.
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
ASKED, EXAMPLES_PER_PAGE = 40, 4
MOST_BYTES, MOST_SECTIONS, LONGEST_ANSWER = 6000, 8, 20
# A fact counts as changing if its answer changes in at least so many of the seven updates.
FEWEST_CHANGES = 3
SEED = 20261124


@dataclass(frozen=True)
class Fact:
    """A question about the page `doc`, which contains the answer verbatim."""

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
    """The base data of all streams.

    `asked` are the ids of the facts for golden questions, alternately changing and unchanging; `training` are the facts
    for examples.
    """

    quarters: tuple[Quarter, ...]
    moving: tuple[str, ...]
    frozen: tuple[str, ...]
    asked: tuple[str, ...]
    training: tuple[Fact, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.moving, *self.frozen)

    def page(self, name: str, quarter: int) -> str:
        """Return the page at a quarter, counted from 0."""
        return self.quarters[quarter].pages[name]

    def fact(self, key: str, quarter: int) -> Fact:
        return self.quarters[quarter].facts[key]


def read_ground(folder: Path) -> Ground:
    """Choose the base data from `folder`, which holds snapshot_NN/kb/*.md and snapshot_NN/facts.jsonl."""
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
    """Split a page before each `##` heading."""
    return re.split(r"(?m)^(?=## )", page)


def trim(page: str) -> str:
    """Return a page without the sections after its eighth; the newest releases come first."""
    return "".join(sections(page)[: 1 + MOST_SECTIONS]).rstrip("\n") + "\n"


def is_clear(fact: Fact, page: str) -> bool:
    """Return whether a fact has a short answer that occurs in one section only, the one that its question names."""
    if (
        len(fact.answer) > LONGEST_ANSWER
        or not re.search(r"\d", fact.answer)
        or holds_answer(fact.question, [fact.answer])
    ):
        return False
    matching = [section for section in sections(page) if holds_answer(section, [fact.answer])]
    if len(matching) != 1:
        return False
    heading = matching[0].split("\n")[0].removeprefix("## ")
    return fact.id.endswith("|newest") or holds_answer(fact.question, [heading])


def choose(quarters: tuple[Quarter, ...]) -> Ground:
    """Draw pages and facts with a fixed seed; pages with code blocks are excluded, since re-wrapping breaks them."""
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
    frozen = {name: clear for name in names if len(clear := _clear(by_page[name], quarters[0])) >= EXAMPLES_PER_PAGE}
    training_pages = tuple(frozen)[:FROZEN]
    training = chain.from_iterable(draw.sample(frozen[name], EXAMPLES_PER_PAGE) for name in training_pages)
    asked = _asked(list(moving.values()))
    return Ground(quarters, tuple(sorted(moving)), tuple(sorted(training_pages)), asked, tuple(training))


def facts_of(name: str, quarter: Quarter) -> list[Fact]:
    return sorted((fact for fact in quarter.facts.values() if fact.doc == name), key=lambda fact: fact.id)


def _clear(facts: Sequence[Fact], quarter: Quarter) -> list[Fact]:
    return [fact for fact in facts if is_clear(fact, quarter.pages[fact.doc])]


def _asked(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Alternate changing facts, of all pages but the last, and unchanging ones, of all but the first."""
    half = ASKED // 2
    changing, unchanging = [pair[0] for pair in pairs[:half]], [pair[1] for pair in pairs[-half:]]
    return tuple(chain.from_iterable(zip(changing, unchanging, strict=True)))


def split(facts: Sequence[Fact], quarters: Sequence[Quarter]) -> tuple[list[str], list[str]]:
    """Return the ids of facts that change often, and of those that never change; all are clear in every quarter.

    A former answer must not occur in the page any more; otherwise a stale index could not be recognised by it.
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
    """Return whether none of the earlier answers occurs in a later quarter's page."""
    return not any(
        holds_answer(quarter.pages[now.doc], [past.answer for past in history[:place] if past.answer != now.answer])
        for place, (now, quarter) in enumerate(zip(history, quarters, strict=True))
    )
