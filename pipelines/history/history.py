"""What came of earlier decisions? The recorded turns, as a policy may learn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.evidence import PastDecision
from ragtide.pipelines.records.release import Cycle, Release

# A turn's numbers are recorded under these names, and so found again here.
EXPECTED_POINTS = "expected_points"
FORECAST_SECONDS = "forecast_seconds"
ACTION_SECONDS = "action_seconds"
LIVE_SCORE = "score_retrieved"
CHANGED_SHARE = "changed_share"
SHIFT = "shift"
INDEX_GAP, MODEL_GAP = "index_gap", "model_gap"
FILTERED_EXAMPLES = "examples_filtered"
LAG_SECONDS = "freshness_lag_seconds"
# The outcome of a turn that goes on, or was killed and not yet closed; so begins that of one that came to no end.
RUNNING = "running"
NOT_ENDED = (RUNNING, "failed", "killed")
# So begins the outcome of a turn whose candidate the gate did not let through.
REFUSED = "refused"
# The decision of a turn in which a person went back to an earlier release.
ROLLBACK = "ROLLBACK"
# What a plan carries along of the past: more would tell a policy nothing else, and every plan keeps a copy.
REMEMBERED = 200
WEEK = timedelta(days=7)
# What clocks of two machines may differ by.
SKEW = timedelta(hours=1)


def past_decisions(history: Sequence[Cycle]) -> tuple[PastDecision, ...]:
    """Every decision of `history` (oldest first) that came to its end, with what was expected and what came of it."""
    undone = rolled_back_releases(history)
    decided = [cycle for cycle in history if cycle.decision in set(Action)]
    return tuple(_past(cycle, undone) for cycle in decided if _ended(cycle))[-REMEMBERED:]


def rolled_back_releases(history: Sequence[Cycle]) -> dict[str, str]:
    """Release -> why it was rolled back, unless one has gone forward to it again since."""
    undone: dict[str, str] = {}
    for cycle in history:
        if cycle.undone:
            undone[cycle.undone] = cycle.reason
            undone.pop(cycle.release or "", None)
    return undone


def live_since(live: Release, history: Sequence[Cycle]) -> str:
    """When the live release became live: when it was made, or when one last went back to it (ISO 8601, UTC)."""
    returns = [cycle.at for cycle in history if cycle.decision == ROLLBACK and cycle.release == live.id]
    return max([live.created, *returns])


def last_validated_cycle(history: Sequence[Cycle]) -> Cycle | None:
    """The last turn that looked at the training lines; its signal LEFT_OUT counts those that it left out."""
    return next((cycle for cycle in reversed(history) if FILTERED_EXAMPLES in cycle.signals), None)


def last_decided_cycle(history: Sequence[Cycle]) -> Cycle | None:
    """The last turn that decided about the data and came to its end, whatever it decided."""
    return next((cycle for cycle in reversed(history) if cycle.decision in set(Action) and _judged(cycle)), None)


def failed_since_decided(history: Sequence[Cycle]) -> list[Cycle]:
    """The turns since the last one that judged the data which came to no end, oldest first."""
    judged = last_decided_cycle(history)
    since = history[history.index(judged) + 1 :] if judged else history
    return [cycle for cycle in since if not _judged(cycle)]


def spent_hours(history: Sequence[Cycle], now: datetime) -> float:
    """The compute of the last seven days, in hours: every turn that has ended, whatever came of it.

    One that is still going on, such as that which asks, would count for more at every look: the same world would bring
    another plan.
    """
    ended = [cycle for cycle in history if cycle.outcome != RUNNING]
    recent = [cycle for cycle in ended if -SKEW <= now - datetime.fromisoformat(cycle.at) <= WEEK]
    return round(sum(cycle.seconds for cycle in recent) / 3600, 3)


def hours_since_retrain(history: Sequence[Cycle], now: datetime) -> int | None:
    """Whole hours since the last turn that trained, whatever came of it; None where none did.

    None as well where it lies ahead: the clock was set back, and a cool-down would last until it has caught up.
    """
    trained = [cycle for cycle in history if cycle.decision in set(Action) and Action(cycle.decision).retrains]
    if not trained:
        return None
    age = now - datetime.fromisoformat(trained[-1].at)
    return max(0, int(age.total_seconds() // 3600)) if age >= -SKEW else None


def _judged(cycle: Cycle) -> bool:
    return not cycle.outcome.startswith(NOT_ENDED)


def _ended(cycle: Cycle) -> bool:
    """A turn that failed or was killed says nothing of what its action brings, however far it came."""
    if not _judged(cycle):
        return False
    return cycle.decision in (Action.NOTHING, Action.HOLD) or cycle.score_after is not None


def _past(cycle: Cycle, undone: Mapping[str, str]) -> PastDecision:
    gained = None
    if cycle.score_before is not None and cycle.score_after is not None:
        gained = round(100 * (cycle.score_after - cycle.score_before), 4)
    return PastDecision(
        cycle=cycle.name,
        action=cycle.decision,
        accepted=cycle.release is not None,
        rolled_back=cycle.release in undone,
        expected_points=cycle.signals.get(EXPECTED_POINTS),
        recovered_points=gained,
        forecast_seconds=cycle.signals.get(FORECAST_SECONDS),
        seconds=cycle.signals.get(ACTION_SECONDS),
        score=cycle.signals.get(LIVE_SCORE),
        changed_share=cycle.signals.get(CHANGED_SHARE),
        shift=cycle.signals.get(SHIFT),
        index_gap=cycle.signals.get(INDEX_GAP),
        model_gap=cycle.signals.get(MODEL_GAP),
    )
