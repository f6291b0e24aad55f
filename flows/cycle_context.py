"""Context of one cycle: the project held for writing, its MLflow run, the live release, and what was done so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from prefect import get_run_logger

from ragtide.flows.cycle_log import StepLogs
from ragtide.flows.prefect_server.queue import RunQueue, answer_queued, coalesce_queue
from ragtide.flows.prefect_server.runs import current_run, run_url
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.history import costs
from ragtide.pipelines.history.withheld import read_withheld
from ragtide.pipelines.lease import Lease
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot, WithheldDocument
from ragtide.pipelines.records.release import BuiltEmbedder, PartOutcome, Release
from ragtide.pipelines.registry.runs import RunLog
from ragtide.pipelines.workspace import Workspace

# The seconds of an action, step by step.
SECONDS = (costs.TUNE_SECONDS, costs.INDEX_SECONDS, costs.TRAIN_SECONDS, costs.PROVE_SECONDS)
# A deployed run that has waited this long for the project fails, and the next trigger starts another.
WAIT_SECONDS = 6 * 3600.0


@dataclass
class CycleContext:
    """One cycle: the project, its MLflow run, the live release, the data once it has been read, and the work done.

    `live` is the release that is live now: each part of the action that goes live replaces it. `outcomes` are those of
    the parts so far; `left_out` are parts that were decided and not carried out, with the reason. `withheld_before` is
    the list of withheld documents at the start, once the cycle has withheld others.
    """

    project: Project
    log: RunLog
    lease: Lease
    live: Release | None
    corpora: dict[str, Corpus] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    outcomes: list[PartOutcome] = field(default_factory=list)
    left_out: dict[Action, str] = field(default_factory=dict)
    withheld_before: tuple[WithheldDocument, ...] | None = None

    def logs(self, step: RunLog) -> StepLogs:
        """The logs of a step, which add its work to that of the cycle."""
        return StepLogs(step, self.log, self.work)

    @property
    def tuned_embedder(self) -> BuiltEmbedder | None:
        """The tuned embedder that is live, if one is."""
        return self.live.index.tuned_embedder if self.live else None

    @property
    def waits_for_a_person(self) -> bool:
        """Whether documents were withheld in this cycle, and nothing went live besides what was deleted."""
        return bool(self.newly_withheld) and not self.is_released

    @property
    def is_released(self) -> bool:
        """Whether a part went live; that deleted documents left the index is none."""
        return any(part.release for part in self.outcomes if part.action != Action.REMOVE)

    @property
    def newly_withheld(self) -> list[str]:
        """The documents that this cycle has withheld."""
        if self.withheld_before is None:
            return []
        now = read_withheld(self.project.workspace)
        return [entry.document for entry in now if entry not in self.withheld_before]

    @property
    def seconds(self) -> float:
        """The seconds of tuning, index, training and proof so far."""
        return sum(self.work.get(key, 0.0) for key in SECONDS)

    def read(self, snapshot: Snapshot) -> Corpus:
        """The corpus of a snapshot, read once a cycle."""
        if snapshot.id not in self.corpora:
            self.corpora[snapshot.id] = self.project.corpus(snapshot, keep=True)
        return self.corpora[snapshot.id]


@contextmanager
def open_cycle(project: Project, revision: str | None = None) -> Iterator[CycleContext]:
    """Hold the project for writing and open the cycle's MLflow run, with the `revision` that a trigger named."""
    with (
        coalesce_queue() as queue,
        _write_lease(project.workspace, queue) as lease,
        answer_queued(queue),
        project.registry.cycle() as log,
    ):
        log.tags({"trigger_rev": revision} if revision else {})
        log.tags({"prefect_run": address} if (address := run_url(current_run())) else {})
        log.params(project.workspace.params.model_dump(mode="json"))
        _close_killed(project, log)
        yield CycleContext(project, log, lease, project.registry.champion())


def _close_killed(project: Project, log: RunLog) -> None:
    """Cycles recorded as running were killed: this one holds the project, and no rollback holds the pointer."""
    with project.registry.pointer_lock():
        for cycle in project.registry.running_cycles():
            if cycle.run != log.id:
                project.registry.close_killed(cycle)


def _write_lease(workspace: Workspace, queue: RunQueue | None) -> AbstractContextManager[Lease]:
    """A deployed run waits for the writer at work; a command fails at once."""
    if queue is None:
        return workspace.write_lock()
    return workspace.write_lock(WAIT_SECONDS, f"flow run {queue.name}", get_run_logger().warning)
