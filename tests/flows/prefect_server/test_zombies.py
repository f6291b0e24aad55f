"""Is a run thought dead only when it has been silent for long? test_one_writer.py kills real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger

from ragtide.flows.prefect_server import deployment
from ragtide.flows.prefect_server.deployment import (
    BEAT,
    BEGIN_SECONDS,
    HEARTBEAT_SECONDS,
    SILENT_SECONDS,
    automations,
    ensure_automations,
)


@dataclass
class Server:
    """A Prefect server's automations; counts what is changed."""

    kept: list[Automation] = field(default_factory=list)
    changes: int = 0

    def read_automations_by_name(self, name: str) -> list[Automation]:
        return [one for one in self.kept if one.name == name]

    def create_automation(self, wanted: AutomationCore) -> None:
        self.changes += 1
        self.kept.append(Automation(id=uuid4(), **wanted.model_dump()))

    def update_automation(self, known: UUID, wanted: AutomationCore) -> None:
        self.changes += 1
        self.kept = [Automation(id=known, **wanted.model_dump()) if one.id == known else one for one in self.kept]

    def delete_automation(self, known: UUID) -> None:
        self.changes += 1
        self.kept = [one for one in self.kept if one.id != known]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()

    @contextmanager
    def connected() -> Iterator[Server]:
        yield found

    monkeypatch.setattr(deployment, "server_client", connected)
    return found


def test_the_automations_are_made_once_and_then_left_as_they_are(server: Server) -> None:
    for _ in range(3):
        ensure_automations()
    assert (len(server.kept), server.changes) == (2, 2)


def test_one_of_other_times_is_brought_up_to_date_under_its_own_id(server: Server) -> None:
    silent, never_began = automations()
    server.create_automation(silent.model_copy(update={"description": "of an older version"}))
    before = server.kept[0].id
    ensure_automations()
    assert server.kept[0].id == before
    assert [AutomationCore.model_validate(one.model_dump(exclude={"id"})) for one in server.kept] == [
        silent,
        never_began,
    ]


def test_a_double_goes(server: Server) -> None:
    for _ in range(2):
        server.create_automation(next(automations()))
    ensure_automations()
    assert len(server.kept) == 2


def test_a_beat_may_be_lost_and_a_dead_run_is_found_within_two_minutes() -> None:
    assert 2 * HEARTBEAT_SECONDS < SILENT_SECONDS < 120 - HEARTBEAT_SECONDS
    assert BEGIN_SECONDS < 120 - HEARTBEAT_SECONDS


def test_a_run_is_waited_for_by_itself_and_silent_by_right_once_it_has_ended_or_is_suspended() -> None:
    trigger = next(automations()).trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.after == {BEAT}
    assert trigger.for_each == {"prefect.resource.id"}
    ends = ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")
    assert trigger.expect == {BEAT, *(f"prefect.flow-run.{end}" for end in ends)}


def test_a_run_that_a_worker_took_must_begin_or_be_sent_back_to_wait() -> None:
    _, never_began = automations()
    trigger = never_began.trigger
    assert isinstance(trigger, EventTrigger)
    assert "prefect.flow-run.Submitting" in trigger.after
    assert {"prefect.flow-run.Running", "prefect.flow-run.AwaitingConcurrencySlot"} <= trigger.expect
    assert not trigger.after & trigger.expect
