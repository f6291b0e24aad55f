"""Evidence: every signal that a policy may read, in five records by what they are measured on."""

from __future__ import annotations

from pydantic import Field

from ragtide.pipelines.records.action import Action, Component
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.data import ChangeSet, IndexDelta


class Measure(Record):
    """A number between 0 and 1 (or a difference of two) with its sample size and interval.

    What could not be measured has `value` None, never 0, and `why` says why.
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


NOT_REQUESTED = Measure.unmeasured("not asked for")


class Costs(Record):
    """Forecast seconds of each step, the source of the rates, and the price of an hour of compute, if one is set.

    `prove_seconds` are those of a proof that asks every question; after a refresh alone it takes
    `prove_refresh_seconds`, since most answers are kept from before (None: not known).
    `suite_seconds` are those of asking a new model the regression suites; `tune_seconds` those of tuning the embedder
    and embedding every chunk with it. `error_share` is the median error of the last `error_runs` forecasts, as a share
    of what was really taken.
    """

    refresh_seconds: float
    retrain_seconds: float
    prove_seconds: float
    prove_refresh_seconds: float | None = None
    suite_seconds: float = 0.0
    tune_seconds: float = 0.0
    source: str
    error_share: float | None = None
    error_runs: int = 0
    price_per_hour: float | None = None
    currency: str = ""


class Workload(Record):
    """The amount of work of each step, which the costs are forecast from.

    `examples` counts training samples with their repeats, `training_tokens` their tokens (None: not estimated), and
    `training_limit_seconds` is the time limit of a training. Of the golden `questions`, `asked_after_refresh` may get
    other passages from a refreshed index (None: not known), so that their answers are not kept from before.
    `suite_questions_asked` are the questions of the regression suites, asked only where the model is another one.
    Another embedder is tuned on `pairs`, counted with their repeats, and then embeds `all_chunks`.
    """

    chunks: int
    examples: int
    questions: int
    training_tokens: int | None = None
    training_limit_seconds: float | None = None
    asked_after_refresh: int | None = None
    suite_questions_asked: int = 0
    pairs: int = 0
    all_chunks: int = 0


class PastDecision(Record):
    """An earlier decision and what it brought: what a policy may learn from.

    `expected_points` is the gain that was predicted for the action, `recovered_points` the measured gain, both in
    points of answer score (0-100). `score` (0-1) is that of the release that was live before, `shift` how far the
    documents had drifted, `index_gap` and `model_gap` (0-1) the gaps at that time. What was not measured is None.
    `snapshot` is the id of the data that it was about.
    """

    cycle: str
    snapshot: str = ""
    action: Action
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
    def is_in_effect(self) -> bool:
        """Whether something was built, accepted and not rolled back."""
        return self.action.builds and self.accepted and not self.rolled_back

    def touched(self, component: Component) -> bool:
        """Whether its action was done for this component."""
        return self.action.touches(component)


class Gap(Record):
    """The two gaps of one group of questions: those of a folder, or those with one kind of answer."""

    name: str
    index_gap: Measure
    model_gap: Measure


class StaleLine(Record):
    """A golden line that is new or was changed, and whose answer none of its documents states; FILE:NUMBER."""

    where: str
    answer: str
    documents: tuple[str, ...]


class GoldenLosses(Record):
    """Golden questions that a change puts out of play: none of their documents states an accepted answer any more.

    Of the `in_play` questions that the live release was asked, `lost` are stale now, and `pending` would be once the
    pending removals of documents are approved (ids). `lines` became stale since the lines themselves changed.
    """

    in_play: int = 0
    lost: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    lines: tuple[StaleLine, ...] = ()


class DataChange(Record):
    """The data compared with the live release.

    `pending_deletions` (document -> digest of its rows, of an emptied document with that of its content now) wait for
    an approval. `emptied_documents` lose most of their text, now or once approved; `lost_rows` counts the live rows of
    these and of deleted documents whose text no changed document has. `deletions_rejected_reason` is why a
    person declined them, so that they are not asked about again. `quarantined` are documents that cannot be read, with
    the reason; their rows stay. `deleted_training_documents` are documents that the live adapter was trained on and
    that are deleted now.

    `withheld` (document -> digest) took answers from golden questions at the gate, so that they wait for an approval;
    `withheld_rejected_reason` is why a person declined them. `approved_documents` counts those that an approval covers
    and that are not live yet.

    `facts_are_due` says that what the documents newly say must go live now, and `facts_due_by` by when it must where it
    may wait for other changes (ISO 8601, UTC); None where it may not, or no time is set.

    `outdated_paths` are paths that golden and training lines name although the document has moved -> today's; they are
    followed.
    """

    snapshot: str
    live_release: str | None
    changes: ChangeSet
    delta: IndexDelta
    pending_deletions: dict[str, str] = Field(default_factory=dict)
    deletions_rejected_reason: str | None = None
    withheld: dict[str, str] = Field(default_factory=dict)
    withheld_rejected_reason: str | None = None
    approved_documents: int = 0
    quarantined: dict[str, str] = Field(default_factory=dict)
    deleted_training_documents: tuple[str, ...] = ()
    facts_due_by: str | None = None
    facts_are_due: bool = False
    outdated_paths: dict[str, str] = Field(default_factory=dict)
    emptied_documents: tuple[str, ...] = ()
    lost_rows: int = 0
    golden: GoldenLosses = GoldenLosses()

    @property
    def held(self) -> dict[str, str]:
        """What waits for an approval, document -> digest: deletions, and withheld documents."""
        return {**self.pending_deletions, **self.withheld}


class AnswerScores(Record):
    """The golden questions, answered by the live release: which component is out of date?

    `index_gap` = score(gold context) - score(retrieved context); `model_gap` = target - score(gold context). A question
    that is answered correctly from retrieved context counts as correct with gold context.

    The index gap has three parts: `refresh_gain` on questions whose answer the live index lacks, `embedder_gap` on
    those whose answer it holds but does not retrieve, and the rest, where the gold passage was retrieved and the model
    used another one. `missing_answers` is the share of questions whose answer the live index lacks, which is known also
    where the model fails with any context. `groups` and `kinds` are the gaps by folder and by kind of answer;
    `stale_questions` are those whose answer is in no document, which are not scored.
    """

    score_gold: Measure
    score_retrieved: Measure
    index_gap: Measure
    model_gap: Measure
    refresh_gain: Measure
    malformed_share: Measure
    embedder_gap: Measure = NOT_REQUESTED
    missing_answers: Measure = NOT_REQUESTED
    groups: tuple[Gap, ...] = ()
    kinds: tuple[Gap, ...] = ()
    stale_questions: tuple[str, ...] = ()


class TextSignals(Record):
    """Signals of the changed text itself; no question is needed for them.

    `changed_sentence_share`: sentences of the corpus that say something else or new; `stale_facts`: the share of
    changed facts for which the live index still gives the old value; `resurfaced_deletions`: the share of removed
    sentences that a search still finds; `novelty` and `shift` of the new chunks' vectors, and `vocabulary` of
    their words.

    `substantive_sentences` counts the sentences of changed documents that say something else or new, and those that are
    absent now; None where there is no live release to compare with.

    `captured_questions`: the largest share of golden questions whose nearest passage would be that of one changed
    document, `captured_by`, which neither answered them so far nor is named by them. `affected_questions` counts the
    golden questions for which a refreshed index may retrieve other passages; None where that is not known.
    """

    changed_sentence_share: Measure = NOT_REQUESTED
    stale_facts: Measure = NOT_REQUESTED
    resurfaced_deletions: Measure = NOT_REQUESTED
    novelty: Measure = NOT_REQUESTED
    shift: Measure = NOT_REQUESTED
    vocabulary: Measure = NOT_REQUESTED
    substantive_sentences: int | None = None
    captured_questions: Measure = NOT_REQUESTED
    captured_by: str | None = None
    affected_questions: int | None = None


class TrainingData(Record):
    """What a retrain or a tuning could learn from.

    `examples` counts the usable ones, `new_examples` those of them that the live adapter was not trained on,
    `orphaned_examples` those whose document is deleted, `filtered` (kind of issue -> count) the lines that would train
    something wrong. `excess_loss` is the live model's loss on new examples less that on those that it was trained on
    (nats a token); `suspects` are measured examples (FILE:NUMBER) with a high loss that neither a passage nor another
    example explains, and do not add to it. `new_base_model` is the base model of params.yaml where the live release has
    another. `cut_short_after` is the number of examples after which a time limit ended the live adapter's training,
    where a retrain would have the same examples and the same limit.

    `pairs` are those that the embedder could be tuned on (None: it cannot be tuned), `min_pairs` how many it needs, and
    `new_pairs` the share of them that the live one was not tuned on.
    """

    examples: int
    new_examples: int | None = None
    orphaned_examples: int = 0
    filtered: dict[str, int] = Field(default_factory=dict)
    min_examples: int
    adapter_is_current: bool
    cut_short_after: int | None = None
    excess_loss: Measure = NOT_REQUESTED
    suspects: tuple[str, ...] = ()
    new_base_model: str | None = None
    pairs: int | None = None
    min_pairs: int = 0
    new_pairs: float = 1.0


class Limits(Record):
    """What bounds the decision: costs, past decisions, budget and answers of people.

    `workload` is what the costs were forecast from. `spent_hours` is the compute of the last seven days.
    `rejected_actions` (action -> why) were rejected by the gate, declined by a person or rolled back for this very
    snapshot and these params; a person approved `approved_actions`.
    """

    costs: Costs
    workload: Workload | None = None
    past: tuple[PastDecision, ...] = ()
    spent_hours: float = 0.0
    hours_since_retrain: int | None = None
    rejected_actions: dict[Action, str] = Field(default_factory=dict)
    approved_actions: tuple[Action, ...] = ()


class Evidence(Record):
    """Everything that a policy may read; `signal_seconds` is what measuring each signal took."""

    data: DataChange
    scores: AnswerScores
    text: TextSignals = TextSignals()
    training: TrainingData
    limits: Limits
    signal_seconds: dict[str, float] = Field(default_factory=dict)

    @property
    def measures(self) -> dict[str, Measure]:
        """The measured signals by their names."""
        fields = {**dict(self.scores), **dict(self.text), **dict(self.training)}
        return {name: value for name, value in fields.items() if isinstance(value, Measure)}
