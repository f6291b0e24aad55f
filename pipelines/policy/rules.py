"""Rules that hold under every policy: what must be done, and what is not done whatever it would gain.

Nothing is served without an index, deleted documents must leave it, what was rejected is not tried again on the same
data, and the budget and the cool-down are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import CostBenefit, Recommendation
from ragtide.pipelines.policy.weigh import HOUR, forecast_seconds, too_few_examples
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import DataChange, Evidence, Limits
from ragtide.pipelines.records.reason import Reason, ReasonCode

OTHER_DATA = Reason.of(ReasonCode.IF_OTHER_DATA)
BUDGET_LEFT = Reason.of(ReasonCode.IF_BUDGET_LEFT)
# A change that puts more than this share of the golden questions out of play, and at least so many, needs an approval:
# the rest would no longer show what it did (docs/log.md).
LOST_GOLDEN_SHARE, LEAST_LOST_QUESTIONS = 0.1, 2


@dataclass(frozen=True)
class FinalDecision:
    """The decision on one component after the rules: the policy's recommendation, or what the rules made of it."""

    option: CostBenefit
    recommendation: Recommendation

    @property
    def action(self) -> Action:
        return self.option.action

    @property
    def wanted(self) -> bool:
        return self.recommendation.wanted

    def declined(self, counterfactual: Reason, *obstacle: Reason) -> FinalDecision:
        """Not to be done, for what stands in the way, which is named first."""
        reasons = (*obstacle, *self.recommendation.reasons)
        return replace(self, recommendation=Recommendation(False, reasons, counterfactual))


def decide_refresh(refresh: FinalDecision, evidence: Evidence, params: PolicyParams) -> FinalDecision:
    """The rules for the index."""
    action, limits = refresh.action, evidence.limits
    must = required_refresh(evidence.data, params)
    if reason := must or due_facts(evidence):
        reasons = (reason, *refresh.recommendation.reasons)
        counterfactual = Reason.of(ReasonCode.IF_REJECTED_BEFORE if must else ReasonCode.IF_FACTS_MAY_WAIT)
        refresh = replace(refresh, recommendation=Recommendation(True, reasons, counterfactual))
    # A person who released withheld documents has overruled the gate's rejection of the same data.
    rejected = None if evidence.data.approved_documents else limits.rejected_actions.get(action)
    if rejected:
        return refresh.declined(OTHER_DATA, Reason.of(ReasonCode.REJECTED_BEFORE, why=rejected))
    if not must and refresh.wanted and (over := _over_budget(refresh.option.seconds, limits, params)):
        return refresh.declined(BUDGET_LEFT, over)
    if {action.with_retrain(), Action.REFRESH.with_retrain()} & set(limits.rejected_actions) and not refresh.wanted:
        return refresh.declined(OTHER_DATA)
    return refresh


def joined_action(decisions: Iterable[FinalDecision]) -> Action:
    """The actions that are wanted as one."""
    return reduce(or_, (decision.action for decision in decisions if decision.wanted), Action.NOTHING)


def decide_tuning(
    tune: CostBenefit | None,
    recommendation: Recommendation | None,
    refresh: FinalDecision,
    evidence: Evidence,
    params: PolicyParams,
) -> FinalDecision | None:
    """The rules for the embedder; None where it cannot be tuned, or the policy does not consider it."""
    if tune is None or recommendation is None:
        return None
    decision = FinalDecision(tune, recommendation)
    if rejected := evidence.limits.rejected_actions.get(tune.action):
        return decision.declined(OTHER_DATA, Reason.of(ReasonCode.REJECTED_BEFORE, why=rejected))
    if not recommendation.wanted:
        return decision
    if obstacle := _tuning_obstacle(evidence):
        return decision.declined(OTHER_DATA, Reason.of(obstacle))
    seconds = forecast_seconds(joined_action([refresh, decision]), evidence.limits)
    if over := _over_budget(seconds, evidence.limits, params):
        return decision.declined(BUDGET_LEFT, over)
    return decision


def _tuning_obstacle(evidence: Evidence) -> ReasonCode | None:
    """Why the embedder is not tuned with this change of the data; None where it may be.

    Without a change its gap was as large when the live release was built: looking again is no new evidence. What a
    person has approved may have waited while the index was refreshed.
    """
    if evidence.data.delta.rebuild:
        return ReasonCode.REBUILD_FIRST
    if Action.TUNE_EMBEDDER in evidence.limits.approved_actions:
        return None
    return ReasonCode.TUNES_WITH_CHANGES if evidence.data.changes.is_empty else None


