"""Decision: the action that the evidence calls for, from a policy's recommendations and the rules.

Pure, whatever the policy: the same evidence and params give the same decision to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import ComponentOptions, Recommendations
from ragtide.pipelines.policy.registry import load_policy
from ragtide.pipelines.policy.rules import (
    FinalDecision,
    decide_refresh,
    decide_retrain,
    decide_tuning,
    deleted_in_index,
    joined_action,
    lost_golden,
)
from ragtide.pipelines.policy.weigh import HOUR, forecast_seconds, weigh_components
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Decision, Option
from ragtide.pipelines.records.evidence import NOT_REQUESTED, DataChange, Evidence, StaleLine
from ragtide.pipelines.records.reason import Reason, ReasonCode

# The signals that are listed where they could not be measured; the others are parts of the same measurement, or follow
# from it.
LISTED_SIGNALS = (
    "score_gold",
    "refresh_gain",
    "changed_sentence_share",
    "missing_answers",
    "embedder_gap",
    "stale_facts",
    "resurfaced_deletions",
    "novelty",
    "shift",
    "vocabulary",
    "excess_loss",
)
# A share of captured questions above which the document is named (docs/log.md).
CAPTURED_SHARE = 0.1
# The largest answer score.
MOST_POINTS = 100.0
# Documents that a reason names; the others are counted.
NAMED_DOCUMENTS = 3


def make_decision(evidence: Evidence, params: PolicyParams) -> Decision:
    """The action that the evidence calls for. Same evidence and params, same decision to the byte."""
    options = weigh_components(evidence, params)
    recommended = load_policy(params.name).choose(evidence, options, params)
    decisions = _apply_rules(options, recommended, evidence, params)
    wanted = joined_action(decisions)
    action = _allowed(wanted, evidence, params)
    reasons = _reasons_besides(evidence)
    if not action.refreshes and evidence.text.substantive_sentences:
        reasons = (_facts_wait(evidence), *reasons)
    if wanted != action:
        reasons += (_pending_reason(wanted, action, evidence, params),)
    return Decision(
        action=action,
        policy=params.name,
        proposed=_proposed(action, wanted),
        reasons=reasons,
        options=_options(decisions, evidence),
        unmeasured_signals=unmeasured_signals(evidence),
    )


def _apply_rules(
    options: ComponentOptions, recommended: Recommendations, evidence: Evidence, params: PolicyParams
) -> list[FinalDecision]:
    """The decisions on the index, the embedder (where it is considered) and the model, in this order."""
    refresh = decide_refresh(FinalDecision(options.refresh, recommended.refresh), evidence, params)
    tune = decide_tuning(options.tune, recommended.tune, refresh, evidence, params)
    index = [refresh, tune] if tune else [refresh]
    retrain = decide_retrain(FinalDecision(options.retrain, recommended.retrain), index, evidence, params)
    return [*index, retrain]


# --- approvals -----------------------------------------------------------------------------------------------------


def _allowed(wanted: Action, evidence: Evidence, params: PolicyParams) -> Action:
    """What goes ahead: all of what is wanted, the first parts of it, or nothing before a person has approved."""
    if _golden_waits(wanted, evidence):
        return Action.REMOVE if params.mode == "act" and deleted_in_index(evidence.data) else Action.HOLD
    if wanted == Action.NOTHING:
        return Action.HOLD if _data_needs_approval(evidence.data) else wanted
    for action in wanted.stages:
        if action in evidence.limits.approved_actions or _needs_no_approval(action, evidence, params):
            return action
    return Action.HOLD


def _golden_waits(wanted: Action, evidence: Evidence) -> bool:
    """Whether too many golden questions go out of play and nobody has answered for this data.

    Deleted documents leave the index all the same.
    """
    limits = evidence.limits
    declined = wanted == Action.NOTHING and Action.REFRESH in limits.rejected_actions
    is_answered = bool(limits.approved_actions) or declined
    return lost_golden(evidence.data) is not None and not is_answered


def _needs_no_approval(action: Action, evidence: Evidence, params: PolicyParams) -> bool:
    limit = params.approve_above_seconds
    return params.mode == "act" and (limit is None or forecast_seconds(action, evidence.limits) <= limit)


def _proposed(action: Action, wanted: Action) -> Action | None:
    """What an approval would start: what was wanted, or what is held back of the documents and questions."""
    if wanted not in (action, Action.NOTHING):
        return wanted
    return Action.REFRESH if action == Action.HOLD else None


def _data_needs_approval(data: DataChange) -> bool:
    deletions = bool(data.pending_deletions) and data.deletions_rejected_reason is None
    return deletions or (bool(data.withheld) and data.withheld_rejected_reason is None)


def _pending_reason(wanted: Action, action: Action, evidence: Evidence, params: PolicyParams) -> Reason:
    """Why what is wanted waits, and what goes ahead meanwhile."""
    if _golden_waits(wanted, evidence) and (lost := lost_golden(evidence.data)):
        return lost
    if wanted == Action.NOTHING:
        return Reason.of(ReasonCode.APPROVAL_ONLY)
    meanwhile = None if action == Action.HOLD else str(action)
    if params.mode == "suggest":
        return Reason.of(ReasonCode.SUGGEST_MODE, action=str(wanted), meanwhile=meanwhile)
    return Reason.of(
        ReasonCode.OVER_COST_LIMIT,
        action=str(wanted),
        seconds=forecast_seconds(wanted, evidence.limits),
        limit=params.approve_above_seconds,
        meanwhile=meanwhile,
    )


# --- options and reasons -------------------------------------------------------------------------------------------


def _options(decisions: Sequence[FinalDecision], evidence: Evidence) -> tuple[Option, ...]:
    """NOTHING, each component's action, and several together: those that are wanted, or else index and model."""
    wanted = [decision for decision in decisions if decision.wanted]
    both = len(wanted) > 1
    together = wanted if both else [decisions[0], decisions[-1]]
    joint = reduce(or_, (decision.action for decision in together))
    return (
        _nothing(evidence.data),
        *(_component_option(decision, evidence) for decision in decisions),
        _weighed(joint, together, evidence).model_copy(
            update={
                "worth_it": both,
                "reasons": (Reason.of(ReasonCode.BOTH_WANTED if both else ReasonCode.NOT_BOTH_WANTED),),
            }
        ),
    )


