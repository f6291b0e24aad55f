"""Records of built artifacts, candidates, releases and cycles, stored as versioned JSON."""

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
    """A maintenance step of the index: its name, whether it was done, and the reason."""

    step: str
    done: bool
    why: str


class BuiltEmbedder(Record):
    """A fine-tuned embedder.

    digest: names its weights and their folder.
    base: the embedder that it was tuned from, as `name@revision`.
    settings: digest of the tuning settings.
    pairs: number of training pairs that it was tuned on.
    sketch: the lowest digests of all pairs available then, by which the share of new pairs is estimated later.
    steps, seconds: optimizer steps and duration of the tuning.
    final_loss: loss of the last step.
    run: the MLflow run that stores the weights.
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
    """A committed version of the index's table, and the work that it took.

    uri, version: the LanceDB database and the version of its table.
    fingerprint: of the embedder and the settings that the vectors depend on.
    documents: DVC hash of the document folder.
    rows: chunks in this version.
    embedded: chunk texts that were embedded; the vectors of the others were reused.
    new: chunk texts that the previous version did not hold.
    seconds: duration of the build.
    settings: the settings behind the fingerprint, by block and key.
    waiting: documents that will be retried, and deletions pending approval; while it is above 0, the same document
        folder may give another index.
    quarantined: documents that could not be read.
    vector_index: kind of the approximate nearest-neighbour index, or "none" for exhaustive search.
    tuned_embedder: the fine-tuned embedder that made the vectors, if any.
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
    """A base model and, after a retrain, the adapter trained on it.

    base: the base model, as `name@revision`.
    adapter: digest of the adapter's weights; None for the base model alone.
    examples: digest of the training folder.
    settings: digest of the training settings, without the examples.
    trained_examples: training samples processed, repetitions included.
    trained_tokens: their tokens, estimated from characters as in a forecast.
    trained_on: digests of the examples that it was trained on, replayed ones included.
    replayed: digests of those examples that came from deleted training files.
    files: the training files that it and its predecessors were trained on, in their last state (path -> MD5).
    documents: the documents whose passages were in its training prompts (document -> digest).
    source_documents: the documents that its examples name as the source of their answer (`doc`).
    final_loss: mean loss per answer token over the last tenth of the steps.
    stopped: why the training ended.
    cut_short: whether a time limit ended it before the model had seen every example as often as planned.
    seconds: duration of the build.
    """

    base: str
    adapter: str | None
    examples: str | None
    settings: str | None
    trained_examples: int = 0
    trained_tokens: int = 0
    trained_on: tuple[str, ...] = ()
    replayed: tuple[str, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)
    documents: dict[str, str] = Field(default_factory=dict)
    source_documents: tuple[str, ...] = ()
    final_loss: float | None = None
    stopped: str = ""
    cut_short: bool = False
    seconds: float = 0.0

    @property
    def base_alone(self) -> BuiltModel:
        """Its base model without an adapter."""
        return BuiltModel(base=self.base, adapter=None, examples=None, settings=None)

    @property
    def seen_examples(self) -> int:
        """How many of the examples it was really trained on, at most: a training that was cut short saw fewer."""
        return len(self.trained_on) - self.unseen_examples

    @property
    def unseen_examples(self) -> int:
        """How many of the examples a training that was cut short did not come to."""
        return max(0, len(self.trained_on) - self.trained_examples) if self.cut_short else 0


class Candidate(Record):
    """An index and a model built from one snapshot by a decision's action; not live.

    `previous` is the id of the live release that the candidate is compared with and would replace. `former_paths` are
    the paths that documents had in earlier releases -> those of the snapshot: golden and training lines may name them.
    """

    snapshot: Snapshot
    index: BuiltIndex
    model: BuiltModel
    decision: Action
    previous: str | None = None
    former_paths: dict[str, str] = Field(default_factory=dict)


class Release(Candidate):
    """A candidate that passed the gate, with everything needed to serve it and to roll back to its predecessor.

    `content` is the digest of the index's rows, by which `ragtide verify` finds rows lost since; `index_tag` is the
    LanceDB tag that protects the table version; `created` is an ISO 8601 time.
    """

    id: str
    content: str = ""
    index_tag: str
    scorecard: Scorecard
    created: str


class Outcome(StrEnum):
    """How a cycle ended, or that it is running."""

    RUNNING = "running"
    RELEASED = "released"
    REJECTED = "rejected"
    NOTHING = "nothing"
    HELD = "held"
    FAILED = "failed"
    KILLED = "killed"
    INTERRUPTED = "interrupted"
    ROLLED_BACK = "rolled_back"

    @property
    def is_final(self) -> bool:
        """Whether the cycle came to its end: it neither runs nor failed nor was ended from outside."""
        return self not in (Outcome.RUNNING, Outcome.FAILED, Outcome.KILLED, Outcome.INTERRUPTED)


class PartOutcome(Record):
    """The outcome of one part of a cycle's action: its own candidate, compared with what was live before it.

    `accepted` says whether the part itself was; the `release` of a training that was not may still be set, where the
    base model went live in place of the adapters. `detail` names the failed checks. The scores (0-1) are those of the
    live release and of the candidate, the points (0-100) and seconds what was expected and what it took.
    """

    action: Action
    accepted: bool
    release: str | None = None
    detail: str = ""
    expected_points: float | None = None
    score_before: float | None = None
    score_after: float | None = None
    forecast_seconds: float | None = None
    seconds: float | None = None


class Cycle(Record):
    """A cycle of the loop, or a rollback, as MLflow recorded it: decision, outcome, work and time.

    `action` is None where nothing was decided: the cycle failed before, or it is a rollback, which names the release
    that it took back in `undone`. `detail` says more about the outcome: the failed checks of a rejected candidate, the
    error of a failed cycle, or the signal that interrupted it. `parts` are the outcomes of the action's parts, each of
    which may have made a release; `release` is the last one. `signals` are the numbers of the evidence and the
    forecast, as they were logged. `inputs` is a digest of all that its evidence depends on besides the time, and
    `measured_in` the cycle whose evidence it reused, if any.
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
    inputs: str = ""
    measured_in: str = ""
    release: str | None = None
    undone: str | None = None
    score_before: float | None = None
    score_after: float | None = None
    seconds: float = 0.0
    work: dict[str, float] = Field(default_factory=dict)
    signals: dict[str, float] = Field(default_factory=dict)
    parts: tuple[PartOutcome, ...] = ()

    @property
    def decided_parts(self) -> tuple[PartOutcome, ...]:
        """The outcomes of what was decided: of each part of the action, or of NOTHING and HOLD.

        Rows of deleted documents that left the index beside a rejected refresh were not decided for.
        """
        parts = tuple(part for part in self.parts if part.action != Action.REMOVE or self.action == Action.REMOVE)
        if parts or self.action is None:
            return parts
        whole = PartOutcome(action=self.action, accepted=self.release is not None, release=self.release)
        scores = {"score_before": self.score_before, "score_after": self.score_after}
        return (whole.model_copy(update={**scores, "detail": self.detail}),)

    @property
    def made_index_current(self) -> bool:
        """Whether it brought an index of its data live."""
        return any(part.action.refreshes and part.release for part in self.decided_parts)

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
