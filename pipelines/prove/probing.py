"""Does an index still tell what is no longer so? Asked with probes and canaries; no model is run."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

from pipelines.build.search import Passage
from pipelines.observe.probes import MASK, Canary, Probe, plain, plain_path, tells
from pipelines.observe.values import holds
from pipelines.params import ScoreParams
from pipelines.prove.score import measure
from pipelines.records import Measure

LIMIT = 200
# Words on each side of a value that must stand around it: a sentence that is cut further off is still found.
AROUND = 8
Asked = TypeVar("Asked", Probe, Canary)


class Searcher(Protocol):
    """What is asked here of a version of the index."""

    def search(self, questions: Sequence[str], top_k: int) -> list[list[Passage]]:
        """For each question its `top_k` passages, best first."""
        ...


class Found(StrEnum):
    """What the passages that a probe found say in its place: the new value, the old one alone, or neither."""

    NEW = "new"
    OLD = "old"
    NEITHER = "neither"


def ask_probes(probes: Sequence[Probe], reader: Searcher, top_k: int, limit: int = LIMIT) -> list[Found]:
    """What the index says where each probe asks; of more than `limit` probes, as many evenly spaced ones.

    A passage counts when it is from the probe's place (its heading, in its document) and the value stands in it
    between the words that stand around it in the probe; a sentence of several words needs no place.
    """
    asked = _spread(probes, limit)
    answers = reader.search([probe.question for probe in asked], top_k) if asked else []
    return [_found(probe, passages) for probe, passages in zip(asked, answers, strict=True)]


def stale_answers(probes: Sequence[Probe], reader: Searcher, top_k: int, params: ScoreParams) -> Measure:
    """The share of probes, at most LIMIT of them, that find the old value alone; unmeasured without probes."""
    if not probes:
        return Measure.unmeasured("no fact was edited")
    return measure([float(found is Found.OLD) for found in ask_probes(probes, reader, top_k)], params)


def come_back(canaries: Sequence[Canary], reader: Searcher, top_k: int, params: ScoreParams) -> Measure:
    """The share of canaries, at most LIMIT of them, whose sentence is still found; unmeasured without canaries."""
    if not canaries:
        return Measure.unmeasured("no sentence was removed")
    asked = _spread(canaries, LIMIT)
    answers = reader.search([canary.question for canary in asked], top_k)
    back = [_comes_back(canary, passages) for canary, passages in zip(asked, answers, strict=True)]
    return measure([float(one) for one in back], params)


def _spread(asked: Sequence[Asked], limit: int) -> list[Asked]:
    """At most `limit`, evenly spaced: the same ones every time."""
    count = min(len(asked), limit)
    return [asked[at * len(asked) // count] for at in range(count)]


def _found(probe: Probe, passages: Sequence[Passage]) -> Found:
    left, _, right = probe.question.rpartition("\n")[2].partition(MASK)
    before, behind = plain(left).split()[-AROUND:], plain(right).split()[:AROUND]
    texts = [plain(one.text) for one in passages if tells([*before, *behind]) or _is_its_place(probe, one)]
    for value, found in ((probe.new, Found.NEW), (probe.old, Found.OLD)):
        sentence = " ".join([*before, plain(value), *behind])
        if any(holds(text, [sentence]) for text in texts):
            return found
    return Found.NEITHER


def _comes_back(canary: Canary, passages: Sequence[Passage]) -> bool:
    gone = plain(canary.gone)
    near = [one for one in passages if tells(gone.split()) or _is_its_place(canary, one)]
    return any(holds(plain(one.text), [gone]) for one in near)


def _is_its_place(asked: Probe | Canary, passage: Passage) -> bool:
    """The same last heading in the same document; in another one, which may be its new name, the same whole path."""
    here, there = plain_path(asked.question.rpartition("\n")[0]), plain_path(passage.heading)
    if passage.document == asked.document:
        return here[-1:] == there[-1:]
    return len(here) > 1 and here == there