def _nothing(data: DataChange) -> Option:
    code = ReasonCode.NOTHING_CHANGED if data.changes.is_empty else ReasonCode.KEEPS_LIVE
    return Option(
        action=Action.NOTHING,
        gain_points=0.0,
        gain_points_low=0.0,
        gain_points_high=0.0,
        cost_seconds=0.0,
        points_per_hour=None,
        worth_it=False,
        reasons=(Reason.of(code),),
    )


def _component_option(decision: FinalDecision, evidence: Evidence) -> Option:
    """One component's action, with its reasons."""
    recommendation = decision.recommendation
    return _weighed(decision.action, [decision], evidence).model_copy(
        update={
            "worth_it": recommendation.wanted,
            "reasons": recommendation.reasons,
            "counterfactual": recommendation.counterfactual,
        }
    )


def _weighed(action: Action, gaining: Sequence[FinalDecision], evidence: Evidence) -> Option:
    """An action with its gain and its cost, and no reasons yet."""
    cost, price = forecast_seconds(action, evidence.limits), evidence.limits.costs.price_per_hour
    gains = [decision.option.gain for decision in gaining]
    gaps = [gain.gap for gain in gains if gain.gap is not None]
    lasting = sum(decision.option.gain.low * decision.option.lasts_cycles for decision in gaining)
    return Option(
        action=action,
        gain_points=_sum_points(gain.points for gain in gains),
        gain_points_low=_sum_points(gain.low for gain in gains),
        gain_points_high=_sum_points(gain.high for gain in gains),
        gap_points=_join_gaps(gaps, evidence) if gaps else None,
        cost_seconds=round(cost, 1),
        cost_money=None if price is None else round(price * cost / HOUR, 4),
        points_per_hour=round(lasting * HOUR / cost, 1),
        worth_it=False,
        reasons=(),
    )


def _join_gaps(gaps: Sequence[float], evidence: Evidence) -> float:
    """Gaps together: not more than the largest of them or the distance to the target, since they may overlap."""
    index, model = evidence.scores.index_gap.value, evidence.scores.model_gap.value
    if index is None or model is None or len(gaps) == 1:
        return _sum_points(gaps)
    return round(min(_sum_points(gaps), max(100 * (index + model), *gaps)), 2)


