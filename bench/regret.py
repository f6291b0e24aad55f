"""Run of a policy on a recorded stream, and its regret against the best sequence of actions.

A policy runs through a recording step by step: it sees the evidence of its live state, decides, and pays for the
signals that it reads and for what it builds and evaluates; the product's gate judges each candidate. Regret is the
oracle's utility minus the policy's. Utility is in points of answer score, summed over the steps, minus the hours of
compute at a price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bench.rates import Rates
from bench.recording import PARAMS, RecordedStep, Recording, Seen, State
from ragtide.pipelines.evaluation.gate import check_ranking, judge_candidate
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
    past_decisions,
    rejected_before,
)
from ragtide.pipelines.params import Params, PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Decision
from ragtide.pipelines.records.evidence import Costs, Evidence, Workload
from ragtide.pipelines.records.release import Cycle, Outcome

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
    """One step of a policy's run: the decision, the resulting score, and the seconds paid for it."""

    action: Action
    right: tuple[Action, ...] | None
    accepted: bool
    score: float
    evidence_seconds: float
    action_seconds: float
    decision: Decision | None = None

    @property
    def seconds(self) -> float:
        return self.evidence_seconds + self.action_seconds


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
    def retrains(self) -> int:
        return sum(step.action.retrains for step in self.steps)

    def utility(self, price: float) -> float:
        """Return the points of answer score over all steps, minus `price` points for each hour of compute."""
        return 100 * sum(step.score for step in self.steps) - price * self.seconds / HOUR


@dataclass(frozen=True)
class StepOutcome:
    """A completed step with everything that its cycle records."""

    step: RecordedStep
    seen: Seen
    after: Seen
    decision: Decision
    accepted: bool
    work: dict[str, float]

    @property
    def builds(self) -> bool:
        return self.decision.action.builds

    @property
    def seconds(self) -> float:
        """The seconds of building and evaluating."""
        return sum(self.work.get(key, 0.0) for key in PAID)

    @property
    def outcome(self) -> Outcome:
        if not self.builds:
            return Outcome.HELD if self.decision.action == Action.HOLD else Outcome.NOTHING
        return Outcome.RELEASED if self.accepted else Outcome.REJECTED

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
            signals[ACTION_SECONDS] = self.seconds
        return {name: value for name, value in signals.items() if value is not None}


@dataclass
class PolicyRunner:
    """A running policy: its live state, the prompts that it has paid for, and the history of its decisions."""

    recording: Recording
    rates: Rates
    params: PolicyParams
    state: State
    paid_keys: set[str]
    history: list[Cycle] = field(default_factory=list)

    @classmethod
    def at_start(cls, recording: Recording, rates: Rates, params: PolicyParams) -> PolicyRunner:
        """Start with the first release live and its prompts paid for."""
        opened = recording.opened
        runner = cls(recording, rates, params, recording.start, {*opened.retrieved, *opened.gold, *opened.losses})
        runner.history.append(runner._first())
        return runner

    def take(self, number: int, step: RecordedStep) -> StepResult:
        """Take a step: gather evidence, decide, build, evaluate, and publish if the gate accepts."""
        seen = step.seen[self.state.key]
        evidence_seconds = self._evidence_seconds(seen)
        evidence = self._evidence(seen, step)
        decision = make_decision(evidence, self.params)
        action = decision.action
        work = self._work(action, seen, step)
        after = step.seen[seen.after(action).key]
        outcome = StepOutcome(step, seen, after, decision, action.builds and _accepted(action, seen, after), work)
        self.history.append(_cycle(number, outcome))
        if outcome.accepted:
            self.state = after.state
        score = step.seen[self.state.key].score
        return StepResult(action, step.right, outcome.accepted, score, evidence_seconds, outcome.seconds, decision)

    def _evidence_seconds(self, seen: Seen) -> float:
        """Return the seconds of the signals that the policy reads; prompts already paid for cost nothing."""
        read, rates = SIGNALS_READ.get(self.params.name, ALL_SIGNALS), self.rates
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

    def _evidence(self, seen: Seen, step: RecordedStep) -> Evidence:
        assert seen.evidence is not None
        examples = self.recording.trained_examples[seen.retrained]
        questions = len(seen.scorecard.graded)
        pairs = self.recording.trained_pairs[seen.tuned] if seen.tuned else 0
        workload = Workload(
            chunks=seen.to_embed, examples=examples, questions=questions, pairs=pairs, all_chunks=seen.all_chunks
        )
        expected: Costs = forecast_costs(workload, self.history, SETTINGS.costs)
        rejected = rejected_before(self.history, step.snapshot, "")
        limits = seen.evidence.limits.model_copy(
            update={"costs": expected, "past": past_decisions(self.history), "rejected_actions": rejected}
        )
        return seen.evidence.model_copy(update={"limits": limits, "signal_seconds": {}})

    def _work(self, action: Action, seen: Seen, step: RecordedStep) -> dict[str, float]:
        """Return an action's amounts of work and its seconds, by name."""
        if not action.builds:
            return {}
        rates = self.rates
        work: dict[str, float] = {}
        if action.tunes:
            pairs = self.recording.trained_pairs[seen.tuned]
            work |= {costs.TRAINED_PAIRS: float(pairs), costs.TUNE_SECONDS: rates.tuning(pairs)}
        if action.refreshes:
            chunks = _embedded(action, seen)
            work |= {costs.EMBEDDED_CHUNKS: float(chunks), costs.INDEX_SECONDS: rates.refresh(chunks)}
        if action.retrains:
            trained = self.recording.trained_examples[seen.retrained]
            work |= {costs.TRAINED_EXAMPLES: float(trained), costs.TRAIN_SECONDS: rates.training(trained)}
        asked = self._pay([*seen.asked.retrieved, *step.seen[seen.after(action).key].asked.retrieved])
        work[costs.GRADED_QUESTIONS] = 2.0 * len(seen.scorecard.graded)
        work[costs.PROVE_SECONDS] = asked * rates.answer_seconds
        return work

    def _first(self) -> Cycle:
        trained = self.recording.trained_examples[self.recording.start.model]
        work = {costs.TRAINED_EXAMPLES: float(trained), costs.TRAIN_SECONDS: self.rates.training(trained)}
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


