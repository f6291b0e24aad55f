"""Stale facts and resurfaced deletions: checks on a version of the index, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from ragtide.pipelines.data.text import holds_answer
from ragtide.pipelines.evidence.sentences import MASK, is_self_explanatory, plain_heading_path, plain_text
from ragtide.pipelines.evidence.text_changes import DeletionCheck, FactCheck
from ragtide.pipelines.index.search import Passage
from ragtide.pipelines.params import ScoreParams
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.sampling import evenly_spaced, measure_mean

LIMIT = 200
# Words on each side of a value that must be around it: a sentence that is cut further away is still found.
AROUND = 8
# A sentence may be as long as a document; an embedder reads about a thousand characters of it.
QUESTION_CHARACTERS = 5000


class Searcher(Protocol):
    """A version of the index that can be searched."""

    def search(self, questions: Sequence[str], top_k: int) -> list[list[Passage]]:
        """For each question its `top_k` passages, best first."""
        ...


class FactCheckResult(StrEnum):
    """What the retrieved passages say: the new value, the old one alone, or neither."""

    NEW = "new"
    OLD = "old"
    NEITHER = "neither"


def run_fact_checks(
    checks: Sequence[FactCheck], reader: Searcher, top_k: int, limit: int = LIMIT
) -> list[FactCheckResult]:
    """What the index says for each check; of more than `limit` checks, as many evenly spaced ones.

    A passage counts when it is from the check's place (its heading, in its document) and holds the value between the
    words that are around it in the check; a sentence of several words needs no place.
    """
    checked = evenly_spaced(checks, limit)
    answers = reader.search([check.question[:QUESTION_CHARACTERS] for check in checked], top_k) if checked else []
    return [_check_result(check, passages) for check, passages in zip(checked, answers, strict=True)]


def stale_fact_share(checks: Sequence[FactCheck], reader: Searcher, top_k: int, params: ScoreParams) -> Measure:
    """The share of checks, at most LIMIT of them, that find the old value alone.

    Unmeasured without checks, and where none of them finds either value: that says nothing about the index.
    """
    if not checks:
        return Measure.unmeasured("no fact was edited")
    results = run_fact_checks(checks, reader, top_k)
    if all(result is FactCheckResult.NEITHER for result in results):
        return Measure.unmeasured("a search finds neither the old nor the new value of any edited fact")
    return measure_mean([float(result is FactCheckResult.OLD) for result in results], params)


def resurfaced_share(checks: Sequence[DeletionCheck], reader: Searcher, top_k: int, params: ScoreParams) -> Measure:
    """The share of checks, at most LIMIT of them, whose sentence is still found; unmeasured without checks."""
    if not checks:
        return Measure.unmeasured("no sentence was removed")
    checked = evenly_spaced(checks, LIMIT)
    answers = reader.search([check.question[:QUESTION_CHARACTERS] for check in checked], top_k)
    resurfaced = [_is_found(check, passages) for check, passages in zip(checked, answers, strict=True)]
    return measure_mean([float(is_found) for is_found in resurfaced], params)


def _check_result(check: FactCheck, passages: Sequence[Passage]) -> FactCheckResult:
    left, _, right = check.question.rpartition("\n")[2].partition(MASK)
    before, behind = plain_text(left).split()[-AROUND:], plain_text(right).split()[:AROUND]
    texts = [
        plain_text(passage.text)
        for passage in passages
        if is_self_explanatory([*before, *behind]) or _is_its_place(check, passage)
    ]
    for value, result in ((check.new, FactCheckResult.NEW), (check.old, FactCheckResult.OLD)):
        sentence = " ".join([*before, plain_text(value), *behind])
        if any(holds_answer(text, [sentence]) for text in texts):
            return result
    return FactCheckResult.NEITHER


def _is_found(check: DeletionCheck, passages: Sequence[Passage]) -> bool:
    removed = plain_text(check.removed)
    near = [passage for passage in passages if is_self_explanatory(removed.split()) or _is_its_place(check, passage)]
    return any(holds_answer(plain_text(passage.text), [removed]) for passage in near)


def _is_its_place(check: FactCheck | DeletionCheck, passage: Passage) -> bool:
    """The same last heading in the same document; in another one, which may be its new name, the same whole path."""
    here, there = plain_heading_path(check.question.rpartition("\n")[0]), plain_heading_path(passage.heading)
    if passage.document == check.document:
        return here[-1:] == there[-1:]
    return len(here) > 1 and here == there
