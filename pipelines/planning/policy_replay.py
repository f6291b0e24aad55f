"""Replay of recorded cycles under other policies, each with the evidence that the cycle had.

Each cycle starts from the state that was live then, since what another decision would have led to was never built
(bench/replay.py builds it). Where the other policy makes the recorded decision, what that brought counts; elsewhere
the forecast cost and the expected gain do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.history import ACTION_SECONDS, rolled_back_releases
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.planning.plan import read_plan
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Decision, Plan
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.reports.wording import headline


@dataclass(frozen=True)
class RecordedCycle:
    """A cycle with the evidence that it had; `lasting` says whether its release, if any, was never rolled back."""

    cycle: Cycle
    action: Action
    evidence: Evidence
    lasting: bool


@dataclass(frozen=True)
class ReplayedCycle:
    """A recorded cycle under another policy: action, seconds of compute and points of answer score (0-100), of both."""

    cycle: str
    at: str
    was: Action
    would: Action
    was_seconds: float
    would_seconds: float
    was_points: float
    would_points: float
    why: str

    @property
    def same(self) -> bool:
        return self.was == self.would


@dataclass(frozen=True)
class ReplayTotal:
    """The sums over all cycles under one policy; `others` counts those that it would have decided otherwise."""

    policy: str
    seconds: float
    points: float
    retrains: int
    others: int


def recorded_cycles(project: Project) -> list[RecordedCycle]:
    """Every cycle whose plan is stored, oldest first. Raises UserError where there is none."""
    history = project.registry.history()
    undone = rolled_back_releases(history)
    recorded = [
        RecordedCycle(cycle, cycle.action, plan.evidence, lasting=cycle.release not in undone)
        for cycle in history
        if cycle.action and (plan := _stored_plan(project, cycle)) is not None
    ]
    if not recorded:
        raise UserError("no recorded cycle has a plan to replay: `ragtide run` stores one each time")
    return recorded


def replay_policy(cycles: Sequence[RecordedCycle], params: PolicyParams) -> list[ReplayedCycle]:
    """Each recorded cycle under the policy of `params`."""
    return [_replayed(recorded, make_decision(recorded.evidence, params)) for recorded in cycles]


def replay_total(policy: str, replayed: Sequence[ReplayedCycle]) -> ReplayTotal:
    """The sums over all cycles, and how many of them would have been decided otherwise."""
    return ReplayTotal(
        policy=policy,
        seconds=sum(cycle.would_seconds for cycle in replayed),
        points=sum(cycle.would_points for cycle in replayed),
        retrains=sum(cycle.would.retrains for cycle in replayed),
        others=sum(not cycle.same for cycle in replayed),
    )


def _stored_plan(project: Project, cycle: Cycle) -> Plan | None:
    """A cycle's plan; None where it was deleted."""
    if not project.workspace.plan_file(cycle.plan or "none").is_file():
        return None
    return read_plan(project, cycle.plan)


def _replayed(recorded: RecordedCycle, decision: Decision) -> ReplayedCycle:
    cycle, same, option = recorded.cycle, decision.action == recorded.action, decision.chosen
    was_seconds = cycle.signals.get(ACTION_SECONDS, 0.0)
    was_points = _gained_points(cycle) if recorded.lasting else 0.0
    expected_seconds = option.cost_seconds if option else 0.0
    expected_points = option.gain_points if option else 0.0
    return ReplayedCycle(
        cycle=cycle.name,
        at=cycle.at,
        was=recorded.action,
        would=decision.action,
        was_seconds=was_seconds,
        would_seconds=was_seconds if same else expected_seconds,
        was_points=was_points,
        would_points=was_points if same else expected_points,
        why=headline(Plan(evidence=recorded.evidence, decision=decision, params="")),
    )


def _gained_points(cycle: Cycle) -> float:
    """The measured gain of a release; a rejected candidate has gained nothing."""
    if cycle.release is None or cycle.score_before is None or cycle.score_after is None:
        return 0.0
    return 100 * (cycle.score_after - cycle.score_before)
