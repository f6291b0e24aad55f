"""Which action is worth its cost? The default policy: points of answer score that an hour of compute must buy.

It takes the lower end of each gain's interval. Refreshing is cheap and safe; a retrain has to be earned.
"""

from __future__ import annotations

from math import ceil, floor

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, CostBenefit, Recommendation, Recommendations
from ragtide.pipelines.policy.weigh import HOUR, points_per_hour
from ragtide.pipelines.records.evidence import Evidence


class EvidencePolicy:
    """The default: expected gain, at its lower end, an hour of forecast cost must pass `policy.points_per_hour`."""

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - it is weighed
        tune = _wish(halves.tune, params) if halves.tune else None
        return Recommendations(refresh=_wish(halves.refresh, params), retrain=_wish(halves.retrain, params), tune=tune)


def _wish(weighed: CostBenefit, params: PolicyParams) -> Recommendation:
    buys = points_per_hour(weighed)
    wanted = weighed.gain.low > 0 and buys >= params.points_per_hour
    return Recommendation(wanted, weighed.gain.because, _otherwise(weighed, wanted, params))


def _otherwise(weighed: CostBenefit, wanted: bool, params: PolicyParams) -> str:
    action, gain = weighed.action, weighed.gain
    if wanted:
        buys = points_per_hour(weighed)
        return f"{action} would not have been chosen with policy.points_per_hour above {buys:.1f}"
    if gain.needs:
        return f"{action} would have been weighed had {gain.needs}"
    at_least = params.points_per_hour * weighed.seconds / HOUR / weighed.lasts_cycles
    needed = ceil(10 * max(at_least, 0.1)) / 10
    bar = f"its gain, {floor(10 * gain.low) / 10:.1f} points at the lower end, been {needed:.1f} or more"
    return f"{action} would have been chosen had {bar}"
