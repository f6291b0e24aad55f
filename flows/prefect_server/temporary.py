"""The temporary Prefect server of a command: its database, and its errors in one line each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ragtide.flows.environment import prefect_database
from ragtide.pipelines.data.dvc import database_damage
from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error

# How Prefect describes the end of a run by a signal.
ABORTED = "Execution was aborted by"


class ErrorLogFilter(logging.Filter):
    """Keeps Prefect from logging what the command reports in one line: user errors, and the end by a signal."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a record about a user error or a signal."""
        message = record.getMessage()
        return not any(text in message for text in (UserError.__name__, UnavailableError.__name__, ABORTED))


def require_sound_database() -> None:
    """Raise UserError where the server that this process will start could not open its database.

    The server itself would fail with a traceback, and Prefect would wait two minutes for it.
    """
    if "PREFECT_API_URL" not in os.environ and (damage := database_damage(prefect_database())):
        hint = "`ragtide verify --repair` moves it aside, and Prefect creates a new one"
        raise UserError(f"Prefect's database {prefect_database()} is damaged ({damage}): {hint}")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Raise UnavailableError if Prefect's server does not answer. What was completed by then is kept.

    Prefect's own logs of what the command reports in one line are filtered out.
    """
    from httpx import HTTPError

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(ErrorLogFilter())
    try:
        yield
    except (HTTPError, RuntimeError) as problem:
        message = summarize_error(problem)
        if not isinstance(problem, HTTPError) and "API" not in message:
            raise
        raise UnavailableError(
            f"Prefect's server does not answer: {message}; check PREFECT_API_URL, or run again"
        ) from problem
