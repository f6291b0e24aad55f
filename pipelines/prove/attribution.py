"""Which half is out of date? Golden questions answered with the right passage, and with what retrieval finds.

A wrong answer with the right page in front of the model is the model's fault; a wrong answer without it is the
index's. score(gold) - score(retrieved) is the index's gap, target - score(gold) the model's. "With the right passage"
is meant as the model serves: that passage among as many as retrieval brings up. Alone it makes a model look better than
it is, above all one that has not learnt to choose (docs/log.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.build.adapters import same_base
from pipelines.build.candidate import training_settings
from pipelines.build.corpus import Corpus
from pipelines.build.lessons import by_likeness
from pipelines.build.prompts import question_prompt
from pipelines.build.retriever import Tunable
from pipelines.build.search import Passage, Reader
from pipelines.params import Params, ScoreParams
from pipelines.ports import Claim, Embedder
from pipelines.prove.answer import Answerer
from pipelines.prove.novelty import sample
from pipelines.prove.questions import GoldenSet
from pipelines.prove.retrieval import each_once, judge_rankings
from pipelines.prove.score import difference, grade, measure, well_formed
from pipelines.prove.scorers import supports
from pipelines.prove.signals import Before, Stopwatch, TextSignals, pupil_of, surprise_of
from pipelines.records import (
    BuiltModel,
    ChangeSet,
    Costs,
    Evidence,
    Gap,
    Graded,
    IndexDelta,
    Measure,
    Past,
    Question,
    Release,
    Retrieval,
    Scorecard,
    flaws_of,
)

SEARCHES = ("hybrid", "vector", "text")
# Passages that are looked at to find ten documents: a document is often found by several of its own.
PASSAGES = 30
# Groups of questions that are told apart: a table that one still reads.
GROUPS = 12
NOT_MISSING = "no golden question asks for what the live index does not hold"
ALL_MISSING = "no golden question asks for what the live index holds"


@dataclass(frozen=True)
class Subject:
    """What is measured: a version of the index (None: none yet) and a model."""

    reader: Reader | None
    model: BuiltModel


@dataclass(frozen=True)
class World:
    """What the evidence is gathered about, besides scores: the data, the live release and its index, past and costs."""

    corpus: Corpus
    changes: ChangeSet
    delta: IndexDelta
    live: Release | None
    costs: Costs
    refused: dict[str, str]
    before: Before | None = None
    approved: tuple[str, ...] = ()
    held_rejected: str | None = None
    past: tuple[Past, ...] = ()
    spent_hours: float = 0.0
    hours_since_retrain: int | None = None
    tunable: Tunable | None = None
    taught_gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """Every golden question, answered with the right passage and with what retrieval finds."""

    questions: Sequence[Question]
    gold: Sequence[float]
    retrieved: Sequence[Graded]

    @property
    def scores(self) -> list[float]:
        return [one.score for one in self.retrieved]


# Question -> what was found for it; None without an index.
Found = Mapping[str, Sequence[Passage] | None]


class Examiner:
    """Asks one golden set of one corpus, under one answerer."""

    def __init__(self, corpus: Corpus, golden: GoldenSet, answerer: Answerer, params: Params) -> None:
        self._corpus = corpus
        self.golden = golden
        self.answerer = answerer
        self._params = params

    def with_gold(self, subject: Subject) -> list[Graded]:
        """Each question answered with the passage that holds its answer, among others of its page.

        One that names no document has no right passage: it gets what is found, so that whatever is wrong with its
        answer is the model's fault.
        """
        return self._with_gold(subject, self.golden.questions)

    def gold_scores(self, subject: Subject, retrieved: Sequence[Graded]) -> list[float]:
        """Each question's score with the right passage, asking little: looking must stay cheap beside acting.

        What is right with retrieved passages is no fault of the index, and of the model neither: it counts as right.
        Where the right passage was among those retrieved, or the question names no document, there is nothing else to
        put before the model: the score stands. Of the rest a quarter is asked, and `evidence.questions` at least,
        evenly spaced; each of the others takes the score of the nearest of them (hot-deck imputation).
        """
        questions, scores = self.golden.questions, [one.score for one in retrieved]
        open_ = [at for at, one in enumerate(questions) if scores[at] < 1 and one.docs and not retrieved[at].hit]
        least = self._params.evidence.questions
        asked = sample(open_, max(least, len(open_) // 4) if least else len(open_))
        graded = self._with_gold(subject, [questions[at] for at in asked])
        told = {at: one.score for at, one in zip(asked, graded, strict=True)}
        for at in open_:
            scores[at] = told[min(asked, key=lambda other: (abs(other - at), other))]
        return scores

    def _with_gold(self, subject: Subject, questions: Sequence[Question]) -> list[Graded]:
        found = self._found(subject.reader, [question for question in questions if not question.docs])
        contexts = [
            gold_context(question, self._corpus, self._params.index.top_k)
            if question.docs
            else [passage.text for passage in found[question.id] or ()]
            for question in questions
        ]
        return self._graded("answering with the right passage", questions, contexts, subject.model)

    def with_retrieval(self, subject: Subject) -> list[Graded]:
        """Each question answered with what the subject's index finds; with nothing where it has no index."""
        found = self._found(subject.reader, self.golden.questions)
        contexts = [[passage.text for passage in passages or ()] for passages in found.values()]
        label = "answering with retrieved passages"
        return self._graded(label, self.golden.questions, contexts, subject.model, found)

    def _found(self, reader: Reader | None, questions: Sequence[Question]) -> Found:
        """Question -> its passages; None without an index, where there is nothing to measure of retrieval."""
        if reader is None:
            return {question.id: None for question in questions}
        passages = reader.search([question.question for question in questions], self._params.index.top_k)
        return {question.id: some for question, some in zip(questions, passages, strict=True)}

    def asking(self, questions: Sequence[Question]) -> Examiner:
        """The same with other questions."""
        return Examiner(self._corpus, GoldenSet(tuple(questions), ()), self.answerer, self._params)

    def scorecard(self, subject: Subject, with_searches: bool = True) -> Scorecard:
        """How the subject answers this golden set, and with `with_searches` how well each way to search finds it."""
        graded = self.with_retrieval(subject)
        return Scorecard(
            snapshot=self._corpus.snapshot.id,
            questions=self.golden.digest(),
            index_version=subject.reader.version if subject.reader else None,
            adapter=subject.model.adapter,
            answer_score=measure([one.score for one in graded], self._params.score),
            retrieval_recall=_recall(graded, self._params.score),
            malformed_share=measure([float(not one.well_formed) for one in graded], self._params.score),
            retrieval=self._retrieval(subject.reader) if with_searches else {},
            graded=tuple(graded),
        )

    def _retrieval(self, reader: Reader | None) -> dict[str, Retrieval]:
        """How well each way to search finds the documents that the questions name."""
        asked = [question for question in self.golden.questions if question.docs]
        if reader is None or not asked:
            return {}
        relevant = {question.id: dict.fromkeys(question.docs, 1) for question in asked}
        top_k = self._params.index.top_k
        found = {}
        for by in SEARCHES:
            passages = reader.search([question.question for question in asked], PASSAGES, by)
            rankings = {
                question.id: each_once(passage.document for passage in some)
                for question, some in zip(asked, passages, strict=True)
            }
            judged = judge_rankings(rankings, relevant, top_k)
            recall, ndcg10, mrr10 = (round(value, 6) for value in (judged.recall, judged.ndcg10, judged.mrr))
            found[by] = Retrieval(k=top_k, recall=recall, ndcg10=ndcg10, mrr10=mrr10, n=len(asked))
        return found

    def _graded(
        self,
        label: str,
        questions: Sequence[Question],
        contexts: Sequence[Sequence[str]],
        model: BuiltModel,
        found: Found | None = None,
    ) -> list[Graded]:
        prompts = [question_prompt(one.question, texts) for one, texts in zip(questions, contexts, strict=True)]
        answers = self.answerer.answer(label, prompts, model)
        passages = found or {}
        graded = [_grade(one, said, passages.get(one.id)) for one, said in zip(questions, answers, strict=True)]
        return self._judged(questions, graded)

    def _judged(self, questions: Sequence[Question], graded: Sequence[Graded]) -> list[Graded]:
        """The answers to questions that ask for a judge get the score that it gives."""
        to_judge = [
            (at, Claim(question.question, one.answer, question.answers))
            for at, (question, one) in enumerate(zip(questions, graded, strict=True))
            if question.scorer == "judge" and one.well_formed
        ]
        opinions = self.answerer.opinions([claim for _, claim in to_judge])
        scores = {at: opinion for (at, _), opinion in zip(to_judge, opinions, strict=True)}
        return [one.model_copy(update={"score": scores[at]}) if at in scores else one for at, one in enumerate(graded)]


