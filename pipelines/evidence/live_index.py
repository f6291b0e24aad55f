"""View of the live index as far as evidence is measured on it, and a stopwatch for the signals."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ragtide.pipelines.index.rows import SampledRows
from ragtide.pipelines.index.source import InMemorySource
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.evaluation import GoldenQuestion


@dataclass(frozen=True)
class LiveIndexView:
    """The part of the live index that evidence is measured on.

    `passages` are those of every document that differs from the corpus, as the index has it; `changed` names these
    documents; `digests` are those of all rows; `sample` are some rows with their vectors, None where these are of other
    settings; `questions` are the golden questions.
    """

    passages: Mapping[str, Sequence[Chunk]]
    changed: frozenset[str]
    sample: SampledRows | None
    questions: Sequence[GoldenQuestion] = ()
    digests: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, index: Index, version: int | str, chunks: Sequence[Chunk], questions: Sequence[GoldenQuestion], limit: int
    ) -> LiveIndexView:
        """A version of the index beside the corpus's `chunks`, and the golden `questions`.

        `limit` rows are sampled, none where it is 0.
        """
        rows = index.rows(version)
        then = _positions(rows.items())
        now = _positions((chunk.key, (chunk.digest, "")) for chunk in chunks)
        changed = frozenset(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        passages = InMemorySource.of(index.chunks(sorted(changed & then.keys()), version)).by_document
        digests = frozenset(digest for digest, _ in rows.values())
        return cls(passages, changed, index.sample(version, limit) if limit else None, questions, digests)


def _positions(rows: Iterable[tuple[tuple[str, int], tuple[str, str]]]) -> dict[str, dict[int, str]]:
    """Document -> position -> digest of the passage there."""
    positions: dict[str, dict[int, str]] = {}
    for (document, position), (digest, _) in rows:
        positions.setdefault(document, {})[position] = digest
    return positions


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
