"""What if one watched the answer score alone, as a monitor does? It sees that something is wrong, never which half."""

from __future__ import annotations

from pipelines.decide.choice import Choice, Halves
from pipelines.decide.policies.since import Scores, both, scores_since
from pipelines.params import PolicyParams
from pipelines.records import Evidence


class Cusum:
    """Both halves once the live answer score has fallen for long enough, or far enough.

    The one-sided CUSUM of Page 1954, "Continuous inspection schemes": S = max(0, S + (reference - score) - slack), over
    the scores since the last action that stands, and an alarm at S > limit. The slack and the limit are
    `policy.baseline.cusum_slack` and `cusum_limit`, in score (0-1). An action that stands sets S to 0.
    """

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice:
        scores, limit = scores_since(evidence), params.baseline.cusum_limit
        if scores is None:
            return both(halves, False, "no answer score was measured", "a fallen score been measured")
        total = cusum(scores, params.baseline.cusum_slack)
        fell = f"the live score went from {scores.reference:.2f} to {scores.seen[-1]:.2f}"
        because = f"{fell}, its falls add up to {total:.4g}, and policy.baseline.cusum_limit is {limit:g}"
        wanted = total > limit
        return both(halves, wanted, because, f"they added up to {'no more' if wanted else 'more'} than {limit:g}")


def cusum(scores: Scores, slack: float) -> float:
    """The sum S after the last score, in score (0-1); rounded, so that what is equal on paper passes no limit."""
    total = 0.0
    for drop in scores.drops:
        total = max(0.0, total + drop - slack)
    return round(total, 9)
