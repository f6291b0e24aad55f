"""Which action does the evidence call for? Evidence and params in, a decision out: pure, whatever the policy.

A policy (decide/policies/) says what it wants. What holds under every policy is here: nothing is served without an
index, what is gone must not be found, what was refused is not tried again on the same data, the budget, the cool-down,
and what waits for a person's yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.interface import CostBenefit, Recommendation
from ragtide.pipelines.policy.learning import learned_share
from ragtide.pipelines.policy.registry import load_policy
from ragtide.pipelines.policy.weigh import HOUR, forecast_seconds, weigh_components
from ragtide.pipelines.records.action import Action, Component
from ragtide.pipelines.records.decision import Decision, Option
from ragtide.pipelines.records.evidence import Evidence, Measure

SIGNALS = (
    ("score with the right passage", "score_gold"),
    ("what a refresh can win back", "refresh_gain"),
    ("sentences that are news", "changed_sentence_share"),
    ("answers that the live rows lack", "missing_answers"),
    ("what only a better retriever can win back", "embedder_gap"),
    ("stale answers", "stale_facts"),
    ("removed text that comes back", "resurfaced_deletions"),
    ("novelty of new chunks", "novelty"),
    ("shift of the documents", "shift"),
    ("new vocabulary", "vocabulary"),
    ("surprise of new examples", "excess_loss"),
)


@dataclass(frozen=True)
class FinalDecision:
    """A half after the rules: done or not, why, and what would have turned it round."""

    weighed: CostBenefit
    wish: Recommendation

    @property
    def action(self) -> Action:
        return self.weighed.action

    @property
    def wanted(self) -> bool:
        return self.wish.wanted


def decide(evidence: Evidence, params: PolicyParams) -> Decision:
    """The action that the evidence calls for. Same evidence and params, same decision to the byte."""
    halves = weigh_components(evidence, params)
    choice = load_policy(params.name).choose(evidence, halves, params)
    refresh = _settle_refresh(FinalDecision(halves.refresh, choice.refresh), evidence, params)
    tune = _settle_tune(halves.tune, choice.tune, evidence, params)
    # A tuned retriever needs every row anew, so a refresh is part of it.
    index = tune if tune and tune.wanted else refresh
    retrain = _settle_retrain(FinalDecision(halves.retrain, choice.retrain), index, evidence, params)
    settled = (refresh, *([tune] if tune else []), retrain)
    wanted = _together(index, retrain)
    action = _allowed(wanted, (index, refresh), evidence, params)
    proposed = _proposed(action, wanted, evidence)
    reasons = (*(f"{_yes(one)} {one.action}: {one.wish.because}." for one in settled), *_also(evidence))
    if wanted != action:
        reasons += (_over_limit(wanted, action, evidence, params),)
    return Decision(
        action=action,
        policy=params.name,
        proposed=proposed,
        explanation=_explanation(action, settled, reasons[len(settled) :], evidence),
        reasons=reasons,
        options=_options(settled, evidence),
        counterfactuals=tuple(one.wish.otherwise for one in settled),
        unmeasured_signals=_lacks(evidence),
    )


# --- what holds whatever the policy --------------------------------------------------------------------------------


def _settle_refresh(refresh: FinalDecision, evidence: Evidence, params: PolicyParams) -> FinalDecision:
    action = refresh.action
    if must := _must(evidence, params):
        because = f"{must}; {refresh.wish.because}"
        otherwise = f"{action} would not have been chosen only if it had been refused before: {must}"
        refresh = replace(refresh, wish=Recommendation(True, because, otherwise))
    if refused := evidence.rejected_actions.get(action):
        return _not(refresh, refused, _weighed_again(action))
    if not must and refresh.wanted and (broke := _broke(refresh.weighed.seconds, evidence, params)):
        return _not(refresh, broke, f"{action} would have been chosen with more left of policy.budget_hours_per_week")
    if {action.with_retrain(), Action.REFRESH.with_retrain()} & set(evidence.rejected_actions) and not refresh.wanted:
        return _not(refresh, None, _weighed_again(action))
    return refresh


def _settle_tune(
    tune: CostBenefit | None, wish: Recommendation | None, evidence: Evidence, params: PolicyParams
) -> FinalDecision | None:
    """None where the retriever cannot be tuned, or the policy does not know how to ask for it."""
    if tune is None or wish is None:
        return None
    settled = FinalDecision(tune, wish)
    if refused := evidence.rejected_actions.get(tune.action):
        return _not(settled, refused, _weighed_again(tune.action))
    if not wish.wanted:
        return settled
    if evidence.delta.rebuild:
        return _not(settled, "the index is made anew for other settings first", _weighed_again(tune.action))
    if broke := _broke(tune.seconds, evidence, params):
        return _not(settled, broke, f"{tune.action} would have been chosen with more left of the week's budget")
    return settled


def _settle_retrain(
    retrain: FinalDecision, refresh: FinalDecision, evidence: Evidence, params: PolicyParams
) -> FinalDecision:
    """A retrain waits where a refresh goes first: without an index, and where both at once were refused for this data.

    Of the two the refresh is the cheaper, and what it brings changes what a retrain is worth.
    """
    joint = refresh.action.with_retrain()
    if refused := evidence.rejected_actions.get(Action.RETRAIN):
        return _not(retrain, refused, _weighed_again(Action.RETRAIN))
    if not retrain.wanted:
        again = _weighed_again(Action.RETRAIN) if joint in evidence.rejected_actions else None
        return _not(retrain, None, again) if again else retrain
    if evidence.examples < evidence.min_examples:
        needs = f"RETRAIN would have been weighed had there been {evidence.min_examples} examples"
        return _not(retrain, f"{evidence.examples} examples are too few to learn from", needs)
    if not refresh.wanted and evidence.live_release is None:
        return _not(retrain, "a model is not released without an index", _weighed_again(Action.RETRAIN))
    if refresh.wanted and (both := evidence.rejected_actions.get(joint)):
        return _not(retrain, f"with a refresh it waits, since together {both}", _weighed_again(Action.RETRAIN))
    return _within_limits(
        retrain, forecast_seconds(joint if refresh.wanted else Action.RETRAIN, evidence), evidence, params
    )


def _within_limits(
    retrain: FinalDecision, cost_seconds: float, evidence: Evidence, params: PolicyParams
) -> FinalDecision:
    """The limits of params.yaml on how often and how long one trains; the cost is that of all that is to be done."""
    since = evidence.hours_since_retrain
    if since is not None and since < params.cool_down_hours:
        why = f"the last retrain was {since} hours ago, and policy.cool_down_hours is {params.cool_down_hours:g}"
        return _not(retrain, why, "RETRAIN would have been chosen after the cool-down")
    if broke := _broke(cost_seconds, evidence, params):
        return _not(retrain, broke, "RETRAIN would have been chosen with more left of policy.budget_hours_per_week")
    return retrain


def _must(evidence: Evidence, params: PolicyParams) -> str | None:
    """Without an index nothing is served; what was removed must not be (law 6).

    Vectors of two embedders never mix (law 9): who has set another one has asked for a rebuild. A document that has
    only another name is not gone: no answer changes with it.
    """
    delta = evidence.delta
    if evidence.live_release is None:
        return "there is no index yet"
    if delta.rebuild:
        return delta.rebuild
    gone = delta.documents_deleted - delta.documents_renamed
    if gone > 0:
        told = "1 document is" if gone == 1 else f"{gone} documents are"
        return f"{told} gone from where the index has them: readers must not find what is gone"
    if delta.documents_renamed and params.refresh_on_rename:
        many = delta.documents_renamed
        told = "1 document has" if many == 1 else f"{many} documents have"
        return f"{told} another name, and policy.refresh_on_rename is set"
    return None


def _broke(cost_seconds: float, evidence: Evidence, params: PolicyParams) -> str | None:
    """Why this does not fit into the week's budget."""
    budget, spent, cost = params.budget_hours_per_week, evidence.spent_hours, cost_seconds / HOUR
    if budget is None or spent + cost <= budget:
        return None
    return f"{spent:.2f} of the {budget:g} hours a week are spent, and it takes {cost:.2f}"


