"""Commands that check and clean up what is stored: verify, maintain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragtide.flows.cli.console import (
    HERE,
    AsJson,
    ProjectFolder,
    emit_json,
    escape_markup,
    out,
    print_text,
    report_errors,
)
from ragtide.flows.environment import prefect_database, prepare_environment

if TYPE_CHECKING:
    from ragtide.pipelines.release.verify import Mismatch

app = typer.Typer()


@app.command("verify")
@report_errors
def verify_command(
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired without losing data.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also read and hash all contents, which takes a while.")] = False,
    as_json: AsJson = False,
    project: ProjectFolder = HERE,
) -> None:
    """Check that index, tags, registry and snapshots agree.

    Each mismatch is named. The exit code is 1 if any is left.
    """
    prepare_environment(project)
    from ragtide.pipelines.release.deep_verify import NOT_READ

    repaired, left = _verify(project, repair, deep)
    if as_json:
        emit_json(
            "verify",
            deep=deep,
            repaired=[{"where": fixed.where, "what": fixed.what, "remedy": fixed.remedy} for fixed in repaired],
            mismatches=[
                {"where": mismatch.where, "what": mismatch.what, "remedy": remedy} for mismatch, remedy in left
            ],
        )
    else:
        _print_mismatches(repaired, left)
        if not deep:
            print_text(NOT_READ)
    if left:
        raise typer.Exit(1)


def _verify(project: Path, repair: bool, deep: bool) -> tuple[list[Mismatch], list[tuple[Mismatch, str]]]:
    """(repaired, remaining with the remedy): the databases first, which the other checks read."""
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.deep_verify import verify_contents
    from ragtide.pipelines.release.verify import repair_mismatches, verify_databases, verify_project

    def handle(mismatches: list[Mismatch]) -> tuple[list[Mismatch], list[tuple[Mismatch, str]]]:
        return (
            repair_mismatches(mismatches) if repair else ([], [(mismatch, mismatch.remedy) for mismatch in mismatches])
        )

    opened = Project.open(project, no_progress)
    with opened.workspace.write_lock():
        repaired, left = handle(verify_databases(opened.workspace, prefect_database()))
        if not any(mismatch.where == "registry" for mismatch, _ in left):
            mismatches = [*verify_project(opened), *(verify_contents(opened) if deep else ())]
            others = handle(mismatches)
            repaired, left = repaired + others[0], left + others[1]
    return repaired, left


def _print_mismatches(repaired: list[Mismatch], left: list[tuple[Mismatch, str]]) -> None:
    for mismatch in repaired:
        text = escape_markup(f"{mismatch.where}: {mismatch.what}: {mismatch.remedy}")
        out.print(f"[green]repaired[/] {text}", soft_wrap=True)
    for mismatch, remedy in left:
        text = escape_markup(f"{mismatch.what}: {remedy}")
        out.print(f"[red]{escape_markup(mismatch.where)}[/]: {text}", soft_wrap=True)
    if not (repaired or left):
        print_text("index, tags, registry and snapshots agree")


@app.command("maintain")
@report_errors
def maintain_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be done.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Compact the index and delete what no release needs.

    Also deletes files that killed writers left behind, and what is older than `retention` allows. Each step is listed
    with the reason why it was done or not.
    """
    prepare_environment(project)
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.cleanup import maintain_project

    opened = Project.open(project, no_progress)
    with opened.workspace.write_lock():
        steps = maintain_project(opened, dry_run)
    if not steps:
        print_text("there is no index yet: nothing to maintain")
    for step in steps:
        state = "done" if step.done else "not done"
        out.print(f"[bold]{step.step}[/]: {state}: {escape_markup(step.why)}", soft_wrap=True)
