"""Training data: what a retrain or an embedder tuning could learn from, compared with the live release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import mean

from ragtide.pipelines.build import training_settings
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.evaluation.assistant import Answerer
from ragtide.pipelines.evaluation.evaluator import SystemUnderTest
from ragtide.pipelines.evidence.drift import excess_loss
from ragtide.pipelines.evidence.suspects import find_suspects, without_suspects
from ragtide.pipelines.evidence.text_signals import OFF
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.models.adapters import is_same_base
from ragtide.pipelines.params import Params
from ragtide.pipelines.records.data import Chunk, count_issues
from ragtide.pipelines.records.evidence import Measure, TrainingData
from ragtide.pipelines.records.release import BuiltModel, Release
from ragtide.pipelines.sampling import evenly_spaced
from ragtide.pipelines.training.embedder_tuning import TuningData
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.samples import samples_with_passages


def measure_training_data(
    corpus: Corpus,
    release: Release | None,
    live: SystemUnderTest,
    answerer: Answerer,
    tuning: TuningData | None,
    params: Params,
) -> TrainingData:
    """Compare the training set with what `live` was trained on; `tuning` is None where the embedder cannot be tuned."""
    training, settings = corpus.training, training_settings(params, answerer.base)
    seen = split_seen_examples(training.examples, live.model, settings)
    repeats = is_same_training(training.examples, live.model, settings)
    measured = excess_loss_on_new(seen, corpus.knowledge.chunks_by_document, live.reader, answerer, params)
    pairs = (
        {"pairs": tuning.pairs, "min_pairs": tuning.least, "new_pairs": tuning.new_share} if tuning is not None else {}
    )
    return TrainingData(
        examples=len(training.examples),
        new_examples=min(len(training.examples), len(seen.new) + live.model.unseen_examples),
        orphaned_examples=len(training.orphans),
        filtered=count_issues(training.filtered),
        min_examples=params.finetune.min_examples,
        adapter_is_current=repeats and not live.model.cut_short,
        cut_short_after=live.model.seen_examples if repeats and live.model.cut_short else None,
        excess_loss=measured.excess_loss,
        suspects=measured.suspects,
        new_base_model=_new_base_model(release, answerer.base),
        **pairs,
    )


@dataclass(frozen=True)
class SeenExamples:
    """A model, and which of the examples it was trained on."""

    model: BuiltModel
    new: Sequence[Example]
    old: Sequence[Example]


def split_seen_examples(examples: Sequence[Example], model: BuiltModel, settings: str) -> SeenExamples:
    """Which examples the live adapter was trained on; under other settings of fine-tuning, none counts as seen."""
    seen = set(model.trained_on) if model.settings == settings else set()
    return SeenExamples(
        model,
        new=[example for example in examples if example.digest not in seen],
        old=[example for example in examples if example.digest in seen],
    )


@dataclass(frozen=True)
class MeasuredExamples:
    """The excess loss on new examples, and the places of the suspect ones among those measured."""

    excess_loss: Measure
    suspects: tuple[str, ...] = ()


def excess_loss_on_new(
    seen: SeenExamples,
    chunks: Mapping[str, Sequence[Chunk]],
    retriever: Retriever | None,
    answerer: Answerer,
    params: Params,
) -> MeasuredExamples:
    """The live model's loss on examples that it was not trained on, less that on those that it was (nats a token).

    Where none of the latter is left, its loss at the end of its own training is used instead. A suspect example counts
    as one that it was trained on: its answer could only be memorised.
    """
    limit = params.evidence.examples
    if not limit or retriever is None or seen.model.adapter is None or not seen.new:
        why = "the adapter was trained on every example already" if not seen.new else "there is no adapter yet"
        return MeasuredExamples(Measure.unmeasured(why if limit else OFF))
    new, old = (evenly_spaced(examples, limit) for examples in (seen.new, seen.old))
    samples = samples_with_passages([*new, *old], chunks, retriever, params.index.top_k, params.finetune.seed)
    losses = answerer.losses("reading new examples", samples, seen.model)
    if losses is None:
        return MeasuredExamples(Measure.unmeasured("this generator does not compute its loss"))
    known = losses[len(new) :]
    if not known and seen.model.final_loss is not None:
        known = [seen.model.final_loss]
    usual = mean(known) if known else inf
    suspects = find_suspects(samples[: len(new)], losses, usual)
    counted = without_suspects(losses[: len(new)], suspects, usual)
    return MeasuredExamples(excess_loss(counted, known, params.score), tuple(new[at].where for at in suspects))


def is_same_training(examples: Sequence[Example], model: BuiltModel, settings: str) -> bool:
    """Whether a retrain would have the same examples under the same settings as the live adapter's.

    It would produce the same adapter, unless a time limit cut that training short. Replayed examples come from files
    that are deleted, and say nothing about those of today.
    """
    if model.adapter is None or model.settings != settings:
        return False
    now, trained = {example.digest for example in examples}, set(model.trained_on)
    return now <= trained and trained - set(model.replayed) <= now


def _new_base_model(release: Release | None, today: str) -> str | None:
    """The base model that a retrain would start from, where the live release has another."""
    if release is None or is_same_base(release.model.base, today):
        return None
    return today.rpartition("@")[0] or today
