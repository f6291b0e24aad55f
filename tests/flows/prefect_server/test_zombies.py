"""Tests of the automations that mark dead runs as Crashed; test_one_writer.py kills real runs."""

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
    SILENT_SECONDS,
    automations,
    ensure_automations,
)
from ragtide.flows.services.settings import HEARTBEAT_SECONDS


@dataclass
class Server:
    """Fake of a Prefect server's automations that counts the changes."""

    kept: list[Automation] = field(default_factory=list)
    changes: int = 0

    def read_automations_by_name(self, name: str) -> list[Automation]:
        return [automation for automation in self.kept if automation.name == name]

    def create_automation(self, wanted: AutomationCore) -> None:
        self.changes += 1
        self.kept.append(Automation(id=uuid4(), **wanted.model_dump()))

    def update_automation(self, known: UUID, wanted: AutomationCore) -> None:
        self.changes += 1
        updated = Automation(id=known, **wanted.model_dump())
        self.kept = [updated if automation.id == known else automation for automation in self.kept]

    def delete_automation(self, known: UUID) -> None:
        self.changes += 1
        self.kept = [automation for automation in self.kept if automation.id != known]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()

    @contextmanager
    def connected() -> Iterator[Server]:
        yield server

    monkeypatch.setattr(deployment, "server_client", connected)
    return server


def test_the_automations_are_created_once(server: Server) -> None:
    for _ in range(3):
        ensure_automations()
    assert (len(server.kept), server.changes) == (2, 2)


def test_an_outdated_automation_is_updated_under_its_id(server: Server) -> None:
    silent, never_started = automations()
    server.create_automation(silent.model_copy(update={"description": "of an older version"}))
    before = server.kept[0].id
    ensure_automations()
    assert server.kept[0].id == before
    current = [AutomationCore.model_validate(automation.model_dump(exclude={"id"})) for automation in server.kept]
    assert current == [silent, never_started]


def test_a_duplicate_is_deleted(server: Server) -> None:
    for _ in range(2):
        server.create_automation(next(automations()))
    ensure_automations()
    assert len(server.kept) == 2


def test_one_heartbeat_may_be_lost_and_a_dead_run_is_found_within_two_minutes() -> None:
    assert 2 * HEARTBEAT_SECONDS < SILENT_SECONDS < 120 - HEARTBEAT_SECONDS
    assert BEGIN_SECONDS < 120 - HEARTBEAT_SECONDS


def test_each_run_is_watched_until_it_has_ended_or_is_suspended() -> None:
    trigger = next(automations()).trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.after == {BEAT}
    assert trigger.for_each == {"prefect.resource.id"}
    ends = ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")
    assert trigger.expect == {BEAT, *(f"prefect.flow-run.{end}" for end in ends)}


def test_a_run_that_a_worker_took_must_start_or_be_queued_again() -> None:
    _, never_started = automations()
    trigger = never_started.trigger
    assert isinstance(trigger, EventTrigger)
    assert "prefect.flow-run.Submitting" in trigger.after
    assert {"prefect.flow-run.Running", "prefect.flow-run.AwaitingConcurrencySlot"} <= trigger.expect
    assert not trigger.after & trigger.expect