def decide_retrain(
    retrain: FinalDecision, index: Sequence[FinalDecision], evidence: Evidence, params: PolicyParams
) -> FinalDecision:
    """The rules for the model, after the decisions on the `index` and its embedder; it waits where they go first.

    That is without an index, and where both at once were rejected for this data: of the two the refresh is the cheaper,
    and what it gains changes what a retrain is worth.
    """
    before, limits, training = joined_action(index), evidence.limits, evidence.training
    # Without a wanted index the pair that may have been rejected is that of the index's first action.
    joint = (before if before.builds else index[0].action).with_retrain()
    if rejected := limits.rejected_actions.get(Action.RETRAIN):
        return retrain.declined(OTHER_DATA, Reason.of(ReasonCode.REJECTED_BEFORE, why=rejected))
    if not retrain.wanted:
        return retrain.declined(OTHER_DATA) if joint in limits.rejected_actions else retrain
    if training.examples < training.min_examples:
        few, needs = too_few_examples(training)
        return retrain.declined(needs, few)
    if not before.builds and evidence.data.live_release is None:
        return retrain.declined(OTHER_DATA, Reason.of(ReasonCode.INDEX_FIRST))
    if before.builds and (rejected := limits.rejected_actions.get(joint)):
        return retrain.declined(OTHER_DATA, Reason.of(ReasonCode.REJECTED_WITH_REFRESH, why=rejected))
    return _within_limits(retrain, before.with_retrain(), limits, params)


def required_refresh(data: DataChange, params: PolicyParams) -> Reason | None:
    """Why the index must change, whatever that gains; None where it need not.

    Without an index nothing is served; what was deleted must not be (invariant deleted-is-gone). Vectors of two
    embedders never mix (invariant embedder-in-index): who has set another one has asked for a rebuild. A document under
    another name is not deleted: no answer changes with it.
    """
    delta = data.delta
    if data.live_release is None:
        return Reason.of(ReasonCode.NO_INDEX)
    if delta.rebuild:
        return Reason.of(ReasonCode.REBUILD_NEEDED, why=delta.rebuild)
    if deleted := deleted_in_index(data):
        return Reason.of(ReasonCode.DELETED_IN_INDEX, documents=deleted)
    if data.approved_documents:
        return Reason.of(ReasonCode.DOCUMENTS_APPROVED, documents=data.approved_documents)
    if delta.documents_renamed and params.refresh_on_rename:
        return Reason.of(ReasonCode.RENAMED_IN_INDEX, documents=delta.documents_renamed)
    return None


def deleted_in_index(data: DataChange) -> int:
    """How many deleted documents the live index still has and may lose; a renamed one is not deleted."""
    return max(0, data.delta.documents_deleted - data.delta.documents_renamed)


def lost_golden(data: DataChange, with_pending: bool = False) -> Reason | None:
    """Why a change of the golden set needs an approval; None where too few questions go out of play.

    `with_pending` counts those too that go out of play once the pending removals of documents are approved.
    """
    lost = len(data.golden.lost) + (len(data.golden.pending) if with_pending else 0)
    if lost < LEAST_LOST_QUESTIONS or lost <= LOST_GOLDEN_SHARE * data.golden.in_play:
        return None
    return Reason.of(ReasonCode.GOLDEN_LOST, questions=lost, in_play=data.golden.in_play)


def due_facts(evidence: Evidence) -> Reason | None:
    """Why what the documents newly say goes live now, whatever that gains; None where it may wait.

    Unlike what must be done, it keeps the budget (invariant facts-are-due).
    """
    if not evidence.data.facts_are_due:
        return None
    return Reason.of(ReasonCode.FACTS_DUE, sentences=evidence.text.substantive_sentences)


def _within_limits(retrain: FinalDecision, action: Action, limits: Limits, params: PolicyParams) -> FinalDecision:
    """The limits of params.yaml on how often and how long a model is trained; the cost is that of the whole action."""
    since = limits.hours_since_retrain
    if since is not None and since < params.cool_down_hours:
        cooling = Reason.of(ReasonCode.COOL_DOWN, hours=since, limit=params.cool_down_hours)
        return retrain.declined(Reason.of(ReasonCode.IF_COOLED_DOWN), cooling)
    if over := _over_budget(forecast_seconds(action, limits), limits, params):
        return retrain.declined(BUDGET_LEFT, over)
    return retrain


def _over_budget(cost_seconds: float, limits: Limits, params: PolicyParams) -> Reason | None:
    """Why this does not fit into the week's budget; None where it does."""
    budget, spent, hours = params.budget_hours_per_week, limits.spent_hours, cost_seconds / HOUR
    if budget is None or spent + hours <= budget:
        return None
    return Reason.of(ReasonCode.OVER_BUDGET, spent=spent, budget=budget, hours=hours)
