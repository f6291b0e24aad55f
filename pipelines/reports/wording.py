"""Wording of decisions and outcomes: every sentence about them, from codes and numbers.

The terminal, Markdown, HTML, Prefect and MLflow all show the sentences of this module; the clauses of single reasons
are in reports/reason_texts.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from textwrap import shorten

from ragtide.pipelines.history.lost_content import names_emptied
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Approval, Decision, Option, Plan, Rejection
from ragtide.pipelines.records.evidence import Costs, DataChange
from ragtide.pipelines.records.reason import Reason, ReasonCode
from ragtide.pipelines.records.release import Cycle, Outcome
from ragtide.pipelines.reports.reason_texts import counterfactual_text, reason_text, short_text
from ragtide.pipelines.reports.signals import agree, count_of, format_percent, signal_name

# What fits on one line of a terminal, of MLflow's table and of README's.
HEADLINE = 100
# The reasons that say what an action gains, where it is neither required nor impossible.
_GAINS = (
    ReasonCode.GAIN_WITH_TRAINED_MODEL,
    ReasonCode.GAIN_MEASURED,
    ReasonCode.GAIN_ESTIMATED,
)
_CHUNKS = (
    ReasonCode.FIRST_INDEX,
    ReasonCode.REBUILT_CHUNKS,
    ReasonCode.MOVED_CHUNKS,
    ReasonCode.CHANGED_CHUNKS,
)


# --- the headline --------------------------------------------------------------------------------------------------


def headline(plan: Plan) -> str:
    """The decision's reason in one line of at most 100 characters."""
    by_hand = [reason_text(reason) for reason in plan.decision.reasons if reason.code is ReasonCode.BY_HAND]
    lines = by_hand or filter(None, [_losses(plan.evidence.data), _headline(plan)])
    return shorten("; ".join(lines), HEADLINE, placeholder=" …")


def _losses(data: DataChange) -> str:
    """What the live index loses besides deleted documents, and the golden questions that become stale."""
    lost = len(data.golden.lost) + len(data.golden.pending)
    questions = count_of(lost, "golden question") if lost else ""
    if emptied := len(data.emptied_documents):
        counts = ", ".join(filter(None, [f"{data.lost_rows:,} {agree(data.lost_rows, 'row', 'rows')}", questions]))
        return f"{count_of(emptied, 'document')} {agree(emptied, 'loses', 'lose')} much of the text ({counts})"
    return f"{lost} of {data.golden.in_play} golden questions become stale" if lost else ""


def _headline(plan: Plan) -> str:
    data, decision = plan.evidence.data, plan.decision
    unchanged = data.changes.is_empty and data.delta.is_empty and not data.held
    if decision.action == Action.NOTHING and unchanged:
        return "nothing has changed since the live release"
    chosen = [option for option in decision.component_options if option.worth_it]
    if decision.action == Action.HOLD and decision.proposed and chosen:
        return f"{decision.proposed} is pending approval: {_main_reasons(chosen, in_full=False)}"
    if chosen:
        return _main_reasons(chosen)
    rejected = _rejected_text(decision)
    if waiting := held_documents(plan.deletions_to_approve, plan.documents_to_approve):
        return f"{waiting} pending approval; {rejected or _nothing_else(data)}"
    waiting_for_person = "pending approval" if decision.action == Action.HOLD else ""
    if because := rejected or waiting_for_person or _waiting_facts(decision):
        return because
    gaining = [option for option in decision.component_options if option.gain_points]
    return f"no action is worth its cost: {_main_reasons(gaining or decision.component_options, in_full=False)}"


def _waiting_facts(decision: Decision) -> str:
    """That facts wait for a later cycle, and until when; empty where none does, or no time is set for them."""
    reason = next((reason for reason in decision.reasons if reason.code is ReasonCode.FACTS_WAIT), None)
    if reason is None or not reason.values["due_by"]:
        return ""
    by = datetime.fromisoformat(str(reason.values["due_by"]))
    sentences = count_of(int(reason.values["sentences"] or 0), "sentence")
    return f"new facts ({sentences}) wait, at the latest until {by:%Y-%m-%d %H:%M} UTC"


def _rejected_text(decision: Decision) -> str:
    """Why an action is not offered again, which may gain a lot; empty where none was rejected before."""
    rejections = (ReasonCode.REJECTED_BEFORE, ReasonCode.REJECTED_WITH_REFRESH)
    reasons = [reason for option in decision.component_options for reason in option.reasons]
    rejected = next((reason for reason in reasons if reason.code in rejections), None)
    return f"not done: {reason_text(rejected)}" if rejected else ""


def _nothing_else(data: DataChange) -> str:
    """Why nothing is done besides what waits for an approval."""
    parts = {
        name: tuple(document for document in getattr(data.changes, name) if document not in data.held)
        for name in ("added", "edited", "removed")
    }
    others = data.changes.model_copy(update=parts)
    unchanged = others.is_empty and data.delta.is_empty
    return "nothing else has changed" if unchanged else "nothing else is worth its cost"


def _main_reasons(options: Sequence[Option], in_full: bool = True) -> str:
    """The main reason of each option: in full where there is one option, in a few words where there are several."""
    text = reason_text if in_full and len(options) == 1 else short_text
    return "; ".join(dict.fromkeys(text(main_reason(option)) for option in options))


def main_reason(option: Option) -> Reason:
    """The reason that decides: what is required or stands in the way, else what the action gains, else the first."""
    first = option.reasons[0]
    preferred = _GAINS if first.code in _CHUNKS else ()
    return next((reason for code in preferred for reason in option.reasons if reason.code is code), first)


