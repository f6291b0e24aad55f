"""What if one weighed the score that is lost against the cost of everything? Cost-aware, and blind to which half."""

from __future__ import annotations

from pipelines.decide.choice import Choice, Halves
from pipelines.decide.policies.since import both, scores_since
from pipelines.decide.weigh import HOUR, seconds
from pipelines.params import PolicyParams
from pipelines.records import Evidence


class Cara:
    """Both halves once what staleness has cost since the last action pays for them.

    In the manner of CARA's cumulative threshold (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine
    learning", Knowledge-Based Systems; arXiv:2310.04216). There a stale model costs what the queries lose by it, and
    the threshold is fitted on an earlier stretch of the stream. Here each cycle costs the points (0-100) by which the
    live score lies below that after the last action, and the threshold is the price of both halves with their proof:
    `policy.points_per_hour` times the hours. A score alone has no attribution, so it is always both.
    """

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice:
        scores = scores_since(evidence)
        if scores is None:
            return both(halves, False, "no answer score was measured", "a fallen score been measured")
        # Rounded, so that what is equal on paper is equal.
        lost = round(sum(100 * max(0.0, drop) for drop in scores.drops), 6)
        price = round(_price_points(evidence, halves, params), 6)
        because = f"staleness has cost {lost:.4g} points since the last action, and both halves cost {price:.4g}"
        wanted = lost >= price
        return both(halves, wanted, because, f"it cost {'less than' if wanted else 'at least'} {price:.4g} points")


def _price_points(evidence: Evidence, halves: Halves, params: PolicyParams) -> float:
    """What both halves, proved together, must bring, in points of answer score."""
    return params.points_per_hour * seconds(halves.refresh.action.with_retrain(), evidence) / HOUR
