"""Streams of made-up pages: single facts edited, a page a step, moved folders, and people who leave.

Each page states a few facts in sentences of one form, so that it is known at every step what users can be told.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, reduce

from bench.streams.edits import EDITS
from bench.streams.records import Step, Stream
from bench.streams.simulated import PARAMS, SIMULATED, UNKNOWN
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evaluation import GoldenQuestion

MADE_UP = ("needles", "drip", "moves", "people")
NOTHING, REFRESH = Action.NOTHING, Action.REFRESH
START, STILL = "the start", "nothing happens"
SEED = 20261130
SYLLABLES = ("ba", "de", "fo", "gu", "li", "mo", "ne", "pa", "ru", "so", "ti", "va")
FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Ines", "Jon")
FORMAT = r"\d+( \w+)?"
# Attribute -> unit of a product's facts, and of a person's.
PRODUCT = {"service interval": " days", "filter size": " mm", "operating weight": " kg"}
PERSON = {"room": "", "extension": "", "badge number": ""}
FOLDERS = ("pumps/", "valves/", "motors/", "gears/", "tanks/", "fans/")
# Number of edited facts at each step of "needles".
NEEDLES = (1, 2, 3, 1, 0, 2, 3, 1)
COSMETIC = ("headings in capitals", "paragraphs wrapped at 72", "more blank lines")
DRIPS = 9


@dataclass(frozen=True)
class Fact:
    """What can be asked about a page."""

    page: str
    attribute: str

    @property
    def id(self) -> str:
        return f"{self.page}|{self.attribute}"

    @property
    def question(self) -> str:
        return f"What is the {self.attribute} of {self.page}?"


@dataclass(frozen=True)
class Pages:
    """Made-up pages by name, and the changes made to them since.

    `units` are the attributes of each page with the units of their values. `edited` counts the edits of a fact; `place`
    is the folder of a page, `style` the cosmetic edits. Pages that are `gone` were deleted: nobody is told their facts.
    """

    names: tuple[str, ...]
    units: Mapping[str, str]
    asked: tuple[Fact, ...]
    taught: tuple[Fact, ...]
    place: Mapping[str, str] = field(default_factory=dict)
    edited: Mapping[Fact, int] = field(default_factory=dict)
    style: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gone: tuple[str, ...] = ()

    # --- changes ---------------------------------------------------------------------------------------------------

    def with_edits(self, facts: Iterable[Fact]) -> Pages:
        """Give facts new values."""
        return replace(self, edited={**self.edited, **{fact: self.edited.get(fact, 0) + 1 for fact in facts}})

    def restyled(self, names: Iterable[str], edit: str) -> Pages:
        """Edit pages without changing what they say."""
        return replace(self, style={**self.style, **{name: (*self.style.get(name, ()), edit) for name in names}})

    def moved(self, names: Iterable[str], folder: str) -> Pages:
        """Move pages to another folder."""
        return replace(self, place={**self.place, **dict.fromkeys(names, folder)})

    def without(self, names: Iterable[str]) -> Pages:
        """Delete pages; the lines of examples about them stay in their file."""
        return replace(self, gone=(*self.gone, *names))

    def joined(self, names: Sequence[str]) -> Pages:
        """Add pages, with an example about each."""
        taught = tuple(Fact(name, next(iter(self.units))) for name in names)
        return replace(self, names=(*self.names, *names), taught=(*self.taught, *taught))

    def inside(self, folder: str) -> list[str]:
        """Return the pages of a folder."""
        return [name for name in self.names if self.place.get(name, "") == folder]

    # --- the resulting data ----------------------------------------------------------------------------------------

    def step(self, description: str, *right: Action) -> Step:
        """Return the current data as a step; without `right` it is not clear-cut which action is right."""
        questions = tuple(self._question(fact) for fact in self.asked)
        asked, taught = set(self.asked), set(self.taught)
        facts = [Fact(name, attribute) for name in self.names for attribute in self.units]
        return Step(
            documents={self._path(name): self._text(name) for name in sorted(self.names) if name not in self.gone},
            examples=tuple(
                {"prompt": fact.question, "completion": self.value(fact), "doc": self._path(fact.page)}
                for fact in self.taught
            ),
            questions=questions,
            truth=questions,
            right=frozenset(right) or None,
            description=description,
            facts={fact.id: self._question(fact) for fact in facts if fact not in asked | taught},
        )

    def value(self, fact: Fact) -> str:
        """Return the value of a fact, another one after each edit."""
        return f"{_number(fact, self.edited.get(fact, 0))}{self.units[fact.attribute]}"

    def _question(self, fact: Fact) -> GoldenQuestion:
        if fact.page in self.gone:
            return GoldenQuestion(id=fact.id, question=fact.question, answers=(UNKNOWN,), docs=())
        answers, docs = (self.value(fact),), (self._path(fact.page),)
        return GoldenQuestion(id=fact.id, question=fact.question, answers=answers, docs=docs, format=FORMAT)

    def _path(self, name: str) -> str:
        return f"{self.place.get(name, '')}{name.lower().replace(' ', '-')}.md"

    def _text(self, name: str) -> str:
        stated = " ".join(f"The {key} of {name} is {self.value(Fact(name, key))}." for key in self.units)
        text = f"# {name}\n\n## Data of {name}\n\n{stated}\n\n## Notes on {name}\n\n{_notes(name)}\n"
        return reduce(lambda edited, edit: EDITS[edit](edited), self.style.get(name, ()), text)


@cache
def _number(fact: Fact, edits: int) -> int:
    """Return the number of a fact after so many edits: never the same twice."""
    return random.Random(f"{SEED} {fact.id}").sample(range(100, 1000), 1 + edits)[-1]


@cache
def _notes(name: str) -> str:
    """Return what a page says besides its facts: pages of a knowledge base are not alike."""
    draw = random.Random(f"{SEED} {name}")
    first, second = (" ".join(invented_words(draw, 12)) for _ in range(2))
    return f"{name} needs {first}. It lacks {second}."


def invented_words(draw: random.Random, count: int) -> list[str]:
    return ["".join(draw.choices(SYLLABLES, k=3)) for _ in range(count)]


def made_up_streams() -> list[Stream]:
    """Build the streams that need no data; the result is deterministic."""
    steps = {"needles": _needles(), "drip": _drip(), "moves": _moves(), "people": _people()}
    tune = ("needles", "people")
    return [
        Stream(name, made, "tune" if name in tune else "test", simulated=SIMULATED, params=PARAMS)
        for name, made in steps.items()
    ]


def products(count: int, asked: int = 40, taught: int = 48) -> Pages:
    """Return pages of products, with questions about some of them and an example about each of some others."""
    draw = random.Random(SEED)
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(draw.choices(SYLLABLES, k=4)).capitalize()] = None
    return with_questions(Pages(tuple(names), PRODUCT, (), ()), asked, taught)


def with_questions(pages: Pages, asked: int, taught: int) -> Pages:
    """Draw pages to ask about, and others with examples; each has one fact of an attribute in turn."""
    chosen = random.Random(f"{SEED} questions").sample(pages.names, asked + taught)
    attributes = tuple(pages.units)
    facts = tuple(Fact(name, attributes[number % len(attributes)]) for number, name in enumerate(chosen))
    return replace(pages, asked=facts[:asked], taught=facts[asked:])


def _unasked(pages: Pages, seed: str) -> list[str]:
    """Return the pages that neither a question nor an example is about, in random order."""
    used = {fact.page for fact in (*pages.asked, *pages.taught)}
    names = [name for name in pages.names if name not in used]
    random.Random(f"{SEED} {seed}").shuffle(names)
    return names


def _needles() -> tuple[Step, ...]:
    pages = products(600)
    names = _unasked(pages, "needles")
    steps = [pages.step(START)]
    for number, count in enumerate(NEEDLES):
        attribute = tuple(PRODUCT)[number % len(PRODUCT)]
        pages = pages.with_edits(Fact(names.pop(), attribute) for _ in range(count))
        text = f"one sentence is edited on {count} of 600 pages" if count else STILL
        steps.append(pages.step(text, REFRESH if count else NOTHING))
    return tuple(steps)


def _drip() -> tuple[Step, ...]:
    pages = products(2000)
    names = _unasked(pages, "drip")
    steps = [pages.step(START)]
    for number in range(DRIPS):
        name = names.pop()
        if number % 3 == 2:
            edit = COSMETIC[number // 3]
            pages = pages.restyled([name], edit)
            steps.append(pages.step(f"one of 2,000 pages is edited: {edit}", NOTHING))
        else:
            pages = pages.with_edits([Fact(name, tuple(PRODUCT)[number % len(PRODUCT)])])
            steps.append(pages.step("one sentence is edited on one of 2,000 pages", REFRESH))
    return tuple(steps)


def _moves() -> tuple[Step, ...]:
    start = products(120)
    for number, folder in enumerate(FOLDERS):
        start = start.moved(start.names[number :: len(FOLDERS)], folder)
    archived = start.moved(start.inside("pumps/"), "archive/pumps/")
    revised = _revised(archived, "valves/", "revised/valves/")
    styled = revised.moved(revised.inside("motors/"), "drives/motors/")
    styled = styled.restyled(styled.inside("drives/motors/"), "headings in capitals")
    again = _revised(styled, "revised/valves/", "parts/valves/")
    whole = again.moved(again.inside("gears/"), "drives/gears/").moved(again.inside("tanks/"), "stores/tanks/")
    needle = whole.with_edits([Fact(_unasked(whole, "moves")[0], "filter size")])
    return (
        start.step(START),
        archived.step("a folder moves", NOTHING),
        archived.step(STILL, NOTHING),
        revised.step("a folder moves, and a sentence changes on each of its pages", REFRESH),
        revised.step(STILL, NOTHING),
        styled.step("a folder moves, and its headings are in capitals", NOTHING),
        again.step("the revised folder moves again, and a sentence changes on each of its pages", REFRESH),
        whole.step("two folders move", NOTHING),
        needle.step("one sentence is edited", REFRESH),
    )


def _revised(pages: Pages, folder: str, place: str) -> Pages:
    """Move a folder and change one fact on each of its pages, none that an example is about."""
    names, taught = pages.inside(folder), set(pages.taught)
    candidates = {name: [Fact(name, key) for key in pages.units if Fact(name, key) not in taught] for name in names}
    return pages.with_edits(facts[-1] for facts in candidates.values()).moved(names, place)


def _people() -> tuple[Step, ...]:
    draw = random.Random(f"{SEED} people")
    surnames = dict.fromkeys("".join(draw.choices(SYLLABLES, k=3)).capitalize() for _ in range(300))
    names = [f"{FIRST_NAMES[number % len(FIRST_NAMES)]} {surname}" for number, surname in enumerate(surnames)]
    pages = with_questions(Pages(tuple(names[:90]), PERSON, (), ()), asked=40, taught=40)
    new, leaving = names[90:], [fact.page for fact in pages.taught]
    steps = [pages.step(START)]
    # How many people leave and join at each step; an example about each who joins is added.
    for left, joined in ((2, 0), (3, 0), (0, 0), (2, 2), (3, 0), (2, 1), (0, 0), (3, 0)):
        pages = pages.without(leaving[:left]).joined(new[:joined])
        leaving, new = leaving[left:], new[joined:]
        text = f"{left} people leave whom examples are about" + (f", {joined} join" if joined else "")
        steps.append(pages.step(text if left else STILL, REFRESH if left else NOTHING))
    return tuple(steps)
