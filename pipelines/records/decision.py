"""Which nouns does Ragtide speak of? Frozen records, written and read as versioned JSON.

The vocabulary is the same in the code, on the command line, in MLflow and in the documentation.
"""

from __future__ import annotations

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import Record, json_digest
from ragtide.pipelines.records.evidence import Evidence


class Approval(Record):
    """Leave for what one plan holds back; it covers that and nothing else.

    `removals` are documents (document -> digest); `action` is what costs more than the limit, for `snapshot` alone.
    """

    plan: str
    removals: dict[str, str]
    why: str
    at: str
    action: Action | None = None
    snapshot: str | None = None


class Rejection(Record):
    """A person's no to what one plan holds back.

    `removals` are documents (document -> digest) that are to stay; `actions` are not to be proposed again for
    `snapshot` under `params`.
    """

    plan: str
    removals: dict[str, str]
    actions: tuple[Action, ...]
    snapshot: str
    params: str
    why: str
    at: str


class Option(Record):
    """One action with what it is expected to bring (points of answer score, 0-100, with its interval) and to cost.

    `gap_points` is what the golden questions say it could win back, before what such actions have really brought so
    far is taken off. `cost_money` is in the currency of params.yaml, None where no price is set.
    """

    action: Action
    gain_points: float | None
    gain_points_low: float | None
    gain_points_high: float | None = None
    gap_points: float | None = None
    cost_seconds: float
    cost_money: float | None = None
    points_per_hour: float | None
    worth_it: bool
    because: str


class Decision(Record):
    """What to do, why, and what would have changed it. Same evidence and params, same decision to the byte.

    `proposed` is what a HOLD waits for, or what waits beside an action that goes ahead; `explanation` is one paragraph
    in plain words, `lacks` names the signals that could not be measured, and why.
    """

    action: Action
    policy: str = "evidence"
    proposed: Action | None = None
    explanation: str = ""
    reasons: tuple[str, ...]
    options: tuple[Option, ...]
    counterfactuals: tuple[str, ...]
    unmeasured_signals: tuple[str, ...] = ()


class Plan(Record):
    """A decision and the world that it was made for; `ragtide run --plan DIGEST` refuses when that world has moved."""

    evidence: Evidence
    decision: Decision
    params: str

    @property
    def deletions_to_approve(self) -> dict[str, str]:
        """The documents (document -> digest) whose removal waits for a person's answer."""
        return {} if self.evidence.deletions_rejected_reason else self.evidence.pending_deletions

    @property
    def needs_approval(self) -> bool:
        """Whether a person is to say yes or no to something."""
        return bool(self.deletions_to_approve) or self.decision.proposed is not None

    def approval_digest(self) -> str:
        """A digest of what is asked for: plans with the same one are answered by the same yes or no."""
        proposed = self.decision.proposed
        return json_digest([self.deletions_to_approve, str(proposed), self.evidence.snapshot if proposed else None])

    def content_digest(self) -> str:
        """The same world and the same decision, the same digest: however long it took to measure."""
        return json_digest(self.model_dump(mode="json", exclude={"evidence": {"signal_seconds"}}))