def gather(world: World, examiner: Examiner, subject: Subject, embedder: Embedder, params: Params) -> Evidence:
    """Every signal about `world`, with the live release (or, before the first, the base model alone) as `subject`."""
    watch = Stopwatch()
    with watch("score_retrieved"):
        retrieved = examiner.with_retrieval(subject)
    with watch("score_gold"):
        asked = Asked(examiner.golden.questions, examiner.gold_scores(subject, retrieved), retrieved)
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
        left_out=flaws_of(world.corpus.left_out),
        min_examples=params.finetune.min_examples,
        adapter_is_current=_adapter_is_current(world, subject.model, training_settings(params, examiner.answerer.base)),
        refused=world.refused,
        approved=world.approved,
        held_rejected=world.held_rejected,
        held=dict(world.corpus.held),
        set_aside={one.document: one.reason for one in world.corpus.set_aside},
        taught_gone=world.taught_gone,
        other_base=_other_base(world.live, examiner.answerer.base),
        costs=world.costs,
        past=world.past,
        spent_hours=world.spent_hours,
        hours_since_retrain=world.hours_since_retrain,
        **_to_tune(world.tunable),
        measured_in=watch.seconds,
    )


def _to_tune(there: Tunable | None) -> dict[str, Any]:
    """What there is to tune the retriever on; nothing where it cannot be tuned."""
    return {"pairs": there.pairs, "min_pairs": there.least, "new_pairs": there.new_share} if there else {}


