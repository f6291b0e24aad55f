"""Which half is out of date? Golden questions answered with the right passage, and with what retrieval finds.

A wrong answer with the right page in front of the model is the model's fault; a wrong answer without it is the
index's. score(gold) - score(retrieved) is the index's gap, target - score(gold) the model's. "With the right passage"
is meant as the model serves: that passage among as many as retrieval brings up. Alone it makes a model look better than
it is, above all one that has not learnt to choose (docs/log.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ragtide.pipelines.build import training_settings
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.evaluation.evaluator import Evaluator, SystemUnderTest
from ragtide.pipelines.evaluation.scoring import supports_answer
from ragtide.pipelines.evidence.text_signals import (
    LiveIndexView,
    Stopwatch,
    TextSignals,
    excess_loss_on_new,
    split_seen_examples,
)
from ragtide.pipelines.models.adapters import is_same_base
from ragtide.pipelines.params import Params, ScoreParams
from ragtide.pipelines.ports import Embedder
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import ChangeSet, IndexDelta, count_issues
from ragtide.pipelines.records.evaluation import GoldenQuestion, GradedAnswer
from ragtide.pipelines.records.evidence import Costs, Evidence, Gap, Measure, PastDecision
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.sampling import measure_mean, paired_difference
from ragtide.pipelines.training.embedder_tuning import TuningData

# Groups of questions that are told apart: a table that one still reads.
GROUPS = 12
NOT_MISSING = "no golden question asks for what the live index does not hold"
ALL_MISSING = "no golden question asks for what the live index holds"


@dataclass(frozen=True)
class EvidenceInputs:
    """What the evidence is gathered about, besides scores: the data, the live release and its index, past and costs."""

    corpus: Corpus
    changes: ChangeSet
    delta: IndexDelta
    live: Release | None
    costs: Costs
    rejected_actions: dict[Action, str]
    before: LiveIndexView | None = None
    approved_actions: tuple[Action, ...] = ()
    deletions_rejected_reason: str | None = None
    past: tuple[PastDecision, ...] = ()
    spent_hours: float = 0.0
    hours_since_retrain: int | None = None
    tunable: TuningData | None = None
    deleted_training_documents: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttributedScores:
    """Every golden question, answered with the right passage and with what retrieval finds."""

    questions: Sequence[GoldenQuestion]
    gold: Sequence[float]
    retrieved: Sequence[GradedAnswer]

    @property
    def scores(self) -> list[float]:
        return [one.score for one in self.retrieved]


def gather_evidence(
    world: EvidenceInputs, examiner: Evaluator, subject: SystemUnderTest, embedder: Embedder, params: Params
) -> Evidence:
    """Every signal about `world`, with the live release (or, before the first, the base model alone) as `subject`."""
    watch = Stopwatch()
    with watch("score_retrieved"):
        retrieved = examiner.with_retrieval(subject)
    with watch("score_gold"):
        asked = AttributedScores(examiner.golden.questions, examiner.gold_scores(subject, retrieved), retrieved)
    signals = _without_questions(world, examiner, subject, embedder, params, watch)
    return Evidence(
        snapshot=world.corpus.snapshot.id,
        live_release=world.live.id if world.live else None,
        changes=world.changes,
        delta=world.delta,
        **_scores(asked, world, params.score),
        **signals,
        stale_questions=examiner.golden.stale,
        examples=len(world.corpus.examples),
        orphaned_examples=len(world.corpus.orphans),
        filtered=count_issues(world.corpus.filtered),
        min_examples=params.finetune.min_examples,
        adapter_is_current=_adapter_is_current(world, subject.model, training_settings(params, examiner.answerer.base)),
        rejected_actions=world.rejected_actions,
        approved_actions=world.approved_actions,
        deletions_rejected_reason=world.deletions_rejected_reason,
        pending_deletions=dict(world.corpus.pending_deletions),
        quarantined={one.document: one.reason for one in world.corpus.quarantined},
        deleted_training_documents=world.deleted_training_documents,
        new_base_model=_other_base(world.live, examiner.answerer.base),
        costs=world.costs,
        past=world.past,
        spent_hours=world.spent_hours,
        hours_since_retrain=world.hours_since_retrain,
        **_to_tune(world.tunable),
        signal_seconds=watch.seconds,
    )


def _to_tune(there: TuningData | None) -> dict[str, Any]:
    """What there is to tune the retriever on; nothing where it cannot be tuned."""
    return {"pairs": there.pairs, "min_pairs": there.least, "new_pairs": there.new_share} if there else {}


def _scores(asked: AttributedScores, world: EvidenceInputs, params: ScoreParams) -> dict[str, Any]:
    """The signals that the golden questions give."""
    gold, scores = list(asked.gold), asked.scores
    missing = _missing(world, asked.questions)
    lost = [right - now for right, now in zip(gold, scores, strict=True)]
    score_gold = measure_mean(gold, params)
    return {
        "score_gold": score_gold,
        "score_retrieved": measure_mean(scores, params),
        "index_gap": paired_difference(scores, gold, params),
        "model_gap": _shortfall(score_gold, params.target),
        "refresh_gain": _won_back(lost, missing, NOT_MISSING, params),
        "missing_answers": measure_mean([float(one) for one in missing], params),
        "embedder_gap": _won_back(lost, [not one for one in missing], ALL_MISSING, params),
        "malformed_share": measure_mean([float(not one.well_formed) for one in asked.retrieved], params),
        "groups": _gaps(asked, folder_of, params),
        "kinds": _gaps(asked, kind_of_answer, params),
    }


def _without_questions(
    world: EvidenceInputs,
    examiner: Evaluator,
    subject: SystemUnderTest,
    embedder: Embedder,
    params: Params,
    watch: Stopwatch,
) -> dict[str, Any]:
    """The signals that the changed text and the new examples give."""
    text = TextSignals(world.corpus, world.before, params)
    pupil = split_seen_examples(world.corpus, subject.model, training_settings(params, examiner.answerer.base))
    found: dict[str, Any] = {"new_examples": len(pupil.new)}
    with watch("changed_sentence_share"):
        found["changed_sentence_share"] = text.changed_sentence_share()
    with watch("stale_facts"):
        found["stale_facts"] = text.stale_facts(subject.reader)
    with watch("resurfaced_deletions"):
        found["resurfaced_deletions"] = text.resurfaced_deletions(subject.reader)
    with watch("novelty"):
        found["novelty"], found["shift"] = text.vectors(embedder)
    with watch("vocabulary"):
        found["vocabulary"] = text.vocabulary()
    with watch("excess_loss"):
        found["excess_loss"] = excess_loss_on_new(pupil, world.corpus, subject.reader, examiner.answerer, params)
    return found


def _shortfall(score: Measure, target: float) -> Measure:
    """target - score, with the score's interval turned round."""
    if score.value is None or score.low is None or score.high is None:
        return Measure.unmeasured(score.why or "no score")
    return Measure(
        value=round(target - score.value, 6),
        n=score.n,
        low=round(target - score.high, 6),
        high=round(target - score.low, 6),
    )


