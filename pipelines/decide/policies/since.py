"""What has happened since the last action? What the simpler policies count with, and how they word a wish.

A cycle is one decision, the present one included. An action stands when it was accepted and not rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.decide.choice import Choice, Halves, Weighed, Wish
from pipelines.records import Evidence, Past

# --- cycles --------------------------------------------------------------------------------------------------------


def since_build(past: Sequence[Past]) -> Sequence[Past]:
    """The cycles after the last one that built anything, accepted or not; all of them where none did."""
    return past[_after_last(past, lambda one: one.did.builds) :]


def since_action(past: Sequence[Past]) -> Sequence[Past]:
    """The cycles after the last action that stands; all of them where there is none."""
    return past[_after_last(past, lambda one: one.stands) :]


def since_refresh(past: Sequence[Past]) -> Sequence[Past]:
    """The cycles after the last refresh or rebuild that stands; all of them where there is none."""
    return past[_after_last(past, lambda one: one.stands and one.did.refreshes) :]


def since_retrain(past: Sequence[Past]) -> Sequence[Past]:
    """The cycles after the last retrain that stands; all of them where there is none."""
    return past[_after_last(past, lambda one: one.stands and one.did.retrains) :]


def _after_last(past: Sequence[Past], claim: Callable[[Past], bool]) -> int:
    return max((at + 1 for at, one in enumerate(past) if claim(one)), default=0)


# --- scores --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Live answer scores (0-1) since the last action that stands, oldest first, the present one last, if measured.

    `reference` is the score right after that action: the one before it and what it recovered, where both are known,
    else the first score since.
    """

    reference: float
    seen: tuple[float, ...]

    @property
    def drops(self) -> tuple[float, ...]:
        """How far each score lies below the reference (0-1); below 0 where it is better."""
        return tuple(self.reference - score for score in self.seen)


def scores_since(evidence: Evidence) -> Scores | None:
    """The live scores since the last action that stands; None where none was measured."""
    recent = since_action(evidence.past)
    measured = (*(one.score for one in recent), evidence.score_retrieved.value)
    seen = tuple(score for score in measured if score is not None)
    if not seen:
        return None
    last = evidence.past[-len(recent) - 1] if len(recent) < len(evidence.past) else None
    after = None if last is None else _score_after(last)
    return Scores(seen[0] if after is None else after, seen)


def _score_after(last: Past) -> float | None:
    """The score right after an action, on the questions of its own cycle: before the data moved on."""
    if last.score is None or last.recovered_points is None:
        return None
    return min(1.0, max(0.0, last.score + last.recovered_points / 100))


# --- amounts -------------------------------------------------------------------------------------------------------


def new_example_share(evidence: Evidence) -> float | None:
    """The share of the examples that the live adapter never saw; None where that is not known."""
    if evidence.new_examples is None:
        return None
    return min(1.0, evidence.new_examples / max(1, evidence.examples))


# --- wording -------------------------------------------------------------------------------------------------------


def counted(number: int, noun: str) -> str:
    """The number with its noun: `1 cycle`, `2 cycles`."""
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def wish(half: Weighed, wanted: bool, because: str, had: str) -> Wish:
    """A wish for one half; `had` says what would have turned it round, as the clause after "had"."""
    would = "would not" if wanted else "would"
    return Wish(wanted, because, f"{half.action} {would} have been chosen had {had}")


def both(halves: Halves, wanted: bool, because: str, had: str) -> Choice:
    """The same wish for both halves: of a policy that cannot tell them apart."""
    return Choice(wish(halves.refresh, wanted, because, had), wish(halves.retrain, wanted, because, had))