def _scores(asked: Asked, world: World, params: ScoreParams) -> dict[str, Any]:
    """The signals that the golden questions give."""
    gold, scores = list(asked.gold), asked.scores
    missing = _missing(world, asked.questions)
    lost = [right - now for right, now in zip(gold, scores, strict=True)]
    score_gold = measure(gold, params)
    return {
        "score_gold": score_gold,
        "score_retrieved": measure(scores, params),
        "index_gap": difference(scores, gold, params),
        "model_gap": _shortfall(score_gold, params.target),
        "refresh_gain": _won_back(lost, missing, NOT_MISSING, params),
        "missing_answers": measure([float(one) for one in missing], params),
        "retriever_gap": _won_back(lost, [not one for one in missing], ALL_MISSING, params),
        "malformed_share": measure([float(not one.well_formed) for one in asked.retrieved], params),
        "groups": _gaps(asked, folder_of, params),
        "kinds": _gaps(asked, kind_of_answer, params),
    }


def _without_questions(
    world: World, examiner: Examiner, subject: Subject, embedder: Embedder, params: Params, watch: Stopwatch
) -> dict[str, Any]:
    """The signals that the changed text and the new examples give."""
    text = TextSignals(world.corpus, world.before, params)
    pupil = pupil_of(world.corpus, subject.model, training_settings(params, examiner.answerer.base))
    found: dict[str, Any] = {"new_examples": len(pupil.new)}
    with watch("news_share"):
        found["news_share"] = text.news_share()
    with watch("stale_answers"):
        found["stale_answers"] = text.stale_answers(subject.reader)
    with watch("come_back"):
        found["come_back"] = text.come_back(subject.reader)
    with watch("novelty"):
        found["novelty"], found["shift"] = text.vectors(embedder)
    with watch("vocabulary"):
        found["vocabulary"] = text.vocabulary()
    with watch("surprise"):
        found["surprise"] = surprise_of(pupil, world.corpus, subject.reader, examiner.answerer, params)
    return found


