"""Reuse of the last decided cycle's evidence where nothing has changed since.

Evidence is a function of the data, the settings, the live release, the models and people's answers: where these are as
they were, measuring again would bring the same. What changes with time (hours spent, cool-down, past decisions, facts
that become due) is read again, and the decision made again, so an idle cycle reads no document and loads no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import ragtide
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.data.documents import DocumentReader
from ragtide.pipelines.data.formats.converter import converter_signature
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evidence.limits import read_limits
from ragtide.pipelines.history.approvals import read_approvals, read_rejections
from ragtide.pipelines.history.freshness import measure_freshness, read_source_times
from ragtide.pipelines.history.history import last_decided_cycle
from ragtide.pipelines.history.withheld import read_withheld
from ragtide.pipelines.index.chunking import CHUNKER
from ragtide.pipelines.models.load import embedder_identity
from ragtide.pipelines.models.prompts import FORM
from ragtide.pipelines.planning.due_facts import with_due_facts
from ragtide.pipelines.planning.plan import decide_on, make_plan, read_plan
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.base import json_digest
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.training.samples import SAMPLES_VERSION


@dataclass(frozen=True)
class CurrentPlan:
    """The plan for the data as it is now.

    `inputs` is the digest of all that its evidence depends on, besides the time; `measured_in` is the cycle whose
    evidence is reused, None where it was measured just now.
    """

    plan: Plan
    inputs: str
    measured_in: str | None = None


def make_current_plan(project: Project, snapshot: Snapshot, read: Callable[[Snapshot], Corpus]) -> CurrentPlan:
    """Decide about a snapshot, with the evidence of the last decided cycle where that is still true.

    Only where it is not, the corpus is `read` and the evidence measured. Changes neither data nor index nor registry.
    """
    inputs, history = digest_inputs(project, snapshot), project.registry.history()
    decided = last_decided_cycle(history)
    if decided is not None and decided.inputs == inputs:
        evidence = _updated_evidence(project, snapshot, decided, history)
        if evidence is not None:
            return CurrentPlan(decide_on(project, evidence), inputs, decided.measured_in or decided.name)
    return CurrentPlan(make_plan(project, read(snapshot)), inputs)


def digest_inputs(project: Project, snapshot: Snapshot) -> str:
    """A digest of everything that evidence about a snapshot depends on, besides the time; loads no weights.

    That is data, params, live release, models, people's answers, and the versions of this software.
    """
    workspace, release = project.workspace, project.registry.champion()
    model = project.current_model(release)
    answers = [*read_approvals(workspace), *read_rejections(workspace), *read_withheld(workspace)]
    return json_digest(
        [
            [snapshot.id, snapshot.unusable, workspace.params.digest(), release.id if release else None],
            [embedder_identity(workspace.params.embed, project.models.embedder), project.models.generator.base],
            [model.base, model.adapter],
            [answer.model_dump(mode="json") for answer in answers],
            [ragtide.__version__, converter_signature(), CHUNKER, FORM, SAMPLES_VERSION],
        ]
    )


def _updated_evidence(
    project: Project, snapshot: Snapshot, decided: Cycle, history: Sequence[Cycle]
) -> Evidence | None:
    """The evidence of a decided cycle with what time has changed; None where it must be measured again.

    That is where its plan is lost or of another version, or where a quarantined document is due to be read again.
    """
    workspace, now = project.workspace, datetime.now(UTC)
    evidence = _stored_evidence(project, decided)
    if evidence is None or evidence.limits.workload is None or _may_read_again(project, snapshot, evidence):
        return None
    source = read_source_times(workspace, snapshot, now)
    arrival = measure_freshness(source, project.registry.champion(), history, now)
    data = evidence.data.model_copy(update={"facts_are_due": False, "facts_due_by": None})
    sentences = evidence.text.substantive_sentences
    return evidence.model_copy(
        update={
            "data": with_due_facts(data, sentences, arrival.stale_since, workspace, now),
            "limits": read_limits(workspace, history, evidence.limits.workload, snapshot, now),
            "signal_seconds": {},
        }
    )


def _stored_evidence(project: Project, decided: Cycle) -> Evidence | None:
    with suppress(UserError):
        return read_plan(project, decided.plan).evidence
    return None


def _may_read_again(project: Project, snapshot: Snapshot, evidence: Evidence) -> bool:
    """Whether a document that could not be read would be tried again, or another one is quarantined by now."""
    reader = DocumentReader(project.workspace, snapshot)
    quarantined = {document.document: document.reason for document in reader.quarantined}
    return bool(reader.retries) or quarantined != evidence.data.quarantined
