"""What does each signal of the evidence say? Its value with interval, what that means, and how long it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ragtide.pipelines.evidence.drift import BY_CHANCE, SHIFTED
from ragtide.pipelines.history.history import FILTERED_EXAMPLES
from ragtide.pipelines.records.evidence import NOT_REQUESTED, Evidence, Measure
from ragtide.pipelines.reports.markdown import list_some

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class SignalRow:
    """One signal as it is read: its value with interval and n, and what that means (a clause without a full stop).

    What was not measured has `why`, and means nothing; `seconds` is what measuring took, None where nobody timed it.
    """

    signal: str
    value: str
    means: str = ""
    why: str | None = None
    seconds: float | None = None

    @property
    def written(self) -> str:
        """The value, or that there is none and why."""
        return self.value if self.why is None else f"{self.value} ({self.why})"

    @property
    def took(self) -> str:
        if self.seconds is None:
            return ""
        return f"{self.seconds:.1f} s" if self.seconds >= 0.05 else "< 0.1 s"


@dataclass(frozen=True)
class Signal:
    """A measured field of the evidence: what it is called, and how its value is put into words."""

    name: str
    field: str
    means: Callable[[float, Measure], str]


def signal_rows(evidence: Evidence) -> list[SignalRow]:
    """Every signal that was asked for, in the order in which one reads them: scores, gaps, changed text, examples."""
    return [
        _live(evidence),
        *_measured(evidence, SCORES),
        _chunks(evidence),
        *_measured(evidence, CHANGED_TEXT),
        _examples(evidence),
        *_measured(evidence, EXAMPLES),
        *_limits(evidence),
        *_waiting(evidence),
        *_gone(evidence),
    ]


def evidence_metrics(evidence: Evidence) -> dict[str, float | None]:
    """The evidence as MLflow metrics; None where a signal was not measured."""
    return {
        **{one.field: getattr(evidence, one.field).value for one in LOGGED},
        "changed_share": evidence.delta.changed_share,
        "documents_changed": len(evidence.changes.added) + len(evidence.changes.edited),
        "documents_removed": len(evidence.changes.removed),
        "deletions_pending": len(evidence.pending_deletions),
        "documents_quarantined": len(evidence.quarantined),
        "deleted_training_documents_count": len(evidence.deleted_training_documents),
        "forecast_refresh_seconds": evidence.costs.refresh_seconds,
        "forecast_retrain_seconds": evidence.costs.retrain_seconds,
        "forecast_error_share": evidence.costs.error_share,
        "questions": evidence.score_gold.n,
        "new_examples": evidence.new_examples,
        FILTERED_EXAMPLES: sum(evidence.filtered.values()),
        "spent_hours": evidence.spent_hours,
        "evidence_seconds": sum(evidence.signal_seconds.values()) if evidence.signal_seconds else None,
    }


def format_percent(share: float) -> str:
    """A share as one says it: 81 %, and one decimal below ten."""
    if 0 < abs(share) < 0.0005:
        return "under 0.1 %"
    return f"{_rounded(100 * share)} %"


def points_are(share: float) -> str:
    """A difference of scores as points of answer score (0-100), to go on with."""
    told = _rounded(100 * share)
    return "1 point is" if told == "1" else f"{told} points are"


def _rounded(number: float) -> str:
    # Adding nought makes of a negative nought a plain one.
    return f"{round(number, 1 if abs(number) < 10 else 0) + 0.0:g}"


def describe_issues(flaws: Mapping[str, int]) -> str:
    """How many lines nothing is learnt from, by what is wrong with them."""
    total = sum(flaws.values())
    kinds = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in flaws.items())
    return f"{total} {'line' if total == 1 else 'lines'} left out ({kinds})"


# --- what a value means --------------------------------------------------------------------------------------------


def _score_gold(value: float, _: Measure) -> str:
    told = f"with the right page in front of it the model answers {format_percent(value)} right"
    return f"{told}; what is missing to the target is the model's gap"


def _score_retrieved(value: float, _: Measure) -> str:
    return f"with what the index finds, {format_percent(value)} are answered right"


def _index_gap(value: float, measured: Measure) -> str:
    if value <= 0:
        return "what the index finds is as good as the right page: nothing is lost in it"
    return f"{points_are(value)} lost because the index does not bring up the right page{_if_chance(measured)}"


def _model_gap(value: float, measured: Measure) -> str:
    if value <= 0:
        return "the model reaches the target: a retrain has nothing to win"
    told = f"even with the right page {points_are(value)} missing to the target: a retrain can win no more"
    return f"{told}{_if_chance(measured)}"


def _refresh_gain(value: float, measured: Measure) -> str:
    if value <= 0:
        return "new rows would win nothing on the golden questions"
    told = f"{points_are(value)} lost on questions whose answer the live rows do not hold: new rows can win them"
    return f"{told}{_if_chance(measured)}"


def _retriever_gap(value: float, measured: Measure) -> str:
    if value <= 0:
        return "what the live rows hold, the search brings up"
    told = f"{points_are(value)} lost although the live rows hold the answer: another search could win them"
    return f"{told}, a refresh cannot{_if_chance(measured)}"


def _malformed(value: float, _: Measure) -> str:
    if value <= 0:
        return "no answer breaks its format"
    return f"{format_percent(value)} of the answers break their format: that is the model's, and no index mends it"


def _news(value: float, _: Measure) -> str:
    if value <= 0:
        return "no sentence says anything new"
    return f"{format_percent(value)} of the sentences say something else or new"


def _stale(value: float, measured: Measure) -> str:
    if value <= 0:
        return "no moved fact is answered from the old text"
    return f"{_counted(value, measured, 'moved facts')} still answered from the old text"


def _come_back(value: float, measured: Measure) -> str:
    if value <= 0:
        return "no removed sentence is found any more"
    return f"{_counted(value, measured, 'removed sentences')} still found by a search"


def _novelty(value: float, measured: Measure) -> str:
    chance = format_percent(BY_CHANCE)
    if _lower(measured) <= BY_CHANCE:
        return f"{format_percent(value)} of the new chunks lie far out, and {chance} would by chance: nothing unusual"
    return f"{format_percent(value)} of the new chunks lie far from every old one ({chance} would by chance): a new subject"


def _shift(_: float, measured: Measure) -> str:
    if _lower(measured) <= SHIFTED:
        return f"as a whole the new chunks are of the old ones' subject (up to {SHIFTED:g})"
    return f"as a whole the new chunks are of another subject than the old ones (above {SHIFTED:g})"


def _vocabulary(value: float, _: Measure) -> str:
    if value <= 0:
        return "the new chunks bring no new words"
    return f"of a new chunk's words, {format_percent(value)} stand in no old one"


def _surprise(value: float, measured: Measure) -> str:
    if _lower(measured) <= 0:
        return "the new examples surprise the model hardly more than those it has seen: little to learn"
    return (
        f"the new examples cost the model {value:.2f} nats a token more than those it has seen: there is more to learn"
    )


def _counted(share: float, measured: Measure, of: str) -> str:
    count = round(share * measured.n)
    return f"{count} of {measured.n} {of} {'is' if count == 1 else 'are'}"


def _missing(value: float, _: Measure) -> str:
    if value <= 0:
        return "the live rows hold the answer to every golden question"
    return f"to {format_percent(value)} of the questions no live row holds the answer, whatever the model can do"


def _if_chance(measured: Measure) -> str:
    return " (it may be chance: the interval reaches nought)" if _lower(measured) <= 0 else ""


def _lower(measured: Measure) -> float:
    """The lower end; the value itself where there is no interval."""
    return (measured.value or 0.0) if measured.low is None else measured.low


SCORES = (
    Signal("score with the right passage", "score_gold", _score_gold),
    Signal("score with retrieved passages", "score_retrieved", _score_retrieved),
    Signal("the index's gap", "index_gap", _index_gap),
    Signal("the model's gap", "model_gap", _model_gap),
    Signal("what a refresh can win back", "refresh_gain", _refresh_gain),
    Signal("answers that the live rows lack", "missing_answers", _missing),
    Signal("what only a better retriever can win back", "embedder_gap", _retriever_gap),
    Signal("malformed answers", "malformed_share", _malformed),
)
CHANGED_TEXT = (
    Signal("sentences that are news", "changed_sentence_share", _news),
    Signal("stale answers", "stale_facts", _stale),
    Signal("removed text that comes back", "resurfaced_deletions", _come_back),
    Signal("novelty of new chunks", "novelty", _novelty),
    Signal("shift of the documents", "shift", _shift),
    Signal("new vocabulary", "vocabulary", _vocabulary),
)
EXAMPLES = (Signal("surprise of new examples", "excess_loss", _surprise),)
# What a refresh can win back is no metric of its own: MLflow holds what each action was expected to bring.
LOGGED = tuple(one for one in (*SCORES, *CHANGED_TEXT, *EXAMPLES) if one.field != "refresh_gain")


# --- rows ----------------------------------------------------------------------------------------------------------


def _measured(evidence: Evidence, signals: tuple[Signal, ...]) -> list[SignalRow]:
    rows = [(one, getattr(evidence, one.field)) for one in signals]
    return [_told(one, measured, evidence) for one, measured in rows if measured != NOT_REQUESTED]


def _told(signal: Signal, measured: Measure, evidence: Evidence) -> SignalRow:
    took = evidence.signal_seconds.get(signal.field)
    if measured.value is None:
        return SignalRow(signal.name, NOT_MEASURED, why=measured.why, seconds=took)
    return SignalRow(signal.name, str(measured), signal.means(measured.value, measured), seconds=took)


def _live(evidence: Evidence) -> SignalRow:
    means = (
        "what everything here was measured on"
        if evidence.live_release
        else "the base model was asked, without an index"
    )
    return SignalRow("live release", evidence.live_release or "none yet", means)


def _chunks(evidence: Evidence) -> SignalRow:
    delta = evidence.delta
    means = f"{format_percent(delta.changed_share)} of the index's chunks would be other ones"
    if delta.rebuild:
        means = f"every row is made anew: {delta.rebuild}"
    elif delta.is_empty:
        means = "the live index holds these very chunks"
    value = f"{delta.new} / {delta.gone} / {delta.to_embed}, of {delta.chunks_after}"
    return SignalRow("chunks new / gone / to embed", value, means, seconds=evidence.signal_seconds.get("delta"))


def _examples(evidence: Evidence) -> SignalRow:
    parts = [str(evidence.examples)]
    parts += [f"and {evidence.orphaned_examples} whose page is gone"] if evidence.orphaned_examples else []
    parts += [f"and {describe_issues(evidence.filtered)}"] if evidence.filtered else []
    parts += ["as the adapter saw them"] if evidence.adapter_is_current else []
    return SignalRow("training examples", ", ".join(parts), _to_learn(evidence))


def _to_learn(evidence: Evidence) -> str:
    if evidence.adapter_is_current:
        return "the same examples would bring the same adapter"
    if evidence.examples < evidence.min_examples:
        return f"too few to learn from: it takes {evidence.min_examples}"
    if evidence.new_base_model:
        return f"params.yaml names {evidence.new_base_model} now, another base model, which has seen none of them"
    if evidence.new_examples is None:
        return "enough to learn from"
    return f"{evidence.new_examples or 'none'} of them are new to the adapter"


def _limits(evidence: Evidence) -> list[SignalRow]:
    """What the limits of params.yaml count."""
    hours = "of compute, that policy.budget_hours_per_week counts"
    rows = [SignalRow("spent in the last seven days", f"{evidence.spent_hours:.2f} hours", hours)]
    if evidence.hours_since_retrain is not None:
        since = f"{evidence.hours_since_retrain} hours ago"
        rows.append(SignalRow("the last retrain", since, "policy.cool_down_hours counts from there"))
    return rows


def _waiting(evidence: Evidence) -> list[SignalRow]:
    stale, held, aside = len(evidence.stale_questions), len(evidence.pending_deletions), len(evidence.quarantined)
    until = "" if evidence.deletions_rejected_reason else " until `ragtide approve`"
    names = f"{list_some(tuple(evidence.pending_deletions))}: their passages stay{until}"
    return [
        SignalRow(
            "stale golden questions", str(stale), "their answer stands in no document: not scored" if stale else ""
        ),
        SignalRow(
            "removals rejected by a person"
            if evidence.deletions_rejected_reason
            else "removals that wait for an approval",
            str(held),
            names if held else "",
        ),
        SignalRow("documents that cannot be read", str(aside), "what the index holds of them stays" if aside else ""),
    ]


def _gone(evidence: Evidence) -> list[SignalRow]:
    """What the live adapter knows and should not."""
    gone = evidence.deleted_training_documents
    means = f"{list_some(gone)}: a retrain forgets them"
    return [SignalRow("documents gone that the adapter was taught from", str(len(gone)), means)] if gone else []
