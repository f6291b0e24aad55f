"""Signals of the changed text and its vectors: changed sentences, stale facts, resurfaced deletions and drift.

No golden question is needed. Each signal has its sample size and interval where it is a sample, says why where it
cannot be measured, and is timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from math import ceil
from typing import TypeVar

from ragtide.pipelines.corpus import KnowledgeBase
from ragtide.pipelines.evidence import drift
from ragtide.pipelines.evidence.live_index import LiveIndexView, Stopwatch
from ragtide.pipelines.evidence.stale_facts import resurfaced_share, stale_fact_share
from ragtide.pipelines.evidence.text_changes import TextChanges, compare_texts
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.params import Params, ScoreParams
from ragtide.pipelines.ports import Embedder, Vectors
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evidence import Measure, TextSignals
from ragtide.pipelines.sampling import evenly_spaced

CheckT = TypeVar("CheckT")
Share = Callable[[Sequence[CheckT], Retriever, int, ScoreParams], Measure]
# The fields of TextSignals that are no measures.
NO_MEASURES = {"record_version", "substantive_sentences", "captured_by", "affected_questions"}
# Golden questions whose nearest passages are compared, at most.
COMPARED_QUESTIONS = 500
FIRST = Measure.unmeasured("there is no live release to compare with")
OFF = "switched off in params.yaml"


def measure_text(
    knowledge: KnowledgeBase,
    index: LiveIndexView | None,
    retriever: Retriever | None,
    embedder: Embedder,
    params: Params,
    watch: Stopwatch,
) -> TextSignals:
    """Compare the changed documents with the live index; `index` and `retriever` are None before the first release."""
    if index is None or retriever is None:
        return TextSignals(**{name: FIRST for name in TextSignals.model_fields if name not in NO_MEASURES})
    text = TextComparison(knowledge, index, params)
    measures: dict[str, Measure] = {}
    captured_by: str | None = None
    with watch("changed_sentence_share"):
        measures["changed_sentence_share"] = text.changed_sentence_share()
    with watch("stale_facts"):
        measures["stale_facts"] = text.stale_facts(retriever)
    with watch("resurfaced_deletions"):
        measures["resurfaced_deletions"] = text.resurfaced_deletions(retriever)
    with watch("novelty"):
        measures["novelty"], measures["shift"] = text.vectors(embedder)
    with watch("vocabulary"):
        measures["vocabulary"] = text.vocabulary()
    with watch("captured_questions"):
        measures["captured_questions"], captured_by = text.captured_questions(embedder, retriever)
        affected = text.affected_questions(embedder, retriever)
    substantive = text.changes.substantive
    return TextSignals(
        **measures, substantive_sentences=substantive, captured_by=captured_by, affected_questions=affected
    )


class TextComparison:
    """The changed documents beside what the live index holds of them."""

    def __init__(self, knowledge: KnowledgeBase, index: LiveIndexView, params: Params) -> None:
        self._knowledge = knowledge
        self._index = index
        self._params = params
        self._sample_vectors: Vectors | None = None

    @cached_property
    def changes(self) -> TextChanges:
        """What the changed documents say now, compared with what the index has of them."""
        was, now, changed = self._index.passages, self._knowledge.chunks_by_document, self._index.changed
        return compare_texts(
            {name: was[name] for name in sorted(changed & was.keys())} | self._held,
            {name: now[name] for name in sorted(changed & now.keys())},
            self._held.keys(),
        )

    @cached_property
    def _held(self) -> dict[str, Sequence[Chunk]]:
        """The documents whose deletion is pending: the live index still has them, and the folder does not."""
        pending, held = self._knowledge.pending_deletions, self._knowledge.chunks_by_document
        return {name: held[name] for name in sorted(pending) if name in held}

    def changed_sentence_share(self) -> Measure:
        """The share of the corpus's sentences that say something else or new, of an estimated total."""
        total = self._sentences()
        return Measure(value=round(min(1.0, self.changes.changed / total), 6) if total else 0.0, n=total)

    def _sentences(self) -> int:
        """Sentences of the whole corpus, as many a passage as in the changed documents."""
        now = self._knowledge.chunks_by_document
        changed = sum(_count_passages(now[name]) for name in self._index.changed if name in now)
        total = _count_passages(self._knowledge.chunks) - sum(map(_count_passages, self._held.values()))
        return round(self.changes.sentences * total / changed) if changed else 0

    def stale_facts(self, retriever: Retriever) -> Measure:
        """The share of changed facts for which the live index returns the old value and not the new one."""
        return self._share_of(stale_fact_share, self.changes.fact_checks, retriever)

    def resurfaced_deletions(self, retriever: Retriever) -> Measure:
        """The share of removed sentences that the live index still returns."""
        return self._share_of(resurfaced_share, self.changes.deletion_checks, retriever)

    def _share_of(self, share: Share[CheckT], checks: Sequence[CheckT], retriever: Retriever) -> Measure:
        """A share of checks on the live index, of at most `evidence.fact_checks` of them."""
        limit = self._params.evidence.fact_checks
        if not limit:
            return Measure.unmeasured(OFF)
        return share(evenly_spaced(checks, limit), retriever, self._params.index.top_k, self._params.score)

    @cached_property
    def new_chunks(self) -> list[Chunk]:
        """Passages of changed documents whose text is in none of these in the live index, or in held ones."""
        passages = (*self._index.passages.values(), *self._held.values())
        was = {chunk.digest for chunks in passages for chunk in chunks}
        return [
            chunk
            for chunk in self._knowledge.chunks
            if chunk.document in self._index.changed and chunk.digest not in was and not chunk.is_overview
        ]

    def vectors(self, embedder: Embedder) -> tuple[Measure, Measure]:
        """Novelty of the new chunks, and the shift of the documents: new chunks beside a sample of the old ones."""
        why = self._why_no_vectors()
        if why or self._index.sample is None:
            return Measure.unmeasured(why or OFF), Measure.unmeasured(why or OFF)
        new, old, score = self._embed_sample(embedder), self._index.sample.vectors, self._params.score
        return drift.novelty(new, old, score), drift.shift(new, old, score)

    def captured_questions(self, embedder: Embedder, retriever: Retriever) -> tuple[Measure, str | None]:
        """The largest share of golden questions whose nearest passage one changed document would take, and its name.

        Measured on the sample of new chunks, so a document with many of them may take more.
        """
        why = self._why_no_vectors()
        questions = evenly_spaced(self._index.questions, COMPARED_QUESTIONS)
        if why or not questions:
            return Measure.unmeasured(why or "there are no golden questions"), None
        new = self._embed_sample(embedder)
        captured: Counter[str] = Counter()
        nearest = retriever.nearest([question.question for question in questions])
        for question, passage in zip(questions, nearest, strict=bool(nearest)):
            similarities = new @ passage.question
            document = self._sampled[int(similarities.argmax())].document
            is_other = document != passage.document and document not in question.docs
            captured[document] += bool(is_other and similarities.max() > passage.similarity)
        document, count = min(captured.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
        return Measure(value=round(count / len(questions), 6), n=len(questions)), document if count else None

    def affected_questions(self, embedder: Embedder, retriever: Retriever) -> int | None:
        """How many golden questions a refreshed index may give other passages; None where it has other vectors.

        Those are questions of which a retrieved passage is absent from the documents now, or that a new chunk is nearer
        to than the last of them. Measured by vector and on a sample of the new chunks, from which it is extrapolated.
        """
        if self._index.sample is None or (self.new_chunks and not self._params.evidence.new_chunks):
            return None
        questions, now = evenly_spaced(self._index.questions, COMPARED_QUESTIONS), self._knowledge.chunks_by_document
        today = {chunk.digest for name in self._index.changed for chunk in now.get(name, ())}
        absent = {chunk.key for was in self._index.passages.values() for chunk in was if chunk.digest not in today}
        new, touched = self._embed_sample(embedder) if self.new_chunks else None, {c.document for c in self.new_chunks}
        nearest = retriever.nearest([question.question for question in questions], self._params.index.top_k)
        lost, gained = 0, 0
        for question, passage in zip(questions, nearest, strict=bool(nearest)):
            if touched.intersection(question.docs) or not absent.isdisjoint(passage.keys):
                lost += 1
            elif new is not None and (new @ passage.question).max() > passage.reach:
                gained += 1
        sampled = len(self.new_chunks) / max(1, len(self._sampled))
        share = min(1.0, (lost + gained * sampled) / max(1, len(questions)))
        return ceil(share * len(self._index.questions))

    def _why_no_vectors(self) -> str | None:
        """Why the vectors of new chunks cannot be compared with the index's; None where they can."""
        evidence = self._params.evidence
        if not evidence.new_chunks or not evidence.old_chunks:
            return OFF
        if self._index.sample is None:
            return "the index's vectors are of other settings"
        return None if self.new_chunks else "there are no new chunks"

    @cached_property
    def _sampled(self) -> Sequence[Chunk]:
        return evenly_spaced(self.new_chunks, self._params.evidence.new_chunks)

    def _embed_sample(self, embedder: Embedder) -> Vectors:
        """The vectors of the sampled new chunks, embedded once."""
        if self._sample_vectors is None:
            prefix = self._params.embed.document_prefix
            self._sample_vectors = embedder.embed([prefix + chunk.text for chunk in self._sampled])
        return self._sample_vectors

    def vocabulary(self) -> Measure:
        """The share of a new chunk's words that are in no old text."""
        new = {chunk.key for chunk in self.new_chunks}
        kept = [chunk.text for chunk in self._knowledge.chunks if chunk.key not in new and not chunk.is_overview]
        was = [chunk.text for chunks in self._index.passages.values() for chunk in chunks]
        return drift.vocabulary([chunk.text for chunk in self.new_chunks], kept + was, self._params.score)


def _count_passages(chunks: Sequence[Chunk]) -> int:
    return sum(not chunk.is_overview for chunk in chunks)
