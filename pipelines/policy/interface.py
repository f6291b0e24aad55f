"""Policy interface: a recommendation for each component, from the evidence and the options.

Everything that holds under every policy (no release without an index, the budget, what the gate rejected, what a
person must approve) is in policy/rules.py, so that a policy is a few lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.reason import Reason


@dataclass(frozen=True)
class ExpectedGain:
    """The gain to expect of an action, in points of answer score (0-100) with its interval, and why.

    `needs` says what would make a gain possible where there is a gap that this action cannot close. `gap` is what the
    golden questions say that it could gain, before past gains are considered; None where they do not say.
    """

    points: float
    low: float
    high: float
    reasons: tuple[Reason, ...]
    needs: Reason | None = None
    gap: float | None = None

    @classmethod
    def none(cls, *reasons: Reason, needs: Reason | None = None) -> ExpectedGain:
        """No gain."""
        return cls(0, 0, 0, reasons, needs)


@dataclass(frozen=True)
class CostBenefit:
    """An action on one component: its gain, the cycles that a gain is counted for, and its seconds with the proof."""

    action: Action
    gain: ExpectedGain
    seconds: float
    lasts_cycles: float = 1.0


@dataclass(frozen=True)
class ComponentOptions:
    """What could be done about the index, the model and the embedder (None: it cannot be tuned)."""

    refresh: CostBenefit
    retrain: CostBenefit
    tune: CostBenefit | None = None


@dataclass(frozen=True)
class Recommendation:
    """Whether an action is wanted, why, and what would have changed that."""

    wanted: bool
    reasons: tuple[Reason, ...]
    counterfactual: Reason | None = None

    def __post_init__(self) -> None:
        """Raise UserError where there is no reason, or something that the reports could not show as one."""
        # A lone text would be taken apart into its letters, and a lone Reason into its fields.
        if not isinstance(self.reasons, tuple | list) or not self.reasons:
            raise UserError(f"policy: reasons must be a tuple with a Reason.custom(TEXT) in it, not {self.reasons!r}")
        for reason in (*self.reasons, *([] if self.counterfactual is None else [self.counterfactual])):
            if not isinstance(reason, Reason):
                raise UserError(f"policy: a reason must be a Reason, not {reason!r}: use Reason.custom(TEXT)")


@dataclass(frozen=True)
class Recommendations:
    """What a policy recommends for each component; one that does not consider the embedder leaves `tune` None."""

    refresh: Recommendation
    retrain: Recommendation
    tune: Recommendation | None = None


class Policy(Protocol):
    """A pure function: the same evidence and params give the same recommendations."""

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations: ...
