"""What do the changed text, its vectors and the new examples say by themselves? Signals that need no golden question.

Each has its sample size and interval where it is a sample, says why where it cannot be measured, and is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ragtide.pipelines.corpus import Corpus, InMemorySource
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evidence import drift as new_vectors
from ragtide.pipelines.evidence.drift import excess_loss
from ragtide.pipelines.evidence.stale_facts import resurfaced_share, stale_fact_share
from ragtide.pipelines.evidence.text_changes import TextChanges, compare_texts
from ragtide.pipelines.index.rows import SampledRows
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.params import Params, ScoreParams
from ragtide.pipelines.ports import Embedder
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evidence import Measure
from ragtide.pipelines.records.release import BuiltModel
from ragtide.pipelines.sampling import evenly_spaced
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.samples import samples_with_passages

CheckT = TypeVar("CheckT")
Share = Callable[[Sequence[CheckT], Retriever, int, ScoreParams], Measure]
FIRST = Measure.unmeasured("there is no live release to compare with")
OFF = "switched off in params.yaml"


@dataclass(frozen=True)
class LiveIndexView:
    """The live index, as far as the evidence compares with it.

    `passages` are those of every document that differs from the rows, as the rows have it, and of every document that
    a golden question asks for; `changed` names the documents that differ; `sample` are some rows with their vectors,
    None where these are another embedder's.
    """

    passages: Mapping[str, Sequence[Chunk]]
    changed: frozenset[str]
    sample: SampledRows | None

    @classmethod
    def of(cls, index: Index, version: int | str, corpus: Corpus, asked: Iterable[str], limit: int) -> LiveIndexView:
        """Look at a version of the index; `asked` are documents of golden questions, `limit` rows are sampled."""
        then = _cuts(index.rows(version).items())
        now = _cuts((chunk.key, (chunk.digest, "")) for chunk in corpus.chunks)
        changed = frozenset(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        passages = InMemorySource.of(index.chunks([*sorted({*changed, *asked} & then.keys())], version)).by_document
        return cls(passages, changed, index.sample(version, limit) if limit else None)


def _cuts(rows: Iterable[tuple[tuple[str, int], tuple[str, str]]]) -> dict[str, dict[int, str]]:
    """Document -> position -> digest of the passage there."""
    cuts: dict[str, dict[int, str]] = {}
    for (document, position), (digest, _) in rows:
        cuts.setdefault(document, {})[position] = digest
    return cuts


@dataclass
class Stopwatch:
    """Seconds by signal."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, signal: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[signal] = round(self.seconds.get(signal, 0.0) + time.perf_counter() - started, 3)


