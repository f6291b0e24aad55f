"""Texts of reasons and counterfactuals: a clause for each code, from its values.

A clause has no full stop and begins in lower case, so that sentences can be joined from it. `short_text` is for the
headline, where several reasons share one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ragtide.pipelines.records.action import Component
from ragtide.pipelines.records.reason import Reason, ReasonCode
from ragtide.pipelines.reports.signals import (
    agree,
    count_are,
    count_of,
    format_percent,
    format_points,
    part_are,
    signal_name,
)

Text: TypeAlias = str | Callable[[Mapping[str, Any]], str]
C = ReasonCode
ACTION_NOUNS = {
    Component.INDEX: "refreshes",
    Component.EMBEDDER: "embedder tunings",
    Component.MODEL: "retrains",
}
# Quantities that a baseline policy compares with a limit, as sentences name them, and their units in the singular.
QUANTITIES = {
    "changed_chunks": ("the share of changed chunks", ""),
    "new_examples": ("the share of examples that are new to the model", ""),
    "score_falls": ("the sum of the score's falls", ""),
    "staleness_cost": ("the cost of staleness since the last action", "point"),
    "chunk_backlog": ("the backlog of changed chunks", "point"),
    "example_backlog": ("the backlog of new examples", "point"),
    "shift": (f"the {signal_name('shift')}", ""),
    "excess_loss": (f"the {signal_name('excess_loss')}", "nat a token"),
}


def reason_text(reason: Reason) -> str:
    """A reason as a clause."""
    return _render(REASONS[reason.code], reason)


def short_text(reason: Reason) -> str:
    """A reason in a few words, where it has such a form."""
    return _render(SHORT.get(reason.code, REASONS[reason.code]), reason)


def _render(text: Text, reason: Reason) -> str:
    return text if isinstance(text, str) else text(reason.values)


def counterfactual_text(reason: Reason, worth_it: bool) -> str:
    """What follows "would (not) have been chosen"."""
    v: Mapping[str, Any] = reason.values
    if reason.code is C.IF_QUANTITY:
        quantity, unit = QUANTITIES[v["quantity"]]
        return f"had {quantity} been {'below' if worth_it else 'above'} {_with_unit(v['limit'], unit)}"
    if reason.code is C.IF_PERIOD:
        return f"had policy.baseline.period_cycles been {v['period']} or {'more' if worth_it else 'less'}"
    return reason_text(reason)


def _with_unit(value: float, unit: str) -> str:
    """A value with its unit, whose first word takes the plural: `1 point`, `2.5 points`, `0.3 nats a token`."""
    number = f"{value:.4g}"
    noun, _, rest = unit.partition(" ")
    plural = f"{noun}s" if noun and number != "1" else noun
    return " ".join(part for part in (number, plural, rest) if part)


def _quantity_is(name: str, value: float | None) -> str:
    """A quantity with its value, unknown where that is None."""
    quantity, unit = QUANTITIES[name]
    return f"{quantity} is {'not known' if value is None else _with_unit(value, unit)}"


def _score(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


def _with_model_score(v: Mapping[str, Any]) -> str:
    return f"with gold context the model scores {_score(v['score'])}"


def _changed_chunks(v: Mapping[str, Any]) -> str:
    deleted = f", and {count_of(v['deleted'], 'old chunk')} will be removed" if v["deleted"] else ""
    return f"{part_are(v['new'], v['chunks'], 'chunk')} new{deleted}"


def _all_chunks_are(chunks: int) -> str:
    return agree(chunks, "", "all ") + count_are(chunks, "chunk")


def _changed_sentences(v: Mapping[str, Any]) -> str:
    if not v["share"]:
        return "no sentence says anything new"
    return f"{format_percent(v['share'])} of the sentences say something new"


def _gain_estimated(v: Mapping[str, Any]) -> str:
    unit = "chunks" if v["by_chunks"] else "sentences"
    return f"{v['why']}: the gain is estimated by the share of changed {unit}"


def _past_gain(v: Mapping[str, Any]) -> str:
    actions = ACTION_NOUNS[Component(v["component"])]
    runs = count_of(v["cycles"], "run")
    return f"past {actions} achieved {format_percent(v['share'])} of their expected gain ({runs})"


def _changed_since_release(v: Mapping[str, Any]) -> str:
    parts = [count_of(v["documents"], "document")] if v["documents"] else []
    parts += ["the training examples"] if v["examples"] else []
    parts += ["the golden questions"] if v["questions"] else []
    return f"{' and '.join(parts) or 'the content of the index'} changed since the live release"


def _cycles_since_build(v: Mapping[str, Any]) -> str:
    since = "the last build" if v["built"] else "the first cycle"
    return f"this is cycle {v['cycle']} since {since}, and policy.baseline.period_cycles is {v['period']}"


def _share(v: Mapping[str, Any]) -> str:
    share = _quantity_is(v["quantity"], v["share"])
    return share if v["share"] is None else f"{share}, and policy.baseline.amount_share is {v['limit']:g}"


def _score_went(v: Mapping[str, Any]) -> str:
    # It may have risen: the falls are summed over several cycles.
    return f"the live score went from {v['before']:.2f} to {v['score']:.2f}"


def _score_fell(v: Mapping[str, Any]) -> str:
    return f"{_score_went(v)}; its falls sum to {v['total']:.4g}, and policy.baseline.cusum_limit is {v['limit']:g}"


def _drift(v: Mapping[str, Any]) -> str:
    setting = "policy.baseline.drift_limit" if v["signal"] == "shift" else "policy.excess_loss_full"
    if v["value"] is None:
        return f"{QUANTITIES[v['signal']][0]} was not measured: {v['why'] or 'no reason given'}"
    return f"{_quantity_is(v['signal'], v['value'])}, and {setting} is {v['limit']:g}"


def _backlog(v: Mapping[str, Any]) -> str:
    backlog = _quantity_is(v["quantity"], v["points"])
    if v["points"] is None:
        return backlog
    over = count_of(v["cycles"], "cycle")
    return f"{backlog} over {over}, and taking it in costs {_with_unit(v['price'], 'point')}"


def _staleness(v: Mapping[str, Any]) -> str:
    return f"staleness has cost {_with_unit(v['points'], 'point')}"


def _over_budget(v: Mapping[str, Any]) -> str:
    budget = _with_unit(v["budget"], "hour")
    return f"{v['spent']:.2f} hours of the week's budget of {budget} are spent, and this takes {v['hours']:.2f} hours"


def _documents_deleted(v: Mapping[str, Any]) -> str:
    emptied, documents = v.get("emptied", 0), count_of(v["documents"], "document")
    removed = f"{agree(v['documents'], 'is', 'are')} deleted" if emptied < v["documents"] else ""
    lose = f"{agree(v['documents'], 'loses', 'lose')} much of {agree(v['documents'], 'its', 'their')} text"
    happens = " or ".join(filter(None, [removed, lose if emptied else ""]))
    return f"{documents} {happens}, more than the deletion guard allows at once"


def _their_chunks(v: Mapping[str, Any]) -> str:
    return f"{agree(v['documents'], 'its', 'their')} chunks"


def _meanwhile(v: Mapping[str, Any]) -> str:
    return f"; {v['meanwhile']} goes ahead meanwhile" if v["meanwhile"] else ""


def _new_facts(v: Mapping[str, Any]) -> str:
    return f"{count_are(v['sentences'], 'sentence')} new, edited or removed"


REASONS: dict[ReasonCode, Text] = {
    C.CUSTOM: lambda v: str(v["text"]),
    C.INDEX_CURRENT: "the live index already holds these chunks",
    C.FIRST_INDEX: lambda v: f"{_all_chunks_are(v['chunks'])} new",
    C.REBUILT_CHUNKS: lambda v: f"{_all_chunks_are(v['chunks'])} rebuilt, and {v['to_embed']} must be embedded",
    C.MOVED_CHUNKS: "the same chunks are in other documents or places",
    C.CHANGED_CHUNKS: _changed_chunks,
    C.CHANGED_SENTENCES: _changed_sentences,
    C.GAIN_ESTIMATED: _gain_estimated,
    C.GAIN_MEASURED: lambda v: (
        f"with gold context, questions whose answer the live index lacks would gain {format_points(v['points'])}"
    ),
    C.GAIN_WITH_TRAINED_MODEL: lambda v: f"after a retrain these questions would gain {format_points(v['points'])}",
    C.MODEL_GAP_UNMEASURED: lambda v: f"the model gap was not measured: {v['why']}",
    C.MODEL_AT_TARGET: lambda v: f"{_with_model_score(v)}, which reaches the target",
    C.MODEL_BELOW_TARGET: lambda v: f"{_with_model_score(v)}, {format_points(v['points'])} below the target",
    C.NEW_BASE_MODEL: lambda v: f"params.yaml names another base model, {v['model']}, and a retrain starts from it",
    C.SAME_ADAPTER: "the same examples would produce the same adapter",
    C.CUT_SHORT: lambda v: (
        f"finetune.max_minutes ended the adapter's training after {v['seen']} of {count_of(v['examples'], 'example')}, "
        "and would end a retrain there too"
    ),
    C.TOO_FEW_EXAMPLES: lambda v: f"{count_of(v['examples'], 'example')} of the {v['needed']} that training needs",
    C.NO_NEW_EXAMPLES: "the adapter was trained on every example already",
    C.NEW_EXAMPLES: lambda v: f"{part_are(v['new'], v['examples'], 'example')} new to the model",
    C.EXCESS_LOSS: lambda v: f"new examples have an excess loss of {v['nats']:.2f} nats a token",
    C.EMBEDDER_GAP_UNMEASURED: lambda v: f"the retrieval gap was not measured: {v['why']}",
    C.NO_EMBEDDER_GAP: "no retrieval gap: every answer in the index is retrieved",
    C.EMBEDDER_GAP: lambda v: (
        f"answers that are in the index and not retrieved are worth {format_points(v['points'])} at most"
    ),
    C.TOO_FEW_PAIRS: lambda v: f"{count_of(v['pairs'], 'pair')} of the {v['needed']} that tuning needs",
    C.SAME_PAIRS: "the embedder was tuned on these pairs already",
    C.NEW_PAIRS: lambda v: f"{format_percent(v['share'])} of {count_are(v['pairs'], 'pair')} new to the embedder",
    C.PAST_GAIN: _past_gain,
    C.NO_INDEX: "there is no index yet",
    C.REBUILD_NEEDED: lambda v: str(v["why"]),
    C.DELETED_IN_INDEX: lambda v: (
        f"{count_are(v['documents'], 'deleted document')} still in the live index and must be removed"
    ),
    C.RENAMED_IN_INDEX: lambda v: (
        f"{count_of(v['documents'], 'document')} {agree(v['documents'], 'has', 'have')} another name, "
        "and policy.refresh_on_rename is set"
    ),
    C.DOCUMENTS_APPROVED: lambda v: (
        f"a person approved {count_of(v['documents'], 'withheld document')} that {agree(v['documents'], 'is', 'are')} "
        "not live yet"
    ),
    C.FACTS_DUE: lambda v: f"{_new_facts(v)}, and new facts are due (freshness.max_lag_hours)",
    C.BY_HAND: lambda v: f"{v['by']} asked for {v['action']} by hand: {v['why']}",
    C.REJECTED_BEFORE: lambda v: str(v["why"]),
    C.REJECTED_WITH_REFRESH: lambda v: f"the refresh goes first, since both at once are ruled out ({v['why']})",
    C.OVER_BUDGET: _over_budget,
    C.COOL_DOWN: lambda v: (
        f"the last retrain was {count_of(v['hours'], 'hour')} ago, and policy.cool_down_hours is {v['limit']:g}"
    ),
    C.REBUILD_FIRST: "the index is rebuilt for other settings first",
    C.TUNES_WITH_CHANGES: "the embedder is tuned in a cycle that changes something",
    C.INDEX_FIRST: "a model is not released without an index",
    C.CHANGED_SINCE_RELEASE: _changed_since_release,
    C.POLICY_NEVER: "the policy `never` keeps the live release as it is",
    C.CYCLES_SINCE_BUILD: _cycles_since_build,
    C.SHARE: _share,
    C.SCORE_FELL: _score_fell,
    C.SCORE_UNMEASURED: "no answer score was measured",
    C.DRIFT: _drift,
    C.STALENESS_COST: lambda v: (
        f"{_staleness(v)} since the last action, and index and model cost {_with_unit(v['price'], 'point')}"
    ),
    C.BACKLOG: _backlog,
    C.IF_FACTS_MAY_WAIT: "had freshness.max_lag_hours let what is new wait",
    C.IF_REJECTED_BEFORE: "had it been rejected for this data before",
    C.IF_OTHER_DATA: "only with other data or other params",
    C.IF_BUDGET_LEFT: "with more left of policy.budget_hours_per_week",
    C.IF_COOLED_DOWN: "after the cool-down",
    C.IF_PRICE_ABOVE: lambda v: f"with policy.points_per_hour above {v['points_per_hour']:.1f}",
    C.IF_GAIN_AT_LEAST: lambda v: (
        f"had its gain been at least {v['needed']:.1f} points at the lower end, where it is {v['low']:.1f}"
    ),
    C.IF_EXAMPLES: lambda v: f"only with {count_of(v['examples'], 'example')}",
    C.IF_OTHER_EXAMPLES: "only with other examples, or other settings of finetune",
    C.IF_MORE_MINUTES: "only with a higher finetune.max_minutes",
    C.IF_UNSEEN_EXAMPLES: "only with examples that the adapter was not trained on",
    C.IF_PAIRS: lambda v: f"only with {count_of(v['pairs'], 'pair')}",
    C.IF_OTHER_PAIRS: "only with other pairs",
    C.IF_CHANGED: "had a document, an example or a question changed",
    C.IF_UNCHANGED: "had nothing changed since the live release",
    C.IF_OTHER_POLICY: "only under another policy (policy.name)",
    C.NOTHING_CHANGED: "nothing has changed since the live release",
    C.KEEPS_LIVE: "keeps the live release as it is",
    C.BOTH_WANTED: "both are worth their cost",
    C.NOT_BOTH_WANTED: "not both of them are worth their cost",
    C.DELETIONS_PENDING: lambda v: (
        f"{_documents_deleted(v)}: deleting {_their_chunks(v)} waits for `ragtide approve` with this plan's digest"
    ),
    C.DELETIONS_DECLINED: lambda v: (
        f"{_documents_deleted(v)}: a person declined it ({v['why']}); {_their_chunks(v)} stay"
    ),
    C.DOCUMENTS_EMPTIED: lambda v: (
        f"{count_of(v['documents'], 'document')} {agree(v['documents'], 'loses', 'lose')} much of "
        f"{agree(v['documents'], 'its', 'their')} text; {count_of(v['rows'], 'live row')} "
        f"{agree(v['rows'], 'is', 'are')} in no document any more"
    ),
    C.GOLDEN_LOST: lambda v: (
        f"{v['questions']} of {v['in_play']} golden questions become stale, since no document of theirs states their "
        "answer any more: correct or delete their lines, or `ragtide approve` with this plan's digest"
    ),
    C.GOLDEN_LINES: lambda v: (
        f"{count_are(v['lines'], 'new or changed golden line')} stale: correct `answers`, name the `passage` that "
        "supports them, or choose another `scorer`"
    ),
    C.GOLDEN_LINE: lambda v: f"{v['where']}: the answer {v['answer']!r} stands nowhere in {v['documents']}",
    C.DOCUMENTS_WITHHELD: lambda v: (
        f"{count_are(v['documents'], 'document')} withheld, since the gate lost answers to "
        f"{agree(v['documents'], 'it', 'them')} ({v['names']}): {agree(v['documents'], 'it waits', 'they wait')} for "
        "`ragtide approve` with this plan's digest, for a correction, or for other golden questions"
    ),
    C.WITHHELD_DECLINED: lambda v: (
        f"{count_are(v['documents'], 'document')} withheld ({v['names']}): a person declined "
        f"{agree(v['documents'], 'it', 'them')} ({v['why']})"
    ),
    C.QUESTIONS_CAPTURED: lambda v: (
        f"{v['document']} would take the nearest passage of {format_percent(v['share'])} of the golden questions: "
        "check that it is meant to answer them"
    ),
    C.QUARANTINED: lambda v: (
        f"{count_of(v['documents'], 'document')} cannot be read and {agree(v['documents'], 'is', 'are')} "
        "quarantined: `ragtide status` says why"
    ),
    C.FILTERED: lambda v: f"{count_are(v['lines'], 'training line')} filtered: `ragtide examples` lists the issues",
    C.SUSPECTS: lambda v: (
        f"{count_are(v['lines'], 'new training line')} suspect, such as {v['where']}: the loss is high, and neither "
        "the passages nor other answers explain the answer; check that it is right"
    ),
    C.TRAINED_ON_DELETED: lambda v: (
        f"the live adapter was trained on {count_of(v['documents'], 'deleted document')}: "
        "`ragtide lineage` lists what it has seen"
    ),
    C.STALE_QUESTIONS: lambda v: f"{count_are(v['questions'], 'golden question')} stale and not scored",
    C.OUTDATED_PATHS: lambda v: (
        f"golden and training lines name {count_of(v['documents'], 'moved document')} by the former path, as "
        f"{v['before']} for {v['after']}: they are followed; update `docs` and `doc`"
    ),
    C.FACTS_WAIT: lambda v: f"{_new_facts(v)} and not live" + (f": due by {v['due_by']}" if v["due_by"] else ""),
    C.APPROVAL_ONLY: "nothing else is worth its cost: only the deletions and the withheld documents wait",
    C.SUGGEST_MODE: lambda v: (
        f"policy.mode is suggest: {v['action']} waits for `ragtide approve` with this plan's digest{_meanwhile(v)}"
    ),
    C.OVER_COST_LIMIT: lambda v: (
        f"{v['action']} would take about {v['seconds']:.0f} s, over policy.approve_above_seconds = {v['limit']:g}: "
        f"it waits for `ragtide approve` with this plan's digest{_meanwhile(v)}"
    ),
}
SHORT: dict[ReasonCode, Text] = {
    C.INDEX_CURRENT: "the index is current",
    C.DELETED_IN_INDEX: lambda v: f"{count_of(v['documents'], 'deleted document')} still in the live index",
    C.RENAMED_IN_INDEX: lambda v: f"{count_of(v['documents'], 'renamed document')}",
    C.DOCUMENTS_APPROVED: lambda v: f"{count_of(v['documents'], 'approved document')} not live yet",
    C.FACTS_DUE: lambda v: f"{count_of(v['sentences'], 'changed sentence')} due",
    C.GAIN_MEASURED: lambda v: f"the index lacks answers worth {format_points(v['points'])}",
    C.GAIN_WITH_TRAINED_MODEL: lambda v: f"the index lacks answers worth {format_points(v['points'])}",
    C.GAIN_ESTIMATED: lambda v: f"new text is worth about {format_points(v['points'])}",
    C.MODEL_AT_TARGET: "the model reaches its target",
    C.MODEL_BELOW_TARGET: lambda v: f"the model is {format_points(v['points'])} below its target",
    C.MODEL_GAP_UNMEASURED: "the model gap was not measured",
    C.SAME_ADAPTER: "no other examples",
    C.CUT_SHORT: "the training was cut short by finetune.max_minutes",
    C.NO_NEW_EXAMPLES: "no new examples",
    C.NO_EMBEDDER_GAP: "no retrieval gap",
    C.EMBEDDER_GAP_UNMEASURED: "the retrieval gap was not measured",
    C.EMBEDDER_GAP: lambda v: f"answers worth {format_points(v['points'])} are not retrieved",
    C.BACKLOG: lambda v: _quantity_is(v["quantity"], v["points"]),
    C.STALENESS_COST: _staleness,
    C.SCORE_FELL: _score_went,
    C.CYCLES_SINCE_BUILD: lambda v: f"cycle {v['cycle']} of a period of {v['period']}",
    C.OVER_BUDGET: "over the week's budget",
    C.COOL_DOWN: "within the cool-down",
}
