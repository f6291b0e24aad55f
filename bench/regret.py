"""Run of a policy on a recorded stream, and its regret against the best sequence of actions in hindsight.

A policy runs through a recording step by step, a cycle a day: it sees the evidence of its live state, decides, and pays
for the signals that it reads and for what it builds and evaluates; each part of an action is proven apart
(bench/outcomes.py). Regret is the oracle's utility minus the policy's. Utility is in points, summed over the steps, of
the answer score on the golden questions and of that on changed facts, minus the hours of compute at a price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bench.outcomes import PartResult, carry_out
from bench.rates import Rates
from bench.recorded_states import BASE, RecordedStep, Recording, Seen, State
from bench.recording import PARAMS
from ragtide.pipelines.history import costs
from ragtide.pipelines.history.costs import forecast_costs
from ragtide.pipelines.history.history import (
    ACTION_SECONDS,
    CHANGED_SHARE,
    EXPECTED_POINTS,
    FORECAST_SECONDS,
    INDEX_GAP,
    LIVE_SCORE,
    MODEL_GAP,
    SHIFT,
    hours_since_retrain,
    past_decisions,
    rejected_before,
    spent_hours,
)
from ragtide.pipelines.params import Params, PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import ChangeSet
from ragtide.pipelines.records.decision import Decision
from ragtide.pipelines.records.evidence import DataChange, Evidence, Limits, Workload
from ragtide.pipelines.records.release import Cycle, Outcome, PartOutcome

SETTINGS = Params.model_validate(PARAMS)
DAY = timedelta(days=1)
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = 3600.0
PAID = (costs.TUNE_SECONDS, costs.INDEX_SECONDS, costs.TRAIN_SECONDS, costs.PROVE_SECONDS)
# The signals that a policy reads before it decides; a policy that is not listed reads all of them.
SIGNALS_READ: dict[str, frozenset[str]] = {
    "always": frozenset(),
    "never": frozenset(),
    "periodic": frozenset(),
    "amount": frozenset(),
    "modyn": frozenset(),
    "cusum": frozenset({"retrieved"}),
    "cara": frozenset({"retrieved"}),
    "drift": frozenset({"vectors", "losses"}),
}
ALL_SIGNALS = frozenset({"retrieved", "gold", "losses", "text", "vectors"})


@dataclass(frozen=True)
class StepResult:
    """One step of a policy's run: the decision, what users get after it, and the seconds paid for it.

    `score` is that on the golden questions, `changed_score` that on changed facts (None: there are none), `points` what
    both come to. `accepted` says whether the gate accepted every part of the action.
    """

    action: Action
    right: tuple[Action, ...] | None
    accepted: bool
    score: float
    evidence_seconds: float
    action_seconds: float
    changed_score: float | None = None
    decision: Decision | None = None

    @property
    def seconds(self) -> float:
        return self.evidence_seconds + self.action_seconds

    @property
    def points(self) -> float:
        return 100 * self.score + 100 * (self.changed_score or 0.0)

    @property
    def users_score(self) -> float:
        """The points as a share of all points that there are at this step (0-1)."""
        return self.points / (100 if self.changed_score is None else 200)

    @property
    def is_right(self) -> bool:
        """Whether the decision is one of those that are right; False where that is not clear-cut."""
        return self.action in (self.right or ())


@dataclass(frozen=True)
class PolicyRun:
    """A policy's run through a stream."""

    steps: tuple[StepResult, ...]

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    @property
    def evidence_seconds(self) -> float:
        return sum(step.evidence_seconds for step in self.steps)

    @property
    def score(self) -> float:
        """The mean quality over the steps (0-1)."""
        return sum(step.score for step in self.steps) / len(self.steps)

    @property
    def changed_score(self) -> float | None:
        """The mean score on changed facts (0-1) over the steps that have any; None if no step has."""
        scores = [step.changed_score for step in self.steps if step.changed_score is not None]
        return sum(scores) / len(scores) if scores else None

    @property
    def retrains(self) -> int:
        return sum(step.action.retrains for step in self.steps)

    def utility(self, price: float) -> float:
        """Return the points over all steps, minus `price` points for each hour of compute."""
        return sum(step.points for step in self.steps) - price * self.seconds / HOUR


