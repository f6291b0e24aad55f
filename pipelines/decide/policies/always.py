"""What if everything was done each time that anything moved? The dearest baseline, and the freshest."""

from __future__ import annotations

from pipelines.decide.choice import Choice, Halves
from pipelines.decide.policies.since import both, counted
from pipelines.params import PolicyParams
from pipelines.records import Evidence


class Always:
    """Refresh and retrain in each cycle in which a document, an example or a question is another one.

    The model is trained where only documents moved, too: that is what "always" means. The usual baseline of the papers
    on retraining (Mahadevan & Mathioudakis 2024, "Cost-aware retraining for machine learning").
    """

    def choose(self, evidence: Evidence, halves: Halves, params: PolicyParams) -> Choice:  # noqa: ARG002 - at any price
        moved = _moved(evidence)
        if moved:
            return both(halves, True, f"{moved} since the live release", "nothing changed since the live release")
        because = "nothing changed since the live release"
        return both(halves, False, because, "a document, an example or a question changed")


def _moved(evidence: Evidence) -> str | None:
    """What is another thing now than in the live release, in plain words; None where nothing is."""
    changes = evidence.changes
    documents = sum(map(len, (changes.added, changes.edited, changes.renamed, changes.removed)))
    moved = [counted(documents, "document")] if documents else []
    moved += ["the examples"] if changes.examples_changed else []
    moved += ["the questions"] if changes.questions_changed else []
    if moved:
        return f"{' and '.join(moved)} changed"
    return None if evidence.delta.is_empty else "what the index should hold changed"