def _sum_points(points: Iterable[float]) -> float:
    """Gains together, which cannot be more than all points that there are."""
    return round(min(MOST_POINTS, sum(points)), 2)


def _reasons_besides(evidence: Evidence) -> tuple[Reason, ...]:
    """What an operator should know besides the reasons of each option."""
    data, training, stale = evidence.data, evidence.training, evidence.scores.stale_questions
    reasons: list[Reason] = []
    if data.pending_deletions:
        reasons.append(_pending_removals(data))
    if data.emptied_documents:
        emptied = len(data.emptied_documents)
        reasons.append(Reason.of(ReasonCode.DOCUMENTS_EMPTIED, documents=emptied, rows=data.lost_rows))
    if data.withheld:
        reasons.append(_withheld_reason(data))
    captured = evidence.text.captured_questions.value
    if captured is not None and captured > CAPTURED_SHARE:
        document = evidence.text.captured_by
        reasons.append(Reason.of(ReasonCode.QUESTIONS_CAPTURED, document=document, share=captured))
    if data.quarantined:
        reasons.append(Reason.of(ReasonCode.QUARANTINED, documents=len(data.quarantined)))
    if training.filtered:
        reasons.append(Reason.of(ReasonCode.FILTERED, lines=sum(training.filtered.values())))
    if training.suspects:
        reasons.append(Reason.of(ReasonCode.SUSPECTS, lines=len(training.suspects), where=training.suspects[0]))
    if data.deleted_training_documents:
        reasons.append(Reason.of(ReasonCode.TRAINED_ON_DELETED, documents=len(data.deleted_training_documents)))
    if stale:
        reasons.append(Reason.of(ReasonCode.STALE_QUESTIONS, questions=len(stale)))
    if data.outdated_paths:
        reasons.append(_outdated_paths(data))
    return (*_stale_lines(data.golden.lines), *reasons)


def _stale_lines(lines: Sequence[StaleLine]) -> list[Reason]:
    """That changed golden lines are stale, and the first of them."""
    count = [Reason.of(ReasonCode.GOLDEN_LINES, lines=len(lines))] if lines else []
    named = [
        Reason.of(ReasonCode.GOLDEN_LINE, where=line.where, answer=line.answer, documents=", ".join(line.documents))
        for line in lines[:NAMED_DOCUMENTS]
    ]
    return [*count, *named]


def _pending_removals(data: DataChange) -> Reason:
    why, emptied = data.deletions_rejected_reason, len({*data.emptied_documents} & data.pending_deletions.keys())
    counts = {"documents": len(data.pending_deletions)} | ({"emptied": emptied} if emptied else {})
    if why is None:
        return Reason.of(ReasonCode.DELETIONS_PENDING, **counts)
    return Reason.of(ReasonCode.DELETIONS_DECLINED, **counts, why=why)


def _outdated_paths(data: DataChange) -> Reason:
    before, after = next(iter(data.outdated_paths.items()))
    return Reason.of(ReasonCode.OUTDATED_PATHS, documents=len(data.outdated_paths), before=before, after=after)


def _facts_wait(evidence: Evidence) -> Reason:
    sentences, due_by = evidence.text.substantive_sentences, evidence.data.facts_due_by
    return Reason.of(ReasonCode.FACTS_WAIT, sentences=sentences, due_by=due_by)


def _withheld_reason(data: DataChange) -> Reason:
    names = ", ".join(sorted(data.withheld)[:NAMED_DOCUMENTS])
    if data.withheld_rejected_reason is None:
        return Reason.of(ReasonCode.DOCUMENTS_WITHHELD, documents=len(data.withheld), names=names)
    why = data.withheld_rejected_reason
    return Reason.of(ReasonCode.WITHHELD_DECLINED, documents=len(data.withheld), names=names, why=why)


def unmeasured_signals(evidence: Evidence) -> dict[str, str]:
    """The signals that were requested and could not be measured, and why."""
    measures = evidence.measures
    return {
        name: measures[name].why or ""
        for name in LISTED_SIGNALS
        if measures[name].value is None and measures[name].why != NOT_REQUESTED.why
    }
