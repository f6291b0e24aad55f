"""What does a policy say? For each half whether it wants it, why, and what would have turned it round.

Everything that holds whatever the policy (no release without an index, the budget, what the gate refused, what a
person must approve) is in policy/decide.py, so that a policy is a few lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Evidence


@dataclass(frozen=True)
class ExpectedGain:
    """What an action may win back, in points of answer score (0-100) with its interval, and why one thinks so.

    `needs` says what would have to be otherwise where there is a gap that this action cannot close. `gap` is what the
    golden questions say it could win back, before what such actions have really brought is taken off; None where they
    do not tell.
    """

    points: float
    low: float
    high: float
    because: str
    needs: str | None = None
    gap: float | None = None


@dataclass(frozen=True)
class CostBenefit:
    """One half's action, its gain, the cycles that a gain is counted for, and its seconds with the proof after it."""

    action: Action
    gain: ExpectedGain
    seconds: float
    lasts_cycles: float = 1.0


@dataclass(frozen=True)
class ComponentOptions:
    """What could be done about the index, about the model, and about the retriever (None: it cannot be tuned)."""

    refresh: CostBenefit
    retrain: CostBenefit
    tune: CostBenefit | None = None


@dataclass(frozen=True)
class Recommendation:
    """Whether an action is wanted, why, and what would have turned that round (each a clause without a full stop)."""

    wanted: bool
    because: str
    otherwise: str


@dataclass(frozen=True)
class Recommendations:
    """What a policy wants done about each half; one that knows nothing of retrievers leaves theirs alone."""

    refresh: Recommendation
    retrain: Recommendation
    tune: Recommendation | None = None


class Policy(Protocol):
    """A policy: pure, the same evidence and params bring the same choice."""

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations: ...
