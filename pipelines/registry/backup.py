"""Backups of MLflow's database on this machine: one after each release, of which the newest ones are kept.

The database holds every release, cycle and evaluation, and nothing else can tell which release was live.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from ragtide.pipelines.data.dvc import database_damage
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import make_folder

KEPT_BACKUPS = 3
# How SQLite describes a damaged file.
DAMAGED_DATABASE = ("malformed", "not a database")


def back_up(database: Path, release: str) -> None:
    """Copy a database by SQLite's online backup, which waits for writers, and delete the oldest copies.

    Does nothing where there is no such file. Raises UserError where the copy fails.
    """
    if not database.is_file():
        return
    target = _folder(database) / f"{database.stem}-release-{release}.db"
    unfinished = target.with_suffix(".tmp")
    try:
        make_folder(target.parent)
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(unfinished)) as copy:
            source.backup(copy)
        unfinished.replace(target)
        for old in backups(database)[KEPT_BACKUPS:]:
            old.unlink()
    except (OSError, sqlite3.Error) as problem:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise UserError(f"{database} was not backed up to {target} ({summarize_error(problem)})") from problem


def backups(database: Path) -> list[Path]:
    """The backups of a database, newest first."""
    return sorted(_folder(database).glob(f"{database.stem}-release-*.db"), key=_release_of, reverse=True)


def is_emptied(database: Path) -> bool:
    """Whether a database with backups is an empty file, which SQLite takes for a new database."""
    return database.is_file() and database.stat().st_size == 0 and bool(backups(database))


def restore_backup(database: Path) -> None:
    """Replace a damaged database by its newest sound backup; the damaged one is kept aside.

    Raises UserError where there is none.
    """
    for backup in backups(database):
        if database_damage(backup) is None:
            break
    else:
        raise UserError(f"{database} has no sound backup in {_folder(database)}: restore one of your own")
    unfinished = database.with_name(f"{database.name}.tmp")
    shutil.copyfile(backup, unfinished)
    set_database_aside(database)
    unfinished.replace(database)


def set_database_aside(database: Path) -> None:
    """Move a damaged database to a file beside it, with what SQLite keeps next to it."""
    for suffix in ("-journal", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.replace(database.with_name(f"{database.name}.damaged"))


def describe_way_back(database: Path) -> str:
    """What to do about a damaged database."""
    kept = backups(database)
    if not kept:
        return f"there is no backup in {_folder(database)}: restore one of your own"
    return f"`ragtide verify --repair` restores the backup {kept[0]}"


def _folder(database: Path) -> Path:
    return database.parent / "backups"


def _release_of(backup: Path) -> int:
    number = backup.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
