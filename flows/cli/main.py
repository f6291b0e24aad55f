"""The `ragtide` command: a group that imports a command's module only when the command is used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ragtide.flows.cli.console import Quiet, Verbose, set_verbosity
from ragtide.flows.environment import fast_exit
from ragtide.flows.interruption import end_interrupted, exit_on_signals, received_signal
from ragtide.flows.terminal import print_traceback
from ragtide.pipelines.safe_text import escape_controls, mask_secrets


@dataclass(frozen=True)
class Panel:
    """A panel of `ragtide --help`: its title, the module of its commands, and what each command's help says first.

    The texts stand here, equal to the first lines of the commands' docstrings, so that help needs none of the modules.
    """

    title: str
    module: str
    commands: dict[str, str]


PANELS = (
    Panel(
        "Data",
        "data",
        {
            "init": "Create a project: its settings, pipeline files and data folders.",
            "snapshot": "Record a version of the data folders with DVC.",
            "diff": "List the documents that differ between two snapshots.",
            "examples": "List the training examples that are filtered out, and why.",
            "stage": "Run one stage of dvc.yaml, as `dvc repro` does.",
        },
    ),
    Panel(
        "Plan and run",
        "plan_and_run",
        {
            "plan": "Show what `run` would do, why, and what it would cost.",
            "run": "Run one cycle: observe, decide, build, prove, publish.",
            "history": "List past cycles with their decisions and outcomes.",
            "policies": "List the decision policies and mark the active one.",
            "replay": "Show what other policies would have decided in recorded cycles.",
        },
    ),
    Panel(
        "Approvals",
        "approvals",
        {
            "approve": "Approve what a plan is waiting for.",
            "reject": "Decline what a plan is waiting for.",
            "notify": "List who is notified of what, or send a test message.",
        },
    ),
    Panel(
        "Releases",
        "releases",
        {
            "status": "Show the live release and how far it is behind the data.",
            "evaluate": "Score the live release on the current golden questions.",
            "ask": "Answer a question from the live release and name the sources.",
            "serve": "Serve the live release over HTTP, on this machine only.",
            "release": "Release the live parts in another combination, by hand.",
            "rollback": "Make an earlier release live again, index and model together.",
            "export": "Write a release's model to a folder for other servers.",
            "lineage": "Show what an adapter was trained on, or which adapters saw a document.",
            "metrics": "Print the project's metrics in Prometheus' text format.",
        },
    ),
    Panel(
        "Triggers",
        "triggers",
        {
            "trigger": "Request a run for the current data.",
            "watch": "Watch the data folders and request a run after changes.",
            "webhook": "Accept requests for runs over HTTP.",
            "hooks": "Install or remove git hooks that request a run.",
        },
    ),
    Panel(
        "Services",
        "services",
        {
            "up": "Start Prefect, MLflow, a worker, the watcher and the webhook.",
            "down": "Stop all services that `ragtide up` started.",
            "deploy": "Deploy prefect.yaml to the Prefect server at PREFECT_API_URL.",
            "ui": "Serve MLflow's web interface for this project, on this machine only.",
        },
    ),
    Panel(
        "Maintenance",
        "maintenance",
        {
            "verify": "Check that index, tags, registry and snapshots agree.",
            "maintain": "Compact the index and delete what no release needs.",
        },
    ),
)


class LazyCommand(TyperCommand):
    """A command or group that is known by name and help; its module is imported when it is used."""

    def __init__(self, name: str, panel: Panel) -> None:
        super().__init__(name, help=panel.commands[name], rich_help_panel=panel.title)
        self._module = f"ragtide.flows.cli.{panel.module}"

    def load(self) -> Any:
        """The command itself."""
        return typer.main.get_group(import_module(self._module).app).commands[self.name or ""]

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """The context of the command itself, which is thereby what is invoked, completed or explained."""
        return self.load().make_context(*arguments, **options)


# The base class of wrong options, arguments and commands, which typer does not export by its name.
_UsageError: Any = typer.BadParameter.__base__


@contextmanager
def _safe_usage_errors() -> Iterator[None]:
    """Escape control characters in usage errors, which repeat arguments."""
    try:
        yield
    except _UsageError as problem:
        problem.message = escape_controls(mask_secrets(problem.message))
        raise


class LazyGroup(TyperGroup):
    """The commands of all panels, in the order of `ragtide --help`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": {command.name: command for command in _lazy_commands()}})

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """The context of the group, after its own options were read."""
        with _safe_usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, context: Any) -> Any:
        """Run the command that the arguments name."""
        with _safe_usage_errors():
            return super().invoke(context)


def _lazy_commands() -> Iterator[LazyCommand]:
    for panel in PANELS:
        for name in panel.commands:
            yield LazyCommand(name, panel)


app = typer.Typer(
    cls=LazyGroup,
    help="Keeps the index and the fine-tuned model of a question-answering assistant current.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import ragtide

        typer.echo(f"ragtide {ragtide.__version__}")
        raise typer.Exit


@app.callback()
def set_global_options(
    quiet: Quiet = False,
    verbose: Verbose = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Apply the options that stand before the command."""
    set_verbosity(quiet, verbose)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    exit_on_signals()
    sys.excepthook = print_traceback
    try:
        app(prog_name="ragtide")
    except SystemExit as end:
        if (number := received_signal()) is not None:
            end_interrupted(number)
        fast_exit(end.code if isinstance(end.code, int) else int(bool(end.code)))
