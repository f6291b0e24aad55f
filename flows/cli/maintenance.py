"""Which commands look after what is kept? verify, maintain."""

from __future__ import annotations

from typing import Annotated

import typer

from ragtide.flows.cli.console import HERE, ProjectFolder, escape_markup, out, report_errors
from ragtide.flows.environment import prepare_environment

app = typer.Typer()


@app.command("verify")
@report_errors
def verify_command(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without losing anything.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Compare table, tags, registry and snapshots, and name everything that does not agree."""
    prepare_environment(project)
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.verify import repair_mismatches as mend
    from ragtide.pipelines.release.verify import verify_project as compare

    opened = Project.open(project, no_progress)
    with opened.workspace.write_lock():
        found = compare(opened)
        mended, left = mend(found) if repair else ([], [(one, one.remedy) for one in found])
    for one in mended:
        out.print(f"[green]mended[/] {escape_markup(f'{one.where}: {one.what}: {one.remedy}')}", soft_wrap=True)
    for one, remedy in left:
        out.print(
            f"[red]{escape_markup(one.where)}[/]: {escape_markup(one.what)}: {escape_markup(remedy)}", soft_wrap=True
        )
    if not found:
        out.print("table, tags, registry and snapshots agree")
    if left:
        raise typer.Exit(1)


@app.command("maintain")
@report_errors
def maintain_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Compact the index, take away what no release needs, sweep up after killed writers; and say why."""
    prepare_environment(project)
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.cleanup import maintain_project as keep_up

    opened = Project.open(project, no_progress)
    with opened.workspace.write_lock():
        steps = keep_up(opened, dry_run)
    if not steps:
        out.print("there is no index yet: nothing to keep up")
    for step in steps:
        out.print(
            f"[bold]{step.step}[/]: {'done' if step.done else 'not done'}: {escape_markup(step.why)}", soft_wrap=True
        )
