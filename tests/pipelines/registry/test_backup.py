"""Tests of the backups of MLflow's database: made after releases, bounded, and the way back from damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ragtide.pipelines.data.dvc import database_damage
from ragtide.pipelines.errors import UnavailableError, UserError
from ragtide.pipelines.registry.backup import KEPT_BACKUPS, back_up, backups, restore_backup
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.release.verify import repair_mismatches, verify_databases
from ragtide.pipelines.workspace import Workspace
from tests.factories import workspace
from tests.projects import forget_databases


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_start(path: Path) -> None:
    path.write_bytes(b"\0" * 200 + path.read_bytes()[200:])


def overwrite_pages(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as database:
        return [number for (number,) in database.execute("SELECT number FROM t ORDER BY number")]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A small database with a row that is not committed yet."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("CREATE TABLE t (number)")
        writer.execute("INSERT INTO t VALUES (1)")
        writer.commit()
    return path


def test_a_backup_is_whole_while_another_process_writes(database: Path) -> None:
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("INSERT INTO t VALUES (2)")
        back_up(database, "7")
    [backup] = backups(database)
    assert (backup.name, rows(backup), database_damage(backup)) == ("mlflow-release-7.db", [1], None)


def test_the_newest_backups_are_kept(database: Path) -> None:
    for number in (8, 9, 10, 11, 12):
        back_up(database, str(number))
    assert [backup.stem for backup in backups(database)] == [f"mlflow-release-{number}" for number in (12, 11, 10)]
    assert KEPT_BACKUPS == 3


def test_without_a_database_of_its_own_nothing_is_backed_up(tmp_path: Path) -> None:
    back_up(tmp_path / "mlflow.db", "1")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_backup_is_passed_over(database: Path) -> None:
    for number in ("1", "2"):
        back_up(database, number)
    overwrite_start(backups(database)[0])
    restore_backup(database)
    assert rows(database) == [1]
    overwrite_start(backups(database)[1])
    with pytest.raises(UserError):
        restore_backup(database)
    assert rows(database) == [1]


@pytest.fixture
def recorded(tmp_path: Path) -> Workspace:
    """A project with one recorded cycle, whose database is backed up."""
    project = workspace(tmp_path / "project")
    with Registry(project).cycle():
        pass
    back_up(project.mlflow_database, "1")
    forget_databases()
    return project


@pytest.mark.parametrize("damage", [truncate, overwrite_start, overwrite_pages, empty])
def test_a_damaged_database_names_the_way_back_and_repair_goes_it(
    damage: Callable[[Path], None], recorded: Workspace, tmp_path: Path
) -> None:
    damage(recorded.mlflow_database)
    damaged = recorded.mlflow_database.read_bytes()
    with pytest.raises(UnavailableError) as error:
        Registry(recorded).history()
    assert f"MLflow's database {recorded.mlflow_database} is damaged" in str(error.value)
    assert "`ragtide verify --repair` restores the backup" in str(error.value)

    forget_databases()
    mismatches = verify_databases(recorded, tmp_path / "prefect.db")
    assert [mismatch.where for mismatch in mismatches] == ["registry"]
    assert repair_mismatches(mismatches) == (mismatches, [])
    assert [cycle.name for cycle in Registry(recorded).history()] == ["cycle-0001"]
    assert verify_databases(recorded, tmp_path / "prefect.db") == []
    assert recorded.mlflow_database.with_name("mlflow.db.damaged").read_bytes() == damaged


def test_without_a_backup_nothing_is_replaced(recorded: Workspace, tmp_path: Path) -> None:
    backups(recorded.mlflow_database)[0].unlink()
    truncate(recorded.mlflow_database)
    before = recorded.mlflow_database.read_bytes()
    [mismatch] = verify_databases(recorded, tmp_path / "prefect.db")
    repaired, [(left, reason)] = repair_mismatches([mismatch])
    assert (repaired, left) == ([], mismatch)
    assert "no sound backup" in reason
    assert recorded.mlflow_database.read_bytes() == before


def test_a_damaged_database_of_prefect_is_set_aside(recorded: Workspace, database: Path) -> None:
    overwrite_start(database)
    [mismatch] = verify_databases(recorded, database)
    assert mismatch.where == "Prefect"
    repair_mismatches([mismatch])
    assert not database.exists()
    assert database.with_name(f"{database.name}.damaged").is_file()
