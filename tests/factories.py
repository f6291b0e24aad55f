"""Factories of small records, a counting embedder and an index to fill."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragtide.pipelines.data.snapshot import compose_snapshot
from ragtide.pipelines.params import ChunkParams, EmbedParams, IndexParams, Params
from ragtide.pipelines.ports import Vectors, no_progress
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.data import ChangeSet, Chunk, Document, IndexDelta, Snapshot
from ragtide.pipelines.records.decision import Decision, Option
from ragtide.pipelines.records.evaluation import GoldenQuestion, GradedAnswer, Scorecard
from ragtide.pipelines.records.evidence import (
    AnswerScores,
    Costs,
    DataChange,
    Evidence,
    Limits,
    Measure,
    PastDecision,
    TextSignals,
    TrainingData,
)
from ragtide.pipelines.records.reason import Reason, ReasonCode, Value
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel, MaintenanceStep, Release
from ragtide.pipelines.workspace import Workspace

if TYPE_CHECKING:
    from ragtide.pipelines.index.search import Passage
    from ragtide.pipelines.index.table import Index

DIMENSIONS = 8
SHORT = ChunkParams(max_words=20)


class HashEmbedder:
    """Deterministic unit vectors by the words of a text; records the texts, raises after `fails_in` of them."""

    fingerprint = "hash-8"
    dimensions = DIMENSIONS

    def __init__(self, _params: object = None) -> None:
        self.embedded: list[str] = []
        self.fails_in: int | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = [self._vector(text) for text in texts]
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), DIMENSIONS)

    def _vector(self, text: str) -> Vectors:
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in < 0:
                raise ConnectionError("the embedder went away")
        self.embedded.append(text)
        # As for a tokenizer, white space makes no difference.
        seed = int(md5(" ".join(text.split()))[:12], 16)
        vector = np.random.default_rng(seed).normal(size=DIMENSIONS)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


# The base model of the fakes, without an adapter.
BASE = BuiltModel(base="reader-1", adapter=None, examples=None, settings=None)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def workspace(root: Path, **blocks: dict[str, Any]) -> Workspace:
    """A project at `root` with its three data folders; `blocks` are blocks of params.yaml."""
    for name in ("kb", "train", "golden"):
        (root / "data" / name).mkdir(parents=True, exist_ok=True)
    return Workspace(root, Params.model_validate(blocks))


def write(path: Path, content: str | bytes) -> Path:
    """Write a file and create its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def document(name: str, text: str) -> Document:
    return Document(id=name, text=text, digest=md5(text))


def chunk(name: str, text: str, position: int = 0, whole: str | None = None) -> Chunk:
    """A chunk; `whole` is the text of its document, by default that of the chunk."""
    document_digest = md5(f"whole {text if whole is None else whole}")
    return Chunk(
        document=name, position=position, heading="", text=text, digest=md5(text), document_digest=document_digest
    )


def snapshot(kb: dict[str, str] | None = None, train: dict[str, str] | None = None) -> Snapshot:
    return compose_snapshot(kb or {"a.md": md5("a")}, train or {}, {"q.jsonl": md5("q")})


@dataclass
class Shelf:
    """An index in a folder with its settings, and direct access to its tables."""

    uri: str
    embedder: Any = field(default_factory=HashEmbedder)
    chunk: ChunkParams = SHORT
    embed: EmbedParams = field(default_factory=EmbedParams)
    params: IndexParams = field(default_factory=IndexParams)

    @property
    def index(self) -> Index:
        """A new handle on each access, as every command opens its own."""
        from ragtide.pipelines.index.table import Index

        return Index(self.uri, self.embedder, self.chunk, self.embed, self.params)

    def refresh(self, chunks: Sequence[Chunk], rebuild: bool = False) -> BuiltIndex:
        from ragtide.pipelines.index.source import InMemorySource

        return self.index.refresh(InMemorySource.of(chunks), "snapshot", no_progress, rebuild)

    def embeds(self, chunks: Sequence[Chunk], rebuild: bool = False) -> list[str]:
        """The texts that a refresh embeds."""
        before = len(self.embedder.embedded)
        self.refresh(chunks, rebuild)
        return list(self.embedder.embedded[before:])

    def delta(self, chunks: Sequence[Chunk], live: int | None) -> IndexDelta:
        return self.index.delta(chunks, live)

    def search(self, version: int | str, *questions: str, top_k: int = 3, by: str | None = None) -> list[list[Passage]]:
        return self.index.retriever(version).search(questions, top_k, by)

    def maintain(self, **plan: Any) -> dict[str, MaintenanceStep]:
        """Run maintenance with every step enabled that `plan` does not disable; returns each step by its name."""
        from ragtide.pipelines.index.maintenance import MaintenancePlan

        defaults = {"folder": Path(self.uri), "keep": timedelta(0), "max_fragments": 1, "max_deleted_share": 0.0}
        return {step.step: step for step in self.index.maintain(MaintenancePlan(**(defaults | plan)))}

    @property
    def latest(self) -> int:
        return int(self.table().version)

    def versions(self) -> list[int]:
        return sorted(int(version["version"]) for version in self.table().list_versions())

    def content(self, version: int | str | None = None) -> list[dict[str, Any]]:
        """Every row with all columns, in order of key."""
        table = self.table()
        if version is not None:
            table.checkout(version)
        return sorted(table.to_arrow().to_pylist(), key=lambda row: (row["document"], row["position"]))

    def cached(self) -> set[str]:
        """The digests of the texts whose vectors are cached for the current embedder."""
        from ragtide.pipelines.index.fingerprint import vector_fingerprint

        name = f"vectors-{vector_fingerprint(self.embedder, self.embed)}"
        return set(self.table(name).to_arrow()["digest"].to_pylist()) if name in self.tables() else set()

    def indexed_by(self, column: str) -> list[str]:
        """The names of the indexes on a column."""
        return [index.name for index in self.table().list_indices() if column in index.columns]

    def tables(self) -> list[str]:
        import lancedb

        return sorted(lancedb.connect(self.uri).list_tables().tables)

    def table(self, name: str = "chunks") -> Any:
        import lancedb

        return lancedb.connect(self.uri).open_table(name)


