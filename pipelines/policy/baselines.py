"""What has happened since the last action? What the simpler policies count with, and how they word a wish.

A cycle is one decision, the present one included. An action stands when it was accepted and not rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, CostBenefit, Recommendation, Recommendations
from ragtide.pipelines.policy.weigh import HOUR, forecast_seconds
from ragtide.pipelines.records.evidence import Evidence, Measure, PastDecision

# --- cycles --------------------------------------------------------------------------------------------------------


def since_build(past: Sequence[PastDecision]) -> Sequence[PastDecision]:
    """The cycles after the last one that built anything, accepted or not; all of them where none did."""
    return past[_after_last(past, lambda one: one.action.builds) :]


def since_action(past: Sequence[PastDecision]) -> Sequence[PastDecision]:
    """The cycles after the last action that stands; all of them where there is none."""
    return past[_after_last(past, lambda one: one.is_in_effect) :]


def since_refresh(past: Sequence[PastDecision]) -> Sequence[PastDecision]:
    """The cycles after the last refresh or rebuild that stands; all of them where there is none."""
    return past[_after_last(past, lambda one: one.is_in_effect and one.action.refreshes) :]


def since_retrain(past: Sequence[PastDecision]) -> Sequence[PastDecision]:
    """The cycles after the last retrain that stands; all of them where there is none."""
    return past[_after_last(past, lambda one: one.is_in_effect and one.action.retrains) :]


def _after_last(past: Sequence[PastDecision], claim: Callable[[PastDecision], bool]) -> int:
    return max((at + 1 for at, one in enumerate(past) if claim(one)), default=0)


# --- scores --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Live answer scores (0-1) since the last action that stands, oldest first, the present one last, if measured.

    `reference` is the score right after that action: the one before it and what it recovered, where both are known,
    else the first score since.
    """

    reference: float
    seen: tuple[float, ...]

    @property
    def drops(self) -> tuple[float, ...]:
        """How far each score lies below the reference (0-1); below 0 where it is better."""
        return tuple(self.reference - score for score in self.seen)


def scores_since(evidence: Evidence) -> Scores | None:
    """The live scores since the last action that stands; None where none was measured."""
    recent = since_action(evidence.past)
    measured = (*(one.score for one in recent), evidence.score_retrieved.value)
    seen = tuple(score for score in measured if score is not None)
    if not seen:
        return None
    last = evidence.past[-len(recent) - 1] if len(recent) < len(evidence.past) else None
    after = None if last is None else _score_after(last)
    return Scores(seen[0] if after is None else after, seen)


def _score_after(last: PastDecision) -> float | None:
    """The score right after an action, on the questions of its own cycle: before the data moved on."""
    if last.score is None or last.recovered_points is None:
        return None
    return min(1.0, max(0.0, last.score + last.recovered_points / 100))


# --- amounts -------------------------------------------------------------------------------------------------------


def new_example_share(evidence: Evidence) -> float | None:
    """The share of the examples that the live adapter never saw; None where that is not known."""
    if evidence.new_examples is None:
        return None
    return min(1.0, evidence.new_examples / max(1, evidence.examples))


# --- wording -------------------------------------------------------------------------------------------------------


def counted(number: int, noun: str) -> str:
    """The number with its noun: `1 cycle`, `2 cycles`."""
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def recommend(half: CostBenefit, wanted: bool, because: str, had: str) -> Recommendation:
    """A wish for one half; `had` says what would have turned it round, as the clause after "had"."""
    would = "would not" if wanted else "would"
    return Recommendation(wanted, because, f"{half.action} {would} have been chosen had {had}")


def recommend_both(halves: ComponentOptions, wanted: bool, because: str, had: str) -> Recommendations:
    """The same wish for both halves: of a policy that cannot tell them apart."""
    return Recommendations(
        recommend(halves.refresh, wanted, because, had), recommend(halves.retrain, wanted, because, had)
    )