@dataclass(frozen=True)
class StepOutcome:
    """A completed step with everything that its cycle records; `parts` has the seconds of each part of the action."""

    step: RecordedStep
    seen: Seen
    decision: Decision
    parts: tuple[tuple[PartResult, float], ...]
    work: dict[str, float]

    @property
    def live(self) -> Seen:
        return self.parts[-1][0].live if self.parts else self.seen

    @property
    def accepted(self) -> bool:
        """Whether the gate accepted every part that was decided."""
        return bool(self.parts) and all(part.accepted for part, _ in self.parts)

    @property
    def is_released(self) -> bool:
        """Whether a part went live; that deleted documents left beside a rejected refresh counts as none."""
        return any(part.is_released and part.part != Action.REMOVE for part, _ in self.parts)

    @property
    def seconds(self) -> float:
        """The seconds of building and evaluating."""
        return sum(seconds for _, seconds in self.parts)

    @property
    def outcome(self) -> Outcome:
        if not self.parts:
            return Outcome.HELD if self.decision.action == Action.HOLD else Outcome.NOTHING
        return Outcome.RELEASED if self.is_released else Outcome.REJECTED

    @property
    def signals(self) -> dict[str, float]:
        """The numbers that a cycle's run logs."""
        assert self.seen.evidence is not None
        signals: dict[str, float | None] = {
            LIVE_SCORE: self.seen.scorecard.answer_score.value,
            CHANGED_SHARE: self.seen.evidence.data.delta.changed_share,
            SHIFT: self.seen.evidence.text.shift.value,
            INDEX_GAP: self.seen.evidence.scores.index_gap.value,
            MODEL_GAP: self.seen.evidence.scores.model_gap.value,
        }
        if chosen := self.decision.chosen:
            signals |= {EXPECTED_POINTS: chosen.gap_points, FORECAST_SECONDS: chosen.cost_seconds}
            signals |= {ACTION_SECONDS: self.seconds} if self.parts else {}
        return {name: value for name, value in signals.items() if value is not None}


