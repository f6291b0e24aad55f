"""What if one weighed the data that waits against the cost of taking it in? It looks at amounts, never at answers."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.decide.choice import Choice, Halves, Weighed, Wish
from pipelines.decide.policies.since import counted, new_example_share, since_refresh, since_retrain, wish
from pipelines.decide.weigh import HOUR
from pipelines.params import PolicyParams
from pipelines.records import Evidence


class Modyn:
    """A half once the data that waits for it has waited long enough to pay for it.

    In the manner of Modyn's DataIncorporationLatencyCostTrigger (Böther et al. 2025, "Modyn: Data-Centric Machine
    Learning Pipeline Orchestration"): the regret is the area under the curve of data not yet taken in, and it triggers
    when it passes the cost. Each cycle adds 100 points times the share that waits; the cost of a half is
    `policy.points_per_hour` times its hours, with the proof. Index: the share of other chunks, as each cycle recorded
    it. Model: the share of new examples today, for each cycle since the last retrain, since no record holds it cycle by
    cycle: as if all had come at once, and so at most twice the area of a steady stream.
    """

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice:
        return Choice(
            refresh=_wish(halves.refresh, _chunks(evidence), params),
            retrain=_wish(halves.retrain, _examples(evidence), params),
        )


@dataclass(frozen=True)
class Waiting:
    """What waits to be taken in, the regret in points, and the cycles that it was gathered over."""

    what: str
    points: float | None
    cycles: int


def _chunks(evidence: Evidence) -> Waiting:
    earlier = since_refresh(evidence.past)
    # A cycle whose share was not recorded adds nothing: it is not known that anything waited.
    shares = [one.changed_share or 0.0 for one in earlier]
    return Waiting("changed chunks", 100 * sum([*shares, evidence.delta.changed_share]), len(shares) + 1)


def _examples(evidence: Evidence) -> Waiting:
    cycles, share = len(since_retrain(evidence.past)) + 1, new_example_share(evidence)
    return Waiting("new examples", None if share is None else 100 * share * cycles, cycles)


def _wish(half: Weighed, waiting: Waiting, params: PolicyParams) -> Wish:
    # Rounded, so that what is equal on paper passes no price.
    price = round(params.points_per_hour * half.seconds / HOUR, 6)
    if waiting.points is None:
        return wish(half, False, f"how many {waiting.what} wait is not known", f"more than {price:.4g} points waited")
    points = round(waiting.points, 6)
    over = counted(waiting.cycles, "cycle")
    because = f"{waiting.what} have waited {points:.4g} points over {over}, and taking them in costs {price:.4g}"
    wanted = points > price
    return wish(half, wanted, because, f"they waited {'no more' if wanted else 'more'} than {price:.4g} points")
