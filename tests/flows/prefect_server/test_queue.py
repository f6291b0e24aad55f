"""Tests of the run queue: pending runs are coalesced, and no other run is ever cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext

from ragtide.flows.prefect_server import queue
from ragtide.flows.prefect_server.queue import RunQueue, answer_queued, coalesce_queue
from ragtide.pipelines.errors import UnavailableError

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
# Pending runs that may be replaced by another run, and runs that may not.
DUE = [{"name": "Late"}, {"name": "AwaitingConcurrencySlot"}, {"name": "Scheduled", "in_minutes": 0}]
NOT_REPLACEABLE = [
    {"name": "Scheduled", "in_minutes": 60},
    {"name": "Scheduled", "in_minutes": 0, "auto_scheduled": True},
    {"name": "Resuming"},
    {"name": "AwaitingRetry"},
    {"name": "AwaitingConcurrencySlot", "run_count": 1},
    {"name": "Late", "parameters": {"plan": "a1b2c3"}},
]


@dataclass
class Server:
    """Fake of a Prefect server with the runs of one deployment that counts the requests."""

    runs: list[FlowRun] = field(default_factory=list)
    requests: int = 0

    def read_flow_runs(self, flow_run_filter: Any, limit: int, offset: int) -> list[FlowRun]:
        self.requests += 1
        assert flow_run_filter.state.type.any_ == [StateType.SCHEDULED]
        return [run for run in self.runs if run.state and run.state.is_scheduled()][offset : offset + limit]

    def set_flow_run_state(self, run: UUID, state: State) -> None:
        [changed] = [known for known in self.runs if known.id == run]
        changed.state = state

    def create(self, name: str, in_minutes: int = 0, **values: Any) -> FlowRun:
        """Create a run, a second after the one before it."""
        created = NOON + timedelta(seconds=len(self.runs))
        planned = created + timedelta(minutes=in_minutes)
        run = FlowRun(
            flow_id=uuid4(),
            created=created,
            expected_start_time=planned,
            state=State(type=StateType.SCHEDULED, name=name),
            **({"parameters": {"project": "."}} | values),
        )
        self.runs.append(run)
        return run

    @property
    def cancelled(self) -> list[FlowRun]:
        return [run for run in self.runs if run.state and run.state.is_cancelled()]

    @property
    def left(self) -> list[FlowRun]:
        return [run for run in self.runs if run not in self.cancelled]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return serving(Server(), monkeypatch)


def serving(server: Server, patch: pytest.MonkeyPatch) -> Server:
    @contextmanager
    def connected(_: object = None) -> Iterator[Server]:
        yield server

    patch.setattr(queue, "server_client", connected)
    return server


def run_queue(**values: Any) -> RunQueue:
    defaults = {"run": uuid4(), "name": "busy-bee", "deployment": uuid4(), "is_planned": False}
    return RunQueue(**(defaults | values))


def message(run: FlowRun) -> str:
    assert run.state is not None
    return str(run.state.message)


@pytest.mark.parametrize("due", DUE, ids=lambda run: run["name"])
def test_the_newest_pending_run_stays_and_the_others_name_it(due: dict[str, Any], server: Server) -> None:
    runs = [server.create(**due) for _ in range(5)]
    run_queue().coalesce()
    assert server.left == runs[-1:]
    assert all(runs[-1].name in message(run) for run in server.cancelled)


@pytest.mark.parametrize("other", NOT_REPLACEABLE, ids=str)
def test_a_run_that_is_not_due_or_has_started_or_applies_a_plan_is_kept(other: dict[str, Any], server: Server) -> None:
    before = server.create(**other)
    server.create("Late")
    newest = server.create("Late")
    after = server.create(**other)
    own = run_queue()
    own.coalesce()
    assert server.left == [before, newest, after]
    assert own.pending_ids() == {newest.id}
    own.cancel_answered(frozenset(run.id for run in server.runs))
    assert server.left == [before, after]


@given(st.lists(st.sampled_from([*DUE, *NOT_REPLACEABLE]), max_size=12), st.integers(0, 12))
def test_at_most_one_run_is_pending_and_none_requested_after_the_read_is_answered_by_it(
    requested: list[dict[str, Any]], read_after: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        server, own = serving(Server(), patch), run_queue()
        early = [server.create(**run) for run in requested[:read_after]]
        with answer_queued(own):
            late = [server.create(**run) for run in requested[read_after:]]
            own.coalesce()
            assert len(own.pending_ids()) <= 1
    due_late = [run for run, kind in zip(late, requested[read_after:], strict=True) if kind in DUE]
    stays = [run for run, kind in zip([*early, *late], requested, strict=True) if kind in NOT_REPLACEABLE]
    assert [run for run in server.left if run not in stays] == due_late[-1:]
    assert [run for run in server.left if run in stays] == stays


def test_all_pages_of_a_long_queue_are_read(server: Server) -> None:
    runs = [server.create("AwaitingConcurrencySlot") for _ in range(450)]
    run_queue().coalesce()
    assert server.left == runs[-1:]


def test_a_failed_run_answers_no_pending_run(server: Server) -> None:
    run = server.create("Late")
    with pytest.raises(ZeroDivisionError), answer_queued(run_queue()):
        raise ZeroDivisionError
    assert server.left == [run]


def test_a_run_that_applies_a_plan_answers_no_pending_run(server: Server) -> None:
    run = server.create("Late")
    with answer_queued(run_queue(is_planned=True)):
        pass
    assert server.left == [run]


def test_an_answered_run_names_the_run_that_answered_it(server: Server) -> None:
    run = server.create("Late")
    own = run_queue()
    with answer_queued(own):
        assert server.left == [run]
    assert f"busy-bee ({own.run})" in message(run)


def test_a_run_without_a_deployment_has_no_queue_and_sends_no_request(server: Server) -> None:
    @flow
    def alone() -> RunQueue | None:
        with coalesce_queue() as none, answer_queued(none):
            return none

    assert alone() is None
    with coalesce_queue() as outside, answer_queued(outside):
        assert outside is None
    assert server.requests == 0


def test_a_deployed_run_coalesces_its_queue_while_it_is_active(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run = SimpleNamespace(id=uuid4(), name="busy-bee", deployment_id=uuid4(), parameters={"plan": None})
    monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(flow_run=run))
    monkeypatch.setattr(queue, "COALESCE_SECONDS", 0.01)
    with coalesce_queue() as own:
        assert own == RunQueue(run.id, "busy-bee", run.deployment_id, is_planned=False)
        runs = [server.create("Late") for _ in range(3)]
        for _ in range(1000):
            if server.left == runs[-1:]:
                break
            queue.threading.Event().wait(0.01)
    assert server.left == runs[-1:]


def test_a_server_that_is_down_fails_no_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object = None) -> None:
        raise UnavailableError("no Prefect server answers")

    monkeypatch.setattr(queue, "server_client", fail)
    warnings: list[str] = []
    log = SimpleNamespace(warning=lambda form, *values: warnings.append(form % values))
    monkeypatch.setattr(queue, "get_run_logger", lambda: log)
    with answer_queued(run_queue()):
        pass
    assert len(warnings) == 1
    assert warnings[0].endswith("no Prefect server answers")
