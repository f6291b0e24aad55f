"""What would a policy have done on a recorded stream, and how much worse is that than the best that could be done?

A policy walks through a recording: it sees the evidence of the state that it has live, decides, and pays for what it
looked at, built and proved; the gate judges as in earnest. Regret is what the oracle's utility is above its own.
Utility is in points of answer score, summed over the steps, less the hours of compute at a price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bench.rates import Rates
from bench.recording import PARAMS, Recording, Seen, State, Turn
from ragtide.pipelines.evaluation.gate import check_ranking, judge_candidate
from ragtide.pipelines.history import costs
from ragtide.pipelines.history.costs import Workload, forecast_costs
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
from ragtide.pipelines.policy.decide import decide
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Decision
from ragtide.pipelines.records.evidence import Costs, Evidence
from ragtide.pipelines.records.release import Cycle, Outcome

SETTINGS = Params.model_validate(PARAMS)
DAY = timedelta(days=1)
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = 3600.0
PAID = (costs.TUNE_SECONDS, costs.INDEX_SECONDS, costs.TRAIN_SECONDS, costs.PROVE_SECONDS)
# What a policy has to look at before it decides; one that is not named here looks at everything.
LOOKS_AT: dict[str, frozenset[str]] = {
    "always": frozenset(),
    "never": frozenset(),
    "periodic": frozenset(),
    "amount": frozenset(),
    "modyn": frozenset(),
    "cusum": frozenset({"found"}),
    "cara": frozenset({"found"}),
    "drift": frozenset({"vectors", "losses"}),
}
EVERYTHING = frozenset({"found", "gold", "losses", "text", "vectors"})


@dataclass(frozen=True)
class Taken:
    """One step of a walk: what was decided, what it led to, and what was paid for it."""

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
class Walk:
    """A policy's way through a stream."""

    taken: tuple[Taken, ...]

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.taken)

    @property
    def evidence_seconds(self) -> float:
        return sum(one.evidence_seconds for one in self.taken)

    @property
    def score(self) -> float:
        """The mean quality over the steps (0-1)."""
        return sum(one.score for one in self.taken) / len(self.taken)

    @property
    def retrains(self) -> int:
        return sum(one.action.retrains for one in self.taken)

    def utility(self, price: float) -> float:
        """Points of answer score over all steps, less `price` points for each hour of compute."""
        return 100 * sum(one.score for one in self.taken) - price * self.seconds / HOUR


@dataclass(frozen=True)
class Happened:
    """A step as it is to be written down."""

    turn: Turn
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
        """What building and proving took."""
        return sum(self.work.get(key, 0.0) for key in PAID)

    @property
    def outcome(self) -> Outcome:
        if not self.builds:
            return Outcome.HELD if self.decision.action == Action.HOLD else Outcome.NOTHING
        return Outcome.RELEASED if self.accepted else Outcome.REJECTED

    @property
    def signals(self) -> dict[str, float]:
        """The numbers that a turn's run logs."""
        assert self.seen.evidence is not None
        found: dict[str, float | None] = {
            LIVE_SCORE: self.seen.scorecard.answer_score.value,
            CHANGED_SHARE: self.seen.evidence.delta.changed_share,
            SHIFT: self.seen.evidence.shift.value,
            INDEX_GAP: self.seen.evidence.index_gap.value,
            MODEL_GAP: self.seen.evidence.model_gap.value,
        }
        if self.builds:
            [told] = [one for one in self.decision.options if one.action == self.decision.action]
            found |= {EXPECTED_POINTS: told.gap_points, FORECAST_SECONDS: told.cost_seconds}
            found[ACTION_SECONDS] = self.seconds
        return {name: value for name, value in found.items() if value is not None}