def _not(settled: FinalDecision, why: str | None, otherwise: str) -> FinalDecision:
    because = settled.wish.because if why is None else f"{settled.wish.because}; but {why}"
    return replace(settled, wish=Recommendation(False, because, otherwise))


def _weighed_again(action: Action) -> str:
    return f"{action} would be weighed again on other data, or under other params"


def _together(index: FinalDecision, retrain: FinalDecision) -> Action:
    if index.wanted and retrain.wanted:
        return index.action.with_retrain()
    return index.action if index.wanted else Action.RETRAIN if retrain.wanted else Action.NOTHING


# --- what waits for a person ---------------------------------------------------------------------------------------


def _allowed(wanted: Action, index: Sequence[FinalDecision], evidence: Evidence, params: PolicyParams) -> Action:
    """What goes ahead: all of what is wanted, a cheaper part of it, or nothing before a person has said yes.

    `index` is what is wanted for the index, and the least that would do for it.
    """
    if wanted == Action.NOTHING:
        return Action.HOLD if _asks_to_remove(evidence) else wanted
    parts = [one.action for one in index if one.wanted] if wanted.refreshes else []
    for action in (wanted, *parts):
        if action in evidence.approved_actions or _is_free(action, evidence, params):
            return action
    return Action.HOLD


def _is_free(action: Action, evidence: Evidence, params: PolicyParams) -> bool:
    """Whether nobody wants to be asked about it."""
    limit = params.approve_above_seconds
    return params.mode == "act" and (limit is None or forecast_seconds(action, evidence) <= limit)


