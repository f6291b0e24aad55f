"""Seconds per answer, loss, training example, embedding pair and chunk, measured once on one idle core.

A recording shares the machine with other work, and answers are generated once and kept. Therefore a replay charges
these rates, measured together on an otherwise idle machine, and not the seconds of the recording.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.recording import PARAMS
from bench.step_corpus import corpus_of
from bench.streams import Stream
from ragtide.pipelines.build import open_index
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.models.load import Models, load_models
from ragtide.pipelines.models.prompts import question_prompt
from ragtide.pipelines.params import EmbedderTuningParams, Params
from ragtide.pipelines.ports import Message, Prompt, TrainingSample, no_progress
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.training.embedder_tuning import build_embedder
from ragtide.pipelines.training.pairs import build_pairs
from ragtide.pipelines.training.samples import samples_with_passages
from ragtide.pipelines.workspace import Workspace

SAMPLED = 16


class Rates(Record):
    """Seconds per answer, per loss, per training example and pass, per refresh (fixed part) and per embedded chunk.

    `pair_seconds` is the time per pair and pass of fine-tuning the embedder, including loading and the mining of hard
    negatives.
    """

    answer_seconds: float
    loss_seconds: float
    example_seconds: float
    refresh_seconds: float
    chunk_seconds: float
    pair_seconds: float

    def refresh(self, chunks: int) -> float:
        """Return the seconds of a refresh that embeds `chunks` chunks."""
        return self.refresh_seconds + self.chunk_seconds * chunks

    def training(self, examples: int) -> float:
        """Return the seconds of a training; `examples` counts every pass."""
        return self.example_seconds * examples

    def tuning(self, pairs: int) -> float:
        """Return the seconds of fine-tuning the embedder; `pairs` counts every pass."""
        return self.pair_seconds * pairs


def measure(stream: Stream) -> Rates:
    """Measure every rate on the start of a stream; the models are loaded before the timing."""
    params, step = Params.model_validate(PARAMS), stream.steps[0]
    with tempfile.TemporaryDirectory() as folder:
        space, models = Workspace(Path(folder), params), load_models(params)
        corpus, index = corpus_of(step, {}, params), open_index(space, models.embedder)
        models.embedder.embed(["warm"])
        whole = _seconds(lambda: index.refresh(corpus.knowledge.source, "all", no_progress))
        changed = corpus_of(stream.steps[1], {}, params)
        old = {chunk.digest for chunk in corpus.knowledge.chunks}
        new = len({chunk.digest for chunk in changed.knowledge.chunks} - old)
        partial = _seconds(lambda: index.refresh(changed.knowledge.source, "changed", no_progress))
        per_chunk = max(0.0, whole - partial) / (len(corpus.knowledge.chunks) - new)
        retriever = index.retriever(1)
        samples = samples_with_passages(
            corpus.training.examples[:SAMPLED], corpus.knowledge.chunks_by_document, retriever, params.index.top_k, 7
        )
        prompts = _prompts(retriever, [question.question for question in step.questions[:SAMPLED]], params.index.top_k)
        return Rates(
            **_model_rates(models, samples, prompts, space.state / "adapter"),
            refresh_seconds=round(max(0.0, partial - per_chunk * new), 4),
            chunk_seconds=round(per_chunk, 5),
            pair_seconds=pair_seconds(space, corpus, retriever),
        )


def _prompts(retriever: Retriever, questions: Sequence[str], top_k: int) -> list[Prompt]:
    return [
        question_prompt(question, [passage.text for passage in passages])
        for question, passages in zip(questions, retriever.contexts(questions, top_k), strict=True)
    ]


def pair_seconds(space: Workspace, corpus: Corpus, retriever: Retriever) -> float:
    """Measure the seconds per pair of fine-tuning on all pairs of the corpus, with the default settings."""
    tuning = replace(space, params=space.params.model_copy(update={"embedder_tuning": EmbedderTuningParams()}))
    pairs = build_pairs(corpus.knowledge.chunks_by_document, corpus.training.examples)
    built = build_embedder(tuning, pairs, retriever, no_progress)
    return round(built.seconds / tuning.params.embedder_tuning.trained_pairs(built.pairs), 4)


def _model_rates(
    models: Models, samples: Sequence[TrainingSample], prompts: Sequence[Prompt], adapter: Path
) -> dict[str, float]:
    """Measure the rates of the model; it is trained first, since the training decides how long its answers are."""
    passes, ignore = Params.model_validate(PARAMS).finetune.passes(len(samples)), lambda _: None
    training = _seconds(lambda: models.trainer.train(samples, adapter, no_progress))
    models.generator.generate([(Message("user", "Hello"),)], adapter, ignore)
    answers = _seconds(lambda: models.generator.generate(prompts, adapter, ignore))
    losses = _seconds(lambda: models.generator.losses(samples, adapter, ignore))
    return {
        "answer_seconds": round(answers / len(prompts), 4),
        "loss_seconds": round(losses / len(samples), 4),
        "example_seconds": round(training / (passes * len(samples)), 4),
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 4)
