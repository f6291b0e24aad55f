"""Learned gain shares: how much of their expected gain past actions have achieved.

The achieved share lies between 0 and 1, so a beta distribution describes it; each cycle adds its share to one side and
the rest to the other (the Bernoulli update with fractional outcomes). There is no state besides the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragtide.pipelines.records.action import Component
from ragtide.pipelines.records.evidence import PastDecision

# A smaller expected gain than this is noise to learn from (points of answer score).
ENOUGH_POINTS = 1.0


@dataclass(frozen=True)
class LearnedShare:
    """The mean share of its expected gain that an action achieves, and the number of cycles it was estimated from."""

    share: float
    cycles: int


@dataclass(frozen=True)
class Prior:
    """Imagined cycles before the first: how many achieved their gain, and how many missed it."""

    achieved: float
    missed: float


# A refresh adds the chunks that it promises; a fine-tune may fail in many ways; a tuned embedder closed a fifth to four
# fifths of the distance to the best ranking (docs/log.md).
PRIORS = {
    Component.INDEX: Prior(achieved=4.0, missed=1.0),
    Component.EMBEDDER: Prior(achieved=2.0, missed=2.0),
    Component.MODEL: Prior(achieved=2.0, missed=2.0),
}


def learned_share(past: Sequence[PastDecision], component: Component) -> LearnedShare:
    """The share that actions on `component` have achieved; a rejected or rolled back one counts as 0."""
    prior = PRIORS[component]
    shares = [_achieved_share(decision) for decision in past if _is_informative(decision, component)]
    achieved = prior.achieved + sum(shares)
    missed = prior.missed + sum(1 - share for share in shares)
    return LearnedShare(share=achieved / (achieved + missed), cycles=len(shares))


def _is_informative(decision: PastDecision, component: Component) -> bool:
    if (decision.expected_points or 0) < ENOUGH_POINTS:
        return False
    if decision.accepted and decision.recovered_points is None and not decision.rolled_back:
        return False
    return decision.touched(component)


def _achieved_share(decision: PastDecision) -> float:
    if not decision.accepted or decision.rolled_back:
        return 0.0
    return min(1.0, max(0.0, (decision.recovered_points or 0.0) / (decision.expected_points or 1.0)))
