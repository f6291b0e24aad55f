"""What do an answer, a loss, a lesson, a pair and a chunk take on one quiet core? Measured once, for every stream.

Recording shares the machine with whatever else runs, and answers are asked once and kept. So the seconds that a replay
charges are not those of the recording, but these: taken in one go, on nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.recording import PARAMS, corpus_of
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
    """Seconds: of an answer, a loss, an example that is trained on, a refresh whatever it does, and a chunk in it.

    `pair_seconds` is a pair that the retriever is tuned on, in one pass, loading and near misses included; 0 where it
    was not measured yet.
    """

    answer_seconds: float
    loss_seconds: float
    example_seconds: float
    refresh_seconds: float
    chunk_seconds: float
    pair_seconds: float = 0.0

    def refresh(self, chunks: int) -> float:
        return self.refresh_seconds + self.chunk_seconds * chunks

    def training(self, examples: int) -> float:
        return self.example_seconds * examples

    def tuning(self, pairs: int) -> float:
        return self.pair_seconds * pairs


def measure(stream: Stream) -> Rates:
    """Take every rate on the start of a stream; the models are loaded before the clock starts."""
    params, step = Params.model_validate(PARAMS), stream.steps[0]
    with tempfile.TemporaryDirectory() as folder:
        space, models = Workspace(Path(folder), params), load_models(params)
        corpus, index = corpus_of(step, {}, params), open_index(space, models.embedder)
        models.embedder.embed(["warm"])
        whole = _seconds(lambda: index.refresh(corpus.knowledge.source, "all", no_progress))
        moved = corpus_of(stream.steps[1], {}, params)
        new = len(
            {chunk.digest for chunk in moved.knowledge.chunks} - {chunk.digest for chunk in corpus.knowledge.chunks}
        )
        some = _seconds(lambda: index.refresh(moved.knowledge.source, "moved", no_progress))
        each = max(0.0, whole - some) / (len(corpus.knowledge.chunks) - new)
        reader = index.retriever(1)
        taught = samples_with_passages(
            corpus.training.examples[:SAMPLED], corpus.knowledge.chunks_by_document, reader, params.index.top_k, 7
        )
        asked = [question.question for question in step.questions[:SAMPLED]]
        found = reader.search(asked, params.index.top_k)
        prompts = [
            question_prompt(question, [passage.text for passage in passages])
            for question, passages in zip(asked, found, strict=True)
        ]
        of_rows = {"refresh_seconds": round(max(0.0, some - each * new), 4), "chunk_seconds": round(each, 5)}
        of_pairs = {"pair_seconds": pair_seconds(space, corpus, reader)}
        return _with_model(models, taught, prompts, space.state / "adapter").model_copy(update=of_rows | of_pairs)


def pair_seconds(space: Workspace, corpus: Corpus, reader: Retriever) -> float:
    """Seconds a pair of one tuning on all that the corpus holds, with the settings of params.yaml."""
    tuning = replace(space, params=space.params.model_copy(update={"tune": EmbedderTuningParams()}))
    pairs = build_pairs(corpus.knowledge.chunks_by_document, corpus.training.examples)
    built = build_embedder(tuning, pairs, reader, no_progress)
    return round(built.seconds / tuning.params.embedder_tuning.trained_pairs(built.pairs), 4)


def _with_model(models: Models, taught: Sequence[TrainingSample], prompts: Sequence[Prompt], adapter: Path) -> Rates:
    """The rates of the model: trained first, since an answer is as long as it was taught to be."""
    passes, nothing = Params.model_validate(PARAMS).finetune.passes(len(taught)), lambda _: None
    training = _seconds(lambda: models.trainer.train(taught, adapter, no_progress))
    models.generator.generate([(Message("user", "Hello"),)], adapter, nothing)
    answers = _seconds(lambda: models.generator.generate(prompts, adapter, nothing))
    losses = _seconds(lambda: models.generator.losses(taught, adapter, nothing))
    return Rates(
        answer_seconds=round(answers / len(prompts), 4),
        loss_seconds=round(losses / len(taught), 4),
        example_seconds=round(training / (passes * len(taught)), 4),
        refresh_seconds=0.0,
        chunk_seconds=0.0,
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 4)
