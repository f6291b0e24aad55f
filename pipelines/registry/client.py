"""MLflow client whose connection failures become an UnavailableError, for servers and databases alike."""

from __future__ import annotations

import os
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
from ragtide.pipelines.registry.backup import DAMAGED_DATABASE, describe_way_back, is_emptied

# MLflow's error codes for a missing model and for a missing alias.
NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
SQLITE = "sqlite:///"
# The variables with which a user gives MLflow's client credentials.
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
# How often MLflow tries to open a database: its default of 10 attempts takes 100 s without output, 4 take about 1 s.
DATABASE_ATTEMPTS = 4
# How long a process waits while another one creates the tables of a new database, which takes seconds.
OPENING_SECONDS = 120
# How much of a store's own message is quoted, in characters.
QUOTED_CHARACTERS = 200


class RegistryClient(MlflowClient):
    """MLflow's client, which can also log finished traces."""

    def log_traces(self, experiment: str, traces: Sequence[Trace]) -> None:
        """Log all spans in one request, then each trace in one of its own.

        A server older than MLflow 3.4 accepts none of them; the run's table `answers.json` holds the same rows.
        """
        client = TracingClient(self.tracking_uri)
        with suppress(NotImplementedError):
            client.log_spans(experiment, [span for trace in traces for span in trace.data.spans])
            for trace in traces:
                client.start_trace(trace.info)


class MlflowStore:
    """MLflow's client; raises UnavailableError where its server or database does not answer.

    `auth_file` has the password that was generated for the server, once it is started.
    """

    def __init__(self, address: str, auth_file: Path | None = None) -> None:
        self._address = address
        self._auth_file = auth_file

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            _use_password(self._auth_file)
            try:
                return getattr(self._client, name)(*arguments, **options)
            except (MlflowException, RequestException, DatabaseError) as problem:
                if _is_connection_failure(problem):
                    raise store_unavailable(self._address, problem) from problem
                raise

        return call

    @cached_property
    def _client(self) -> RegistryClient:
        if not self._address.startswith("http"):
            from mlflow.store.db import utils as databases

            databases.MAX_RETRY_COUNT = DATABASE_ATTEMPTS
        with _exclusive_opening(self._address):
            return RegistryClient(tracking_uri=self._address, registry_uri=self._address)


def _use_password(auth_file: Path | None) -> None:
    """Give MLflow's client, which reads it from the environment, the password in `auth_file` where none is set."""
    if auth_file is None or not os.environ.keys().isdisjoint(CREDENTIALS):
        return
    with suppress(OSError):
        user, _, password = auth_file.read_text(encoding="utf-8").strip().partition(":")
        os.environ.update({"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password})


@contextmanager
def _exclusive_opening(address: str) -> Iterator[None]:
    """Lock a SQLite database while it is opened: MLflow creates its tables, and two processes at once corrupt it."""
    if not address.startswith(SQLITE):
        yield
        return
    path = Path(address.removeprefix(SQLITE))
    lock = FileLock(f"{path}.lock", timeout=OPENING_SECONDS)
    # Where no lock file can be written, no table can be created either.
    with suppress(OSError):
        lock.acquire()
    try:
        _require_sqlite_file(path, address)
        yield
    finally:
        lock.release()


def _require_sqlite_file(path: Path, address: str) -> None:
    """Raise UnavailableError at once for a file that is not a SQLite database: MLflow would retry for a while."""
    if not path.exists():
        return
    if is_emptied(path):
        raise store_unavailable(address, sqlite3.DatabaseError("the file is empty, and not a database any more"))
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as problem:
        raise store_unavailable(address, problem) from problem


def _is_connection_failure(problem: Exception) -> bool:
    """Whether the store itself failed, as opposed to answering with an error."""
    cause = problem.__cause__ if isinstance(problem, MlflowException) else problem
    # Other database errors, such as a name that is taken, are answers.
    unreachable = isinstance(cause, OperationalError | RequestException) or type(cause) is DatabaseError
    message = str(problem)
    return unreachable or message.startswith("API request to") or "unsupported URI" in message


def store_unavailable(address: str, problem: Exception) -> UnavailableError:
    """Return the error for a store that does not answer, in one line and without the SQL statement."""
    message = summarize_error(problem).split(" [SQL:")[0][:QUOTED_CHARACTERS]
    if address.startswith(SQLITE) and any(text in message for text in DAMAGED_DATABASE):
        database = Path(address.removeprefix(SQLITE))
        return UnavailableError(f"MLflow's database {database} is damaged ({message}): {describe_way_back(database)}")
    return UnavailableError(
        f"MLflow at {address} does not answer: {message}; check that server or database, "
        "and registry.tracking_uri in params.yaml"
    )
