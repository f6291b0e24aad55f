"""Which nouns does Ragtide speak of? Frozen records, written and read as versioned JSON.

The vocabulary is the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

from pydantic import Field

from ragtide.pipelines.records.action import Action, Component
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.data import ChangeSet, IndexDelta


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


NOT_REQUESTED = Measure.unmeasured("not asked for")


class Costs(Record):
    """Forecast seconds of each step, where the rates come from, and what an hour of compute costs, if that is set.

    `suite_seconds` are those of the proof that a new model still has its earlier skills; `tune_seconds` those of
    another retriever, with every chunk embedded anew.

    `error_share` is how far earlier forecasts were off, as a share of what it really took: the median of `error_runs`.
    """

    refresh_seconds: float
    retrain_seconds: float
    prove_seconds: float
    suite_seconds: float = 0.0
    tune_seconds: float = 0.0
    source: str
    error_share: float | None = None
    error_runs: int = 0
    price_per_hour: float | None = None
    currency: str = ""


class PastDecision(Record):
    """An earlier decision, and what came of it: what a policy may learn from.

    `expected_points` is what the action was thought to be able to win back, `recovered_points` what the score really
    gained, both in points of answer score (0-100); `score` is that of the live release as it was before (0-1), and
    `shift` how far the documents had moved; `index_gap` and `model_gap` (0-1) are those that stood then. What was not
    measured is None.
    """

    cycle: str
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


class Evidence(Record):
    """Every signal that the policy may look at. The centre of the project: which half is out of date?

    `index_gap` = score(gold context) - score(retrieved context); `model_gap` = target - score(gold context).
    The index's gap has three parts: `refresh_gain` on questions whose answer the live rows do not hold,
    `embedder_gap` on those whose answer they hold but do not bring up, and the rest, where the right passage was
    brought up and the model believed another; `missing_answers` is the share of the first, which speaks also where the
    model fails whatever is before it. A question that is answered right from retrieved
    passages counts as right with the right one, unasked. `groups` and `kinds` are the gaps by folder of
    the documents and by kind of answer.

    From the changed text itself, without labels: `changed_sentence_share`, the sentences of the corpus that say something else or
    new; `stale_facts`, the share of moved facts for which the live index still finds the old one; `resurfaced_deletions`, the
    share of removed sentences that a search still finds; `novelty` and `shift` of the new chunks' vectors and
    `vocabulary` of their words. `surprise` is the live model's loss on examples that it has not seen, less that on
    those that it has (nats a token).

    `examples` counts those that can be learnt from, `new_examples` those of them that the live adapter never saw,
    `orphaned_examples` those whose page is gone, `filtered` by kind of flaw the lines that would teach it wrong.
    `refused` holds actions that were refused by the gate or by a person, or rolled back, for this very snapshot and
    these params; `approved` those that a person said yes to.
    `held` are documents (with the digest of their rows) whose removal waits for an approval, and `deletions_rejected_reason` is why
    a person said no to it, so that it is not asked for again; `quarantined` says why of documents that cannot be read;
    what the index holds of them stays. `deleted_training_documents` are documents that the live adapter was taught from and that are
    gone since. `new_base_model` is the base model that params.yaml names, where the
    live release was made from another. `past` is what came of earlier decisions, `spent_hours` the compute of the last
    seven days, and `signal_seconds` the seconds that each signal took.

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
    embedder_gap: Measure = NOT_REQUESTED
    missing_answers: Measure = NOT_REQUESTED
    groups: tuple[Gap, ...] = ()
    kinds: tuple[Gap, ...] = ()
    changed_sentence_share: Measure = NOT_REQUESTED
    stale_facts: Measure = NOT_REQUESTED
    resurfaced_deletions: Measure = NOT_REQUESTED
    novelty: Measure = NOT_REQUESTED
    shift: Measure = NOT_REQUESTED
    vocabulary: Measure = NOT_REQUESTED
    excess_loss: Measure = NOT_REQUESTED
    stale_questions: tuple[str, ...] = ()
    examples: int
    new_examples: int | None = None
    orphaned_examples: int = 0
    filtered: dict[str, int] = Field(default_factory=dict)
    min_examples: int
    adapter_is_current: bool
    rejected_actions: dict[Action, str] = Field(default_factory=dict)
    approved_actions: tuple[Action, ...] = ()
    pending_deletions: dict[str, str] = Field(default_factory=dict)
    deletions_rejected_reason: str | None = None
    quarantined: dict[str, str] = Field(default_factory=dict)
    deleted_training_documents: tuple[str, ...] = ()
    new_base_model: str | None = None
    pairs: int | None = None
    min_pairs: int = 0
    new_pairs: float = 1.0
    costs: Costs
    past: tuple[PastDecision, ...] = ()
    spent_hours: float = 0.0
    hours_since_retrain: int | None = None
    signal_seconds: dict[str, float] = Field(default_factory=dict)
