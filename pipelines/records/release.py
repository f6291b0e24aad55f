"""Which nouns does Ragtide speak of? Frozen records, written and read as versioned JSON.

The vocabulary is the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.evaluation import Scorecard

# How the decision of a cycle that is a rollback is displayed.
ROLLBACK = "ROLLBACK"


class MaintenanceStep(Record):
    """One step of maintenance: whether it was done, and why or why not."""

    step: str
    done: bool
    why: str


# --- publish -------------------------------------------------------------------------------------------------------


class BuiltEmbedder(Record):
    """An embedder tuned from another; `digest` names its weights, `base` those that it was tuned from.

    `settings` are those of the tuning, `sketch` the lowest digests of the pairs that there were, by which it is seen
    how many are new since; `run` is the MLflow run that keeps the weights.
    """

    digest: str
    base: str
    settings: str
    pairs: int
    sketch: tuple[str, ...]
    steps: int
    final_loss: float | None
    seconds: float
    run: str = ""


class BuiltIndex(Record):
    """A committed version of the index's table, and what it took to get there.

    `documents` is the folder's DVC hash; `settings` are those that made its vectors; `new` counts texts that the
    version before did not hold, `embedded` those that had no vector yet. `waiting` counts documents that will be tried
    again, and removals that wait for an approval: while there are any, the same folder may bring another index.
    `quarantined` counts the documents that could not be read. `retriever` is the tuned one that made the vectors, if any.
    """

    uri: str
    version: int
    fingerprint: str
    documents: str
    rows: int
    embedded: int
    seconds: float
    settings: dict[str, Any] = Field(default_factory=dict)
    new: int = 0
    waiting: int = 0
    quarantined: int = 0
    vector_index: str = "none"
    tuned_embedder: BuiltEmbedder | None = None


class BuiltModel(Record):
    """A base model and, after a retrain, the adapter on it; `adapter` is the digest of its weights.

    `taught` are the digests of the examples that it saw, `replayed` those among them of files that were gone already;
    `files` are the training files that it and the models before it learnt from, as each stood last (path -> MD5).
    `documents` are those whose passages stood before it meanwhile (document -> digest), and `source_documents` the ones of
    them that hold what it was taught to answer. `stopped` says what ended its training.
    """

    base: str
    adapter: str | None
    examples: str | None
    settings: str | None
    trained_examples: int = 0
    trained_on: tuple[str, ...] = ()
    replayed: tuple[str, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)
    documents: dict[str, str] = Field(default_factory=dict)
    source_documents: tuple[str, ...] = ()
    final_loss: float | None = None
    stopped: str = ""
    seconds: float = 0.0


class Candidate(Record):
    """An index and a model that were built from one snapshot, and what they were built for; not live.

    `previous` is the release that was live meanwhile: they were held against it, and would follow it.
    """

    snapshot: Snapshot
    index: BuiltIndex
    model: BuiltModel
    decision: Action
    previous: str | None = None


class Release(Candidate):
    """Everything that is needed to serve a release, and to go back to the one before it.

    `content` is the digest of the index's rows, by which a row that was lost since is noticed.
    """

    id: str
    content: str = ""
    index_tag: str
    scorecard: Scorecard
    created: str


class Outcome(StrEnum):
    """What came of a cycle."""

    RUNNING = "running"
    RELEASED = "released"
    REJECTED = "rejected"
    NOTHING = "nothing"
    HELD = "held"
    FAILED = "failed"
    KILLED = "killed"
    ROLLED_BACK = "rolled_back"

    @property
    def is_final(self) -> bool:
        """Whether the cycle came to its end: it neither runs nor failed nor was killed."""
        return self not in (Outcome.RUNNING, Outcome.FAILED, Outcome.KILLED)


class Cycle(Record):
    """A cycle of the loop, or a rollback, as MLflow recorded it: decision, outcome, work and time.

    `action` is None where nothing was decided: the cycle failed before, or it is a rollback, which names the release
    that it took back in `undone`. `detail` says more about the outcome: the failed checks of a rejected candidate, or
    the error of a failed cycle. `signals` are the numbers of the evidence and the forecast, as they were logged.
    """

    name: str
    run: str
    at: str
    action: Action | None
    outcome: Outcome
    detail: str = ""
    reason: str
    snapshot: str = ""
    params: str = ""
    plan: str = ""
    release: str | None = None
    undone: str | None = None
    score_before: float | None = None
    score_after: float | None = None
    seconds: float = 0.0
    work: dict[str, float] = Field(default_factory=dict)
    signals: dict[str, float] = Field(default_factory=dict)

    @property
    def is_rollback(self) -> bool:
        """Whether a person made an earlier release live again."""
        return self.undone is not None

    @property
    def decision(self) -> str:
        """What was decided, as it is displayed."""
        if self.is_rollback:
            return ROLLBACK
        return "undecided" if self.action is None else str(self.action)
