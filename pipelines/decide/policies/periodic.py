"""What if one went by the calendar? Both halves every so many cycles, as a nightly or weekly job does."""

from __future__ import annotations

from pipelines.decide.choice import Choice, Halves
from pipelines.decide.policies.since import both, since_build
from pipelines.params import PolicyParams
from pipelines.records import Evidence


class Periodic:
    """Both halves in every `policy.baseline.period_cycles`-th cycle after the last one that built anything.

    What was built and refused counts too: the calendar knows nothing of the gate. Known from scheduled retraining, and
    as the periodic variant in Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine learning".
    """

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice:
        period = params.baseline.period_cycles
        quiet = since_build(evidence.past)
        start = "the last one that built anything" if len(quiet) < len(evidence.past) else "the record begins"
        cycle = len(quiet) + 1
        because = f"this is cycle {cycle} since {start}, and policy.baseline.period_cycles is {period}"
        if cycle >= period:
            return both(halves, True, because, f"policy.baseline.period_cycles been {cycle + 1} or more")
        return both(halves, False, because, f"policy.baseline.period_cycles been {cycle} or less")
