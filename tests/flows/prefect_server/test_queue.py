"""Are those that wait answered by one later look at the data, and nobody else ever cancelled?"""

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
# What a run that waits for its turn looks like, and what makes it none that another may answer.
DUE = [{"name": "Late"}, {"name": "AwaitingConcurrencySlot"}, {"name": "Scheduled", "in_minutes": 0}]
NOT_ANSWERED = [
    {"name": "Scheduled", "in_minutes": 60},
    {"name": "Scheduled", "in_minutes": 0, "auto_scheduled": True},
    {"name": "Resuming"},
    {"name": "AwaitingRetry"},
    {"name": "AwaitingConcurrencySlot", "run_count": 1},
    {"name": "Late", "parameters": {"plan": "a1b2c3"}},
]


@dataclass
class Server:
    """A Prefect server with the runs of one deployment; counts what it is asked."""

    runs: list[FlowRun] = field(default_factory=list)
    asked: int = 0

    def read_flow_runs(self, flow_run_filter: Any, limit: int, offset: int) -> list[FlowRun]:
        self.asked += 1
        assert flow_run_filter.state.type.any_ == [StateType.SCHEDULED]
        return [run for run in self.runs if run.state and run.state.is_scheduled()][offset : offset + limit]

    def set_flow_run_state(self, run: UUID, state: State) -> None:
        [known] = [one for one in self.runs if one.id == run]
        known.state = state

    def ask(self, name: str, in_minutes: int = 0, **values: Any) -> FlowRun:
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
    usual = {"run": uuid4(), "name": "busy-bee", "deployment": uuid4(), "is_planned": False}
    return RunQueue(**(usual | values))


def message(run: FlowRun) -> str:
    assert run.state is not None
    return str(run.state.message)


@pytest.mark.parametrize("due", DUE, ids=lambda one: one["name"])
def test_of_those_that_wait_the_newest_stays_and_the_others_are_told_who_looks_for_them(
    due: dict[str, Any], server: Server
) -> None:
    runs = [server.ask(**due) for _ in range(5)]
    run_queue().thin()
    assert server.left == runs[-1:]
    assert {message(run) for run in server.cancelled} == {
        f"answered by {runs[-1].name}, which waits and looks at the data later"
    }


@pytest.mark.parametrize("other", NOT_ANSWERED, ids=str)
def test_who_is_not_due_or_has_begun_or_has_a_plan_is_left_alone(other: dict[str, Any], server: Server) -> None:
    before = server.ask(**other)
    server.ask("Late")
    newest = server.ask("Late")
    after = server.ask(**other)
    one = run_queue()
    one.thin()
    assert server.left == [before, newest, after]
    assert one.ids() == {newest.id}
    one.answer(frozenset(run.id for run in server.runs))
    assert server.left == [before, after]


@given(st.lists(st.sampled_from([*DUE, *NOT_ANSWERED]), max_size=12), st.integers(0, 12))
def test_however_many_ask_one_waits_and_who_asked_after_the_look_is_never_answered_by_it(
    asked: list[dict[str, Any]], looked_at: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        server, one = serving(Server(), patch), run_queue()
        early = [server.ask(**run) for run in asked[:looked_at]]
        with answer_queued(one):
            late = [server.ask(**run) for run in asked[looked_at:]]
            one.thin()
            answerable = one.ids()
            assert len(answerable) <= 1
    due_late = [run for run, what in zip(late, asked[looked_at:], strict=True) if what in DUE]
    stays = [run for run, what in zip([*early, *late], asked, strict=True) if what in NOT_ANSWERED]
    assert [run for run in server.left if run not in stays] == due_late[-1:]
    assert [run for run in server.left if run in stays] == stays


def test_a_queue_longer_than_a_page_is_seen_to_its_end(server: Server) -> None:
    runs = [server.ask("AwaitingConcurrencySlot") for _ in range(450)]
    run_queue().thin()
    assert server.left == runs[-1:]


def test_a_run_that_fails_answers_nobody(server: Server) -> None:
    run = server.ask("Late")
    with pytest.raises(ZeroDivisionError), answer_queued(run_queue()):
        raise ZeroDivisionError
    assert server.left == [run]


def test_a_run_with_a_plan_answers_nobody(server: Server) -> None:
    run = server.ask("Late")
    with answer_queued(run_queue(is_planned=True)):
        pass
    assert server.left == [run]


def test_who_is_answered_is_told_by_which_run(server: Server) -> None:
    run = server.ask("Late")
    one = run_queue()
    with answer_queued(one):
        assert server.left == [run]
    assert message(run) == f"answered by busy-bee ({one.run}), which has looked at the data since"


def test_a_run_without_a_deployment_has_no_queue_and_asks_no_server(server: Server) -> None:
    @flow
    def alone() -> RunQueue | None:
        with coalesce_queue() as none, answer_queued(none):
            return none

    assert alone() is None
    with coalesce_queue() as outside, answer_queued(outside):
        assert outside is None
    assert server.asked == 0


def test_a_deployed_run_thins_its_queue_as_long_as_it_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run = SimpleNamespace(id=uuid4(), name="busy-bee", deployment_id=uuid4(), parameters={"plan": None})
    monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(flow_run=run))
    monkeypatch.setattr(queue, "THIN_SECONDS", 0.01)
    with coalesce_queue() as one:
        assert one == RunQueue(run.id, "busy-bee", run.deployment_id, is_planned=False)
        runs = [server.ask("Late") for _ in range(3)]
        for _ in range(1000):
            if server.left == runs[-1:]:
                break
            queue.threading.Event().wait(0.01)
    assert server.left == runs[-1:]


def test_a_server_that_is_away_fails_no_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def away(_: object = None) -> None:
        raise UnavailableError("no Prefect server answers")

    monkeypatch.setattr(queue, "server_client", away)
    told: list[str] = []
    log = SimpleNamespace(warning=lambda form, *values: told.append(form % values))
    monkeypatch.setattr(queue, "get_run_logger", lambda: log)
    with answer_queued(run_queue()):
        pass
    assert told == ["cannot ask who waits: no Prefect server answers"]