def measure(value: float, low: float | None = None, high: float | None = None, n: int = 50) -> Measure:
    return Measure(value=value, n=n, low=value if low is None else low, high=value if high is None else high)


def delta(**numbers: int) -> IndexDelta:
    """Ten chunks of which one changed; `numbers` replace the defaults."""
    defaults = {"chunks_after": 10, "chunks_before": 10, "new": 1, "removed": 1, "upserted": 1, "deleted": 0}
    return IndexDelta(**({"to_embed": 1} | defaults | numbers))


UNMOVED = delta(new=0, removed=0, upserted=0, to_embed=0)
UNCHANGED = ChangeSet(before="s0", after="s1")


EVIDENCE_PARTS: dict[str, type[Record]] = {
    "data": DataChange,
    "scores": AnswerScores,
    "text": TextSignals,
    "training": TrainingData,
    "limits": Limits,
}
# Signal -> the record of the evidence that it is in.
PART_OF = {
    signal: part for part, kind in EVIDENCE_PARTS.items() for signal in kind.model_fields if signal != "record_version"
}


def evidence(**signals: Any) -> Evidence:
    """Evidence of a live release, one edited document and a perfect model: only a refresh has a gain.

    `signals` are those of all five records, by name.
    """
    defaults: dict[str, Any] = {
        "snapshot": "s1",
        "live_release": "1",
        "changes": ChangeSet(before="s0", after="s1", edited=("a.md",)),
        "delta": delta(),
        "score_gold": measure(0.95),
        "score_retrieved": measure(0.85),
        "index_gap": measure(0.1),
        "model_gap": measure(0.0),
        "refresh_gain": measure(0.1),
        "malformed_share": measure(0.0),
        "examples": 100,
        "min_examples": 20,
        "adapter_is_current": False,
        "costs": Costs(refresh_seconds=10, retrain_seconds=300, prove_seconds=20, source="prior"),
    }
    given = defaults | signals
    seconds = given.pop("signal_seconds", {})
    parts: dict[str, dict[str, Any]] = {part: {} for part in EVIDENCE_PARTS}
    for signal, value in given.items():
        parts[PART_OF[signal]][signal] = value
    return Evidence(
        **{part: kind(**parts[part]) for part, kind in EVIDENCE_PARTS.items()},  # type: ignore[arg-type]
        signal_seconds=seconds,
    )


def signal_of(gathered: Evidence, name: str) -> Any:
    """The signal of that name, from any of the records."""
    return getattr(getattr(gathered, PART_OF[name]), name)


def with_signals(gathered: Evidence, **signals: Any) -> Evidence:
    """The same evidence with other signals."""
    known = {name: signal_of(gathered, name) for name in PART_OF}
    return evidence(**(known | {"signal_seconds": gathered.signal_seconds} | signals))


def codes(reasons: Iterable[Reason]) -> list[ReasonCode]:
    """The codes of reasons, in their order."""
    return [reason.code for reason in reasons]


def values_of(reasons: Iterable[Reason], code: ReasonCode) -> dict[str, Value]:
    """The values of the one reason with that code."""
    [reason] = [reason for reason in reasons if reason.code is code]
    return reason.values


def option_of(decision: Decision, action: Action) -> Option:
    """The option of a decision with that action."""
    option = decision.option(action)
    assert option is not None
    return option


def past(action: str = "RETRAIN", **fields: Any) -> PastDecision:
    """An accepted earlier decision that recovered half of its 20 expected points."""
    defaults: dict[str, Any] = {
        "cycle": "cycle-1",
        "accepted": True,
        "expected_points": 20.0,
        "recovered_points": 10.0,
    }
    return PastDecision(action=Action.named(action), **(defaults | fields))


def question(name: str = "q1", **fields: Any) -> GoldenQuestion:
    defaults: dict[str, Any] = {"question": f"What is {name}?", "answers": ("42",), "docs": ("a.md",)}
    return GoldenQuestion(id=name, **(defaults | fields))


def graded(name: str = "q1", score: float = 1.0, **fields: Any) -> GradedAnswer:
    return GradedAnswer(question=name, answer="42", score=score, **({"well_formed": True} | fields))


def scorecard(*answers: GradedAnswer, **fields: Any) -> Scorecard:
    defaults: dict[str, Any] = {
        "snapshot": "s1",
        "questions": "set-1",
        "index_version": 3,
        "adapter": None,
        "answer_score": measure(1.0),
        "retrieval_recall": measure(1.0),
        "malformed_share": measure(0.0),
        "graded": answers or (graded(),),
    }
    return Scorecard(**(defaults | fields))


def release(number: int = 1, **fields: Any) -> Release:
    defaults: dict[str, Any] = {
        "id": str(number),
        "snapshot": snapshot(),
        "index": BuiltIndex(uri="lance", version=3, fingerprint="f", documents="s1", rows=1, embedded=1, seconds=0.1),
        "index_tag": f"release-{number}",
        "model": BuiltModel(base="base", adapter=None, examples=None, settings=None),
        "decision": Action.REFRESH,
        "scorecard": scorecard(),
        "previous": str(number - 1) if number > 1 else None,
        "created": "2030-01-01T00:00:00+00:00",
    }
    return Release(**(defaults | fields))
