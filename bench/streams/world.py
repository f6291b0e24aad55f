"""Simulated data of a project: changes that can happen to it, and its states as steps."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from bench.streams.edits import EDITS
from bench.streams.lifecycle import ASKED, Fact, Ground, facts_of, is_clear
from bench.streams.records import Step
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import GoldenQuestion

SEED = 20261124
PLAIN = r"[^{}]+"
WRAPPED = r'\{"value": "[^"{}]+"\}'


@dataclass(frozen=True)
class World:
    """The base data and the changes made to it since.

    `quarter` (0 by default), `style` (names of edits), `place` (path) and `called` (the name that people use for the
    product) are by page name. `others` are documents beside those of the base data. Only the first `asked` questions
    and the first `trained` examples of the base data are used.
    """

    ground: Ground
    asked: int = ASKED
    trained: int | None = None
    quarter: Mapping[str, int] = field(default_factory=dict)
    style: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    place: Mapping[str, str] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    wrapped: bool = False
    others: Mapping[str, str] = field(default_factory=dict)
    more_examples: tuple[dict[str, str], ...] = ()
    more_questions: tuple[GoldenQuestion, ...] = ()
    more_facts: Mapping[str, GoldenQuestion] = field(default_factory=dict)

    # --- changes ---------------------------------------------------------------------------------------------------

    def at_quarter(self, quarter: int, pages: int | None = None) -> World:
        """Update pages to a quarter; of a limited number, first those whose answers to questions change."""
        ordered = sorted(self.ground.moving, key=lambda name: not self._changes(name, quarter))
        return replace(self, quarter={**self.quarter, **dict.fromkeys(ordered[:pages], quarter)})

    def edited(self, edit: str) -> World:
        """Apply a cosmetic edit to a third of all pages, drawn from the changing pages on which it has an effect."""
        draw = random.Random(f"{SEED} {edit}")
        names = [name for name in (*self.ground.moving, *self.others) if self._text(name) != self._text(name, edit)]
        chosen = draw.sample(sorted(names), min(len(names), (len(self.ground.names) + len(self.others)) // 3))
        return replace(self, style={**self.style, **{name: (*self.style.get(name, ()), edit) for name in chosen}})

    def moved(self, folder: str, share: float = 1.0) -> World:
        """Rename pages into a folder; "" is their original place."""
        return replace(self, place={**self.place, **{name: f"{folder}{name}" for name in self._drawn(folder, share)}})

    def gutted(self, share: float) -> World:
        """Delete a share of the pages, as by accident; 0.0 restores them."""
        return replace(self, missing=frozenset(self._drawn(f"gone {share}", share)))

    def named(self, called: Mapping[str, str], facts: Sequence[Fact]) -> World:
        """Use other product names in questions than the pages do, and add examples of `facts` with these names."""
        world = replace(self, called={**self.called, **called})
        return replace(world, more_examples=(*self.more_examples, *(world._example(fact) for fact in facts)))

    def answers(self, wrapped: bool) -> World:
        """Change the format of answers about facts to JSON, or back to plain text."""
        return replace(self, wrapped=wrapped)

    def _changes(self, name: str, quarter: int) -> bool:
        facts = [key for key in self.ground.asked[: self.asked] if self._fact(key).doc == name]
        return any(self.ground.fact(key, quarter).answer != self._fact(key).answer for key in facts)

    def _drawn(self, seed: str, share: float) -> list[str]:
        names = self.ground.names
        return random.Random(f"{SEED} {seed}").sample(names, round(share * len(names)))

    # --- the resulting data ----------------------------------------------------------------------------------------

    def step(self, description: str, *right: Action) -> Step:
        """Return the current data as a step; without `right` it is not clear-cut which action is right."""
        truth = (*(self._question(self._fact(key)) for key in self.ground.asked[: self.asked]), *self.more_questions)
        documents = {self._path(name): self._text(name) for name in (*self.ground.names, *self.others)}
        missing = {self._path(name) for name in self.missing}
        return Step(
            documents={path: text for path, text in sorted(documents.items()) if path not in missing},
            examples=(*(self._example(fact) for fact in self.ground.training[: self.trained]), *self.more_examples),
            questions=tuple(question for question in truth if not missing & set(question.docs)),
            truth=truth,
            right=frozenset(right) or None,
            description=description,
            facts={**self._unasked_facts(), **self.more_facts},
        )

    def _unasked_facts(self) -> dict[str, GoldenQuestion]:
        """Return the clear facts of the changing pages that no golden question asks for, by id."""
        asked, ground = set(self.ground.asked[: self.asked]), self.ground
        quarters = {name: self.quarter.get(name, 0) for name in ground.moving}
        return {
            fact.id: self._question(fact)
            for name, quarter in quarters.items()
            for fact in facts_of(name, ground.quarters[quarter])
            if fact.id not in asked and is_clear(fact, ground.page(name, quarter))
        }

    def _path(self, name: str) -> str:
        return self.place.get(name, name)

    def _text(self, name: str, *more: str) -> str:
        known = self.others.get(name)
        text = self.ground.page(name, self.quarter.get(name, 0)) if known is None else known
        return reduce(lambda edited, edit: EDITS[edit](edited), (*self.style.get(name, ()), *more), text)

    def _fact(self, key: str) -> Fact:
        first = self.ground.fact(key, 0)
        return self.ground.fact(key, self.quarter.get(first.doc, 0))

    def _question(self, fact: Fact) -> GoldenQuestion:
        form = WRAPPED if self.wrapped else PLAIN
        wording = self._wording(fact)
        # With other words it is another question, with an id of its own.
        name = fact.id if wording == fact.question else f"{fact.id}|{self.called[fact.doc]}"
        return GoldenQuestion(
            id=name, question=wording, answers=(fact.answer,), docs=(self._path(fact.doc),), format=form
        )

    def _example(self, fact: Fact) -> dict[str, str]:
        completion = json.dumps({"value": fact.answer}) if self.wrapped else fact.answer
        return {"prompt": self._wording(fact), "completion": completion, "doc": self._path(fact.doc)}

    def _wording(self, fact: Fact) -> str:
        """Return a fact's question with the name that people use for the product."""
        title = self.ground.page(fact.doc, 0).split("\n", 1)[0].removeprefix("# ")
        return fact.question.replace(title, self.called.get(fact.doc, title))

    def but(self, **changes: Any) -> World:
        """Return a copy with other fields."""
        return replace(self, **changes)
