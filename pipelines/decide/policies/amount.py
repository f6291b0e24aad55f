"""What if one went by the amount of new data? Each half once enough of what it is made from is other data."""

from __future__ import annotations

from pipelines.decide.choice import Choice, Halves, Weighed, Wish
from pipelines.decide.policies.since import new_example_share, wish
from pipelines.params import PolicyParams
from pipelines.records import Evidence


class Amount:
    """Refresh at `policy.baseline.amount_share` of other chunks, retrain at the same share of new examples.

    Small changes add up, since the evidence compares with the live release and not with the last cycle. In the manner
    of Modyn's DataAmountTrigger (Böther et al. 2025, "Modyn: Data-Centric Machine Learning Pipeline Orchestration").
    """

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice:
        limit = params.baseline.amount_share
        return Choice(
            refresh=_wish(halves.refresh, evidence.delta.changed_share, "chunks are other ones", limit),
            retrain=_wish(halves.retrain, new_example_share(evidence), "examples are new to the model", limit),
        )


def _wish(half: Weighed, share: float | None, what: str, limit: float) -> Wish:
    named = f"policy.baseline.amount_share = {limit:g}"
    if share is None:
        return wish(half, False, f"what share of the {what} is not known", f"it been known, and {named} or more")
    wanted = share >= limit
    because = f"{share:.4g} of the {what}, and the limit is {named}"
    return wish(half, wanted, because, f"that share been {'less than' if wanted else 'at least'} {limit:g}")