@dataclass
class PolicyRunner:
    """A running policy: its live state, the prompts that it has paid for, and the history of its decisions.

    `max_lag_hours` is the project's `freshness.max_lag_hours`: after so many hours, what the documents newly say must
    be live, whatever the policy recommends; None leaves it to the policy. `released_on` is the snapshot of the live
    release, `decided_on` what the last decision was about, `waiting_since` the cycle at which the oldest new sentence
    arrived that is not live. `trainings` are the examples and golden questions of each snapshot, by their names.
    """

    recording: Recording
    rates: Rates
    params: PolicyParams
    state: State
    paid_keys: set[str]
    max_lag_hours: float | None = None
    history: list[Cycle] = field(default_factory=list)
    released_on: str = ""
    decided_on: tuple[str, str] | None = None
    waiting_since: int | None = None
    releases: int = 0
    trainings: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def at_start(
        cls, recording: Recording, rates: Rates, params: PolicyParams, max_lag_hours: float | None = None
    ) -> PolicyRunner:
        """Start with the first release live and its prompts paid for."""
        opened = recording.opened
        paid = {*opened.retrieved, *opened.gold, *opened.losses}
        runner = cls(recording, rates, params, recording.start, paid, max_lag_hours)
        runner.history.append(runner._first())
        return runner

    def take(self, number: int, step: RecordedStep) -> StepResult:
        """Take a step: gather evidence, decide, and carry out each part of the action that is decided."""
        seen = step.seen[self.state.key]
        # Where nothing has changed since the last decision, its evidence is used again.
        subject = (step.snapshot, str(self.releases))
        evidence_seconds = 0.0 if subject == self.decided_on else self._evidence_seconds(seen)
        self.decided_on = subject
        decision = make_decision(self._evidence(number, seen, step), self.params)
        outcome = self._carry_out(step, seen, decision)
        self.history.append(self._cycle(number, outcome))
        if any(part.is_released for part, _ in outcome.parts):
            self.state, self.released_on = outcome.live.state, step.snapshot
        if outcome.live.state.index != seen.state.index:
            self.waiting_since = None
        live = outcome.live
        return StepResult(
            action=decision.action,
            right=step.right,
            accepted=outcome.accepted,
            score=live.score,
            evidence_seconds=evidence_seconds,
            action_seconds=outcome.seconds,
            changed_score=live.changed_score,
            decision=decision,
        )

    # --- evidence --------------------------------------------------------------------------------------------------

    def _evidence_seconds(self, seen: Seen) -> float:
        """Return the seconds of the signals that the policy reads; prompts already paid for cost nothing."""
        read, rates = SIGNALS_READ.get(self.params.name, ALL_SIGNALS), self.rates
        # Facts are known to be due by the text alone.
        read = read if self.max_lag_hours is None else read | {"text"}
        answers = [*(seen.asked.retrieved if "retrieved" in read else ()), *(seen.asked.gold if "gold" in read else ())]
        seconds = self._pay(answers) * rates.answer_seconds
        seconds += self._pay(seen.asked.losses if "losses" in read else ()) * rates.loss_seconds
        seconds += seen.text_seconds if "text" in read else 0.0
        return seconds + (seen.vector_seconds if "vectors" in read else 0.0)

    def _pay(self, keys: Iterable[str]) -> int:
        """Count the prompts that were not paid for yet, and mark them as paid."""
        new = set(keys) - self.paid_keys
        self.paid_keys |= new
        return len(new)

    def _evidence(self, number: int, seen: Seen, step: RecordedStep) -> Evidence:
        assert seen.evidence is not None
        now, workload = BEGIN + number * DAY, self._workload(seen)
        limits = Limits(
            costs=forecast_costs(workload, self.history, SETTINGS.costs),
            workload=workload,
            past=past_decisions(self.history),
            spent_hours=spent_hours(self.history, now),
            hours_since_retrain=hours_since_retrain(self.history, now),
            rejected_actions=rejected_before(self.history, step.snapshot, "", self._same_training(seen, step)),
        )
        data = self._data(number, seen.evidence, step)
        return seen.evidence.model_copy(update={"data": data, "limits": limits, "signal_seconds": {}})

    def _same_training(self, seen: Seen, step: RecordedStep) -> set[str]:
        """Return the snapshots with the examples and golden questions of this one."""
        subject = (seen.retrained, seen.scorecard.questions)
        self.trainings[step.snapshot] = subject
        return {snapshot for snapshot, trained in self.trainings.items() if trained == subject}

    def _workload(self, seen: Seen) -> Workload:
        assert seen.evidence is not None
        recording, asked = self.recording, seen.evidence.text.affected_questions
        return Workload(
            chunks=seen.to_embed,
            examples=recording.trained_examples[seen.retrained],
            questions=len(seen.scorecard.graded),
            training_tokens=recording.trained_tokens.get(seen.retrained),
            # A live adapter is compared with its base model, which is asked as well.
            asked_after_refresh=asked * 2 if asked and seen.state.model != BASE else asked,
            pairs=recording.trained_pairs[seen.tuned] if seen.tuned else 0,
            all_chunks=seen.all_chunks,
        )

    def _data(self, number: int, evidence: Evidence, step: RecordedStep) -> DataChange:
        """Return the data change with what is due; data as at the live release counts as unchanged."""
        data, is_new = evidence.data, bool(evidence.text.substantive_sentences)
        if step.snapshot == self.released_on:
            data = data.model_copy(update={"changes": ChangeSet(before=step.snapshot, after=step.snapshot)})
        self.waiting_since = (self.waiting_since or number) if is_new else None
        if self.max_lag_hours is None or self.waiting_since is None:
            return data
        arrived, now = BEGIN + self.waiting_since * DAY, BEGIN + number * DAY
        due_by = arrived + timedelta(hours=self.max_lag_hours)
        is_due = not self.max_lag_hours or now + DAY > due_by
        return data.model_copy(update={"facts_are_due": is_due, "facts_due_by": due_by.isoformat()})

    # --- actions ---------------------------------------------------------------------------------------------------

    def _carry_out(self, step: RecordedStep, seen: Seen, decision: Decision) -> StepOutcome:
        """Build and prove each part of an action, and pay for it."""
        work: dict[str, float] = {}
        parts: list[tuple[PartResult, float]] = []
        for result in carry_out(decision.action, seen, step.seen, SETTINGS):
            built = {**_built(result.part, seen, self.recording, self.rates), **self._proven(result)}
            parts.append((result, sum(built.get(key, 0.0) for key in PAID)))
            work = {key: work.get(key, 0.0) + built.get(key, 0.0) for key in (*work, *built)}
        return StepOutcome(step, seen, decision, tuple(parts), work)

    def _proven(self, result: PartResult) -> dict[str, float]:
        """Return the work of a proof: of the live release, the candidate and its base model, what was not kept."""
        asked = self._pay(key for seen in result.asked for key in seen.asked.retrieved)
        seconds = asked * self.rates.answer_seconds
        graded = sum(len(seen.scorecard.graded) for seen in result.asked)
        return {
            costs.GRADED_QUESTIONS: float(graded),
            costs.PROVE_SECONDS: seconds,
            costs.ASKED_QUESTIONS: float(asked),
            costs.ANSWER_SECONDS: seconds,
        }

    # --- history ---------------------------------------------------------------------------------------------------

    def _first(self) -> Cycle:
        model = self.recording.start.model
        trained = self.recording.trained_examples[model]
        work = {costs.TRAINED_EXAMPLES: float(trained), costs.TRAIN_SECONDS: self.rates.training(trained)}
        if tokens := self.recording.trained_tokens.get(model):
            work[costs.TRAINED_TOKENS] = float(tokens)
        return Cycle(
            name="cycle-0",
            run="",
            at=BEGIN.isoformat(),
            action=Action.REFRESH.with_retrain(),
            outcome=Outcome.RELEASED,
            reason="the first release",
            release="0",
            work=work,
        )

    def _cycle(self, number: int, outcome: StepOutcome) -> Cycle:
        """Return a step as the registry records a cycle."""
        parts = tuple(self._part(outcome.decision, result, seconds) for result, seconds in outcome.parts)
        after = parts[-1].score_after if parts else None
        return Cycle(
            name=f"cycle-{number}",
            run="",
            at=(BEGIN + number * DAY).isoformat(),
            action=outcome.decision.action,
            outcome=outcome.outcome,
            reason="",
            snapshot=outcome.step.snapshot,
            release=next((part.release for part in reversed(parts) if part.release), None),
            score_before=outcome.seen.scorecard.answer_score.value if parts else None,
            score_after=after,
            seconds=outcome.seconds,
            work=outcome.work,
            signals=outcome.signals,
            parts=parts,
        )

    def _part(self, decision: Decision, result: PartResult, seconds: float) -> PartOutcome:
        option = decision.option(result.part)
        self.releases += result.is_released
        return PartOutcome(
            action=result.part,
            accepted=result.accepted,
            release=str(self.releases) if result.is_released else None,
            expected_points=option.gap_points if option else None,
            score_before=result.before.scorecard.answer_score.value,
            score_after=result.candidate.scorecard.answer_score.value,
            forecast_seconds=option.cost_seconds if option else None,
            seconds=seconds,
        )


