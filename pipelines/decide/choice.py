"""What does a policy say? For each half whether it wants it, why, and what would have turned it round.

Everything that holds whatever the policy (no release without an index, the budget, what the gate refused, what a
person must approve) is in decide/policy.py, so that a policy is a few lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipelines.params import PolicyParams
from pipelines.records import Action, Evidence


@dataclass(frozen=True)
class Gain:
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
class Weighed:
    """One half's action, its gain, the cycles that a gain is counted for, and its seconds with the proof after it."""

    action: Action
    gain: Gain
    seconds: float
    lasts_cycles: float = 1.0


@dataclass(frozen=True)
class Halves:
    """What could be done about the index, about the model, and about the retriever (None: it cannot be tuned)."""

    refresh: Weighed
    retrain: Weighed
    tune: Weighed | None = None


@dataclass(frozen=True)
class Wish:
    """Whether an action is wanted, why, and what would have turned that round (each a clause without a full stop)."""

    wanted: bool
    because: str
    otherwise: str


@dataclass(frozen=True)
class Choice:
    """What a policy wants done about each half; one that knows nothing of retrievers leaves theirs alone."""

    refresh: Wish
    retrain: Wish
    tune: Wish | None = None


class Policy(Protocol):
    """A policy: pure, the same evidence and params bring the same choice."""

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice: ...
