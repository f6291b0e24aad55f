"""Which nouns does Ragtide speak of? Frozen records, written and read as versioned JSON.

The vocabulary is the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import RefusalError, one_line

SCHEMA: Literal[1] = 1
# What a killed writer leaves of a folder begins like this.
UNFINISHED = ".unfinished-"


class Record(BaseModel):
    """A frozen value that knows how to be a JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    record_version: Literal[1] = SCHEMA

    def write(self, path: Path) -> None:
        """Write this record to `path`; a reader never sees half of it."""
        write_whole(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record that `write` wrote; a file of another form or version is refused by name."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as problem:
            raise RefusalError(f"{path} cannot be read as a {cls.__name__}: {one_line(problem)}") from problem

    def content_digest(self) -> str:
        """Twelve hex digits of the SHA-256 of the content: same content, same digest."""
        return digest_of(self.model_dump(mode="json"))


def write_whole(path: Path, text: str) -> None:
    """Write a file by way of a temporary one, so that a reader never sees half of it; line ends stay as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, encoding="utf-8", newline="")
    unfinished.replace(path)


@contextmanager
def whole_folder(path: Path, first_stays: bool = False) -> Iterator[Path]:
    """A folder to be filled, which gets the name `path` once it is whole; one that is there already makes room.

    After an error or a kill, `path` is what it was before. With `first_stays` a folder that another process has made
    in the meantime is kept, and this one is not: for what two of them make alike, and may be reading.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{UNFINISHED}{path.name}-", dir=path.parent) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        yield folder
        if path.is_dir() and first_stays:
            return
        if path.is_dir():
            path.replace(Path(scratch) / "old")
        folder.replace(path)


def digest_of(value: Any) -> str:
    """Twelve hex digits of the SHA-256 of a JSON value; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


# --- observe -------------------------------------------------------------------------------------------------------


class Document(Record):
    """One file of the knowledge base as text (Markdown or plain); `digest` is the MD5 of its bytes, as in DVC."""

    id: str
    text: str
    digest: str


class Chunk(Record):
    """A passage of a document. Its key is (document, position); the digest only finds a vector to reuse."""

    document: str
    position: int
    heading: str
    text: str
    digest: str
    document_digest: str

    @property
    def key(self) -> tuple[str, int]:
        return (self.document, self.position)


class Snapshot(Record):
    """What is in the three data folders. Every id is DVC's content hash: 32 hex digits and `.dir`.

    `unusable` says of files of the knowledge base why they are none that could be read; they are in no id.
    """

    id: str
    kb_id: str
    train_id: str
    golden_id: str
    documents: dict[str, str]
    examples: dict[str, str]
    questions: dict[str, str]
    unusable: dict[str, str] = Field(default_factory=dict)


class SetAside(Record):
    """A document that could not be read: why, how often it was tried in this form, and since when.

    `digest` is that of the content that was tried; None for a file that cannot be opened, which counts no attempts.
    """

    document: str
    digest: str | None
    reason: str
    attempts: int
    since: str


class Quarantine(Record):
    """The documents that are set aside, and the means that could not read them: converter and limit in bytes."""

    converter: str
    documents: tuple[SetAside, ...] = ()


class Approval(Record):
    """Leave for what one plan holds back; it covers that and nothing else.

    `removals` are documents (document -> digest); `action` is what costs more than the limit, for `snapshot` alone.
    """

    plan: str
    removals: dict[str, str]
    why: str
    at: str
    action: str | None = None
    snapshot: str | None = None


class Rejection(Record):
    """A person's no to what one plan holds back.

    `removals` are documents (document -> digest) that are to stay; `actions` are not to be proposed again for
    `snapshot` under `params`.
    """

    plan: str
    removals: dict[str, str]
    actions: tuple[str, ...]
    snapshot: str
    params: str
    why: str
    at: str


class Rename(Record):
    """The same content under another path."""

    before: str
    after: str


class ChangeSet(Record):
    """What differs between two snapshots; empty exactly when their ids are equal."""

    before: str | None
    after: str
    added: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    renamed: tuple[Rename, ...] = ()
    removed: tuple[str, ...] = ()
    examples_changed: bool = False
    questions_changed: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.touches_documents or self.examples_changed or self.questions_changed)

    @property
    def touches_documents(self) -> bool:
        return bool(self.added or self.edited or self.renamed or self.removed)


class IndexDelta(Record):
    """What a refresh would change for the live release's readers, in chunks.

    `new` counts chunks whose text the live index does not hold and `gone` live chunks whose text will be in none;
    `upserted` and `deleted` count rows, which also move when a document grows; `to_embed` counts texts without vector.
    `documents_gone` counts documents of which no row will be left, `documents_renamed` those of them whose very content
    stands under another name; `rebuild` says why no live row can stay, if so.
    """

    chunks_after: int
    chunks_before: int
    new: int
    gone: int
    upserted: int
    deleted: int
    to_embed: int
    documents_gone: int = 0
    documents_renamed: int = 0
    rebuild: str | None = None

    @property
    def is_empty(self) -> bool:
        return self.upserted == 0 and self.deleted == 0 and self.rebuild is None

    @property
    def changed_share(self) -> float:
        """The share of the index's chunks that would be other ones."""
        return min(1.0, max(self.new, self.gone) / max(1, self.chunks_after))


class Flaw(StrEnum):
    """What can be wrong with a line of the training files."""

    BAD_LINE = "bad line"
    OVERLONG = "overlong answer"
    LEAK = "leak"
    STALE = "stale answer"
    CONTRADICTION = "contradiction"
    DUPLICATE = "duplicate"


class Finding(Record):
    """A line that nothing is learnt from: where it stands (file and number), what is wrong with it, and why."""

    where: str
    kind: Flaw
    why: str


def flaws_of(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings there are of each kind that there is."""
    return dict(Counter(one.kind.value for one in sorted(findings, key=lambda one: one.kind)))


# --- decide --------------------------------------------------------------------------------------------------------


class Half(StrEnum):
    """What an action makes anew: the index's rows, the retriever that made their vectors, or the model."""

    INDEX = "index"
    RETRIEVER = "retriever"
    MODEL = "model"


class Action(StrEnum):
    """What can be done about a change, ordered by cost; HOLD is to do nothing before a person has said yes."""

    NOTHING = "NOTHING"
    REFRESH = "REFRESH"
    REBUILD = "REBUILD"
    TUNE_RETRIEVER = "TUNE_RETRIEVER"
    RETRAIN = "RETRAIN"
    REFRESH_RETRAIN = "REFRESH+RETRAIN"
    REBUILD_RETRAIN = "REBUILD+RETRAIN"
    TUNE_RETRAIN = "TUNE_RETRIEVER+RETRAIN"
    HOLD = "HOLD"

    @property
    def builds(self) -> bool:
        """Whether a candidate comes of it."""
        return self not in (Action.NOTHING, Action.HOLD)

    @property
    def refreshes(self) -> bool:
        """Whether the index becomes another one: by new rows, or by all of them anew."""
        return self in (Action.REFRESH, Action.REFRESH_RETRAIN) or self.rebuilds

    @property
    def rebuilds(self) -> bool:
        return self in (Action.REBUILD, Action.REBUILD_RETRAIN) or self.tunes

    @property
    def tunes(self) -> bool:
        """Whether the retriever becomes another one, and with it every vector."""
        return self in (Action.TUNE_RETRIEVER, Action.TUNE_RETRAIN)

    @property
    def retrains(self) -> bool:
        return self is Action.RETRAIN or self.is_joint

    @property
    def is_joint(self) -> bool:
        """Whether index and model both become other ones."""
        return self in (Action.REFRESH_RETRAIN, Action.REBUILD_RETRAIN, Action.TUNE_RETRAIN)

    def with_retrain(self) -> Action:
        """This action on the index, and a retrain besides."""
        if self.tunes:
            return Action.TUNE_RETRAIN
        return Action.REBUILD_RETRAIN if self.rebuilds else Action.REFRESH_RETRAIN

    def is_about(self, half: Half) -> bool:
        """Whether it is done for this half; that a tuned retriever needs new rows does not make it about the index."""
        about = {Half.INDEX: self.refreshes and not self.tunes, Half.RETRIEVER: self.tunes, Half.MODEL: self.retrains}
        return about[half]


class Measure(Record):
    """A number between 0 and 1 (or a difference of two) with its sample size and interval.

    What could not be measured has `value` None, never 0, and `why` says the reason.
    """

    value: float | None
    n: int = 0
    low: float | None = None
    high: float | None = None
    why: str | None = None

    @classmethod
    def unmeasured(cls, why: str) -> Measure:
        return cls(value=None, why=why)

    def __str__(self) -> str:
        if self.value is None:
            return f"not measured ({self.why})"
        if self.low is None or self.high is None:
            return f"{self.value:.2f} (n={self.n})"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] (n={self.n})"


NOT_ASKED = Measure.unmeasured("not asked for")


class Costs(Record):
    """Forecast seconds of each step, where the rates come from, and what an hour of compute costs, if that is set.

    `skills_seconds` are those of the proof that a new model still has its earlier skills; `tune_seconds` those of
    another retriever, with every chunk embedded anew.

    `error_share` is how far earlier forecasts were off, as a share of what it really took: the median of `error_runs`.
    """

    refresh_seconds: float
    retrain_seconds: float
    prove_seconds: float
    skills_seconds: float = 0.0
    tune_seconds: float = 0.0
    source: str
    error_share: float | None = None
    error_runs: int = 0
    price_per_hour: float | None = None
    currency: str = ""


class Past(Record):
    """An earlier decision, and what came of it: what a policy may learn from.

    `expected_points` is what the action was thought to be able to win back, `recovered_points` what the score really
    gained, both in points of answer score (0-100); `score` is that of the live release as it was before (0-1), and
    `shift` how far the documents had moved; `index_gap` and `model_gap` (0-1) are those that stood then. What was not
    measured is None.
    """

    cycle: str
    action: str
    accepted: bool
    rolled_back: bool = False
    expected_points: float | None = None
    recovered_points: float | None = None
    forecast_seconds: float | None = None
    seconds: float | None = None
    score: float | None = None
    changed_share: float | None = None
    shift: float | None = None
    index_gap: float | None = None
    model_gap: float | None = None

    @property
    def did(self) -> Action:
        """What was done; an action of another version of Ragtide, whose name is not known here, counts as nothing."""
        return Action(self.action) if self.action in set(Action) else Action.NOTHING

    @property
    def stands(self) -> bool:
        """Whether something was built, accepted and not rolled back."""
        return self.did.builds and self.accepted and not self.rolled_back

    def touched(self, half: Half) -> bool:
        """Whether its action was about this half."""
        return self.did.is_about(half)


class Gap(Record):
    """The two gaps of one group of questions: those of a folder, or those with one kind of answer."""

    name: str
    index_gap: Measure
    model_gap: Measure


class Evidence(Record):
    """Every signal that the policy may look at. The centre of the project: which half is out of date?

    `index_gap` = score(gold context) - score(retrieved context); `model_gap` = target - score(gold context).
    The index's gap has three parts: `refresh_gain` on questions whose answer the live rows do not hold,
    `retriever_gap` on those whose answer they hold but do not bring up, and the rest, where the right passage was
    brought up and the model believed another; `missing_answers` is the share of the first, which speaks also where the
    model fails whatever is before it. A question that is answered right from retrieved
    passages counts as right with the right one, unasked. `groups` and `kinds` are the gaps by folder of
    the documents and by kind of answer.

    From the changed text itself, without labels: `news_share`, the sentences of the corpus that say something else or
    new; `stale_answers`, the share of moved facts for which the live index still finds the old one; `come_back`, the
    share of removed sentences that a search still finds; `novelty` and `shift` of the new chunks' vectors and
    `vocabulary` of their words. `surprise` is the live model's loss on examples that it has not seen, less that on
    those that it has (nats a token).

    `examples` counts those that can be learnt from, `new_examples` those of them that the live adapter never saw,
    `orphaned_examples` those whose page is gone, `left_out` by kind of flaw the lines that would teach it wrong.
    `refused` holds actions that were refused by the gate or by a person, or rolled back, for this very snapshot and
    these params; `approved` those that a person said yes to.
    `held` are documents (with the digest of their rows) whose removal waits for an approval, and `held_rejected` is why
    a person said no to it, so that it is not asked for again; `set_aside` says why of documents that cannot be read;
    what the index holds of them stays. `taught_gone` are documents that the live adapter was taught from and that are
    gone since. `other_base` is the base model that params.yaml names, where the
    live release was made from another. `past` is what came of earlier decisions, `spent_hours` the compute of the last
    seven days, and `measured_in` the seconds that each signal took.

    `pairs` are those that a retriever could be tuned on (None: it cannot be tuned), `min_pairs` how many it needs, and
    `new_pairs` the share of them that the live one was not tuned on.
    """

    snapshot: str
    live_release: str | None
    changes: ChangeSet
    delta: IndexDelta
    score_gold: Measure
    score_retrieved: Measure
    index_gap: Measure
    model_gap: Measure
    refresh_gain: Measure
    malformed_share: Measure
    retriever_gap: Measure = NOT_ASKED
    missing_answers: Measure = NOT_ASKED
    groups: tuple[Gap, ...] = ()
    kinds: tuple[Gap, ...] = ()
    news_share: Measure = NOT_ASKED
    stale_answers: Measure = NOT_ASKED
    come_back: Measure = NOT_ASKED
    novelty: Measure = NOT_ASKED
    shift: Measure = NOT_ASKED
    vocabulary: Measure = NOT_ASKED
    surprise: Measure = NOT_ASKED
    stale_questions: tuple[str, ...] = ()
    examples: int
    new_examples: int | None = None
    orphaned_examples: int = 0
    left_out: dict[str, int] = Field(default_factory=dict)
    min_examples: int
    adapter_is_current: bool
    refused: dict[str, str] = Field(default_factory=dict)
    approved: tuple[str, ...] = ()
    held: dict[str, str] = Field(default_factory=dict)
    held_rejected: str | None = None
    set_aside: dict[str, str] = Field(default_factory=dict)
    taught_gone: tuple[str, ...] = ()
    other_base: str | None = None
    pairs: int | None = None
    min_pairs: int = 0
    new_pairs: float = 1.0
    costs: Costs
    past: tuple[Past, ...] = ()
    spent_hours: float = 0.0
    hours_since_retrain: int | None = None
    measured_in: dict[str, float] = Field(default_factory=dict)


class Option(Record):
    """One action with what it is expected to bring (points of answer score, 0-100, with its interval) and to cost.

    `gap_points` is what the golden questions say it could win back, before what such actions have really brought so
    far is taken off. `cost_money` is in the currency of params.yaml, None where no price is set.
    """

    action: Action
    gain_points: float | None
    gain_points_low: float | None
    gain_points_high: float | None = None
    gap_points: float | None = None
    cost_seconds: float
    cost_money: float | None = None
    points_per_hour: float | None
    worth_it: bool
    because: str


class Decision(Record):
    """What to do, why, and what would have changed it. Same evidence and params, same decision to the byte.

    `proposed` is what a HOLD waits for, or what waits beside an action that goes ahead; `explanation` is one paragraph
    in plain words, `lacks` names the signals that could not be measured, and why.
    """

    action: Action
    policy: str = "evidence"
    proposed: Action | None = None
    explanation: str = ""
    reasons: tuple[str, ...]
    options: tuple[Option, ...]
    would_change: tuple[str, ...]
    lacks: tuple[str, ...] = ()


class Plan(Record):
    """A decision and the world that it was made for; `ragtide run --plan DIGEST` refuses when that world has moved."""

    evidence: Evidence
    decision: Decision
    params: str

    @property
    def asked_removals(self) -> dict[str, str]:
        """The documents (document -> digest) whose removal waits for a person's answer."""
        return {} if self.evidence.held_rejected else self.evidence.held

    @property
    def asks(self) -> bool:
        """Whether a person is to say yes or no to something."""
        return bool(self.asked_removals) or self.decision.proposed is not None

    def question(self) -> str:
        """A digest of what is asked for: plans with the same one are answered by the same yes or no."""
        proposed = self.decision.proposed
        return digest_of([self.asked_removals, proposed, self.evidence.snapshot if proposed else None])

    def content_digest(self) -> str:
        """The same world and the same decision, the same digest: however long it took to measure."""
        return digest_of(self.model_dump(mode="json", exclude={"evidence": {"measured_in"}}))


# --- prove ---------------------------------------------------------------------------------------------------------


Scorer = Literal["contains", "exact", "token_f1", "json_f1", "command", "judge"]


class Question(Record):
    """A golden question. `scorer` says how near an answer is to one of `answers` (prove/scorers.py).

    It has to match `format` besides, where one is given.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    docs: tuple[str, ...]
    format: str | None = None
    scorer: Scorer = "contains"


class Graded(Record):
    """One answered question; `hit` says whether the chunk that holds the answer was among the retrieved."""

    question: str
    answer: str
    score: float
    well_formed: bool
    hit: bool | None = None
    sources: tuple[str, ...] = ()


class Retrieval(Record):
    """How well one way to search finds the golden questions' documents: recall at `k`, nDCG@10, MRR@10, over `n`."""

    k: int
    recall: float
    ndcg10: float
    mrr10: float
    n: int


class Scorecard(Record):
    """How an index and a model answer one set of questions; comparable only on the same questions.

    `retrieval` is by way of searching: "hybrid", "vector", "text". Empty without an index, or without named documents.
    """

    snapshot: str
    questions: str
    index_version: int | None
    adapter: str | None
    answer_score: Measure
    retrieval_recall: Measure
    malformed_share: Measure
    retrieval: dict[str, Retrieval] = Field(default_factory=dict)
    graded: tuple[Graded, ...] = ()


class SkillScore(Record):
    """How the live release and a candidate answer the questions of one skill (prove/regression.py)."""

    name: str
    before: Scorecard
    after: Scorecard


class Check(Record):
    """One demand of the gate, with its numbers."""

    name: str
    passed: bool
    detail: str


class Verdict(Record):
    """Accepted or not, and each check with its numbers. No release without one.

    `skills` are those that were asked for: none where the model is that of the live release, or nothing is live.
    """

    accepted: bool
    checks: tuple[Check, ...]
    before: Scorecard
    after: Scorecard
    difference: Measure
    skills: tuple[SkillScore, ...] = ()


class Upkeep(Record):
    """One step of maintenance: whether it was done, and why or why not."""

    step: str
    done: bool
    why: str


# --- publish -------------------------------------------------------------------------------------------------------


class BuiltRetriever(Record):
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
    `set_aside` counts the documents that could not be read. `retriever` is the tuned one that made the vectors, if any.
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
    set_aside: int = 0
    vector_index: str = "none"
    retriever: BuiltRetriever | None = None


class BuiltModel(Record):
    """A base model and, after a retrain, the adapter on it; `adapter` is the digest of its weights.

    `taught` are the digests of the examples that it saw, `replayed` those among them of files that were gone already;
    `files` are the training files that it and the models before it learnt from, as each stood last (path -> MD5).
    `documents` are those whose passages stood before it meanwhile (document -> digest), and `taught_from` the ones of
    them that hold what it was taught to answer. `stopped` says what ended its training.
    """

    base: str
    adapter: str | None
    examples: str | None
    settings: str | None
    trained_examples: int = 0
    taught: tuple[str, ...] = ()
    replayed: tuple[str, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)
    documents: dict[str, str] = Field(default_factory=dict)
    taught_from: tuple[str, ...] = ()
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


class Cycle(Record):
    """One turn of the loop as MLflow recorded it: what was decided, what came of it, and the work and time it took.

    `signals` are the evidence's numbers and the forecast, as they were logged.
    """

    name: str
    run: str
    at: str
    decision: str
    outcome: str
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
