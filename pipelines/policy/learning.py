"""What has an action really brought, of what it was thought to be able to? Learnt from every recorded decision.

The share recovered is between 0 and 1, so a beta distribution stands for it, and each cycle adds its share to one side
and the rest to the other (the Bernoulli update with fractional outcomes). There is no state besides the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragtide.pipelines.records.action import Component
from ragtide.pipelines.records.evidence import PastDecision

# What was expected of less than this is noise to learn from (points of answer score).
ENOUGH_POINTS = 1.0


@dataclass(frozen=True)
class LearnedShare:
    """The mean of the share that an action recovers, and how many cycles it was learnt from."""

    share: float
    cycles: int


@dataclass(frozen=True)
class Prior:
    """Cycles that one imagines before the first: so many parts recovered, so many missed."""

    recovered: float
    missed: float


# A refresh brings the rows that it promises; a fine-tune may fail in many ways; a tuned retriever closed a fifth to
# four fifths of the distance to the best ranking (docs/log.md).
PRIORS = {
    Component.INDEX: Prior(recovered=4.0, missed=1.0),
    Component.EMBEDDER: Prior(recovered=2.0, missed=2.0),
    Component.MODEL: Prior(recovered=2.0, missed=2.0),
}


def learned_share(past: Sequence[PastDecision], half: Component) -> LearnedShare:
    """What actions about `half` have recovered of what was expected; refused and rolled back counts as 0."""
    prior = PRIORS[half]
    shares = [_share(one) for one in past if _tells(one, half)]
    recovered = prior.recovered + sum(shares)
    missed = prior.missed + sum(1 - share for share in shares)
    return LearnedShare(share=recovered / (recovered + missed), cycles=len(shares))


def _tells(one: PastDecision, half: Component) -> bool:
    if (one.expected_points or 0) < ENOUGH_POINTS:
        return False
    if one.accepted and one.recovered_points is None and not one.rolled_back:
        return False
    return one.touched(half)


def _share(one: PastDecision) -> float:
    if not one.accepted or one.rolled_back:
        return 0.0
    return min(1.0, max(0.0, (one.recovered_points or 0.0) / (one.expected_points or 1.0)))
