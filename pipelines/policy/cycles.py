"""Cycles and scores since the last action: what the baseline policies count with.

A cycle is one decision, the present one included. An action is in effect when it was accepted and not rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ragtide.pipelines.records.evidence import Evidence, PastDecision, TrainingData


def since_build(past: Sequence[PastDecision]) -> Sequence[PastDecision]:
    """The cycles after the last one that built anything, accepted or not; all of them where none did."""
    return past[_after_last(past, lambda decision: decision.action.builds) :]


def since_action(past: Sequence[PastDecision]) -> Sequence[PastDecision]:
    """The cycles after the last action in effect; all of them where there is none."""
    return past[_after_last(past, lambda decision: decision.is_in_effect) :]


def since_refresh(past: Sequence[PastDecision]) -> Sequence[PastDecision]:
    """The cycles after the last refresh or rebuild in effect; all of them where there is none."""
    return past[_after_last(past, lambda decision: decision.is_in_effect and decision.action.refreshes) :]


def since_retrain(past: Sequence[PastDecision]) -> Sequence[PastDecision]:
    """The cycles after the last retrain in effect; all of them where there is none."""
    return past[_after_last(past, lambda decision: decision.is_in_effect and decision.action.retrains) :]


def _after_last(past: Sequence[PastDecision], condition: Callable[[PastDecision], bool]) -> int:
    return max((place + 1 for place, decision in enumerate(past) if condition(decision)), default=0)


@dataclass(frozen=True)
class LiveScores:
    """Live answer scores (0-1) since the last action in effect, oldest first, the present one last, if measured.

    `reference` is the score right after that action: the one before it and what it gained, where both are known, else
    the first score since.
    """

    reference: float
    seen: tuple[float, ...]

    @property
    def drops(self) -> tuple[float, ...]:
        """How far each score lies below the reference (0-1); below 0 where it is better."""
        return tuple(self.reference - score for score in self.seen)


def scores_since(evidence: Evidence) -> LiveScores | None:
    """The live scores since the last action in effect; None where none was measured."""
    past = evidence.limits.past
    recent = since_action(past)
    measured = (*(decision.score for decision in recent), evidence.scores.score_retrieved.value)
    seen = tuple(score for score in measured if score is not None)
    if not seen:
        return None
    last = past[-len(recent) - 1] if len(recent) < len(past) else None
    after = None if last is None else _score_after(last)
    return LiveScores(seen[0] if after is None else after, seen)


def _score_after(last: PastDecision) -> float | None:
    """The score right after an action, on the questions of its own cycle: before the data changed again."""
    if last.score is None or last.recovered_points is None:
        return None
    return min(1.0, max(0.0, last.score + last.recovered_points / 100))


def cusum_statistic(scores: LiveScores, slack: float) -> float:
    """The sum S after the last score, in score (0-1); rounded, so that what is equal on paper exceeds no limit."""
    total = 0.0
    for drop in scores.drops:
        total = max(0.0, total + drop - slack)
    return round(total, 9)


def new_example_share(training: TrainingData) -> float | None:
    """The share of the examples that the live adapter was not trained on; None where that is not known."""
    if training.new_examples is None:
        return None
    return min(1.0, training.new_examples / max(1, training.examples))
