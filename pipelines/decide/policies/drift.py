"""What if one went by drift? Each half by the drift of what it is made from; answers do not count."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.decide.choice import Choice, Halves, Weighed, Wish
from pipelines.decide.policies.since import wish
from pipelines.params import PolicyParams
from pipelines.records import Evidence, Measure


class Drift:
    """Refresh where the documents drifted, retrain where the examples did.

    Documents: `shift`, the energy distance of the new chunks' vectors to the old ones (0-1), above
    `policy.baseline.drift_limit`. Examples: `surprise`, the live model's extra loss on new ones (nats a token), above
    `policy.surprise_full`. In the manner of Modyn's DataDriftTrigger (Böther et al. 2025, "Modyn: Data-Centric Machine
    Learning Pipeline Orchestration"): it takes the value, not the lower end, and asks neither gain nor cost.
    """

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice:
        limit, full = params.baseline.drift_limit, params.surprise_full
        documents = Drifted("shift of the documents", evidence.shift, "policy.baseline.drift_limit", limit)
        examples = Drifted("surprise of the examples", evidence.surprise, "policy.surprise_full", full)
        return Choice(refresh=_wish(halves.refresh, documents), retrain=_wish(halves.retrain, examples))


@dataclass(frozen=True)
class Drifted:
    """What may have drifted, how far, and the setting of params.yaml that it is compared with."""

    what: str
    measured: Measure
    setting: str
    limit: float


def _wish(half: Weighed, drifted: Drifted) -> Wish:
    value, limit = drifted.measured.value, f"{drifted.limit:g}"
    if value is None:
        because = f"the {drifted.what} was not measured: {drifted.measured.why or 'no reason given'}"
        return wish(half, False, because, f"it been measured above {limit}")
    wanted = value > drifted.limit
    because = f"the {drifted.what} is {value:.4g}, and {drifted.setting} is {limit}"
    return wish(half, wanted, because, f"it been {limit} or less" if wanted else f"it been above {limit}")