def gold_context(question: Question, corpus: Corpus, passages: int) -> list[str]:
    """So many passages of the question's own documents, the one that holds its answer among them.

    The nearest to the question, in that order; fewer where there are not so many, none where it names no documents.
    """
    every = [chunk for doc in question.docs for chunk in corpus.chunks_by_document.get(doc, [])]
    nearest = by_likeness(question.question, every)
    right = next((chunk for chunk in nearest if supports(chunk.text, question)), None)
    if right is None or right in nearest[:passages]:
        return [chunk.text for chunk in nearest[:passages]]
    return [chunk.text for chunk in (*nearest[: passages - 1], right)]


def brings_up(passage: Passage, question: Question) -> bool:
    """Whether it is a right passage: of one of the question's documents, and it holds the answer."""
    return passage.document in question.docs and supports(passage.text, question)


def _grade(question: Question, answer: str, passages: Sequence[Passage] | None) -> Graded:
    found = passages or ()
    return Graded(
        question=question.id,
        answer=answer,
        score=grade(answer, question),
        well_formed=well_formed(answer, question),
        hit=None if passages is None or not question.docs else any(brings_up(one, question) for one in found),
        sources=tuple(dict.fromkeys(passage.document for passage in found)),
    )


def _recall(graded: Sequence[Graded], params: ScoreParams) -> Measure:
    return measure([float(one.hit) for one in graded if one.hit is not None], params)


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


def _missing(world: World, questions: Sequence[Question]) -> list[bool]:
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
            supports(chunk.text, question)
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
    return measure([points * touched for points, touched in zip(lost, concerned, strict=True)], params)


def _gaps(asked: Asked, name_of: Callable[[Question], str], params: ScoreParams) -> tuple[Gap, ...]:
    """Both gaps of each group of questions, the largest groups first."""
    members: dict[str, list[int]] = {}
    for at, question in enumerate(asked.questions):
        members.setdefault(name_of(question), []).append(at)
    largest = sorted(members.items(), key=lambda one: (-len(one[1]), one[0]))[:GROUPS]
    gold, scores = asked.gold, asked.scores
    return tuple(
        Gap(
            name=name,
            index_gap=difference([scores[at] for at in some], [gold[at] for at in some], params),
            model_gap=_shortfall(measure([gold[at] for at in some], params), params.target),
        )
        for name, some in largest
    )


def folder_of(question: Question) -> str:
    """The first folder of the question's document; questions about behaviour alone name none."""
    if not question.docs:
        return "no document"
    folder, slash, _ = question.docs[0].partition("/")
    return f"{folder}/" if slash else "top folder"


def kind_of_answer(question: Question) -> str:
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
    if live is None or same_base(live.model.base, today):
        return None
    return today.rpartition("@")[0] or today


def _adapter_is_current(world: World, model: BuiltModel, settings: str) -> bool:
    """Whether a retrain would see the same examples under the same settings, and so bring the same adapter."""
    if model.adapter is None or model.settings != settings:
        return False
    if not model.taught:
        # A release of before it was written down which examples an adapter saw.
        return model.examples == world.corpus.snapshot.train_id
    now, taught = {example.digest for example in world.corpus.examples}, set(model.taught)
    # What was replayed was drawn from files that are gone, and says nothing about those of today.
    return now <= taught and taught - set(model.replayed) <= now