def _proposed(action: Action, wanted: Action, evidence: Evidence) -> Action | None:
    """What a yes would set going: what was wanted, or the removals that the guard holds back."""
    if wanted != action and wanted != Action.NOTHING:
        return wanted
    return Action.REFRESH if _asks_to_remove(evidence) and action == Action.HOLD else None


def _asks_to_remove(evidence: Evidence) -> bool:
    return bool(evidence.pending_deletions) and evidence.deletions_rejected_reason is None


def _over_limit(wanted: Action, action: Action, evidence: Evidence, params: PolicyParams) -> str:
    if wanted == Action.NOTHING:
        return "Nothing else is called for: this waits."
    meanwhile = "" if action == Action.HOLD else f"; {action} goes ahead meanwhile"
    if params.mode == "suggest":
        return f"policy.mode is suggest: {wanted} waits for `ragtide approve` with this plan's digest{meanwhile}."
    cost = f"{wanted} would take about {forecast_seconds(wanted, evidence):.0f} s"
    limit = f"over policy.approve_above_seconds = {params.approve_above_seconds:g}"
    return f"{cost}, {limit}: it waits for `ragtide approve` with this plan's digest{meanwhile}."


# --- how it is told ------------------------------------------------------------------------------------------------


def _options(settled: Sequence[FinalDecision], evidence: Evidence) -> tuple[Option, ...]:
    """Nothing, each action by itself, and index and model together; what tunes the retriever refreshes the rows."""
    refresh, *tunes, retrain = settled
    nothing = "nothing has changed" if evidence.changes.is_empty else "leaves the live release as it is"
    fresh = [refresh] if refresh.wanted else []
    index = [*fresh, *(one for one in tunes if one.wanted)] or [refresh]
    both = index[-1].wanted and retrain.wanted
    joint = "both halves at once" if both else "not both of them are worth it"
    return (
        Option(
            action=Action.NOTHING,
            gain_points=0.0,
            gain_points_low=0.0,
            gain_points_high=0.0,
            cost_seconds=0.0,
            points_per_hour=None,
            worth_it=False,
            because=nothing,
        ),
        _option(refresh.action, [refresh], refresh.wanted, refresh.wish.because, evidence),
        *(_option(one.action, [*fresh, one], one.wanted, one.wish.because, evidence) for one in tunes),
        _option(retrain.action, [retrain], retrain.wanted, retrain.wish.because, evidence),
        _option(index[-1].action.with_retrain(), [*index, retrain], both, joint, evidence),
    )


