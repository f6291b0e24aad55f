"""The `ragtide` command: look, decide, run, ask, go back. Each command imports the heavy libraries that it needs."""

from __future__ import annotations

import typer

from flows.commands import care, data, live, loop, people
from flows.environment import end_in_order, leave

app = typer.Typer(
    help="Keeps the index and the fine-tuned model of a question-answering assistant current.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (data, loop, people, live, care):
    app.add_typer(group.app)


def main() -> None:
    """Entry point of the `ragtide` script."""
    end_in_order()
    try:
        app()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else int(bool(end.code)))


if __name__ == "__main__":
    main()
