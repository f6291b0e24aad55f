"""Queue of runs, coalesced: at most one running and one pending per project, however many triggers arrive.

A run reads the data when it starts to work, so a pending run will see every change that was triggered before; of many
pending runs the newest is enough. It stays until a run that read the data after it was requested has completed: where
that run is killed or fails, the pending one takes its place (invariant single-writer, docs/invariants.md;
docs/decisions/0017).
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.states import Cancelled

from ragtide.flows.prefect_server.client import server_client
from ragtide.flows.prefect_server.runs import current_run
from ragtide.pipelines.errors import UserError

# The interval at which the queue is coalesced while a run is active or waits for the project's lease.
COALESCE_SECONDS = 15.0
# A run that should start this soon after its creation was triggered; a later start comes from a schedule.
TRIGGERED_WITHIN = timedelta(minutes=1)
# States of a run that is due and has not started. A suspended or resumed run has another state, or has started.
DUE = ("Late", "AwaitingConcurrencySlot")


@dataclass(frozen=True)
class RunQueue:
    """The pending runs of one deployment, as seen by its active run, which has the id `run` and the name `name`.

    `is_planned`: the active run applies a given plan. It replaces no pending run, since it fails where the data has
    changed since.
    """

    run: UUID
    name: str
    deployment: UUID
    is_planned: bool

    def pending(self, server: SyncPrefectClient) -> list[FlowRun]:
        """The pending runs that a later read of the data makes unnecessary, oldest first."""
        conditions = {"deployment_id": {"any_": [self.deployment]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
        runs: list[FlowRun] = []
        while page := server.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(conditions), limit=200, offset=len(runs)
        ):
            runs += page
        return sorted(filter(_is_replaceable, runs), key=lambda run: (str(run.created), run.id))

    def coalesce(self) -> None:
        """Cancel all pending runs but the newest."""
        with server_client() as server:
            pending = self.pending(server)
            why = f"replaced by {pending[-1].name}, which is pending and will read the data later" if pending else ""
            _cancel(server, pending[:-1], why)

    def pending_ids(self) -> frozenset[UUID]:
        """The ids of the pending runs."""
        with server_client() as server:
            return frozenset(run.id for run in self.pending(server))

    def cancel_answered(self, requested: frozenset[UUID]) -> None:
        """Cancel those of `requested` that are still pending: the data was read after they were requested."""
        with server_client() as server:
            why = f"replaced by {self.name} ({self.run}), which read the data after this run was requested"
            _cancel(server, [run for run in self.pending(server) if run.id in requested], why)


@contextmanager
def coalesce_queue() -> Iterator[RunQueue | None]:
    """Keep at most one run pending while this one is active. None without a deployment, since there is no queue."""
    queue = _queue()
    if queue is None:
        yield None
        return
    finished = threading.Event()
    # Prefect finds the run's server through its context.
    context = contextvars.copy_context()
    arguments = (_coalesce_until, queue, finished)
    thread = threading.Thread(target=context.run, args=arguments, name="coalesce-queue", daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        finished.set()


@contextmanager
def answer_queued(queue: RunQueue | None) -> Iterator[None]:
    """Cancel the runs that are pending at the start, once the body, which reads the data, has completed."""
    if queue is None or queue.is_planned:
        yield
        return
    requested = frozenset[UUID]()
    with _best_effort("list the pending runs"):
        requested = queue.pending_ids()
    yield
    with _best_effort("cancel the pending runs that this run has answered"):
        if requested:
            queue.cancel_answered(requested)


def _queue() -> RunQueue | None:
    run = current_run()
    if run is None or run.deployment_id is None:
        return None
    return RunQueue(run.id, run.name, run.deployment_id, is_planned=run.parameters.get("plan") is not None)


def _is_replaceable(run: FlowRun) -> bool:
    """Whether a run is due, has never started, and applies no given plan.

    Does not use this machine's clock: the next scheduled run must stay, even where the clock is wrong.
    """
    if run.run_count > 0 or run.parameters.get("plan") is not None or run.state is None:
        return False
    if run.state.name in DUE:
        return True
    planned, created = run.expected_start_time, run.created
    was_triggered = planned is not None and created is not None and planned - created <= TRIGGERED_WITHIN
    return run.state.name == "Scheduled" and not run.auto_scheduled and was_triggered


def _cancel(server: SyncPrefectClient, runs: Sequence[FlowRun], why: str) -> None:
    for run in runs:
        server.set_flow_run_state(run.id, Cancelled(message=why))


def _coalesce_until(queue: RunQueue, finished: threading.Event) -> None:
    while not finished.wait(COALESCE_SECONDS):
        with _best_effort("cancel superseded pending runs"):
            queue.coalesce()


@contextmanager
def _best_effort(action: str) -> Iterator[None]:
    """Log errors of the server as a warning: a pending run that is not cancelled finds nothing new to do."""
    try:
        yield
    except (UserError, PrefectException, OSError) as problem:
        get_run_logger().warning("Prefect's server failed, so this run cannot %s: %s", action, problem)