def _missing(world: EvidenceInputs, questions: Sequence[GoldenQuestion]) -> list[bool]:
    """Which questions have an answer that the live rows do not hold: only new rows can bring it."""
    if world.live is None:
        return [True] * len(questions)
    if world.before is None:
        return [False] * len(questions)
    passages = world.before.passages
    names = {rename.after: rename.before for rename in world.changes.renamed}
    return [
        bool(question.docs)
        and not any(
            supports_answer(chunk.text, question)
            for doc in question.docs
            for name in (doc, names.get(doc, doc))
            for chunk in passages.get(name, ())
        )
        for question in questions
    ]


def _won_back(lost: Sequence[float], concerned: Sequence[bool], why: str, params: ScoreParams) -> Measure:
    """What would be won back if the questions `concerned` were answered as with the right passage, over all of them."""
    if not any(concerned):
        return Measure.unmeasured(why)
    return measure_mean([points * touched for points, touched in zip(lost, concerned, strict=True)], params)


def _gaps(asked: AttributedScores, name_of: Callable[[GoldenQuestion], str], params: ScoreParams) -> tuple[Gap, ...]:
    """Both gaps of each group of questions, the largest groups first."""
    members: dict[str, list[int]] = {}
    for at, question in enumerate(asked.questions):
        members.setdefault(name_of(question), []).append(at)
    largest = sorted(members.items(), key=lambda one: (-len(one[1]), one[0]))[:GROUPS]
    gold, scores = asked.gold, asked.scores
    return tuple(
        Gap(
            name=name,
            index_gap=paired_difference([scores[at] for at in some], [gold[at] for at in some], params),
            model_gap=_shortfall(measure_mean([gold[at] for at in some], params), params.target),
        )
        for name, some in largest
    )


def folder_of(question: GoldenQuestion) -> str:
    """The first folder of the question's document; questions about behaviour alone name none."""
    if not question.docs:
        return "no document"
    folder, slash, _ = question.docs[0].partition("/")
    return f"{folder}/" if slash else "top folder"


def kind_of_answer(question: GoldenQuestion) -> str:
    """What the answer is: of a demanded format, a date, a version or number, a few words, or a text."""
    if question.format or question.scorer in ("json_f1", "command"):
        return "demanded format"
    answer = question.answers[0]
    if re.fullmatch(r"\d{4}-\d{2}(-\d{2})?|\d{1,2}[./]\d{1,2}[./]\d{2,4}", answer):
        return "date"
    if re.search(r"\d", answer) and len(answer.split()) <= 2:
        return "number or version"
    return "a few words" if len(answer.split()) <= 4 else "text"


def _other_base(live: Release | None, today: str) -> str | None:
    """The base model that a retrain would start from, where the live release was made from another."""
    if live is None or is_same_base(live.model.base, today):
        return None
    return today.rpartition("@")[0] or today


def _adapter_is_current(world: EvidenceInputs, model: BuiltModel, settings: str) -> bool:
    """Whether a retrain would see the same examples under the same settings, and so bring the same adapter."""
    if model.adapter is None or model.settings != settings:
        return False
    if not model.trained_on:
        # A release of before it was written down which examples an adapter saw.
        return model.examples == world.corpus.snapshot.train_id
    now, taught = {example.digest for example in world.corpus.examples}, set(model.trained_on)
    # What was replayed was drawn from files that are gone, and says nothing about those of today.
    return now <= taught and taught - set(model.replayed) <= now