def _option(
    action: Action,
    halves: Sequence[FinalDecision],
    worth_it: bool,
    because: str,
    evidence: Evidence,
) -> Option:
    cost, price = forecast_seconds(action, evidence), evidence.costs.price_per_hour
    points, low, high = (sum(getattr(one.weighed.gain, end) for one in halves) for end in ("points", "low", "high"))
    return Option(
        action=action,
        gain_points=round(points, 2),
        gain_points_low=round(low, 2),
        gain_points_high=round(high, 2),
        gap_points=_gap(halves),
        cost_seconds=round(cost, 1),
        cost_money=None if price is None else round(price * cost / HOUR, 4),
        points_per_hour=round(sum(one.weighed.gain.low * one.weighed.lasts_cycles for one in halves) * HOUR / cost, 1),
        worth_it=worth_it,
        because=because,
    )


def _gap(halves: Sequence[FinalDecision]) -> float | None:
    gaps = [one.weighed.gain.gap for one in halves if one.weighed.gain.gap is not None]
    return round(sum(gaps), 2) if gaps else None


def _also(evidence: Evidence) -> tuple[str, ...]:
    """What an operator should know besides."""
    lines: list[str] = []
    if evidence.pending_deletions:
        gone = (
            f"{len(evidence.pending_deletions)} documents are gone, more than the guard allows at once: their removal"
        )
        lines.append(
            f"{gone} waits for `ragtide approve` with this plan's digest, and their passages stay until then."
            if evidence.deletions_rejected_reason is None
            else f"{gone} was rejected by a person ({evidence.deletions_rejected_reason}), and their passages stay."
        )
    if evidence.quarantined:
        lines.append(
            f"{len(evidence.quarantined)} documents cannot be read and are set aside; `ragtide status` says why."
        )
    if evidence.filtered:
        lines.append(
            f"{sum(evidence.filtered.values())} training lines are left out; `ragtide examples` lists what is wrong."
        )
    if evidence.deleted_training_documents:
        many = len(evidence.deleted_training_documents)
        told = "1 document that is" if many == 1 else f"{many} documents that are"
        lines.append(f"The live adapter was taught from {told} gone: `ragtide lineage` lists what it has seen.")
    if evidence.stale_questions:
        lines.append(f"{len(evidence.stale_questions)} golden questions are stale and were not scored.")
    return tuple(lines)


def _yes(settled: FinalDecision) -> str:
    return "Yes to" if settled.wanted else "No to"


def _explanation(action: Action, halves: Sequence[FinalDecision], also: Sequence[str], evidence: Evidence) -> str:
    """One paragraph in plain words: what is done, why, why not the rest, and what it leans on."""
    done = [f"{one.action} is called for: {one.wish.because}" for one in halves if one.wanted]
    left = [f"{one.action} is not: {one.wish.because}" for one in halves if not one.wanted]
    head = {
        Action.NOTHING: "Nothing is to be done.",
        Action.HOLD: "Nothing is done before a person has said yes.",
    }.get(action, f"The decision is {action}.")
    cost = [f"It should take about {forecast_seconds(action, evidence):.0f} s"] if action.builds else []
    trust = [told] if action.retrains and (told := _trust(evidence)) else []
    sentences = ". ".join(part for part in (*done, *left, *cost, *trust))
    return " ".join([head, f"{sentences}.", *also])


def _trust(evidence: Evidence) -> str | None:
    learnt = learned_share(evidence.past, Component.MODEL)
    if not learnt.cycles:
        return None
    times = "retrain" if learnt.cycles == 1 else f"{learnt.cycles} retrains"
    return f"The last {times} recovered about {learnt.share:.0%} of what was expected"


def _lacks(evidence: Evidence) -> tuple[str, ...]:
    """The signals that were asked for and could not be measured, and why."""
    lacking: list[str] = []
    for name, field in SIGNALS:
        measured: Measure = getattr(evidence, field)
        if measured.value is None and measured.why != "not asked for":
            lacking.append(f"{name}: {measured.why}")
    return tuple(lacking)
