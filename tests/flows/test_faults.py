"""Tests of faults around a whole run: clocks, limits on files, a read-only state folder, damaged stores, services."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ragtide.flows.services import supervisor
from ragtide.pipelines.records.release import Outcome
from ragtide.pipelines.registry.backup import backups
from tests.crash import Point, end_group, start
from tests.factories import write
from tests.flows.test_outages import (
    NEW,
    PUMP,
    assert_one_error,
    assert_recovers,
    no_retries,
    outdated_project,
    ragtide,
    read_only,
)
from tests.projects import Home, forget_databases

__all__ = ["no_retries"]


# --- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_jumps_during_a_cycle_changes_nothing(
    days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow, Prefect and the records take the time from the clock, at any of their calls."""
    home = outdated_project(tmp_path / "project", policy={"budget_hours_per_week": 1.0, "cool_down_hours": 24.0})
    usual, started = time.time, time.monotonic()
    calls = iter(range(10**9))
    # Back and forth: every fiftieth look at the clock is on the other side of the jump.
    monkeypatch.setattr(time, "time", lambda: usual() + days * 86400 * (next(calls) // 50 % 2))
    code, out, err = ragtide(home.root, "run")
    assert code == 0, (out, err)
    assert next(calls) > 50
    monkeypatch.setattr(time, "time", usual)
    assert home.live.id == "2"
    assert home.project.ask(PUMP)[1].text == NEW
    assert ragtide(home.root, "status")[0] == 0
    assert ragtide(home.root, "verify")[0] == 0
    assert all(cycle.seconds >= 0 for cycle in home.project.registry.history())
    assert started < time.monotonic()


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_limit_on_the_size_of_files_in_training_is_one_line_and_the_refresh_stays_live(
    tmp_path: Path,
) -> None:
    home = outdated_project(tmp_path / "project", policy={"name": "always"})
    write(home.root / "data/train/t.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n')
    child = start("run", home.root, Point("before", "training"), "limit")
    try:
        output, _ = child.communicate(timeout=300)
    finally:
        end_group(child.pid)
    line = assert_one_error((child.returncode, "", output))
    assert "ulimit -f" in line
    assert_recovers(home, is_refreshed=True)


@pytest.mark.long
def test_a_read_only_state_folder_is_one_line_that_names_it(tmp_path: Path) -> None:
    home = outdated_project(tmp_path / "project")
    with read_only(home.root / ".ragtide"):
        for command in (["run"], ["plan"], ["verify"], ["rollback"], ["maintain"], ["approve", "0123456789ab"]):
            line = assert_one_error(ragtide(home.root, *command))
            assert ".ragtide" in line, line
        assert ragtide(home.root, "status")[0] == 0
    assert_recovers(home)


# --- damaged databases -----------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("command", ["status", "plan", "run", "history", "rollback", "maintain", "verify", "replay"])
def test_every_command_names_the_way_back_from_a_damaged_database(command: str, damaged: Callable[[], Home]) -> None:
    home = damaged()
    code, out, err = ragtide(home.root, command)
    said = out + err
    assert code == 1, said
    assert "mlflow.db" in said
    assert "`ragtide verify --repair` restores the backup" in " ".join(said.split())


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A project with a release and a backup of MLflow's database."""
    from ragtide.pipelines.registry.backup import back_up

    home = outdated_project(tmp_path_factory.mktemp("backed-up") / "project")
    back_up(home.project.workspace.mlflow_database, "1")
    return home


@pytest.fixture
def damaged(backed_up: Home) -> Callable[[], Home]:
    """A function that truncates MLflow's database."""

    def damage() -> Home:
        forget_databases()
        truncate(backed_up.project.workspace.mlflow_database)
        return backed_up

    return damage


def test_a_damaged_database_of_prefect_is_named_before_its_server_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = outdated_project(tmp_path / "project")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    database = write(tmp_path / "prefect" / "prefect.db", "no database " * 1000)
    assert f"{database} is damaged" in assert_one_error(ragtide(home.root, "run"))
    assert home.project.registry.running_cycles() == []
    assert ragtide(home.root, "verify", "--repair")[0] == 0
    assert not database.exists()


def test_repair_restores_the_database_and_all_commands_work_again(damaged: Callable[[], Home]) -> None:
    home = damaged()
    assert ragtide(home.root, "verify", "--repair")[0] == 0
    forget_databases()
    assert home.live.id == "1"
    assert backups(home.project.workspace.mlflow_database)
    assert ragtide(home.root, "status")[0] == 0


# --- services --------------------------------------------------------------------------------------------------------


def test_down_closes_the_record_of_a_run_that_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = outdated_project(tmp_path / "project")
    monkeypatch.setattr(supervisor, "stop_services", lambda _: ["worker"])
    registry = home.project.registry
    with registry.cycle(), home.project.workspace.write_lock():
        # A run that is still at work, on the command line for example, is left alone.
        assert ragtide(home.root, "down")[0] == 0
        assert [cycle.outcome for cycle in registry.running_cycles()] == [Outcome.RUNNING]
    killed = registry.cycle()
    killed.__enter__()
    assert ragtide(home.root, "down")[0] == 0
    last = registry.history()[-1]
    assert (last.outcome, last.detail) == (Outcome.INTERRUPTED, "`ragtide down`")
    killed.__exit__(None, None, None)