class Always:
    """Refresh and retrain in each cycle in which a document, an example or a question is another one.

    The model is trained where only documents moved, too: that is what "always" means. The usual baseline of the papers
    on retraining (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine learning").
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - at any price
        moved = _changed_inputs(evidence)
        if moved:
            return recommend_both(
                halves, True, f"{moved} since the live release", "nothing changed since the live release"
            )
        because = "nothing changed since the live release"
        return recommend_both(halves, False, because, "a document, an example or a question changed")


def _changed_inputs(evidence: Evidence) -> str | None:
    """What is another thing now than in the live release, in plain words; None where nothing is."""
    changes = evidence.changes
    documents = sum(map(len, (changes.added, changes.edited, changes.renamed, changes.removed)))
    moved = [counted(documents, "document")] if documents else []
    moved += ["the examples"] if changes.examples_changed else []
    moved += ["the questions"] if changes.questions_changed else []
    if moved:
        return f"{' and '.join(moved)} changed"
    return None if evidence.delta.is_empty else "what the index should hold changed"


class Never:
    """Neither half, whatever the evidence; the rules of policy/decide.py still build the first index, and take out
    what is gone.

    The other usual baseline of the papers on retraining (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for
    machine learning").
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - it is deaf
        because = "the policy `never` leaves what is live as it is"
        return recommend_both(halves, False, because, "policy.name been another that calls for it")


class Periodic:
    """Both halves in every `policy.baseline.period_cycles`-th cycle after the last one that built anything.

    What was built and refused counts too: the calendar knows nothing of the gate. Known from scheduled retraining, and
    as the periodic variant in Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine learning".
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:
        period = params.baseline.period_cycles
        quiet = since_build(evidence.past)
        start = "the last one that built anything" if len(quiet) < len(evidence.past) else "the record begins"
        cycle = len(quiet) + 1
        because = f"this is cycle {cycle} since {start}, and policy.baseline.period_cycles is {period}"
        if cycle >= period:
            return recommend_both(halves, True, because, f"policy.baseline.period_cycles been {cycle + 1} or more")
        return recommend_both(halves, False, because, f"policy.baseline.period_cycles been {cycle} or less")


class Amount:
    """Refresh at `policy.baseline.amount_share` of other chunks, retrain at the same share of new examples.

    Small changes add up, since the evidence compares with the live release and not with the last cycle. In the manner
    of Modyn's DataAmountTrigger (Böther et al. 2025, "Modyn: Data-Centric Machine Learning Pipeline Orchestration").
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:
        limit = params.baseline.amount_share
        return Recommendations(
            refresh=_recommend_by_amount(halves.refresh, evidence.delta.changed_share, "chunks are other ones", limit),
            retrain=_recommend_by_amount(
                halves.retrain, new_example_share(evidence), "examples are new to the model", limit
            ),
        )


def _recommend_by_amount(half: CostBenefit, share: float | None, what: str, limit: float) -> Recommendation:
    named = f"policy.baseline.amount_share = {limit:g}"
    if share is None:
        return recommend(half, False, f"what share of the {what} is not known", f"it been known, and {named} or more")
    wanted = share >= limit
    because = f"{share:.4g} of the {what}, and the limit is {named}"
    return recommend(half, wanted, because, f"that share been {'less than' if wanted else 'at least'} {limit:g}")


class Cusum:
    """Both halves once the live answer score has fallen for long enough, or far enough.

    The one-sided CUSUM of Page 1954, "Continuous inspection schemes": S = max(0, S + (reference - score) - slack), over
    the scores since the last action that stands, and an alarm at S > limit. The slack and the limit are
    `policy.baseline.cusum_slack` and `cusum_limit`, in score (0-1). An action that stands sets S to 0.
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:
        scores, limit = scores_since(evidence), params.baseline.cusum_limit
        if scores is None:
            return recommend_both(halves, False, "no answer score was measured", "a fallen score been measured")
        total = cusum_statistic(scores, params.baseline.cusum_slack)
        fell = f"the live score went from {scores.reference:.2f} to {scores.seen[-1]:.2f}"
        because = f"{fell}, its falls add up to {total:.4g}, and policy.baseline.cusum_limit is {limit:g}"
        wanted = total > limit
        return recommend_both(
            halves, wanted, because, f"they added up to {'no more' if wanted else 'more'} than {limit:g}"
        )


def cusum_statistic(scores: Scores, slack: float) -> float:
    """The sum S after the last score, in score (0-1); rounded, so that what is equal on paper passes no limit."""
    total = 0.0
    for drop in scores.drops:
        total = max(0.0, total + drop - slack)
    return round(total, 9)


class Drift:
    """Refresh where the documents drifted, retrain where the examples did.

    Documents: `shift`, the energy distance of the new chunks' vectors to the old ones (0-1), above
    `policy.baseline.drift_limit`. Examples: `surprise`, the live model's extra loss on new ones (nats a token), above
    `policy.excess_loss_full`. In the manner of Modyn's DataDriftTrigger (Böther et al. 2025, "Modyn: Data-Centric Machine
    Learning Pipeline Orchestration"): it takes the value, not the lower end, and asks neither gain nor cost.
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:
        limit, full = params.baseline.drift_limit, params.excess_loss_full
        documents = DriftMeasure("shift of the documents", evidence.shift, "policy.baseline.drift_limit", limit)
        examples = DriftMeasure("surprise of the examples", evidence.excess_loss, "policy.excess_loss_full", full)
        return Recommendations(
            refresh=_recommend_by_drift(halves.refresh, documents),
            retrain=_recommend_by_drift(halves.retrain, examples),
        )


@dataclass(frozen=True)
class DriftMeasure:
    """What may have drifted, how far, and the setting of params.yaml that it is compared with."""

    what: str
    measured: Measure
    setting: str
    limit: float


def _recommend_by_drift(half: CostBenefit, drifted: DriftMeasure) -> Recommendation:
    value, limit = drifted.measured.value, f"{drifted.limit:g}"
    if value is None:
        because = f"the {drifted.what} was not measured: {drifted.measured.why or 'no reason given'}"
        return recommend(half, False, because, f"it been measured above {limit}")
    wanted = value > drifted.limit
    because = f"the {drifted.what} is {value:.4g}, and {drifted.setting} is {limit}"
    return recommend(half, wanted, because, f"it been {limit} or less" if wanted else f"it been above {limit}")


class Cara:
    """Both halves once what staleness has cost since the last action pays for them.

    In the manner of CARA's cumulative threshold (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine
    learning", Knowledge-Based Systems; arXiv:2310.04216). There a stale model costs what the queries lose by it, and
    the threshold is fitted on an earlier stretch of the stream. Here each cycle costs the points (0-100) by which the
    live score lies below that after the last action, and the threshold is the price of both halves with their proof:
    `policy.points_per_hour` times the hours. A score alone has no attribution, so it is always both.
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:
        scores = scores_since(evidence)
        if scores is None:
            return recommend_both(halves, False, "no answer score was measured", "a fallen score been measured")
        # Rounded, so that what is equal on paper is equal.
        lost = round(sum(100 * max(0.0, drop) for drop in scores.drops), 6)
        price = round(_price_points(evidence, halves, params), 6)
        because = f"staleness has cost {lost:.4g} points since the last action, and both halves cost {price:.4g}"
        wanted = lost >= price
        return recommend_both(
            halves, wanted, because, f"it cost {'less than' if wanted else 'at least'} {price:.4g} points"
        )


def _price_points(evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> float:
    """What both halves, proved together, must bring, in points of answer score."""
    return params.points_per_hour * forecast_seconds(halves.refresh.action.with_retrain(), evidence) / HOUR


class Modyn:
    """A half once the data that waits for it has waited long enough to pay for it.

    In the manner of Modyn's DataIncorporationLatencyCostTrigger (Böther et al. 2025, "Modyn: Data-Centric Machine
    Learning Pipeline Orchestration"): the regret is the area under the curve of data not yet taken in, and it triggers
    when it passes the cost. Each cycle adds 100 points times the share that waits; the cost of a half is
    `policy.points_per_hour` times its hours, with the proof. Index: the share of other chunks, as each cycle recorded
    it. Model: the share of new examples today, for each cycle since the last retrain, since no record holds it cycle by
    cycle: as if all had come at once, and so at most twice the area of a steady stream.
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:
        return Recommendations(
            refresh=_recommend_by_backlog(halves.refresh, _chunk_backlog(evidence), params),
            retrain=_recommend_by_backlog(halves.retrain, _example_backlog(evidence), params),
        )


@dataclass(frozen=True)
class Backlog:
    """What waits to be taken in, the regret in points, and the cycles that it was gathered over."""

    what: str
    points: float | None
    cycles: int


def _chunk_backlog(evidence: Evidence) -> Backlog:
    earlier = since_refresh(evidence.past)
    # A cycle whose share was not recorded adds nothing: it is not known that anything waited.
    shares = [one.changed_share or 0.0 for one in earlier]
    return Backlog("changed chunks", 100 * sum([*shares, evidence.delta.changed_share]), len(shares) + 1)


def _example_backlog(evidence: Evidence) -> Backlog:
    cycles, share = len(since_retrain(evidence.past)) + 1, new_example_share(evidence)
    return Backlog("new examples", None if share is None else 100 * share * cycles, cycles)


def _recommend_by_backlog(half: CostBenefit, waiting: Backlog, params: PolicyParams) -> Recommendation:
    # Rounded, so that what is equal on paper passes no price.
    price = round(params.points_per_hour * half.seconds / HOUR, 6)
    if waiting.points is None:
        return recommend(
            half, False, f"how many {waiting.what} wait is not known", f"more than {price:.4g} points waited"
        )
    points = round(waiting.points, 6)
    over = counted(waiting.cycles, "cycle")
    because = f"{waiting.what} have waited {points:.4g} points over {over}, and taking them in costs {price:.4g}"
    wanted = points > price
    return recommend(half, wanted, because, f"they waited {'no more' if wanted else 'more'} than {price:.4g} points")