def _built(action: Action, seen: Seen, recording: Recording, rates: Rates) -> dict[str, float]:
    """Return the work of building by an action, or by a part of one, and its seconds."""
    work: dict[str, float] = {}
    if action.tunes:
        pairs = recording.trained_pairs[seen.tuned]
        work |= {costs.TRAINED_PAIRS: float(pairs), costs.TUNE_SECONDS: rates.tuning(pairs)}
    if action.refreshes:
        # Another embedder has to embed every chunk, and a removal embeds none.
        chunks = 0 if action == Action.REMOVE else seen.all_chunks if action.tunes else seen.to_embed
        work |= {costs.EMBEDDED_CHUNKS: float(chunks), costs.INDEX_SECONDS: rates.refresh(chunks)}
    if action.retrains:
        trained = recording.trained_examples[seen.retrained]
        work |= {costs.TRAINED_EXAMPLES: float(trained), costs.TRAIN_SECONDS: rates.training(trained)}
        if tokens := recording.trained_tokens.get(seen.retrained):
            work[costs.TRAINED_TOKENS] = float(tokens)
    return work


def run_policy(
    recording: Recording, rates: Rates, params: PolicyParams, max_lag_hours: float | None = None
) -> PolicyRun:
    """Run a policy through a recorded stream, from its first release."""
    runner = PolicyRunner.at_start(recording, rates, params, max_lag_hours)
    return PolicyRun(tuple(runner.take(number, step) for number, step in enumerate(recording.steps, start=1)))