def _cycle(number: int, outcome: StepOutcome) -> Cycle:
    """Return a step as the registry records a cycle."""
    before, after = (assessed.scorecard.answer_score.value for assessed in (outcome.seen, outcome.after))
    return Cycle(
        name=f"cycle-{number}",
        run="",
        at=(BEGIN + number * DAY).isoformat(),
        action=outcome.decision.action,
        outcome=outcome.outcome,
        reason="",
        snapshot=outcome.step.snapshot,
        release=str(number) if outcome.accepted else None,
        score_before=before if outcome.builds else None,
        score_after=after if outcome.builds else None,
        work=outcome.work,
        signals=outcome.signals,
    )


def run_policy(recording: Recording, rates: Rates, params: PolicyParams) -> PolicyRun:
    """Run a policy through a recorded stream, from its first release."""
    runner = PolicyRunner.at_start(recording, rates, params)
    return PolicyRun(tuple(runner.take(number, step) for number, step in enumerate(recording.steps, start=1)))


@dataclass(frozen=True)
class Best:
    """The best sequence of steps from a state, with its utility."""

    utility: float = 0.0
    steps: tuple[StepResult, ...] = ()


def oracle(recording: Recording, rates: Rates, price: float) -> PolicyRun:
    """Return the best sequence of actions in hindsight, by dynamic programming from the last step to the first.

    The oracle knows the result of each action, so it pays for neither evidence nor evaluation.
    """
    best: dict[str, Best] = {}
    for step in reversed(recording.steps):
        best = {
            key: max(
                (
                    _ahead(_seconds(action, seen, recording, rates), action, seen, step, best, price)
                    for action in seen.actions
                ),
                key=_utility,
            )
            for key, seen in step.seen.items()
            if seen.evidence is not None
        }
    return PolicyRun(best[recording.start.key].steps)


def _seconds(action: Action, seen: Seen, recording: Recording, rates: Rates) -> float:
    """Return the seconds of building by an action."""
    training = rates.training(recording.trained_examples[seen.retrained]) if action.retrains else 0.0
    tuning = rates.tuning(recording.trained_pairs[seen.tuned]) if action.tunes else 0.0
    return tuning + training + (rates.refresh(_embedded(action, seen)) if action.refreshes else 0.0)


def _embedded(action: Action, seen: Seen) -> int:
    """Return how many chunks an action embeds; another embedder has to embed all of them."""
    return seen.all_chunks if action.tunes else seen.to_embed


def _ahead(
    seconds: float, action: Action, seen: Seen, step: RecordedStep, best: Mapping[str, Best], price: float
) -> Best:
    """Return an action at a step followed by the best sequence after it."""
    state = seen.after(action)
    result = StepResult(action, step.right, action.builds, step.seen[state.key].score, 0.0, seconds)
    # Nothing follows the last step; at every earlier step each reachable state was assessed.
    following = best[state.key] if best else Best()
    utility = following.utility + 100 * result.score - price * seconds / HOUR
    return Best(utility, (result, *following.steps))


def _utility(best: Best) -> float:
    return best.utility


def _accepted(action: Action, before: Seen, after: Seen) -> bool:
    """Return whether the product's gate accepts the candidate on the golden questions."""
    verdict = judge_candidate(before.scorecard, after.scorecard, (), SETTINGS)
    return (check_ranking(verdict, SETTINGS) if action.tunes else verdict).accepted


def clear_cut(runs: Sequence[PolicyRun]) -> tuple[int, int]:
    """Count the clear-cut steps that were decided right, and all clear-cut steps."""
    steps = [step for run in runs for step in run.steps if step.right is not None]
    return sum(step.action in (step.right or ()) for step in steps), len(steps)
