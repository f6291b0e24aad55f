"""What do an answer, a loss, a lesson and a chunk take on one quiet core? Measured once, for every stream alike.

Recording shares the machine with whatever else runs, and answers are asked once and kept. So the seconds that a replay
charges are not those of the recording, but these: taken in one go, on nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.recording import PARAMS, corpus_of
from bench.streams import Stream
from pipelines.build.candidate import open_index
from pipelines.build.corpus import InMemory
from pipelines.build.examples import lessons
from pipelines.build.models import load_models
from pipelines.build.prompts import question_prompt
from pipelines.params import Params
from pipelines.ports import Lesson, Message, quiet
from pipelines.records import Record
from pipelines.workspace import Workspace

SAMPLED = 24
SMALL = 10


class Rates(Record):
    """Seconds: of an answer, a loss, an example that is trained on, a refresh whatever it does, and a chunk in it."""

    answer_seconds: float
    loss_seconds: float
    example_seconds: float
    refresh_seconds: float
    chunk_seconds: float

    def refresh(self, chunks: int) -> float:
        return self.refresh_seconds + self.chunk_seconds * chunks


def measure(stream: Stream) -> Rates:
    """Take every rate on the start of a stream; the models are loaded before the clock starts."""
    params, step = Params.model_validate(PARAMS), stream.steps[0]
    with tempfile.TemporaryDirectory() as folder:
        space, models = Workspace(Path(folder), params), load_models(params)
        corpus, index = corpus_of(step, {}, params), open_index(Workspace(Path(folder), params), models.embedder)
        models.embedder.embed(["warm"])
        chunks = len(corpus.chunks)
        whole = _seconds(lambda: index.refresh(corpus.source, "all", quiet))
        fewer = InMemory.of([chunk for chunk in corpus.chunks if chunk.position % SMALL])
        small = _seconds(lambda: index.refresh(fewer, "fewer", quiet))
        reader = index.reader(index.latest() or 1)
        asked = [question.question for question in step.questions[:SAMPLED]]
        prompts = [
            question_prompt(question, [passage.text for passage in found])
            for question, found in zip(asked, reader.search(asked, params.index.top_k), strict=True)
        ]
        taught = lessons(corpus.examples[:SAMPLED], corpus.chunks_by_document, reader, params.index.top_k, 7)
        hello = (Message("user", "Hello"),)
        models.generator.generate([hello], None, lambda _: None)
        models.generator.losses([Lesson(hello, "Hello")], None, lambda _: None)
        return Rates(
            answer_seconds=_seconds(lambda: models.generator.generate(prompts, None, lambda _: None)) / len(prompts),
            loss_seconds=_seconds(lambda: models.generator.losses(taught, None, lambda _: None)) / len(taught),
            example_seconds=_seconds(lambda: models.trainer.train(taught, space.state / "adapter", quiet))
            / len(taught),
            refresh_seconds=small,
            chunk_seconds=max(0.0, whole - small) / chunks,
        )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 4)
