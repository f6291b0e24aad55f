"""Does an index still tell what is no longer so? Asked with probes and canaries; no model is run."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

from ragtide.pipelines.data.text import holds_answer
from ragtide.pipelines.evidence.text_changes import (
    MASK,
    DeletionCheck,
    FactCheck,
    is_self_explanatory,
    plain_heading_path,
    plain_text,
)
from ragtide.pipelines.index.search import Passage
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import measure_mean

LIMIT = 200
# Words on each side of a value that must stand around it: a sentence that is cut further off is still found.
AROUND = 8
Asked = TypeVar("Asked", FactCheck, DeletionCheck)


class Searcher(Protocol):
    """What is asked here of a version of the index."""

    def search(self, questions: Sequence[str], top_k: int) -> list[list[Passage]]:
        """For each question its `top_k` passages, best first."""
        ...


class FactCheckResult(StrEnum):
    """What the passages that a probe found say in its place: the new value, the old one alone, or neither."""

    NEW = "new"
    OLD = "old"
    NEITHER = "neither"


def run_fact_checks(
    probes: Sequence[FactCheck], reader: Searcher, top_k: int, limit: int = LIMIT
) -> list[FactCheckResult]:
    """What the index says where each probe asks; of more than `limit` probes, as many evenly spaced ones.

    A passage counts when it is from the probe's place (its heading, in its document) and the value stands in it
    between the words that stand around it in the probe; a sentence of several words needs no place.
    """
    asked = _spread(probes, limit)
    answers = reader.search([probe.question for probe in asked], top_k) if asked else []
    return [_check_result(probe, passages) for probe, passages in zip(asked, answers, strict=True)]


def stale_fact_share(probes: Sequence[FactCheck], reader: Searcher, top_k: int, params: ScoreParams) -> Measure:
    """The share of probes, at most LIMIT of them, that find the old value alone; unmeasured without probes."""
    if not probes:
        return Measure.unmeasured("no fact was edited")
    return measure_mean(
        [float(found is FactCheckResult.OLD) for found in run_fact_checks(probes, reader, top_k)], params
    )


def resurfaced_share(canaries: Sequence[DeletionCheck], reader: Searcher, top_k: int, params: ScoreParams) -> Measure:
    """The share of canaries, at most LIMIT of them, whose sentence is still found; unmeasured without canaries."""
    if not canaries:
        return Measure.unmeasured("no sentence was removed")
    asked = _spread(canaries, LIMIT)
    answers = reader.search([canary.question for canary in asked], top_k)
    back = [_comes_back(canary, passages) for canary, passages in zip(asked, answers, strict=True)]
    return measure_mean([float(one) for one in back], params)


def _spread(asked: Sequence[Asked], limit: int) -> list[Asked]:
    """At most `limit`, evenly spaced: the same ones every time."""
    count = min(len(asked), limit)
    return [asked[at * len(asked) // count] for at in range(count)]


def _check_result(probe: FactCheck, passages: Sequence[Passage]) -> FactCheckResult:
    left, _, right = probe.question.rpartition("\n")[2].partition(MASK)
    before, behind = plain_text(left).split()[-AROUND:], plain_text(right).split()[:AROUND]
    texts = [
        plain_text(one.text) for one in passages if is_self_explanatory([*before, *behind]) or _is_its_place(probe, one)
    ]
    for value, found in ((probe.new, FactCheckResult.NEW), (probe.old, FactCheckResult.OLD)):
        sentence = " ".join([*before, plain_text(value), *behind])
        if any(holds_answer(text, [sentence]) for text in texts):
            return found
    return FactCheckResult.NEITHER


def _comes_back(canary: DeletionCheck, passages: Sequence[Passage]) -> bool:
    gone = plain_text(canary.gone)
    near = [one for one in passages if is_self_explanatory(gone.split()) or _is_its_place(canary, one)]
    return any(holds_answer(plain_text(one.text), [gone]) for one in near)


def _is_its_place(asked: FactCheck | DeletionCheck, passage: Passage) -> bool:
    """The same last heading in the same document; in another one, which may be its new name, the same whole path."""
    here, there = plain_heading_path(asked.question.rpartition("\n")[0]), plain_heading_path(passage.heading)
    if passage.document == asked.document:
        return here[-1:] == there[-1:]
    return len(here) > 1 and here == there
