"""Signals of the evidence as rows: value with interval, what it means, and how long measuring took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ragtide.pipelines.evidence.drift import BY_CHANCE, SHIFTED
from ragtide.pipelines.history.history import CHANGED_SHARE, FILTERED_EXAMPLES, SUBSTANTIVE_SENTENCES
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.evidence import (
    NOT_REQUESTED,
    AnswerScores,
    DataChange,
    Evidence,
    Limits,
    Measure,
    TrainingData,
)
from ragtide.pipelines.reports.markdown import list_some

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class SignalRow:
    """One signal for a reader: its value with interval and n, and what that means (a clause without a full stop).

    What was not measured has `why` and no meaning; `seconds` is what measuring took, None where it was not timed.
    """

    signal: str
    value: str
    means: str = ""
    why: str | None = None
    seconds: float | None = None

    @property
    def written(self) -> str:
        """The value, or why there is none."""
        return self.value if self.why is None else f"{self.value} ({self.why})"

    @property
    def took(self) -> str:
        measured = self.seconds or 0.0
        return "" if self.seconds is None else f"{measured:.1f} s" if measured >= 0.05 else "< 0.1 s"


@dataclass(frozen=True)
class Signal:
    """A measured field of the evidence: its name, and what a value means, in words; `zero` is for 0 and less."""

    name: str
    field: str
    means: Callable[[float, Measure], str]
    zero: str | None = None


def signal_rows(evidence: Evidence) -> list[SignalRow]:
    """Every signal that was requested, in reading order: scores, gaps, changed text, training data, limits."""
    return [
        _live(evidence.data),
        *_measured(evidence.scores, SCORES, evidence.signal_seconds),
        _chunks(evidence.data, evidence.signal_seconds),
        *_measured(evidence.text, CHANGED_TEXT, evidence.signal_seconds),
        _examples(evidence.training),
        *_measured(evidence.training, EXAMPLES, evidence.signal_seconds),
        *_limits(evidence.limits),
        _stale_questions(evidence.scores),
        *_waiting(evidence.data),
        *_deleted_training(evidence.data),
    ]


def evidence_metrics(evidence: Evidence) -> dict[str, float | None]:
    """The evidence as MLflow metrics; None where a signal was not measured."""
    data, scores, training, limits = evidence.data, evidence.scores, evidence.training, evidence.limits
    measures = evidence.measures
    return {
        **{signal.field: measures[signal.field].value for signal in LOGGED},
        CHANGED_SHARE: data.delta.changed_share,
        SUBSTANTIVE_SENTENCES: evidence.text.substantive_sentences,
        "documents_changed": len(data.changes.added)
        + len(data.changes.edited)
        + sum(rename.edited for rename in data.changes.renamed),
        "documents_removed": len(data.changes.removed),
        "deletions_pending": len(data.pending_deletions),
        "documents_emptied": len(data.emptied_documents),
        "golden_questions_lost": len(data.golden.lost),
        "documents_withheld": len(data.withheld),
        "documents_quarantined": len(data.quarantined),
        "deleted_training_documents_count": len(data.deleted_training_documents),
        "forecast_refresh_seconds": limits.costs.refresh_seconds,
        "forecast_retrain_seconds": limits.costs.retrain_seconds,
        "forecast_error_share": limits.costs.error_share,
        "questions": scores.score_gold.n,
        "new_examples": training.new_examples,
        FILTERED_EXAMPLES: sum(training.filtered.values()),
        "spent_hours": limits.spent_hours,
        "evidence_seconds": sum(evidence.signal_seconds.values()) if evidence.signal_seconds else None,
    }


def format_percent(share: float) -> str:
    """A share in percent: 81 %, and one decimal below ten."""
    if 0 < abs(share) < 0.0005:
        return "under 0.1 %"
    return f"{_rounded(100 * share)} %"


def format_points(points: float) -> str:
    """Points of answer score (0-100)."""
    number = _rounded(points)
    return "1 point" if number == "1" else f"{number} points"


def agree(number: int, singular: str, plural: str) -> str:
    """The form of a word that goes with a number."""
    return singular if number == 1 else plural


def count_of(number: int, noun: str) -> str:
    """A number with its noun: `1 cycle`, `2 cycles`."""
    return f"{number} {agree(number, noun, f'{noun}s')}"


def signal_name(field: str) -> str:
    """What a signal is called, by its field of the evidence."""
    return _NAMES[field]


def count_are(number: int, noun: str) -> str:
    """A number with its noun and verb: `1 cycle is`, `2 cycles are`."""
    return f"{count_of(number, noun)} {agree(number, 'is', 'are')}"


def part_are(part: int, total: int, noun: str) -> str:
    """A part of a number with its noun and verb: `1 of 5 examples is`, `2 of 5 examples are`."""
    return f"{part} of {count_of(total, noun)} {agree(part, 'is', 'are')}"


def _points_are(share: float) -> str:
    return f"{format_points(100 * share)} {_agree_with_points(share, 'is', 'are')}"


def _agree_with_points(share: float, singular: str, plural: str) -> str:
    """The form of a word that goes with the points as they are written, which are rounded."""
    return singular if format_points(100 * share) == "1 point" else plural


def _rounded(number: float) -> str:
    # Adding 0 turns -0 into 0.
    return f"{round(number, 1 if abs(number) < 10 else 0) + 0.0:g}"


def describe_issues(issues: Mapping[str, int]) -> str:
    """How many lines are filtered, by the kind of their issue."""
    kinds = ", ".join(count_of(count, kind) for kind, count in issues.items())
    return f"{count_of(sum(issues.values()), 'line')} filtered ({kinds})"


# --- what a value means --------------------------------------------------------------------------------------------


def _score_gold(value: float, _: Measure) -> str:
    return f"with gold context {format_percent(value)} are answered correctly; the rest to the target is the model gap"


def _score_retrieved(value: float, _: Measure) -> str:
    return f"with retrieved context {format_percent(value)} are answered correctly"


def _index_gap(value: float, measured: Measure) -> str:
    return f"{_points_are(value)} lost because the gold passage is not retrieved{_if_chance(measured)}"


def _model_gap(value: float, measured: Measure) -> str:
    missing = f"even with gold context {_points_are(value)} missing to the target: a retrain can gain no more"
    return f"{missing}{_if_chance(measured)}"


def _refresh_gain(value: float, measured: Measure) -> str:
    them = _agree_with_points(value, "it", "them")
    lost = f"{_points_are(value)} lost on questions whose answer the live index lacks: a refresh can gain {them}"
    return f"{lost}{_if_chance(measured)}"


def _embedder_gap(value: float, measured: Measure) -> str:
    them = _agree_with_points(value, "it", "them")
    lost = f"{_points_are(value)} lost although the live index holds the answer: better retrieval could gain {them}"
    return f"{lost}, a refresh cannot{_if_chance(measured)}"


def _malformed(value: float, _: Measure) -> str:
    return f"{format_percent(value)} of the answers break their format, which only a retrain can change"


def _changed_sentences(value: float, _: Measure) -> str:
    return f"{format_percent(value)} of the sentences say something else or new"


def _stale_facts(value: float, measured: Measure) -> str:
    return f"{_counted(value, measured, 'changed fact')} still answered from the old text"


def _resurfaced(value: float, measured: Measure) -> str:
    return f"{_counted(value, measured, 'removed sentence')} still found by a search"


def _novelty(value: float, measured: Measure) -> str:
    chance, share = format_percent(BY_CHANCE), format_percent(value)
    if _lower(measured) <= BY_CHANCE:
        return f"{share} of the new chunks are far from the old ones, and {chance} would be by chance: nothing unusual"
    return f"{share} of the new chunks are far from every old one ({chance} would be by chance): a new subject"


def _shift(_: float, measured: Measure) -> str:
    if _lower(measured) <= SHIFTED:
        return f"as a whole the new chunks are on the subject of the old ones (up to {SHIFTED:g})"
    return f"as a whole the new chunks are on another subject than the old ones (above {SHIFTED:g})"


def _vocabulary(value: float, _: Measure) -> str:
    return f"{format_percent(value)} of a new chunk's words are in no old one"


def _excess_loss(value: float, measured: Measure) -> str:
    if _lower(measured) <= 0:
        return "the model predicts new examples about as well as those that it was trained on: little to learn"
    return f"new examples cost the model {value:.2f} nats a token more than those that it was trained on"


def _captured(value: float, _: Measure) -> str:
    return f"one changed document would take the nearest passage of {format_percent(value)} of the golden questions"


def _counted(share: float, measured: Measure, noun: str) -> str:
    return part_are(round(share * measured.n), measured.n, noun)


def _missing_answers(value: float, _: Measure) -> str:
    return f"the live index lacks the answer to {format_percent(value)} of the questions, whatever the model can do"


def _if_chance(measured: Measure) -> str:
    return " (may be chance: the interval reaches 0)" if _lower(measured) <= 0 else ""


def _lower(measured: Measure) -> float:
    """The lower end; the value itself where there is no interval."""
    return (measured.value or 0.0) if measured.low is None else measured.low


SCORES = (
    Signal("score with gold context", "score_gold", _score_gold),
    Signal("score with retrieved context", "score_retrieved", _score_retrieved),
    Signal(
        "the index gap",
        "index_gap",
        _index_gap,
        "retrieved context is as good as gold context: the index loses nothing",
    ),
    Signal("the model gap", "model_gap", _model_gap, "the model reaches the target: a retrain has nothing to gain"),
    Signal("gain of a refresh", "refresh_gain", _refresh_gain, "a refresh would gain nothing on the golden questions"),
    Signal(
        "missing answers",
        "missing_answers",
        _missing_answers,
        "the live index holds the answer to every golden question",
    ),
    Signal("retrieval gap", "embedder_gap", _embedder_gap, "no retrieval gap: every answer in the index is retrieved"),
    Signal("malformed answers", "malformed_share", _malformed, "no answer breaks its format"),
)
CHANGED_TEXT = (
    Signal("changed sentences", "changed_sentence_share", _changed_sentences, "no sentence says anything new"),
    Signal("stale facts", "stale_facts", _stale_facts, "no changed fact is answered from the old text"),
    Signal("resurfaced deletions", "resurfaced_deletions", _resurfaced, "no removed sentence is found any more"),
    Signal("novelty of new chunks", "novelty", _novelty),
    Signal("shift of the documents", "shift", _shift),
    Signal("new vocabulary", "vocabulary", _vocabulary, "the new chunks have no new words"),
    Signal(
        "captured questions",
        "captured_questions",
        _captured,
        "no changed document takes the nearest passage of a golden question",
    ),
)
EXAMPLES = (Signal("excess loss of new examples", "excess_loss", _excess_loss),)
# The gain of a refresh is no metric of its own: MLflow has the expected gain of the chosen action.
LOGGED = tuple(signal for signal in (*SCORES, *CHANGED_TEXT, *EXAMPLES) if signal.field != "refresh_gain")
_NAMES = {signal.field: signal.name for signal in (*SCORES, *CHANGED_TEXT, *EXAMPLES)}


# --- rows ----------------------------------------------------------------------------------------------------------


def _measured(part: Record, signals: tuple[Signal, ...], seconds: Mapping[str, float]) -> list[SignalRow]:
    """The rows of the signals of one record of the evidence that were requested."""
    measures = [(signal, getattr(part, signal.field)) for signal in signals]
    return [
        _signal_row(signal, measured, seconds.get(signal.field))
        for signal, measured in measures
        if measured != NOT_REQUESTED
    ]


def _signal_row(signal: Signal, measured: Measure, seconds: float | None) -> SignalRow:
    if measured.value is None:
        return SignalRow(signal.name, NOT_MEASURED, why=measured.why, seconds=seconds)
    zero = signal.zero if measured.value <= 0 else None
    return SignalRow(signal.name, str(measured), zero or signal.means(measured.value, measured), seconds=seconds)


def _live(data: DataChange) -> SignalRow:
    means = (
        "the release that all of this was measured on"
        if data.live_release
        else "the base model was asked, without an index"
    )
    return SignalRow("live release", data.live_release or "none yet", means)


def _chunks(data: DataChange, seconds: Mapping[str, float]) -> SignalRow:
    delta = data.delta
    means = f"{format_percent(delta.changed_share)} of the index's chunks would change"
    if delta.rebuild:
        means = f"the whole index is rebuilt: {delta.rebuild}"
    elif delta.is_empty:
        means = "the live index already holds these chunks"
    value = f"{delta.new} / {delta.removed} / {delta.to_embed}, of {delta.chunks_after}"
    return SignalRow("chunks new / deleted / to embed", value, means, seconds=seconds.get("delta"))


def _examples(training: TrainingData) -> SignalRow:
    parts = [str(training.examples)]
    parts += [f"{training.orphaned_examples} whose document is deleted"] if training.orphaned_examples else []
    parts += [describe_issues(training.filtered)] if training.filtered else []
    return SignalRow("training examples", ", ".join(parts), _learnable(training))


def _learnable(training: TrainingData) -> str:
    if training.adapter_is_current:
        return "the same examples would produce the same adapter"
    if training.cut_short_after is not None:
        return f"the adapter was trained on {training.cut_short_after} of them: finetune.max_minutes cut it short"
    if training.examples < training.min_examples:
        needed = training.min_examples
        return f"too few to train on: {needed} {agree(needed, 'is', 'are')} needed"
    if training.new_base_model:
        return f"params.yaml names another base model, {training.new_base_model}, which was trained on none of them"
    if training.new_examples is None:
        return "enough to train on"
    new = training.new_examples
    return f"{new or 'none'} of them {agree(new, 'is', 'are')} new to the adapter"


def _limits(limits: Limits) -> list[SignalRow]:
    """What the limits of params.yaml count."""
    hours = "compute that counts against policy.budget_hours_per_week"
    rows = [SignalRow("spent in the last seven days", f"{limits.spent_hours:.2f} hours", hours)]
    if limits.hours_since_retrain is not None:
        since = f"{count_of(limits.hours_since_retrain, 'hour')} ago"
        rows.append(SignalRow("last retrain", since, "policy.cool_down_hours counts from then"))
    return rows


def _stale_questions(scores: AnswerScores) -> SignalRow:
    stale = len(scores.stale_questions)
    return SignalRow(
        "stale golden questions", str(stale), "not scored: no document holds their answer" if stale else ""
    )


def _waiting(data: DataChange) -> list[SignalRow]:
    pending, quarantined, declined = data.pending_deletions, len(data.quarantined), data.deletions_rejected_reason
    until = "" if declined else " until `ragtide approve`"
    means = f"{list_some(tuple(pending))}: {agree(len(pending), 'its', 'their')} chunks stay{until}" if pending else ""
    return [
        SignalRow(
            "deletions declined by a person" if declined else "deletions pending approval", str(len(pending)), means
        ),
        *_withheld(data),
        SignalRow("quarantined documents", str(quarantined), "their chunks in the index stay" if quarantined else ""),
    ]


def _withheld(data: DataChange) -> list[SignalRow]:
    """The documents that took answers at the gate; no row where there are none."""
    withheld, declined = data.withheld, data.withheld_rejected_reason
    name = "withheld documents, declined by a person" if declined else "withheld documents"
    until = "" if declined else " until `ragtide approve`, a correction, or other golden questions"
    means = f"{list_some(tuple(withheld))}: not released{until}"
    return [SignalRow(name, str(len(withheld)), means)] if withheld else []


def _deleted_training(data: DataChange) -> list[SignalRow]:
    """What the live adapter has seen and should forget."""
    deleted = data.deleted_training_documents
    means = f"{list_some(deleted)}: a retrain forgets {agree(len(deleted), 'it', 'them')}"
    return [SignalRow("deleted documents that the adapter was trained on", str(len(deleted)), means)] if deleted else []
