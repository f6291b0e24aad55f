"""The `ragtide` command: look, decide, run, ask, go back. Each command imports the heavy libraries that it needs."""

from __future__ import annotations

import typer

from ragtide.flows.cli import approvals, data, maintenance, plan_and_run, releases, services, triggers
from ragtide.flows.environment import exit_on_sigterm, fast_exit

app = typer.Typer(
    help="Keeps the index and the fine-tuned model of a question-answering assistant current.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# A panel of `--help` and a chapter of docs/reference/commands.md each.
TOPICS = {
    "Data": data,
    "Decide and act": plan_and_run,
    "Say yes or no": approvals,
    "What is live": releases,
    "Say that data has moved": triggers,
    "Upkeep": maintenance,
    "What runs beside it": services,
}
for topic, group in TOPICS.items():
    for command in (*group.app.registered_commands, *group.app.registered_groups):
        command.rich_help_panel = topic
    app.add_typer(group.app)


def main() -> None:
    """Entry point of the `ragtide` script."""
    exit_on_sigterm()
    try:
        app()
    except SystemExit as end:
        fast_exit(end.code if isinstance(end.code, int) else int(bool(end.code)))


if __name__ == "__main__":
    main()
