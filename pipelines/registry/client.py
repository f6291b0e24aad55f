"""What was tried and what is live? The only door to MLflow: runs, datasets, the model registry and its one pointer.

A release is a version of the registered model; the alias `champion` is the one pointer that says which is live. Each
turn of the loop is a run, its steps are nested runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient
from mlflow.tracking import MlflowClient
from requests.exceptions import RequestException
from sqlalchemy.exc import DatabaseError, OperationalError

from ragtide.pipelines.errors import UnavailableError, summarize_error

# What MLflow's stores say of a model that is not there, and of an alias that is not there.
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
ALREADY_THERE = "RESOURCE_ALREADY_EXISTS"
# How often MLflow tries to open a database: its own 10 times take 100 s in silence, these one.
DATABASE_TRIES = 4
# How long one waits while another makes the tables of a new database; it takes seconds.
OPENING_SECONDS = 120


class RegistryClient(MlflowClient):
    """MLflow's client, which also takes traces that are whole already."""

    def log_traces(self, experiment: str, traces: Sequence[Trace]) -> None:
        """All spans in one request, then a request a trace. A server before 3.4 takes none: the table has the rows."""
        client = TracingClient(self.tracking_uri)
        with suppress(NotImplementedError):
            client.log_spans(experiment, [span for one in traces for span in one.data.spans])
            for one in traces:
                client.start_trace(one.info)


class MlflowStore:
    """MLflow's client, with its store's troubles told as an UnavailableError: a server or a database that is away."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any, **options: Any) -> Any:
            try:
                return getattr(self._client, name)(*arguments, **options)
            except (MlflowException, RequestException, DatabaseError) as problem:
                if _is_the_stores(problem):
                    raise store_unavailable(self._address, problem) from problem
                raise

        return ask

    @cached_property
    def _client(self) -> RegistryClient:
        if not self._address.startswith("http"):
            from mlflow.store.db import utils as databases

            databases.MAX_RETRY_COUNT = DATABASE_TRIES
        with _opening(self._address):
            return RegistryClient(tracking_uri=self._address, registry_uri=self._address)


@contextmanager
def _opening(address: str) -> Iterator[None]:
    """Be the only one who opens a SQLite database: MLflow makes the tables of a new one, and two at once break it."""
    if not address.startswith("sqlite:///"):
        yield
        return
    path = Path(address.removeprefix("sqlite:///"))
    lock = FileLock(f"{path}.lock", timeout=OPENING_SECONDS)
    # Where no lock can be written, no table can be made either.
    with suppress(OSError):
        lock.acquire()
    try:
        _refuse_other_files(path, address)
        yield
    finally:
        lock.release()


def _refuse_other_files(path: Path, address: str) -> None:
    """What is no database is not to be tried at all."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as problem:
        raise store_unavailable(address, problem) from problem


def _is_the_stores(problem: Exception) -> bool:
    """Whether it is the store that failed, and not what was asked of it."""
    cause = problem.__cause__ if isinstance(problem, MlflowException) else problem
    # Others of the database's errors, such as that a name is taken, are answers.
    is_away = isinstance(cause, OperationalError | RequestException) or type(cause) is DatabaseError
    said = str(problem)
    return is_away or said.startswith("API request to") or "unsupported URI" in said


def store_unavailable(address: str, problem: Exception) -> UnavailableError:
    """A store that does not answer, in one line without the statement that it was asked."""
    said = summarize_error(problem).split(" [SQL:")[0][:200]
    return UnavailableError(f"MLflow at {address} does not answer as it should: {said}")
