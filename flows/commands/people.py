"""Which commands say yes or no to what a plan holds back? approve."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.console import HERE, ProjectFolder, out, refusing
from flows.environment import prepare

app = typer.Typer()


@app.command()
@refusing
def approve(
    digest: Annotated[str, typer.Argument(help="The digest of a plan that holds something back.")],
    why: Annotated[str, typer.Option("--why", help="Kept with the approval.")] = "by hand",
    project: ProjectFolder = HERE,
) -> None:
    """Say yes to what a plan holds back, and to nothing else: those removals, or an action above the cost limit."""
    prepare(project)
    from pipelines.observe.guard import approve as give
    from pipelines.ports import quiet
    from pipelines.publish.plan import read_plan
    from pipelines.publish.project import Project

    opened = Project.open(project, quiet)
    with opened.workspace.writing():
        given = give(opened.workspace, digest, read_plan(opened, digest), why)
    what = [f"{len(given.removals)} removals"] if given.removals else []
    what += [str(given.action)] if given.action else []
    out.print(f"approved: {' and '.join(what)}; the next `ragtide run` goes ahead with it, on this very data")
