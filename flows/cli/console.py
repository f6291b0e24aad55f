"""What do all commands share? Where they print, how a refusal is told, and which project they are for."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from ragtide.pipelines.errors import UserError, summarize_error

out = Console()
err = Console(stderr=True)
ProjectFolder = Annotated[Path, typer.Option("--project", "-p", help="The project's folder.", envvar="RAGTIDE_PROJECT")]
Port = Annotated[int, typer.Option("--port", help="On which port of this machine.", min=1, max=65535)]
HERE = Path()
LONGEST_LINE = 2000
# Set to anything, it shows the traceback of a defect in place of the file that keeps it.
TRACEBACKS = "RAGTIDE_TRACEBACKS"
# What a disk, a folder's rights or the name of a file forbid: for whoever runs the machine, and no defect of Ragtide.
OF_THE_MACHINE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENFILE,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def report_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a RefusalError, or what the machine refuses, into one clear line and exit code 1.

    So is a defect told, whose traceback is kept for the report.
    """

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            _refuse_broken_text(options)
            command(*arguments, **options)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except UserError as problem:
            exit_with_error(str(problem))
        except OSError as problem:
            if problem.errno not in OF_THE_MACHINE:
                raise
            exit_with_error(f"{problem.filename or 'the machine'}: {summarize_error(problem)}")
        except Exception as problem:
            kept = _keep_traceback(options.get("project"))
            if kept is None:
                raise
            what = f"this is a defect in Ragtide: {type(problem).__name__}: {summarize_error(problem)}"
            exit_with_error(f"{what}; please report it with its traceback, which is in {kept}")

    return wrapped


def _keep_traceback(project: object) -> Path | None:
    """Where the traceback of the error at hand now lies; None where it is wanted on the terminal, or has no place."""
    if os.environ.get(TRACEBACKS) or not isinstance(project, Path) or not (project / ".ragtide").is_dir():
        return None
    # The records take a tenth of a second to import, which every command would pay.
    from ragtide.pipelines.records.base import write_text_atomically

    path = project / ".ragtide" / "logs" / f"defect-{datetime.now(UTC):%Y%m%dT%H%M%S}.txt"
    try:
        write_text_atomically(path, traceback.format_exc())
    except OSError:
        return None
    return path


def _refuse_broken_text(options: Mapping[str, object]) -> None:
    """Neither MLflow nor Prefect nor a file keeps what is no UTF-8."""
    for name, value in options.items():
        if isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
            raise UserError(f"{name}: {value!r} is not UTF-8")


def exit_with_error(what: str) -> NoReturn:
    """End with one line and exit code 1; what would break the line, or cannot be shown, is escaped."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in what)
    shown = shown if len(shown) <= LONGEST_LINE else f"{shown[:LONGEST_LINE]}…"
    err.print(f"[bold red]ragtide:[/] {escape_markup(shown)}", soft_wrap=True, highlight=False)
    raise typer.Exit(1) from None


def escape_markup(text: str) -> str:
    """`text` as it is, where rich would read markup in it; bytes of a name that are no UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("[", r"\[")
