"""Baseline policies: simple rules and published triggers, for comparison with the default policy."""

from __future__ import annotations

from dataclasses import dataclass

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.cycles import (
    LiveScores,
    cusum_statistic,
    new_example_share,
    scores_since,
    since_build,
    since_refresh,
    since_retrain,
)
from ragtide.pipelines.policy.interface import ComponentOptions, CostBenefit, Recommendation, Recommendations
from ragtide.pipelines.policy.weigh import HOUR, forecast_seconds
from ragtide.pipelines.records.evidence import Evidence, Measure
from ragtide.pipelines.records.reason import Reason, ReasonCode


def recommend(wanted: bool, reason: Reason, counterfactual: Reason) -> Recommendation:
    """A recommendation with one reason."""
    return Recommendation(wanted, (reason,), counterfactual)


def recommend_both(wanted: bool, reason: Reason, counterfactual: Reason) -> Recommendations:
    """The same recommendation for index and model, of a policy that cannot tell them apart."""
    recommendation = recommend(wanted, reason, counterfactual)
    return Recommendations(recommendation, recommendation)


def if_quantity(quantity: str, limit: float) -> Reason:
    """The counterfactual that a quantity is on the other side of its limit."""
    return Reason.of(ReasonCode.IF_QUANTITY, quantity=quantity, limit=limit)


