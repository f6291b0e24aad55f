"""Which of the waiting runs does this one answer? One runs and one waits, however many triggers come.

Correct by construction: a run looks at the data when it begins to work, so a run that waits will see whatever was asked
for before; of many that wait, the newest is enough. It is kept until a run that looked later than it was asked for has
come to its end: where that one is killed, or fails, the one that waits makes up for it (docs/decisions/0017).
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

# How often the queue is looked at while a run is at work or waits for the project.
THIN_SECONDS = 15.0
# A run that was to begin so soon after it was asked for was asked for at once; later is a schedule's.
AT_ONCE = timedelta(minutes=1)
# States of a run whose time has come, and that has not begun. A suspended or resumed run is none of them, or has begun.
DUE = ("Late", "AwaitingConcurrencySlot")


@dataclass(frozen=True)
class RunQueue:
    """The runs of one deployment that wait, as the run of that id and name sees them.

    A run that carries out a plan `is_planned`: it answers nobody, since it may refuse to do what others were asked for.
    """

    run: UUID
    name: str
    deployment: UUID
    is_planned: bool

    def waiting(self, server: SyncPrefectClient) -> list[FlowRun]:
        """The runs that any later look at the data answers, oldest first."""
        filtered = {"deployment_id": {"any_": [self.deployment]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
        found: list[FlowRun] = []
        while page := server.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(filtered), limit=200, offset=len(found)
        ):
            found += page
        return sorted(filter(_can_be_answered, found), key=lambda run: (str(run.created), run.id))

    def thin(self) -> None:
        """Of those that wait, the newest stays."""
        with server_client() as server:
            waiting = self.waiting(server)
            why = f"answered by {waiting[-1].name}, which waits and looks at the data later" if waiting else ""
            _cancel(server, waiting[:-1], why)

    def ids(self) -> frozenset[UUID]:
        """Who waits now."""
        with server_client() as server:
            return frozenset(run.id for run in self.waiting(server))

    def answer(self, asked: frozenset[UUID]) -> None:
        """Cancel those of `asked` that still wait: the data was looked at after they were asked for."""
        with server_client() as server:
            why = f"answered by {self.name} ({self.run}), which has looked at the data since"
            _cancel(server, [run for run in self.waiting(server) if run.id in asked], why)


@contextmanager
def coalesce_queue() -> Iterator[RunQueue | None]:
    """While this run goes on, at most one other waits. None for a run without a deployment, which has no queue."""
    queue = _queue()
    if queue is None:
        yield None
        return
    over = threading.Event()
    # Prefect knows by its context which server a run belongs to.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(_keep_thin, queue, over), name="one-waits", daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        over.set()


@contextmanager
def answer_queued(queue: RunQueue | None) -> Iterator[None]:
    """Inside, the data is looked at: whoever waits already is answered, once the work has come to a good end."""
    if queue is None or queue.is_planned:
        yield
        return
    asked = frozenset[UUID]()
    with _at_best("ask who waits"):
        asked = queue.ids()
    yield
    with _at_best("tell those that wait"):
        if asked:
            queue.answer(asked)


def _queue() -> RunQueue | None:
    run = current_run()
    if run is None or run.deployment_id is None:
        return None
    return RunQueue(run.id, run.name, run.deployment_id, is_planned=run.parameters.get("plan") is not None)


def _can_be_answered(run: FlowRun) -> bool:
    """Whether a run is due, has never begun, and is to look at the data rather than to carry out a plan.

    No clock of this machine is asked: a run of next night must stay, whatever time it is here.
    """
    if run.run_count > 0 or run.parameters.get("plan") is not None or run.state is None:
        return False
    if run.state.name in DUE:
        return True
    planned, created = run.expected_start_time, run.created
    asked_at_once = planned is not None and created is not None and planned - created <= AT_ONCE
    return run.state.name == "Scheduled" and not run.auto_scheduled and asked_at_once


def _cancel(server: SyncPrefectClient, runs: Sequence[FlowRun], why: str) -> None:
    for run in runs:
        server.set_flow_run_state(run.id, Cancelled(message=why))


def _keep_thin(queue: RunQueue, over: threading.Event) -> None:
    while not over.wait(THIN_SECONDS):
        with _at_best("thin the queue"):
            queue.thin()


@contextmanager
def _at_best(what: str) -> Iterator[None]:
    """A server that is away must fail no run: those that wait are answered by themselves, only later."""
    try:
        yield
    except (UserError, PrefectException, OSError) as problem:
        get_run_logger().warning("cannot %s: %s", what, problem)
