"""What if nothing was ever done? The cheapest baseline: what it loses is what staleness costs."""

from __future__ import annotations

from pipelines.decide.choice import Choice, Halves
from pipelines.decide.policies.since import both
from pipelines.params import PolicyParams
from pipelines.records import Evidence


class Never:
    """Neither half, whatever the evidence; the rules of decide/policy.py still build the first index, and take out
    what is gone.

    The other usual baseline of the papers on retraining (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for
    machine learning").
    """

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice:  # noqa: ARG002 - it is deaf
        because = "the policy `never` leaves what is live as it is"
        return both(halves, False, because, "policy.name been another that calls for it")
