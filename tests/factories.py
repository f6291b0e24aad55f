"""What do several test files need? Small records with sensible values, and an embedder that counts its texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.observe.snapshot import compose
from pipelines.params import Params
from pipelines.ports import Vectors
from pipelines.records import (
    Action,
    BuiltIndex,
    BuiltModel,
    ChangeSet,
    Chunk,
    Costs,
    Document,
    Evidence,
    Graded,
    IndexDelta,
    Measure,
    Question,
    Release,
    Scorecard,
    Snapshot,
)
from pipelines.workspace import Workspace

DIMENSIONS = 8


class HashEmbedder:
    """A unit vector for each text, the same for the same words; counts texts, and raises once `fails_in` are done."""

    fingerprint = "hash-8"
    dimensions = DIMENSIONS

    def __init__(self, _params: object = None) -> None:
        self.embedded: list[str] = []
        self.fails_in: int | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = [self._one(text) for text in texts]
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), DIMENSIONS)

    def _one(self, text: str) -> Vectors:
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in < 0:
                raise ConnectionError("the embedder went away")
        self.embedded.append(text)
        # White space is nothing to a tokenizer, and so nothing here.
        seed = int(md5(" ".join(text.split()))[:12], 16)
        vector = np.random.default_rng(seed).normal(size=DIMENSIONS)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def workspace(root: Path, **blocks: dict[str, Any]) -> Workspace:
    """A project at `root` with its three data folders; `blocks` are those of params.yaml."""
    for name in ("kb", "train", "golden"):
        (root / "data" / name).mkdir(parents=True, exist_ok=True)
    return Workspace(root, Params.model_validate(blocks))


def write(path: Path, content: str | bytes) -> Path:
    """Put a file there, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def document(name: str, text: str) -> Document:
    return Document(id=name, text=text, digest=md5(text))


def chunk(name: str, text: str, position: int = 0) -> Chunk:
    return Chunk(
        document=name, position=position, heading="", text=text, digest=md5(text), document_digest=md5(f"whole {text}")
    )


def snapshot(kb: dict[str, str] | None = None, train: dict[str, str] | None = None) -> Snapshot:
    return compose(kb or {"a.md": md5("a")}, train or {}, {"q.jsonl": md5("q")})


def measure(value: float, low: float | None = None, high: float | None = None, n: int = 50) -> Measure:
    return Measure(value=value, n=n, low=value if low is None else low, high=value if high is None else high)


def delta(**numbers: int) -> IndexDelta:
    """Ten chunks, one of them another; `numbers` replace what is to be different."""
    usual = {"chunks_after": 10, "chunks_before": 10, "new": 1, "gone": 1, "upserted": 1, "deleted": 0, "to_embed": 1}
    return IndexDelta(**(usual | numbers))


UNMOVED = delta(new=0, gone=0, upserted=0, to_embed=0)
UNCHANGED = ChangeSet(before="s0", after="s1")


def evidence(**signals: Any) -> Evidence:
    """A live release, one edited document, a perfect model: only a refresh has something to win."""
    usual: dict[str, Any] = {
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
    return Evidence(**(usual | signals))


def question(name: str = "q1", **fields: Any) -> Question:
    usual: dict[str, Any] = {"question": f"What is {name}?", "answers": ("42",), "docs": ("a.md",)}
    return Question(id=name, **(usual | fields))


def graded(name: str = "q1", score: float = 1.0, **fields: Any) -> Graded:
    return Graded(question=name, answer="42", score=score, **({"well_formed": True} | fields))


def scorecard(*answers: Graded, **fields: Any) -> Scorecard:
    usual: dict[str, Any] = {
        "snapshot": "s1",
        "questions": "set-1",
        "index_version": 3,
        "adapter": None,
        "answer_score": measure(1.0),
        "retrieval_recall": measure(1.0),
        "malformed_share": measure(0.0),
        "graded": answers or (graded(),),
    }
    return Scorecard(**(usual | fields))


def release(number: int = 1, **fields: Any) -> Release:
    usual: dict[str, Any] = {
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
    return Release(**(usual | fields))
