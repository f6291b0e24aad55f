"""Decisions, the plans that hold them, and people's answers to a plan."""

from __future__ import annotations

from pydantic import Field

from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.base import Record, json_digest
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.reason import Reason


class Approval(Record):
    """A person's approval of what one plan holds back; it covers that and nothing else.

    `removals` are documents to delete, `documents` withheld ones to release (document -> digest); `action` is what
    costs more than the limit, for `snapshot` alone; `questions` are golden ones that may become stale.
    """

    plan: str
    removals: dict[str, str]
    why: str
    at: str
    action: Action | None = None
    snapshot: str | None = None
    documents: dict[str, str] = Field(default_factory=dict)
    questions: tuple[str, ...] = ()


class Rejection(Record):
    """A person's rejection of what one plan holds back.

    `removals` are documents that are to stay, `documents` withheld ones that are not to be released (document ->
    digest); `actions` are not to be proposed again for `snapshot` under `params`.
    """

    plan: str
    removals: dict[str, str]
    actions: tuple[Action, ...]
    snapshot: str
    params: str
    why: str
    at: str
    documents: dict[str, str] = Field(default_factory=dict)


class Option(Record):
    """One action, its expected gain (points of answer score, 0-100, with its interval), its cost, and why.

    `gap_points` is what the golden questions say that it could gain, before past gains of such actions are considered.
    `cost_money` is in the currency of params.yaml, None where no price is set. `counterfactual` says what would have
    changed `worth_it`.
    """

    action: Action
    gain_points: float
    gain_points_low: float | None
    gain_points_high: float | None = None
    gap_points: float | None = None
    cost_seconds: float
    cost_money: float | None = None
    points_per_hour: float | None
    worth_it: bool
    reasons: tuple[Reason, ...]
    counterfactual: Reason | None = None


class Decision(Record):
    """What to do. Each option says why it is worth it or not; the same evidence and params give the same bytes.

    `proposed` is what a HOLD waits for, or what waits beside an action that goes ahead. `reasons` are what an operator
    should know besides; `unmeasured_signals` maps the signals that could not be measured to why.
    """

    action: Action
    policy: str = "evidence"
    proposed: Action | None = None
    reasons: tuple[Reason, ...] = ()
    options: tuple[Option, ...]
    unmeasured_signals: dict[str, str] = Field(default_factory=dict)

    @property
    def component_options(self) -> tuple[Option, ...]:
        """The options on one component: no NOTHING, and none that joins the index with the model."""
        return tuple(option for option in self.options if option.action.builds and not option.action.is_joint)

    def option(self, action: Action) -> Option | None:
        """The option with this action; None where there is none, as for HOLD."""
        return next((option for option in self.options if option.action == action), None)

    @property
    def chosen(self) -> Option | None:
        """The option that was decided for; None where nothing is built."""
        return self.option(self.action) if self.action.builds else None


class Plan(Record):
    """A decision and its evidence; `ragtide run --plan DIGEST` fails where data, params or the live release changed."""

    evidence: Evidence
    decision: Decision
    params: str

    @property
    def deletions_to_approve(self) -> dict[str, str]:
        """The documents (document -> digest) whose deletion waits for a person's answer."""
        data = self.evidence.data
        return {} if data.deletions_rejected_reason else data.pending_deletions

    @property
    def documents_to_approve(self) -> dict[str, str]:
        """The withheld documents (document -> digest) whose release waits for a person's answer."""
        data = self.evidence.data
        return {} if data.withheld_rejected_reason else data.withheld

    @property
    def needs_approval(self) -> bool:
        """Whether a person is to approve or reject something."""
        return bool(self.deletions_to_approve or self.documents_to_approve) or self.decision.proposed is not None

    def approval_digest(self) -> str:
        """A digest of what is asked for: one answer covers all plans with the same one."""
        proposed = self.decision.proposed
        return json_digest(
            [
                self.deletions_to_approve,
                self.documents_to_approve,
                str(proposed),
                self.evidence.data.snapshot if proposed else None,
            ]
        )

    def content_digest(self) -> str:
        """A digest of the evidence and the decision, however long measuring took."""
        return json_digest(self.model_dump(mode="json", exclude={"evidence": {"signal_seconds"}}))
