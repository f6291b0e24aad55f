"""Commands for a project's data: init, snapshot, diff, examples, stage."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import ragtide
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
from ragtide.flows.environment import prepare_environment
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.safe_text import escape_json

if TYPE_CHECKING:
    from ragtide.pipelines.corpus import TrainingSet
    from ragtide.pipelines.records.data import Snapshot
    from ragtide.pipelines.workspace import Workspace

app = typer.Typer()
TEMPLATES = ("params.yaml", "dvc.yaml", "prefect.yaml")
IGNORED_BY_GIT = (".ragtide/", "artifacts/", "export/")


class Stage(StrEnum):
    """The stages of dvc.yaml."""

    INDEX = "index"
    FINETUNE = "finetune"
    SCORE = "score"


@app.command("init")
@report_errors
def init_command(folder: Annotated[Path, typer.Argument(help="Folder of the new project.")] = HERE) -> None:
    """Create a project: its settings, pipeline files and data folders.

    Files that exist already are kept.
    """
    prepare_environment(folder)
    from ragtide.pipelines.data.dvc import ensure_repository

    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder for the project")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"{folder} cannot be created: {summarize_error(problem)}") from problem
    for name in TEMPLATES:
        if not (folder / name).exists():
            shutil.copy(_template(name), folder / name)
    for name in ("kb", "train", "golden"):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
    _add_lines(folder / ".gitignore", IGNORED_BY_GIT)
    ensure_repository(folder)
    print_text(
        f"{folder.resolve()} is now a Ragtide project.",
        "Put documents into data/kb, training examples into data/train and golden questions into data/golden.",
        "Then `ragtide plan` shows what a first cycle would do, and `ragtide run` runs it.",
    )


@app.command("snapshot")
@report_errors
def snapshot_command(project: ProjectFolder = HERE) -> None:
    """Record a version of the data folders with DVC."""
    prepare_environment(project)
    from ragtide.pipelines.data.snapshot import record_snapshot
    from ragtide.pipelines.reports.signals import count_of
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    with workspace.write_lock():
        snapshot = record_snapshot(workspace)
    print_text(
        f"snapshot {snapshot.id}",
        f"{count_of(len(snapshot.documents), 'document')}, "
        f"{count_of(len(snapshot.examples), 'file')} of training examples, "
        f"{count_of(len(snapshot.questions), 'file')} of golden questions",
    )


@app.command("diff")
@report_errors
def diff_command(
    before: Annotated[str | None, typer.Argument(help="Older snapshot's id; default: the live release's.")] = None,
    after: Annotated[str | None, typer.Argument(help="Newer snapshot's id; default: the data folders now.")] = None,
    as_json: AsJson = False,
    project: ProjectFolder = HERE,
) -> None:
    """List the documents that differ between two snapshots.

    Documents are added, edited, renamed or removed. Against the live release, one that was moved and edited is renamed;
    between two snapshots, only one with the same content.
    """
    prepare_environment(project)
    from rich.markdown import Markdown

    from ragtide.pipelines.data.diff import diff_snapshots
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.reports.markdown import changes_markdown

    opened = Project.open(project, no_progress)
    live = None if before else opened.registry.champion()
    old = _read_snapshot(opened.workspace, before) if before else live.snapshot if live else None
    new = _read_snapshot(opened.workspace, after) if after else take_snapshot(opened.workspace)
    # Where an edited document has moved is known of the live index, and of the documents that are in the folder now.
    moved_to = opened.document_paths(new).current if live and not after else lambda _: None
    changes = diff_snapshots(old, new, moved_to)
    if as_json:
        emit_json("diff", changes=changes)
    else:
        out.print(Markdown(changes_markdown(changes)))


@app.command("examples")
@report_errors
def examples_command(as_json: AsJson = False, project: ProjectFolder = HERE) -> None:
    """List the training examples that are filtered out, and why.

    Contradicting examples that `examples.contradictions: keep` keeps are listed too. The exit code is 1 if
    examples are filtered out and `examples.on_invalid` is `refuse`.
    """
    prepare_environment(project)
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    opened = Project.open(project, no_progress)
    training = opened.inspect_corpus(take_snapshot(opened.workspace)).training
    if as_json:
        orphans = [{"where": example.where, "document": example.doc} for example in training.orphans]
        emit_json(
            "examples",
            usable=len(training.examples),
            filtered=training.filtered,
            contradictory=training.contradictory,
            without_document=orphans,
        )
    else:
        _print_examples(training)
    if training.filtered and opened.workspace.params.examples.on_invalid == "refuse":
        raise typer.Exit(1)


def _print_examples(training: TrainingSet) -> None:
    from ragtide.pipelines.records.data import count_issues
    from ragtide.pipelines.reports.signals import describe_issues

    table = Table("line", "problem", "why")
    for issue in training.filtered:
        table.add_row(*map(escape_markup, (issue.where, issue.kind, issue.why)))
    for issue in training.contradictory:
        table.add_row(escape_markup(issue.where), f"{issue.kind}, kept", escape_markup(issue.why))
    for orphan in training.orphans:
        why = escape_markup(f"{orphan.doc} was deleted, or holds no text")
        table.add_row(escape_markup(orphan.where), "no document", why)
    if table.row_count:
        out.print(table)
    contradictory = f" ({len(training.contradictory)} contradict each other)" if training.contradictory else ""
    print_text(
        f"usable training examples: {len(training.examples)}{contradictory}",
        describe_issues(count_issues(training.filtered)) if training.filtered else "no line is filtered out",
        f"examples of deleted documents: {len(training.orphans)}",
    )


@app.command("stage")
@report_errors
def stage_command(
    name: Annotated[Stage, typer.Argument(help="Name of the stage.")],
    rebuild: Annotated[
        bool, typer.Option(help="Rebuild the index if it was built with another embedder or other settings.")
    ] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Run one stage of dvc.yaml, as `dvc repro` does.

    The stage `index` updates the index alone. Prints the record of what was built, as JSON.
    """
    prepare_environment(project)
    from ragtide.pipelines.stages import run_stage

    built = run_stage(name, project, progress_bars, rebuild)
    print_text(escape_json(built.model_dump_json(exclude={"graded", "settings"})))


def _read_snapshot(workspace: Workspace, snapshot_id: str) -> Snapshot:
    from ragtide.pipelines.records.data import Snapshot

    path = workspace.snapshot_file(snapshot_id)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.json"))[:5]) or "none yet"
        raise UserError(f"there is no snapshot {snapshot_id}; known: {known}")
    return Snapshot.read(path)


def _template(name: str) -> Path:
    """The path of a file that `init` copies: at the root of a checkout, inside the package of an installed wheel."""
    package = Path(ragtide.__file__).parent
    return package.parent / name if (package.parent / "pyproject.toml").is_file() else package / "templates" / name


def _add_lines(path: Path, lines: tuple[str, ...]) -> None:
    """Add those of `lines` to a text file that it does not have yet."""
    present = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    missing = [line for line in lines if line not in present]
    if missing:
        path.write_text("\n".join([*present, *missing]) + "\n", encoding="utf-8")