# --- decisions -----------------------------------------------------------------------------------------------------


def option_text(option: Option) -> str:
    """All reasons of an option in one clause."""
    return "; ".join(reason_text(reason) for reason in option.reasons)


def decision_sentences(decision: Decision) -> list[str]:
    """What is done and why, why nothing else is, how long it takes, and what an operator should know besides."""
    openings = {
        Action.NOTHING: "Nothing needs to be done.",
        Action.HOLD: "Nothing is done before a person has approved it.",
    }
    options = sorted(decision.component_options, key=lambda option: not option.worth_it)
    chosen = decision.chosen
    return [
        openings.get(decision.action, f"The decision is {decision.action}."),
        *(
            f"{option.action} is {'' if option.worth_it else 'not '}called for: {option_text(option)}."
            for option in options
        ),
        *([f"It should take about {chosen.cost_seconds:.0f} s."] if chosen else []),
        *reason_sentences(decision.reasons),
    ]


def reason_sentences(reasons: Iterable[Reason]) -> list[str]:
    """Reasons as sentences of their own."""
    return [sentence(reason_text(reason)) for reason in reasons]


def counterfactual_sentences(decision: Decision) -> list[str]:
    """What would have changed the recommendation about each component."""
    options = decision.component_options
    sentences = [_counterfactual_sentence(option, option.counterfactual) for option in options if option.counterfactual]
    return list(dict.fromkeys(sentences))


def _counterfactual_sentence(option: Option, counterfactual: Reason) -> str:
    """One sentence; the text of a policy of the user's own is a sentence by itself."""
    text = counterfactual_text(counterfactual, option.worth_it)
    if counterfactual.code is ReasonCode.CUSTOM:
        return sentence(text)
    return f"{option.action} would {'not ' if option.worth_it else ''}have been chosen {text}."


def unmeasured_sentences(decision: Decision) -> list[str]:
    """The signals that could not be measured, and why."""
    return [f"{signal_name(field)}: {why}" for field, why in decision.unmeasured_signals.items()]


def sentence(clause: str) -> str:
    """A clause with a capital and a full stop; one that begins with code or an action's name keeps its first letter."""
    return f"{clause if clause.startswith('policy.') else clause[:1].upper() + clause[1:]}."


def describe_costs(costs: Costs) -> str:
    """Where the forecasts come from, and how good they were so far."""
    source = f"Costs: {costs.source}."
    if costs.error_share is None:
        return f"{source} No run has shown yet how far forecasts are off."
    runs = "1 run" if costs.error_runs == 1 else f"median of {costs.error_runs} runs"
    return f"{source} Forecasts were off by {format_percent(costs.error_share)} ({runs})."


def held_documents(removals: Mapping[str, str], withheld: Mapping[str, str]) -> str:
    """What is held back of the documents: `3 deletions and 1 withheld document`; empty where nothing is."""
    emptied = sum(map(names_emptied, removals.values()))
    counts = {"deletion": len(removals) - emptied, "emptied document": emptied, "withheld document": len(withheld)}
    return " and ".join(count_of(count, noun) for noun, count in counts.items() if count)


def approval_subject(answered: Plan | Approval | Rejection) -> str:
    """What a plan needs an approval for, or what a person answered: `3 deletions and RETRAIN`."""
    if isinstance(answered, Plan):
        deletions, withheld = answered.deletions_to_approve, answered.documents_to_approve
        actions: tuple[Action | None, ...] = (answered.decision.proposed,)
    else:
        deletions, withheld = answered.removals, answered.documents
        actions = (answered.action,) if isinstance(answered, Approval) else answered.actions
    return " and ".join(filter(None, [held_documents(deletions, withheld), *map(str, filter(None, actions))]))


# --- outcomes ------------------------------------------------------------------------------------------------------


def describe_outcome(cycle: Cycle) -> str:
    """The outcome of a cycle, in one clause."""
    texts = {
        Outcome.RUNNING: "running",
        Outcome.RELEASED: f"{_releases(cycle)}{cycle.detail and f' {cycle.detail}'}",
        Outcome.REJECTED: f"rejected by the gate: {cycle.detail}",
        Outcome.NOTHING: "nothing to do",
        Outcome.HELD: f"pending approval: `ragtide approve {cycle.plan}`{cycle.detail and f'; {cycle.detail}'}",
        Outcome.FAILED: f"failed: {cycle.detail}",
        Outcome.KILLED: "killed",
        Outcome.INTERRUPTED: f"interrupted by {cycle.detail}",
        Outcome.ROLLED_BACK: f"release {cycle.release} is live again",
    }
    return texts[cycle.outcome] + _live_besides(cycle)


def _releases(cycle: Cycle) -> str:
    """The releases of a cycle: each with its action where there are several."""
    made = [f"release {part.release} ({part.action})" for part in cycle.parts if part.release]
    return " and ".join(made) if len(made) > 1 else f"release {cycle.release}"


def _live_besides(cycle: Cycle) -> str:
    """What went live in a cycle that did not come to its end, or whose candidate was rejected."""
    if cycle.outcome in (Outcome.RELEASED, Outcome.ROLLED_BACK):
        return ""
    return "".join(
        f"; deleted documents left the index with release {part.release}"
        if part.action == Action.REMOVE
        else f"; {part.action} went live before as release {part.release}"
        for part in cycle.parts
        if part.release
    )
