"""Which commands make a project, version its data and build from it? init, snapshot, diff, examples, stage."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import ragtide
from ragtide.flows.cli.console import HERE, ProjectFolder, escape_markup, out, report_errors
from ragtide.flows.environment import prepare_environment
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.errors import UserError, summarize_error

app = typer.Typer()
TEMPLATES = ("params.yaml", "dvc.yaml", "prefect.yaml")


class Stage(StrEnum):
    INDEX = "index"
    FINETUNE = "finetune"
    SCORE = "score"


@app.command("init")
@report_errors
def init_command(folder: Annotated[Path, typer.Argument(help="Where the project is to be.")] = HERE) -> None:
    """Make a project: params.yaml, dvc.yaml, prefect.yaml and the three data folders. Existing files stay."""
    prepare_environment(folder)
    from ragtide.pipelines.data.dvc import ensure_repository

    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder for the project")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"{folder} cannot be made: {summarize_error(problem)}") from problem
    for name in TEMPLATES:
        if not (folder / name).exists():
            shutil.copy(_template(name), folder / name)
    for name in ("kb", "train", "golden"):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
    _ignore(folder / ".gitignore", [".ragtide/", "artifacts/", "export/"])
    ensure_repository(folder)
    out.print(
        f"{escape_markup(str(folder.resolve()))} is a project. Put documents into data/kb, examples into data/train, "
        "golden questions"
    )
    out.print("into data/golden; then `ragtide plan` says what it would do, and `ragtide run` does it.")


@app.command("snapshot")
@report_errors
def snapshot_command(project: ProjectFolder = HERE) -> None:
    """Version what is in the data folders, with DVC."""
    prepare_environment(project)
    from ragtide.pipelines.data.snapshot import record_snapshot
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    with workspace.write_lock():
        taken = record_snapshot(workspace)
    out.print(f"snapshot {taken.id}", highlight=False)
    out.print(
        f"{len(taken.documents)} documents, {len(taken.examples)} example files, {len(taken.questions)} golden files"
    )


@app.command("diff")
@report_errors
def diff_command(
    before: Annotated[str | None, typer.Argument(help="A snapshot's id; without one, the live release's.")] = None,
    after: Annotated[
        str | None, typer.Argument(help="A snapshot's id; without one, what is in the folders now.")
    ] = None,
    project: ProjectFolder = HERE,
) -> None:
    """List the documents added, edited, renamed and removed between two snapshots."""
    prepare_environment(project)
    from rich.markdown import Markdown

    from ragtide.pipelines.data.diff import diff_snapshots as compare
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.registry.releases import Registry
    from ragtide.pipelines.reports.markdown import changes_markdown
    from ragtide.pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    live = None if before else Registry(workspace).champion()
    old = _kept_snapshot(workspace, before) if before else live.snapshot if live else None
    new = _kept_snapshot(workspace, after) if after else take_snapshot(workspace)
    out.print(Markdown(changes_markdown(compare(old, new))))


@app.command("examples")
@report_errors
def examples_command(project: ProjectFolder = HERE) -> None:
    """List the training lines that nothing is learnt from, and why; exit 1 where examples.on_invalid refuses them.

    Contradictions are listed too where examples.contradictions keeps them.
    """
    prepare_environment(project)
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.records.data import count_issues
    from ragtide.pipelines.reports.signals import describe_issues

    opened = Project.open(project, no_progress)
    training = opened.inspect_corpus(take_snapshot(opened.workspace)).training
    table = Table("line", "what", "why")
    for one in training.filtered:
        table.add_row(*map(escape_markup, (one.where, one.kind, one.why)))
    for one in training.contradictory:
        table.add_row(escape_markup(one.where), f"{one.kind}, kept", escape_markup(one.why))
    for orphan in training.orphans:
        table.add_row(escape_markup(orphan.where), "no page", escape_markup(f"{orphan.doc} is gone, or holds no text"))
    if table.row_count:
        out.print(table)
    told = describe_issues(count_issues(training.filtered)) if training.filtered else "no line left out"
    contradictory = f"; {len(training.contradictory)} of them contradict each other" if training.contradictory else ""
    out.print(
        f"{len(training.examples)} examples to learn from{contradictory}; {told}; {len(training.orphans)} whose page is gone"
    )
    if training.filtered and opened.workspace.params.examples.on_invalid == "refuse":
        raise typer.Exit(1)


@app.command("stage")
@report_errors
def stage_command(
    name: Stage,
    rebuild: Annotated[bool, typer.Option(help="Make all rows anew where they are another embedder's.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Run one stage of dvc.yaml; `dvc repro` calls this. `index` brings the index alone up to the documents."""
    prepare_environment(project)
    from ragtide.pipelines.stages import run_stage

    built = run_stage(name, project, progress_bars, rebuild)
    out.print(built.model_dump_json(exclude={"graded", "settings"}), markup=False, highlight=False, soft_wrap=True)


def _kept_snapshot(workspace: Any, snapshot_id: str) -> Any:
    from ragtide.pipelines.records.data import Snapshot

    path = workspace.snapshot_file(snapshot_id)
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.json"))[:5]) or "none yet"
        raise UserError(f"there is no snapshot {snapshot_id}; known: {known}")
    return Snapshot.read(path)


def _template(name: str) -> Path:
    """The path of a file that `init` copies: at the root of a checkout, inside the package of an installed wheel."""
    package = Path(ragtide.__file__).parent
    return package.parent / name if (package.parent / "pyproject.toml").is_file() else package / "templates" / name


def _ignore(path: Path, lines: list[str]) -> None:
    known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    new = [line for line in lines if line not in known]
    if new:
        path.write_text("\n".join([*known, *new]) + "\n", encoding="utf-8")