class TextSignals:
    """The changed documents beside what the live index holds of them."""

    def __init__(self, corpus: Corpus, before: LiveIndexView | None, params: Params) -> None:
        self._corpus = corpus
        self._before = before
        self._params = params

    @cached_property
    def news(self) -> TextChanges | None:
        """What the changed documents say that they did not; None before the first release."""
        if self._before is None:
            return None
        was, now = self._before.passages, self._corpus.chunks_by_document
        changed = self._before.changed
        return compare_texts(
            {name: was[name] for name in sorted(changed & was.keys())},
            {name: now[name] for name in sorted(changed & now.keys())},
        )

    def changed_sentence_share(self) -> Measure:
        """The share of all the corpus's sentences that say something else or new; those of the rest are estimated."""
        if self._before is None or self.news is None:
            return FIRST
        total = self._sentences()
        return Measure(value=round(min(1.0, self.news.told / total), 6) if total else 0.0, n=total)

    def _sentences(self) -> int:
        """Sentences of the whole corpus, as many a chunk as in the changed documents."""
        assert self.news is not None
        assert self._before is not None
        now = self._corpus.chunks_by_document
        changed = sum(len(now[name]) for name in self._before.changed if name in now)
        return round(self.news.sentences * len(self._corpus.chunks) / changed) if changed else 0

    def stale_facts(self, reader: Retriever | None) -> Measure:
        """The share of moved facts for which the live index brings up the old value and not the new one."""
        return self._share_of(stale_fact_share, self.news.probes if self.news else (), reader)

    def resurfaced_deletions(self, reader: Retriever | None) -> Measure:
        """The share of removed sentences that the live index still brings up."""
        return self._share_of(resurfaced_share, self.news.canaries if self.news else (), reader)

    def _share_of(self, share: Share[CheckT], asked: Sequence[CheckT], reader: Retriever | None) -> Measure:
        """A share of what is asked of the live index, taken on `evidence.probes` of them at most."""
        if self.news is None or reader is None:
            return FIRST
        limit = self._params.evidence.probes
        if not limit:
            return Measure.unmeasured(OFF)
        return share(evenly_spaced(asked, limit), reader, self._params.index.top_k, self._params.score)

    @cached_property
    def new_chunks(self) -> list[Chunk]:
        """Chunks of changed documents whose text the live index holds nowhere among these documents."""
        assert self._before is not None
        was = {chunk.digest for chunks in self._before.passages.values() for chunk in chunks}
        return [
            chunk for chunk in self._corpus.chunks if chunk.document in self._before.changed and chunk.digest not in was
        ]

    def vectors(self, embedder: Embedder) -> tuple[Measure, Measure]:
        """Novelty of the new chunks, and the shift of the documents: new chunks beside a sample of the old ones."""
        if self._before is None:
            return FIRST, FIRST
        limit = self._params.evidence.new_chunks
        if not limit or not self._params.evidence.old_chunks:
            return Measure.unmeasured(OFF), Measure.unmeasured(OFF)
        if self._before.sample is None:
            other = Measure.unmeasured("the rows' vectors are those of other settings")
            return other, other
        if not self.new_chunks:
            none = Measure.unmeasured("there are no new chunks")
            return none, none
        prefix = self._params.embed.document_prefix
        texts = [prefix + chunk.text for chunk in evenly_spaced(self.new_chunks, limit)]
        new, old = embedder.embed(texts), self._before.sample.vectors
        score = self._params.score
        return new_vectors.novelty(new, old, score), new_vectors.shift(new, old, score)

    def vocabulary(self) -> Measure:
        """The share of a new chunk's words that no old text holds."""
        if self._before is None:
            return FIRST
        new = {chunk.key for chunk in self.new_chunks}
        kept = [chunk.text for chunk in self._corpus.chunks if chunk.key not in new]
        was = [chunk.text for chunks in self._before.passages.values() for chunk in chunks]
        return new_vectors.vocabulary([chunk.text for chunk in self.new_chunks], kept + was, self._params.score)


@dataclass(frozen=True)
class SeenExamples:
    """The live model, and which of the examples it has seen."""

    model: BuiltModel
    new: Sequence[Example]
    old: Sequence[Example]


def split_seen_examples(corpus: Corpus, model: BuiltModel, settings: str) -> SeenExamples:
    """Which examples the live adapter has seen; under other settings of fine-tuning, none counts as seen."""
    seen = set(model.trained_on) if model.settings == settings else set()
    return SeenExamples(
        model,
        new=[example for example in corpus.examples if example.digest not in seen],
        old=[example for example in corpus.examples if example.digest in seen],
    )


def excess_loss_on_new(
    pupil: SeenExamples, corpus: Corpus, reader: Retriever | None, answerer: Answerer, params: Params
) -> Measure:
    """The live model's loss on examples that it has not seen, less that on those that it has (nats a token).

    Where none of the latter is left, its loss at the end of its own training stands in for them.
    """
    limit = params.evidence.examples
    if not limit:
        return Measure.unmeasured(OFF)
    if reader is None or pupil.model.adapter is None:
        return Measure.unmeasured("there is no adapter yet")
    if not pupil.new:
        return Measure.unmeasured("the adapter has seen every example")
    new, old = (evenly_spaced(some, limit) for some in (pupil.new, pupil.old))
    taught = samples_with_passages(
        [*new, *old], corpus.chunks_by_document, reader, params.index.top_k, params.finetune.seed
    )
    losses = answerer.losses("reading new examples", taught, pupil.model)
    if losses is None:
        return Measure.unmeasured("this generator does not tell its loss")
    known = losses[len(new) :]
    if not known and pupil.model.final_loss is not None:
        known = [pupil.model.final_loss]
    return excess_loss(losses[: len(new)], known, params.score)