class Always:
    """Refresh and retrain in each cycle in which a document, an example or a question changed.

    The model is trained where only documents changed, too: that is what "always" means. The usual baseline of the
    papers on retraining (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine learning").
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - at any price
        changed = _changed_inputs(evidence)
        if changed:
            return recommend_both(True, changed, Reason.of(ReasonCode.IF_UNCHANGED))
        return recommend_both(False, Reason.of(ReasonCode.NOTHING_CHANGED), Reason.of(ReasonCode.IF_CHANGED))


def _changed_inputs(evidence: Evidence) -> Reason | None:
    """What changed since the live release; None where nothing did."""
    changes, delta = evidence.data.changes, evidence.data.delta
    documents = sum(map(len, (changes.added, changes.edited, changes.renamed, changes.removed)))
    if not documents and not changes.examples_changed and not changes.questions_changed and delta.is_empty:
        return None
    return Reason.of(
        ReasonCode.CHANGED_SINCE_RELEASE,
        documents=documents,
        examples=changes.examples_changed,
        questions=changes.questions_changed,
    )


class Never:
    """Neither index nor model, whatever the evidence; the rules of policy/rules.py still apply.

    They build the first index, and remove deleted documents. The other usual baseline of the papers on retraining
    (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine learning").
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - whatever it is
        return recommend_both(False, Reason.of(ReasonCode.POLICY_NEVER), Reason.of(ReasonCode.IF_OTHER_POLICY))


class Periodic:
    """Index and model in every `policy.baseline.period_cycles`-th cycle after the last one that built anything.

    What was built and rejected counts too: a calendar does not know the gate. Scheduled retraining, and the periodic
    variant in Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine learning".
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - by the calendar
        period, past = params.baseline.period_cycles, evidence.limits.past
        quiet = since_build(past)
        cycle = len(quiet) + 1
        built = len(quiet) < len(past)
        reason = Reason.of(ReasonCode.CYCLES_SINCE_BUILD, cycle=cycle, built=built, period=period)
        needed = cycle + 1 if cycle >= period else cycle
        return recommend_both(cycle >= period, reason, Reason.of(ReasonCode.IF_PERIOD, period=needed))


class Amount:
    """Refresh at `policy.baseline.amount_share` of changed chunks, retrain at the same share of new examples.

    Small changes add up, since the evidence compares with the live release and not with the last cycle. In the manner
    of Modyn's DataAmountTrigger (Böther et al. 2025, "Modyn: Data-Centric Machine Learning Pipeline Orchestration").
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - at any price
        limit = params.baseline.amount_share
        return Recommendations(
            refresh=_recommend_by_amount("changed_chunks", evidence.data.delta.changed_share, limit),
            retrain=_recommend_by_amount("new_examples", new_example_share(evidence.training), limit),
        )


def _recommend_by_amount(quantity: str, share: float | None, limit: float) -> Recommendation:
    wanted = share is not None and share >= limit
    reason = Reason.of(ReasonCode.SHARE, quantity=quantity, share=share, limit=limit)
    return recommend(wanted, reason, if_quantity(quantity, limit))


class Cusum:
    """Index and model once the live answer score has fallen for long enough, or far enough.

    The one-sided CUSUM of Page 1954, "Continuous inspection schemes": S = max(0, S + (reference - score) - slack), over
    the scores since the last action in effect, and an alarm at S > limit. The slack and the limit are
    `policy.baseline.cusum_slack` and `cusum_limit`, in score (0-1). An action in effect sets S to 0.
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - at any price
        scores, limit = scores_since(evidence), params.baseline.cusum_limit
        if scores is None:
            return _no_score("score_falls", limit)
        total = cusum_statistic(scores, params.baseline.cusum_slack)
        reason = Reason.of(
            ReasonCode.SCORE_FELL, before=scores.reference, score=scores.seen[-1], total=total, limit=limit
        )
        return recommend_both(total > limit, reason, if_quantity("score_falls", limit))


def _no_score(quantity: str, limit: float) -> Recommendations:
    return recommend_both(False, Reason.of(ReasonCode.SCORE_UNMEASURED), if_quantity(quantity, limit))


class Drift:
    """Refresh where the documents drifted, retrain where the examples did.

    Documents: `shift`, the energy distance of the new chunks' vectors to the old ones (0-1), above
    `policy.baseline.drift_limit`. Examples: `excess_loss`, the live model's extra loss on new ones (nats a token),
    above `policy.excess_loss_full`. In the manner of Modyn's DataDriftTrigger (Böther et al. 2025, "Modyn: Data-Centric
    Machine Learning Pipeline Orchestration"): it takes the value, not the lower end, whatever the gain and the cost.
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:  # noqa: ARG002 - at any price
        return Recommendations(
            refresh=_recommend_by_drift("shift", evidence.text.shift, params.baseline.drift_limit),
            retrain=_recommend_by_drift("excess_loss", evidence.training.excess_loss, params.excess_loss_full),
        )


def _recommend_by_drift(signal: str, measured: Measure, limit: float) -> Recommendation:
    wanted = measured.value is not None and measured.value > limit
    reason = Reason.of(ReasonCode.DRIFT, signal=signal, value=measured.value, limit=limit, why=measured.why)
    return recommend(wanted, reason, if_quantity(signal, limit))


class Cara:
    """Index and model once what staleness has cost since the last action pays for them.

    In the manner of CARA's cumulative threshold (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine
    learning", Knowledge-Based Systems; arXiv:2310.04216). There a stale model costs what the queries lose by it, and
    the threshold is fitted on an earlier stretch of the stream. Here each cycle costs the points (0-100) by which the
    live score lies below that after the last action, and the threshold is the price of index and model with their
    proof: `policy.points_per_hour` times the hours. A score alone has no attribution, so it is always both.
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:
        price = round(_price_points(evidence, options, params), 6)
        scores = scores_since(evidence)
        if scores is None:
            return _no_score("staleness_cost", price)
        lost = _lost_points(scores)
        reason = Reason.of(ReasonCode.STALENESS_COST, points=lost, price=price)
        return recommend_both(lost >= price, reason, if_quantity("staleness_cost", price))


def _lost_points(scores: LiveScores) -> float:
    """Points lost since the last action; rounded, so that what is equal on paper is equal."""
    return round(sum(100 * max(0.0, drop) for drop in scores.drops), 6)


def _price_points(evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> float:
    """What index and model, proved together, must gain, in points of answer score."""
    joint = options.refresh.action.with_retrain()
    return params.points_per_hour * forecast_seconds(joint, evidence.limits) / HOUR


class Modyn:
    """A component once the data that waits for it has waited long enough to pay for it.

    In the manner of Modyn's DataIncorporationLatencyCostTrigger (Böther et al. 2025, "Modyn: Data-Centric Machine
    Learning Pipeline Orchestration"): the regret is the area under the curve of data not yet taken in, and it triggers
    when it passes the cost. Each cycle adds 100 points times the share that waits; the cost of a component is
    `policy.points_per_hour` times its hours, with the proof. Index: the share of changed chunks, as each cycle recorded
    it. Model: the share of new examples today, for each cycle since the last retrain, since no record holds it cycle by
    cycle: as if all had come at once, and so at most twice the area of a steady stream.
    """

    def choose(self, evidence: Evidence, options: ComponentOptions, params: PolicyParams) -> Recommendations:
        return Recommendations(
            refresh=_recommend_by_backlog(options.refresh, _chunk_backlog(evidence), params),
            retrain=_recommend_by_backlog(options.retrain, _example_backlog(evidence), params),
        )


@dataclass(frozen=True)
class Backlog:
    """Data that waits to be taken in: the regret in points (None: unknown), and the cycles that it was summed over."""

    quantity: str
    points: float | None
    cycles: int


def _chunk_backlog(evidence: Evidence) -> Backlog:
    # A cycle whose share was not recorded adds nothing: it is not known that anything waited.
    shares = [decision.changed_share or 0.0 for decision in since_refresh(evidence.limits.past)]
    points = 100 * sum([*shares, evidence.data.delta.changed_share])
    return Backlog("chunk_backlog", points, len(shares) + 1)


def _example_backlog(evidence: Evidence) -> Backlog:
    cycles, share = len(since_retrain(evidence.limits.past)) + 1, new_example_share(evidence.training)
    return Backlog("example_backlog", None if share is None else 100 * share * cycles, cycles)


def _recommend_by_backlog(option: CostBenefit, backlog: Backlog, params: PolicyParams) -> Recommendation:
    # Rounded, so that what is equal on paper does not exceed the price.
    price = round(params.points_per_hour * option.seconds / HOUR, 6)
    points = None if backlog.points is None else round(backlog.points, 6)
    wanted = points is not None and points > price
    reason = Reason.of(ReasonCode.BACKLOG, quantity=backlog.quantity, points=points, cycles=backlog.cycles, price=price)
    return recommend(wanted, reason, if_quantity(backlog.quantity, price))