@dataclass
class Walker:
    """A policy on its way: what it has live, what it has asked already, and what came of its decisions."""

    recording: Recording
    rates: Rates
    params: PolicyParams
    state: State
    known: set[str]
    history: list[Cycle] = field(default_factory=list)

    @classmethod
    def at_start(cls, recording: Recording, rates: Rates, params: PolicyParams) -> Walker:
        """The first release is live, and its questions have been asked."""
        opened = recording.opened
        walker = cls(recording, rates, params, recording.start, {*opened.found, *opened.gold, *opened.losses})
        walker.history.append(walker._first())
        return walker

    def step(self, number: int, turn: Turn) -> Taken:
        """Look, decide, build, prove, and go live where the gate lets it."""
        seen = turn.seen[self.state.key]
        evidence_seconds = self._look(seen)
        evidence = self._evidence(seen, turn)
        decision = decide(evidence, self.params)
        action = decision.action
        work = self._work(action, seen, turn)
        after = turn.seen[seen.after(action).key]
        happened = Happened(turn, seen, after, decision, action.builds and _accepted(action, seen, after), work)
        self.history.append(_cycle(number, happened))
        if happened.accepted:
            self.state = after.state
        score = turn.seen[self.state.key].score
        return Taken(action, turn.right, happened.accepted, score, evidence_seconds, happened.seconds, decision)

    def _look(self, seen: Seen) -> float:
        """What looking costs: the model is asked what it was not asked before."""
        looks, rates = LOOKS_AT.get(self.params.name, EVERYTHING), self.rates
        answers = [*(seen.asked.found if "found" in looks else ()), *(seen.asked.gold if "gold" in looks else ())]
        paid = self._ask(answers) * rates.answer_seconds
        paid += self._ask(seen.asked.losses if "losses" in looks else ()) * rates.loss_seconds
        paid += seen.text_seconds if "text" in looks else 0.0
        return paid + (seen.vector_seconds if "vectors" in looks else 0.0)

    def _ask(self, keys: Iterable[str]) -> int:
        """How many of these were never asked; from now on they have been."""
        new = set(keys) - self.known
        self.known |= new
        return len(new)

    def _evidence(self, seen: Seen, turn: Turn) -> Evidence:
        assert seen.evidence is not None
        examples = self.recording.trained_examples[seen.retrained]
        questions = len(seen.scorecard.graded)
        pairs = self.recording.trained_pairs[seen.tuned] if seen.tuned else 0
        workload = Workload(seen.to_embed, examples, questions, pairs=pairs, all_chunks=seen.all_chunks)
        expected: Costs = forecast_costs(workload, self.history, SETTINGS.costs)
        refused = rejected_before(self.history, turn.snapshot, "")
        return seen.evidence.model_copy(
            update={
                "costs": expected,
                "past": past_decisions(self.history),
                "rejected_actions": refused,
                "signal_seconds": {},
            }
        )

    def _work(self, action: Action, seen: Seen, turn: Turn) -> dict[str, float]:
        """What an action does, and the seconds that it takes."""
        if not action.builds:
            return {}
        rates = self.rates
        work: dict[str, float] = {}
        if action.tunes:
            taught = self.recording.trained_pairs[seen.tuned]
            work |= {costs.TRAINED_PAIRS: float(taught), costs.TUNE_SECONDS: rates.tuning(taught)}
        if action.refreshes:
            chunks = _embedded(action, seen)
            work |= {costs.EMBEDDED_CHUNKS: float(chunks), costs.INDEX_SECONDS: rates.refresh(chunks)}
        if action.retrains:
            trained = self.recording.trained_examples[seen.retrained]
            work |= {costs.TRAINED_EXAMPLES: float(trained), costs.TRAIN_SECONDS: rates.training(trained)}
        asked = self._ask([*seen.asked.found, *turn.seen[seen.after(action).key].asked.found])
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
            reason="the first",
            release="0",
            work=work,
        )


def _cycle(number: int, happened: Happened) -> Cycle:
    """A step as the registry would record it."""
    before, after = (one.scorecard.answer_score.value for one in (happened.seen, happened.after))
    return Cycle(
        name=f"cycle-{number}",
        run="",
        at=(BEGIN + number * DAY).isoformat(),
        action=happened.decision.action,
        outcome=happened.outcome,
        reason="",
        snapshot=happened.turn.snapshot,
        release=str(number) if happened.accepted else None,
        score_before=before if happened.builds else None,
        score_after=after if happened.builds else None,
        work=happened.work,
        signals=happened.signals,
    )


def walk(recording: Recording, rates: Rates, params: PolicyParams) -> Walk:
    """A policy's way through a recorded stream, from its first release."""
    walker = Walker.at_start(recording, rates, params)
    return Walk(tuple(walker.step(number, turn) for number, turn in enumerate(recording.turns, start=1)))


@dataclass(frozen=True)
class Best:
    """The best that can follow from a state: its utility, and how it goes on."""

    utility: float = 0.0
    taken: tuple[Taken, ...] = ()


def oracle(recording: Recording, rates: Rates, price: float) -> Walk:
    """The best sequence of actions in hindsight, by dynamic programming from the last step to the first.

    It knows what each action brings, so it pays for no evidence and no proof.
    """
    best: dict[str, Best] = {}
    for turn in reversed(recording.turns):
        best = {
            key: max(
                (
                    _ahead(_seconds(action, seen, recording, rates), action, seen, turn, best, price)
                    for action in seen.actions
                ),
                key=_utility,
            )
            for key, seen in turn.seen.items()
            if seen.evidence is not None
        }
    return Walk(best[recording.start.key].taken)


def _seconds(action: Action, seen: Seen, recording: Recording, rates: Rates) -> float:
    """What an action itself takes."""
    training = rates.training(recording.trained_examples[seen.retrained]) if action.retrains else 0.0
    tuning = rates.tuning(recording.trained_pairs[seen.tuned]) if action.tunes else 0.0
    return tuning + training + (rates.refresh(_embedded(action, seen)) if action.refreshes else 0.0)


def _embedded(action: Action, seen: Seen) -> int:
    """How many chunks an action embeds: another retriever needs all of them anew."""
    return seen.all_chunks if action.tunes else seen.to_embed


def _ahead(seconds: float, action: Action, seen: Seen, turn: Turn, best: Mapping[str, Best], price: float) -> Best:
    """An action at a step, and the best that can follow it."""
    state = seen.after(action)
    taken = Taken(action, turn.right, action.builds, turn.seen[state.key].score, 0.0, seconds)
    # After the last step nothing follows; before it, every state that can be led to was looked at.
    then = best[state.key] if best else Best()
    utility = then.utility + 100 * taken.score - price * seconds / HOUR
    return Best(utility, (taken, *then.taken))


def _utility(one: Best) -> float:
    return one.utility


def _accepted(action: Action, before: Seen, after: Seen) -> bool:
    """The gate on the golden questions, as in earnest."""
    verdict = judge_candidate(before.scorecard, after.scorecard, {}, (), SETTINGS)
    return (check_ranking(verdict, SETTINGS) if action.tunes else verdict).accepted


def clear_cut(walks: Sequence[Walk]) -> tuple[int, int]:
    """(right, all) of the steps at which one action is clearly right."""
    judged = [one for walk in walks for one in walk.taken if one.right is not None]
    return sum(one.action in (one.right or ()) for one in judged), len(judged)
