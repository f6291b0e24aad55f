"""Conclusion of a cycle: its outcome, from those of its parts, and what is recorded with it."""

from __future__ import annotations

from pydantic import TypeAdapter

from ragtide.flows.cycle_context import CycleContext
from ragtide.flows.prefect_server.artifacts import rename_run
from ragtide.flows.prefect_server.notifications import run_logger
from ragtide.pipelines.data.dvc import commit_stages
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.history.history import ACTION_SECONDS
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.release import Cycle, Outcome, PartOutcome, Release
from ragtide.pipelines.registry.backup import back_up
from ragtide.pipelines.release.proof import Proof
from ragtide.pipelines.reports.markdown import list_some
from ragtide.pipelines.reports.verdict import failed_checks

# How much of a rejection is recorded with its part: MLflow's tags hold a few thousand characters.
DETAIL_CHARACTERS = 1000
_PARTS = TypeAdapter(list[PartOutcome])


def record_part(cycle: CycleContext, plan: Plan, part: Action, proof: Proof, release: Release | None) -> None:
    """Record the outcome of one part of a plan's action, which may have made a release."""
    verdict, option = proof.verdict, plan.decision.option(part)
    outcome = PartOutcome(
        action=part,
        accepted=verdict.accepted and release is not None,
        release=release.id if release else None,
        detail=failed_checks(verdict)[:DETAIL_CHARACTERS],
        expected_points=option.gap_points if option else None,
        score_before=verdict.before.answer_score.value,
        score_after=verdict.after.answer_score.value,
        forecast_seconds=option.cost_seconds if option else None,
        seconds=round(cycle.seconds - sum(earlier.seconds or 0.0 for earlier in cycle.outcomes), 3),
    )
    cycle.outcomes.append(outcome)
    cycle.log.tags({"parts": _PARTS.dump_json(cycle.outcomes).decode()})


def conclude(cycle: CycleContext, plan: Plan) -> Cycle:
    """Log the outcome of the cycle, also of NOTHING, and return it as it is recorded."""
    action, is_built = plan.decision.action, bool(cycle.outcomes)
    outcome = _outcome(cycle, action)
    # Each release of the cycle has replaced the live one.
    release = cycle.live if any(part.release for part in cycle.outcomes) else None
    if is_built:
        ended = f"release {release.id}" if release else str(outcome)
        rename_run(f"keep-current {cycle.project.workspace.root.name}: {action}, {ended}")
    if release is not None:
        cycle.log.tags({"release": release.id, "index_version": release.index.version})
        cycle.log.metrics({"score_after": release.scorecard.answer_score.value})
    cycle.log.metrics({ACTION_SECONDS: cycle.seconds} if is_built else {})
    accepted = str(outcome is Outcome.RELEASED) if is_built else "no candidate"
    cycle.log.tags({"outcome": outcome.value, "outcome_detail": _detail(cycle, outcome), "accepted": accepted})
    _commit_stages(cycle)
    if release is not None:
        _back_up_records(cycle, release)
    return cycle.project.registry.read(cycle.log)


def _outcome(cycle: CycleContext, action: Action) -> Outcome:
    """How a cycle ends; that deleted documents left the index makes it no less rejected."""
    if action == Action.HOLD:
        return Outcome.HELD
    if not cycle.outcomes:
        return Outcome.NOTHING
    return Outcome.RELEASED if cycle.is_released else Outcome.REJECTED


def _detail(cycle: CycleContext, outcome: Outcome) -> str:
    """What else there is to say of an outcome: what was withheld, and what the gate rejected and why."""
    rejected = [part for part in cycle.outcomes if not part.accepted]
    left_out = [f"{action} was left out: {why}" for action, why in cycle.left_out.items()]
    if outcome is not Outcome.RELEASED:
        return "; ".join([*(part.detail for part in rejected), *left_out])
    withheld = [f"without {list_some(cycle.newly_withheld)}"] if cycle.newly_withheld else []
    return "; ".join([*withheld, *(f"{part.action} was rejected: {part.detail}" for part in rejected), *left_out])


def _commit_stages(cycle: CycleContext) -> None:
    """Record the rebuilt stages in dvc.lock. A failure is noted: the outcome is recorded, and nothing depends on it."""
    actions = [part.action for part in cycle.outcomes]
    stages = {
        "index": any(action.refreshes for action in actions),
        "finetune": any(action.retrains for action in actions),
        "score": bool(actions),
    }
    try:
        commit_stages(cycle.project.workspace, [stage for stage, is_rebuilt in stages.items() if is_rebuilt])
    except UserError as problem:
        run_logger().warning("dvc.lock is not up to date: %s", problem)
        cycle.log.tags({"stages_not_committed": problem})


def _back_up_records(cycle: CycleContext, release: Release) -> None:
    """Back up MLflow's database with the new release in it. A failure is noted: the release is live."""
    try:
        back_up(cycle.project.workspace.mlflow_database, release.id)
    except UserError as problem:
        run_logger().warning("%s", problem)
        cycle.log.tags({"not_backed_up": problem})
