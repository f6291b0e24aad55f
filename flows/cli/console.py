"""Parts that all commands share: consoles, common options, JSON output and error reporting."""

from __future__ import annotations

import errno
import inspect
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from contextvars import ContextVar
from dataclasses import is_dataclass
from datetime import UTC, datetime
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from rich.console import RenderableType
from rich.text import Text

from ragtide.flows.terminal import SafeConsole, make_logs_safe
from ragtide.pipelines.safe_text import escape_controls, escape_json, format_traceback, mask_secrets

if TYPE_CHECKING:
    from ragtide.pipelines.records.decision import Plan

out = SafeConsole()
err = SafeConsole(stderr=True)
HERE = Path()
ProjectFolder = Annotated[
    Path, typer.Option("--project", "-p", help="Folder of the project.", envvar="RAGTIDE_PROJECT")
]
Why = Annotated[str | None, typer.Option("--why", help="Reason, stored in the history.")]
Port = Annotated[int, typer.Option("--port", help="Port on this machine.", min=1, max=65535)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also show the log of Ragtide and Prefect.")]
MAX_ERROR_LENGTH = 2000
# If set, the traceback of a defect is shown instead of being written to a file.
TRACEBACKS = "RAGTIDE_TRACEBACKS"
# Errors caused by disks, permissions or file names: for the operator of the machine, not defects of Ragtide.
MACHINE_ERRORS = {
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
_json_output: ContextVar[TextIO | None] = ContextVar("json_output", default=None)


def report_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Report the errors of a command in one line on stderr with exit code 1, and give it the options -q and -v.

    Covers user errors, errors of the machine, and defects, whose traceback is written to a file. While a command runs
    with `--json`, only `emit_json` writes to stdout.
    """

    @wraps(command)
    def wrapped(*arguments: Any, quiet: bool = False, verbose: bool = False, **options: Any) -> None:
        make_logs_safe()
        if quiet or verbose:
            set_verbosity(quiet, verbose)
        with _stdout_for_json() if options.get("as_json") else nullcontext(), _errors_in_one_line(options):
            command(*arguments, **options)

    # What typer reads the options from.
    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in (("quiet", Quiet), ("verbose", Verbose))
    ]
    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    return wrapped


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Set how much is printed beside the result. Raises BadParameter for both at once."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose exclude each other")
    from ragtide.flows.progress import Verbosity, configure

    configure(Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.NORMAL)
    if verbose:
        os.environ["PREFECT_LOGGING_LEVEL"] = "INFO"


def emit_json(kind: str, **content: object) -> None:
    """Write one JSON document to stdout: `kind`, the version of the records, and `content`.

    `content` may hold records, dataclasses, collections and plain values. Numbers that JSON lacks become null.
    """
    from pydantic_core import to_json

    from ragtide.pipelines.records.base import RECORD_VERSION

    document = {"kind": kind, "record_version": RECORD_VERSION, **_to_plain(content)}
    stream = _json_output.get() or sys.stdout
    stream.write(escape_json(to_json(document, indent=2, inf_nan_mode="null").decode()) + "\n")
    stream.flush()


def _to_plain(value: Any) -> Any:
    """`value` with its records and dataclasses as pydantic writes them, so that their fields keep their own forms."""
    from pydantic import BaseModel, TypeAdapter

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return TypeAdapter(type(value)).dump_python(value, mode="json")
    if isinstance(value, Mapping):
        return {name: _to_plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_to_plain(part) for part in value]
    return value


def pending_approval(plan: Plan) -> dict[str, object] | None:
    """What a plan needs an approval for, for `emit_json`: an action, removals, withheld documents; None for nothing."""
    if not plan.needs_approval:
        return None
    return {
        "plan": plan.content_digest(),
        "action": plan.decision.proposed,
        "removals": plan.deletions_to_approve,
        "documents": plan.documents_to_approve,
    }


@contextmanager
def _stdout_for_json() -> Iterator[None]:
    """Redirect stdout to stderr, also for libraries and child processes; `emit_json` alone writes to stdout."""
    with ExitStack() as stack:
        token = _json_output.set(_claim_stdout(stack))
        stack.callback(_json_output.reset, token)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def _claim_stdout(stack: ExitStack) -> TextIO:
    """A stream to stdout that outlives the redirection of its file descriptor, which lasts as long as `stack`."""
    try:
        descriptor, stderr = sys.stdout.fileno(), sys.stderr.fileno()
    except (OSError, ValueError):  # A stream in memory, as in tests.
        return sys.stdout
    sys.stdout.flush()
    stream = stack.enter_context(os.fdopen(os.dup(descriptor), "w", encoding="utf-8"))
    os.dup2(stderr, descriptor)
    stack.callback(os.dup2, stream.fileno(), descriptor)
    stack.callback(sys.stdout.flush)
    return stream


@contextmanager
def _errors_in_one_line(options: Mapping[str, object]) -> Iterator[None]:
    # Imports pydantic, which `ragtide --help` does not need.
    from ragtide.pipelines.errors import UserError, summarize_error

    try:
        _check_encoding(options)
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except UserError as problem:
        exit_with_error(str(problem) + _machine_hint(str(problem), options.get("project")))
    except OSError as problem:
        if problem.errno not in MACHINE_ERRORS:
            raise
        message = f"{problem.filename or 'this machine'}: {summarize_error(problem)}"
        exit_with_error(message + _machine_hint(message, options.get("project")))
    except Exception as problem:
        path = _write_traceback(problem, options.get("project"))
        if path is None:
            raise
        defect = f"this is a defect in Ragtide: {type(problem).__name__}: {summarize_error(problem)}"
        exit_with_error(f"{defect}; please report this line and the traceback, which is in {path}")


def _machine_hint(problem: str, project: object) -> str:
    """What is known of this machine that explains an error: a full disk, or a limit on the size of files."""
    from ragtide.pipelines.disk import describe_full_disks

    folders = (project / ".ragtide" if isinstance(project, Path) else Path(), Path(tempfile.gettempdir()))
    full = describe_full_disks(problem, folders)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    limited = "" if limit == resource.RLIM_INFINITY else f"; no file may exceed {limit} bytes here (ulimit -f)"
    return (f"; the disk is full: {full}" if full else "") + limited


def _write_traceback(problem: Exception, project: object) -> Path | None:
    """Write the traceback of an error; None if it is wanted on the terminal or there is no project."""
    if os.environ.get(TRACEBACKS) or not isinstance(project, Path) or not (project / ".ragtide").is_dir():
        return None
    # The records take a tenth of a second to import, which every command would pay.
    from ragtide.pipelines.records.base import write_text_atomically

    path = project / ".ragtide" / "logs" / f"defect-{datetime.now(UTC):%Y%m%dT%H%M%S}.txt"
    try:
        write_text_atomically(path, format_traceback(problem))
    except OSError:
        return None
    return path


def _check_encoding(options: Mapping[str, object]) -> None:
    """Raise UserError for text that is not UTF-8, which MLflow, Prefect and files cannot store."""
    from ragtide.pipelines.errors import UserError

    for name, value in options.items():
        if isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
            raise UserError(f"{name}: {value!r} is not UTF-8")


def exit_with_error(message: str) -> NoReturn:
    """Print `message` as one line on stderr and exit with code 1, without secrets and control characters."""
    line = escape_controls(mask_secrets(message))
    line = line if len(line) <= MAX_ERROR_LENGTH else f"{line[:MAX_ERROR_LENGTH]}…"
    err.print(f"[bold red]ragtide:[/] {escape_markup(line)}", soft_wrap=True, highlight=False)
    raise typer.Exit(1) from None


def require_services() -> None:
    """Raise UserError if a package of the extra `services` is not installed."""
    from ragtide.pipelines.errors import UserError

    if missing := [package for package in ("supervisor", "watchfiles") if find_spec(package) is None]:
        raise UserError(
            f"{' and '.join(missing)} not installed: install ragtide with its extra `services`, as in "
            "`pip install 'ragtide[services]'`"
        )


def minute_of(at: str) -> str:
    """A recorded time as `2030-01-01 12:34`."""
    return at[:16].replace("T", " ")


def escape_markup(text: str) -> str:
    """`text` with rich's markup escaped, and with bytes that are not UTF-8 as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("[", r"\[")


def print_text(*lines: str) -> None:
    """Print lines as they are: no markup, no highlighting, no line breaks added."""
    text = "\n".join(lines).encode("utf-8", "backslashreplace").decode()
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def print_parts(parts: Iterable[RenderableType]) -> None:
    """Print what a view consists of, one part below the other; the terminal breaks the lines of text."""
    for part in parts:
        out.print(part, soft_wrap=isinstance(part, Text))
