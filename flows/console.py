"""What do all commands share? Where they print, how a refusal is told, and which project they are for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipelines.errors import RefusalError

out = Console()
err = Console(stderr=True)

ProjectFolder = Annotated[Path, typer.Option("--project", "-p", help="The project's folder.", envvar="RAGTIDE_PROJECT")]
HERE = Path()


def refusing(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a RefusalError into one clear line and exit code 1."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except RefusalError as problem:
            err.print(f"[bold red]ragtide:[/] {plain(str(problem))}", soft_wrap=True, highlight=False)
            raise typer.Exit(1) from None

    return wrapped


def plain(text: str) -> str:
    """`text` as it is, where rich would read markup in it."""
    return text.replace("[", r"\[")
