"""Remembered searches and question vectors, so that a recording embeds and searches nothing twice."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np

from ragtide.pipelines.evidence.live_index import Stopwatch
from ragtide.pipelines.index.search import NearestPassage, Passage, Retriever
from ragtide.pipelines.ports import Embedder, Vectors


class RememberingEmbedder:
    """An embedder that keeps the vectors of known questions; every other text is embedded each time.

    The product keeps the vectors of its golden questions during a cycle too, so the seconds of the signals stay true.
    """

    def __init__(self, embedder: Embedder, questions: Collection[str]) -> None:
        self._embedder, self._questions = embedder, questions
        self._vectors: dict[str, Vectors] = {}

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts or not self._questions.__contains__(texts[0]):
            return self._embedder.embed(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        self._vectors |= dict(zip(new, self._embedder.embed(new), strict=True)) if new else {}
        return np.stack([self._vectors[text] for text in texts])


class RememberedSearches:
    """A retriever of one index version that searches for each question once."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._found: dict[tuple[str, int, str | None], list[Passage]] = {}
        self._contexts: dict[tuple[str, int], list[Passage]] = {}

    @classmethod
    def of(cls, retriever: Retriever) -> Retriever:
        return cast("Retriever", cls(retriever))

    @property
    def version(self) -> int:
        return self._retriever.version

    def search(self, questions: Sequence[str], top_k: int, by: str | None = None) -> list[list[Passage]]:
        new = [question for question in dict.fromkeys(questions) if (question, top_k, by) not in self._found]
        for question, passages in zip(new, self._retriever.search(new, top_k, by) if new else (), strict=True):
            self._found[question, top_k, by] = passages
        return [self._found[question, top_k, by] for question in questions]

    def contexts(self, questions: Sequence[str], top_k: int) -> list[list[Passage]]:
        new = [question for question in dict.fromkeys(questions) if (question, top_k) not in self._contexts]
        for question, passages in zip(new, self._retriever.contexts(new, top_k) if new else (), strict=True):
            self._contexts[question, top_k] = passages
        return [self._contexts[question, top_k] for question in questions]

    def nearest(self, questions: Sequence[str], count: int = 1) -> list[NearestPassage]:
        return self._retriever.nearest(questions, count)


class CpuStopwatch(Stopwatch):
    """Seconds of the processor by signal: a recording shares the machine with other work."""

    @contextmanager
    def __call__(self, signal: str) -> Iterator[None]:
        started = time.process_time()
        try:
            yield
        finally:
            self.seconds[signal] = round(self.seconds.get(signal, 0.0) + time.process_time() - started, 3)
