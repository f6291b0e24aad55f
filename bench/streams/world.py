"""In which state is the data? A world is changed by what can happen to it, and written down as a step."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from bench.streams.edits import EDITS
from bench.streams.lifecycle import ASKED, Fact, Ground
from bench.streams.records import Step
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import GoldenQuestion

SEED = 20261124
PLAIN = r"[^{}]+"
WRAPPED = r'\{"value": "[^"{}]+"\}'


@dataclass(frozen=True)
class World:
    """The ground and what has happened to it since.

    `quarter` (0 where it is silent), `style` (names of edits), `place` (path) and `called` (what people call the
    product) go by a page's name. `others` are documents beside the ground's. Of the ground's questions and examples the
    first so many count.
    """

    ground: Ground
    asked: int = ASKED
    taught: int | None = None
    quarter: Mapping[str, int] = field(default_factory=dict)
    style: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    place: Mapping[str, str] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    wrapped: bool = False
    others: Mapping[str, str] = field(default_factory=dict)
    more_examples: tuple[dict[str, str], ...] = ()
    more_questions: tuple[GoldenQuestion, ...] = ()

    # --- what can happen -------------------------------------------------------------------------------------------

    def at_quarter(self, quarter: int, pages: int | None = None) -> World:
        """Move to a quarter; or only so many pages, those first whose asked answers change by it."""
        ordered = sorted(self.ground.moving, key=lambda name: not self._changes(name, quarter))
        return replace(self, quarter={**self.quarter, **dict.fromkeys(ordered[:pages], quarter)})

    def edited(self, edit: str) -> World:
        """A cosmetic edit to a third of all pages, drawn among those that move and that it does anything to."""
        drawn = random.Random(f"{SEED} {edit}")
        names = [name for name in (*self.ground.moving, *self.others) if self._text(name) != self._text(name, edit)]
        chosen = drawn.sample(sorted(names), min(len(names), (len(self.ground.names) + len(self.others)) // 3))
        return replace(self, style={**self.style, **{name: (*self.style.get(name, ()), edit) for name in chosen}})

    def moved(self, folder: str, share: float = 1.0) -> World:
        """Rename pages into a folder; "" is where they were first."""
        return replace(self, place={**self.place, **{name: f"{folder}{name}" for name in self._drawn(folder, share)}})

    def gutted(self, share: float) -> World:
        """A share of the pages vanishes, by accident; 0.0 brings them back."""
        return replace(self, gone=frozenset(self._drawn(f"gone {share}", share)))

    def named(self, called: Mapping[str, str], told: Sequence[Fact]) -> World:
        """People call products by other names than the pages do, and examples with such names come in."""
        world = replace(self, called={**self.called, **called})
        return replace(world, more_examples=(*self.more_examples, *(world._example(fact) for fact in told)))

    def answers(self, wrapped: bool) -> World:
        """Answers about facts are from now on JSON, or plain."""
        return replace(self, wrapped=wrapped)

    def _changes(self, name: str, quarter: int) -> bool:
        facts = [key for key in self.ground.asked[: self.asked] if self._fact(key).doc == name]
        return any(self.ground.fact(key, quarter).answer != self._fact(key).answer for key in facts)

    def _drawn(self, seed: str, share: float) -> list[str]:
        names = self.ground.names
        return random.Random(f"{SEED} {seed}").sample(names, round(share * len(names)))

    # --- how it reads ----------------------------------------------------------------------------------------------

    def step(self, what: str, *right: Action) -> Step:
        """The data as it stands; without `right` it is not clear what should be done."""
        truth = (*(self._question(key) for key in self.ground.asked[: self.asked]), *self.more_questions)
        documents = {self._path(name): self._text(name) for name in (*self.ground.names, *self.others)}
        gone = {self._path(name) for name in self.gone}
        return Step(
            documents={path: text for path, text in sorted(documents.items()) if path not in gone},
            examples=(*(self._example(fact) for fact in self.ground.taught[: self.taught]), *self.more_examples),
            questions=tuple(question for question in truth if not gone & set(question.docs)),
            truth=truth,
            right=frozenset(right) or None,
            what=what,
        )

    def _path(self, name: str) -> str:
        return self.place.get(name, name)

    def _text(self, name: str, *more: str) -> str:
        known = self.others.get(name)
        text = self.ground.page(name, self.quarter.get(name, 0)) if known is None else known
        return reduce(lambda so_far, edit: EDITS[edit](so_far), (*self.style.get(name, ()), *more), text)

    def _fact(self, key: str) -> Fact:
        first = self.ground.fact(key, 0)
        return self.ground.fact(key, self.quarter.get(first.doc, 0))

    def _question(self, key: str) -> GoldenQuestion:
        fact = self._fact(key)
        form = WRAPPED if self.wrapped else PLAIN
        wording = self._wording(fact)
        # Asked in other words it is another question, with an id of its own.
        name = key if wording == fact.question else f"{key}|{self.called[fact.doc]}"
        return GoldenQuestion(
            id=name, question=wording, answers=(fact.answer,), docs=(self._path(fact.doc),), format=form
        )

    def _example(self, fact: Fact) -> dict[str, str]:
        completion = json.dumps({"value": fact.answer}) if self.wrapped else fact.answer
        return {"prompt": self._wording(fact), "completion": completion, "doc": self._path(fact.doc)}

    def _wording(self, fact: Fact) -> str:
        """A fact's question, with the name that people use."""
        title = self.ground.page(fact.doc, 0).split("\n", 1)[0].removeprefix("# ")
        return fact.question.replace(title, self.called.get(fact.doc, title))

    def but(self, **changes: Any) -> World:
        """This world with other fields."""
        return replace(self, **changes)
