"""Recorded cycles and the past decisions that a policy may learn from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import PastDecision
from ragtide.pipelines.records.release import Cycle, Outcome, PartOutcome, Release

# A cycle's numbers are logged under these names, and read again here.
EXPECTED_POINTS = "expected_points"
FORECAST_SECONDS = "forecast_seconds"
ACTION_SECONDS = "action_seconds"
LIVE_SCORE = "score_retrieved"
CHANGED_SHARE = "changed_share"
SHIFT = "shift"
INDEX_GAP, MODEL_GAP = "index_gap", "model_gap"
SUBSTANTIVE_SENTENCES = "substantive_sentences"
FILTERED_EXAMPLES = "examples_filtered"
LAG_SECONDS = "freshness_lag_seconds"
# Past decisions that a plan keeps a copy of: a policy learns nothing more from older ones.
REMEMBERED = 200
WEEK = timedelta(days=7)
# The largest answer score. Earlier versions recorded larger expectations, the sums of overlapping gaps.
MOST_POINTS = 100.0
# The clocks of two machines may differ by this much.
SKEW = timedelta(hours=1)


def past_decisions(history: Sequence[Cycle]) -> tuple[PastDecision, ...]:
    """Every decision of `history` (oldest first) whose cycle came to its end, with what it was to bring and brought.

    Each part of an action is a decision of its own, since each was proven by itself.
    """
    undone = rolled_back_releases(history)
    return tuple(
        _past_decision(cycle, part, undone)
        for cycle in history
        if cycle.action and _is_complete(cycle)
        for part in cycle.decided_parts
    )[-REMEMBERED:]


def rolled_back_releases(history: Sequence[Cycle]) -> dict[str, str]:
    """Release -> why it was rolled back, unless it was made live again since.

    A rollback past several releases takes all of them back, so that the same data brings none of them live again.
    """
    undone: dict[str, str] = {}
    for cycle in history:
        if cycle.undone:
            left = int(cycle.undone)
            target = int(cycle.release or left)
            undone |= dict.fromkeys([cycle.undone, *map(str, range(target + 1, left))], cycle.reason)
            for release in [target, *range(left + 1, target)] if cycle.release else ():
                undone.pop(str(release), None)
    return undone


def rejected_before(
    history: Sequence[Cycle], snapshot: str, params: str, same_training: Collection[str] = ()
) -> dict[Action, str]:
    """Action -> why, for what the gate rejected or a person rolled back for this very snapshot and these params.

    A retrain is not tried again for any of the `same_training` snapshots either, which have the same examples and
    golden questions: other documents make no other adapter. A later one that was accepted, by hand, takes that back.
    """
    undone = rolled_back_releases(history)
    rejected: dict[Action, str] = {}
    for cycle in history:
        is_same = cycle.snapshot == snapshot
        if cycle.action is None or cycle.params != params or not (is_same or cycle.snapshot in same_training):
            continue
        for part in cycle.decided_parts if cycle.outcome.is_final else ():
            ruled_out = _rejected_by(cycle, part, undone)
            rejected |= (
                ruled_out if is_same else {action: why for action, why in ruled_out.items() if action == Action.RETRAIN}
            )
            if part.action == Action.RETRAIN and part.accepted and not ruled_out:
                rejected.pop(Action.RETRAIN, None)
    return rejected


def _rejected_by(cycle: Cycle, part: PartOutcome, undone: Mapping[str, str]) -> dict[Action, str]:
    """What is not to be tried again after this part of a cycle, and why."""
    if part.release and part.release in undone:
        why = f"release {part.release}, made from this data, was rolled back ({undone[part.release]})"
        return dict.fromkeys([*part.action.parts, part.action], why)
    if part.action == Action.DROP_ADAPTER:
        return {Action.RETRAIN: f"the adapter was dropped in {cycle.name}: {cycle.reason}"}
    if part.action.builds and not part.accepted:
        return {part.action: f"the gate rejected it for this data in {cycle.name}"}
    return {}


def rejects_training(history: Sequence[Cycle], params: str) -> bool:
    """Whether a training under these params was rejected or rolled back, or its adapter dropped, for any data."""
    undone = rolled_back_releases(history)
    final = (cycle for cycle in history if cycle.params == params and cycle.outcome.is_final)
    return any(Action.RETRAIN in _rejected_by(cycle, part, undone) for cycle in final for part in cycle.decided_parts)


def retrained_snapshots(history: Sequence[Cycle]) -> set[str]:
    """The snapshots of which a model was trained, or its adapter dropped."""
    model = (Action.RETRAIN, Action.DROP_ADAPTER)
    return {cycle.snapshot for cycle in history if cycle.action and {*cycle.action.parts}.intersection(model)}


def live_since(live: Release, history: Sequence[Cycle]) -> str:
    """When the live release became live: when it was made, or when it was last rolled back to (ISO 8601, UTC)."""
    returns = [cycle.at for cycle in history if cycle.is_rollback and cycle.release == live.id]
    return max([live.created, *returns])


def last_validated_cycle(history: Sequence[Cycle]) -> Cycle | None:
    """The last cycle that validated the training lines; its signal FILTERED_EXAMPLES counts those that it filtered."""
    return next((cycle for cycle in reversed(history) if FILTERED_EXAMPLES in cycle.signals), None)


def last_decided_cycle(history: Sequence[Cycle]) -> Cycle | None:
    """The last cycle that decided about the data and came to its end, whatever it decided."""
    return next((cycle for cycle in reversed(history) if cycle.action and cycle.outcome.is_final), None)


def failed_since_decided(history: Sequence[Cycle]) -> list[Cycle]:
    """The cycles since the last one that decided about the data which did not come to their end, oldest first."""
    decided = last_decided_cycle(history)
    since = history[history.index(decided) + 1 :] if decided else history
    return [cycle for cycle in since if not cycle.outcome.is_final]


def spent_hours(history: Sequence[Cycle], now: datetime) -> float:
    """The compute of the last seven days, in hours: every cycle that has ended, whatever its outcome.

    A running cycle, such as the one that asks, would count for more at every look, so that nothing else changed and the
    plan would be another one.
    """
    ended = [cycle for cycle in history if cycle.outcome is not Outcome.RUNNING]
    recent = [cycle for cycle in ended if -SKEW <= now - datetime.fromisoformat(cycle.at) <= WEEK]
    return round(sum(cycle.seconds for cycle in recent) / 3600, 3)


def hours_since_retrain(history: Sequence[Cycle], now: datetime) -> int | None:
    """Whole hours since the last cycle that trained, whatever its outcome; None where none did.

    None as well where it lies in the future: the clock was set back, and a cool-down would last until it catches up.
    """
    trained = [cycle for cycle in history if cycle.action and cycle.action.retrains]
    if not trained:
        return None
    age = now - datetime.fromisoformat(trained[-1].at)
    return max(0, int(age.total_seconds() // 3600)) if age >= -SKEW else None


def _is_complete(cycle: Cycle) -> bool:
    """Whether it shows what its action brings: a cycle that failed or was killed does not, however far it came."""
    if not cycle.outcome.is_final:
        return False
    return cycle.action in (Action.NOTHING, Action.HOLD) or cycle.score_after is not None


def _past_decision(cycle: Cycle, part: PartOutcome, undone: Mapping[str, str]) -> PastDecision:
    gained, is_only = None, len(cycle.decided_parts) == 1
    expected = cycle.signals.get(EXPECTED_POINTS) if is_only else part.expected_points
    if part.score_before is not None and part.score_after is not None:
        gained = round(100 * (part.score_after - part.score_before), 4)
    return PastDecision(
        cycle=cycle.name,
        snapshot=cycle.snapshot,
        action=part.action,
        accepted=part.accepted,
        rolled_back=part.release in undone,
        expected_points=None if expected is None else min(MOST_POINTS, expected),
        recovered_points=gained,
        forecast_seconds=cycle.signals.get(FORECAST_SECONDS) if is_only else part.forecast_seconds,
        seconds=cycle.signals.get(ACTION_SECONDS) if is_only else part.seconds,
        score=cycle.signals.get(LIVE_SCORE),
        changed_share=cycle.signals.get(CHANGED_SHARE),
        shift=cycle.signals.get(SHIFT),
        index_gap=cycle.signals.get(INDEX_GAP),
        model_gap=cycle.signals.get(MODEL_GAP),
    )
