"""Default policy: an hour of compute must gain enough points of answer score.

It takes the lower end of each gain's interval. Refreshing is cheap and safe; a retrain has to be earned.
"""

from __future__ import annotations

from math import ceil, floor

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, CostBenefit, Recommendation, Recommendations
from ragtide.pipelines.policy.weigh import HOUR, points_per_hour
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.reason import Reason, ReasonCode


class EvidencePolicy:
    """The default: the expected gain of an hour of compute, at its lower end, must reach `policy.points_per_hour`."""

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - it is in the options
        return Recommendations(
            refresh=_recommend(options.refresh, params),
            retrain=_recommend(options.retrain, params),
            tune=_recommend(options.tune, params) if options.tune else None,
        )


def _recommend(option: CostBenefit, params: PolicyParams) -> Recommendation:
    wanted = option.gain.low > 0 and points_per_hour(option) >= params.points_per_hour
    return Recommendation(wanted, option.gain.reasons, _counterfactual(option, wanted, params))


def _counterfactual(option: CostBenefit, wanted: bool, params: PolicyParams) -> Reason:
    gain = option.gain
    if wanted:
        return Reason.of(ReasonCode.IF_PRICE_ABOVE, points_per_hour=points_per_hour(option))
    if gain.needs:
        return gain.needs
    at_least = params.points_per_hour * option.seconds / HOUR / option.lasts_cycles
    needed = ceil(10 * max(at_least, 0.1)) / 10
    return Reason.of(ReasonCode.IF_GAIN_AT_LEAST, low=floor(10 * gain.low) / 10, needed=needed)
