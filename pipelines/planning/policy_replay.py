"""What would another policy have decided? The recorded turns once more, each with the evidence that it had.

Each turn is taken from the state that was really live then, since what another decision would have led to was not built
(bench/replay.py builds it). Where the other policy decides as was decided, what really came of it counts; elsewhere the
forecast and the expected gain do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.history import ACTION_SECONDS, rolled_back_releases
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.planning.plan import read_plan
from ragtide.pipelines.policy.decide import decide
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Decision, Option, Plan
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.release import Cycle


@dataclass(frozen=True)
class RecordedCycle:
    """A turn with the evidence that it had; `lasting` says whether its release, if any, was never rolled back."""

    cycle: Cycle
    evidence: Evidence
    lasting: bool


@dataclass(frozen=True)
class ReplayedCycle:
    """One recorded turn under another policy: seconds of compute and points of answer score (0-100), of both."""

    cycle: str
    at: str
    was: str
    would: Action
    was_seconds: float
    would_seconds: float
    was_points: float
    would_points: float
    because: str

    @property
    def same(self) -> bool:
        return self.was == self.would


@dataclass(frozen=True)
class ReplayTotal:
    """What one policy's decisions come to."""

    policy: str
    seconds: float
    points: float
    retrains: int
    others: int


def recorded_cycles(project: Project) -> list[RecordedCycle]:
    """Every turn whose plan is kept, oldest first. Raises RefusalError where there is none."""
    history = project.registry.history()
    undone = rolled_back_releases(history)
    found = [
        RecordedCycle(cycle, plan.evidence, lasting=cycle.release not in undone)
        for cycle in history
        if (plan := _plan(project, cycle)) is not None
    ]
    if not found:
        raise UserError("no recorded turn has a plan to replay: `ragtide run` records one each time")
    return found


def replay_policy(turns: Sequence[RecordedCycle], params: PolicyParams) -> list[ReplayedCycle]:
    """Each recorded turn under the policy of `params`."""
    return [_replayed(turn, decide(turn.evidence, params)) for turn in turns]


def replay_total(policy: str, replayed: Sequence[ReplayedCycle]) -> ReplayTotal:
    """The sums over all turns, and how many of them were decided otherwise."""
    return ReplayTotal(
        policy=policy,
        seconds=sum(one.would_seconds for one in replayed),
        points=sum(one.would_points for one in replayed),
        retrains=sum(one.would.retrains for one in replayed),
        others=sum(not one.same for one in replayed),
    )


def _plan(project: Project, cycle: Cycle) -> Plan | None:
    """A turn's plan; None for a turn without a decision, or whose plan was cleared away."""
    if cycle.decision not in set(Action) or not project.workspace.plan_file(cycle.plan or "none").is_file():
        return None
    return read_plan(project, cycle.plan)


def _replayed(turn: RecordedCycle, decision: Decision) -> ReplayedCycle:
    cycle = turn.cycle
    same, option = decision.action == cycle.decision, _option(decision)
    was_seconds, was_points = cycle.signals.get(ACTION_SECONDS, 0.0), _gained(cycle) if turn.lasting else 0.0
    expected_seconds = option.cost_seconds if option else 0.0
    expected_points = (option.gain_points or 0.0) if option else 0.0
    return ReplayedCycle(
        cycle=cycle.name,
        at=cycle.at,
        was=cycle.decision,
        would=decision.action,
        was_seconds=was_seconds,
        would_seconds=was_seconds if same else expected_seconds,
        was_points=was_points,
        would_points=was_points if same else expected_points,
        because=decision.explanation,
    )


def _gained(cycle: Cycle) -> float:
    """What a release has really brought; what was refused has brought nothing."""
    if cycle.release is None or cycle.score_before is None or cycle.score_after is None:
        return 0.0
    return 100 * (cycle.score_after - cycle.score_before)


def _option(decision: Decision) -> Option | None:
    """The row of what is decided; None where nothing is built."""
    return next((one for one in decision.options if one.action is decision.action and one.action.builds), None)