@dataclass(frozen=True)
class Best:
    """The best sequence of steps from a state, with its utility."""

    utility: float = 0.0
    steps: tuple[StepResult, ...] = ()


def oracle(recording: Recording, rates: Rates, price: float) -> PolicyRun:
    """Return the best sequence of actions in hindsight, by dynamic programming from the last step to the first.

    The oracle knows the result of each action, so it pays for neither evidence nor evaluation, and no gate stops it.
    """
    best: dict[str, Best] = {}
    for step in reversed(recording.steps):
        best = {
            key: max(
                (_ahead(taken, step, best, price) for taken in _choices(seen, step, recording, rates)), key=_utility
            )
            for key, seen in step.seen.items()
            if seen.evidence is not None
        }
    return PolicyRun(best[recording.start.key].steps)


@dataclass(frozen=True)
class Choice:
    """An action of the oracle, the state that is live after it, and the seconds of building it."""

    action: Action
    live: State
    seconds: float


def _choices(seen: Seen, step: RecordedStep, recording: Recording, rates: Rates) -> list[Choice]:
    """Return what the oracle can do: an action without the gate, or whatever the gate makes of it."""
    choices = []
    for action in seen.actions:
        built = sum(_built(action, seen, recording, rates).get(key, 0.0) for key in PAID)
        choices.append(Choice(action, seen.after(action), built))
        if results := carry_out(action, seen, step.seen, SETTINGS):
            parts = [_built(result.part, seen, recording, rates) for result in results]
            seconds = sum(work.get(key, 0.0) for work in parts for key in PAID)
            choices.append(Choice(action, results[-1].live.state, seconds))
    return choices


def _ahead(taken: Choice, step: RecordedStep, best: Mapping[str, Best], price: float) -> Best:
    """Return an action at a step followed by the best sequence after it."""
    live, action = step.seen[taken.live.key], taken.action
    result = StepResult(action, step.right, action.builds, live.score, 0.0, taken.seconds, live.changed_score)
    # Nothing follows the last step; at every earlier step each reachable state was assessed.
    following = best[taken.live.key] if best else Best()
    return Best(following.utility + result.points - price * taken.seconds / HOUR, (result, *following.steps))


def _utility(best: Best) -> float:
    return best.utility


def clear_cut(runs: Sequence[PolicyRun]) -> tuple[int, int]:
    """Count the clear-cut steps that were decided right, and all clear-cut steps."""
    steps = [step for run in runs for step in run.steps if step.right is not None]
    return sum(step.is_right for step in steps), len(steps)
