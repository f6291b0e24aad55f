"""Wording of decisions and outcomes: every sentence about them, from codes and numbers.

The terminal, Markdown, HTML, Prefect and MLflow all show the sentences of this module.
"""

from __future__ import annotations

from ragtide.pipelines.records.release import Cycle, Outcome


def describe_outcome(cycle: Cycle) -> str:
    """What came of a cycle, in one clause."""
    words = {
        Outcome.RUNNING: "running",
        Outcome.RELEASED: f"release {cycle.release}",
        Outcome.REJECTED: f"rejected by the gate: {cycle.detail}",
        Outcome.NOTHING: "nothing to do",
        Outcome.HELD: f"pending approval: `ragtide approve {cycle.plan}`",
        Outcome.FAILED: f"failed: {cycle.detail}",
        Outcome.KILLED: "killed",
        Outcome.ROLLED_BACK: f"release {cycle.release} is live again",
    }
    return words[cycle.outcome]
