"""Which commands look after what is kept? verify, maintain."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.console import HERE, ProjectFolder, out, plain, refusing
from flows.environment import prepare

app = typer.Typer()


@app.command()
@refusing
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without losing anything.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Compare table, tags, registry and snapshots, and name everything that does not agree."""
    prepare(project)
    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.verify import repair as mend
    from pipelines.publish.verify import verify as compare

    opened = Project.open(project, quiet)
    with opened.workspace.writing():
        found = compare(opened)
        mended, left = mend(found) if repair else ([], [(one, one.remedy) for one in found])
    for one in mended:
        out.print(f"[green]mended[/] {plain(f'{one.where}: {one.what}: {one.remedy}')}", soft_wrap=True)
    for one, remedy in left:
        out.print(f"[red]{plain(one.where)}[/]: {plain(one.what)}: {plain(remedy)}", soft_wrap=True)
    if not found:
        out.print("table, tags, registry and snapshots agree")
    if left:
        raise typer.Exit(1)


@app.command()
@refusing
def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Compact the index, take away what no release needs, sweep up after killed writers; and say why."""
    prepare(project)
    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.upkeep import maintain as keep_up

    opened = Project.open(project, quiet)
    with opened.workspace.writing():
        steps = keep_up(opened, dry_run)
    if not steps:
        out.print("there is no index yet: nothing to keep up")
    for step in steps:
        out.print(f"[bold]{step.step}[/]: {'done' if step.done else 'not done'}: {plain(step.why)}", soft_wrap=True)
