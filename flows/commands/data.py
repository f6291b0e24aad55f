"""Which commands make a project, version its data and build from it? init, snapshot, diff, examples, stage."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.console import HERE, ProjectFolder, out, plain, refusing
from flows.environment import prepare
from flows.progress import bars
from pipelines.errors import RefusalError, one_line

app = typer.Typer()
TEMPLATES = ("params.yaml", "dvc.yaml", "prefect.yaml")


class Stage(StrEnum):
    INDEX = "index"
    FINETUNE = "finetune"
    SCORE = "score"


@app.command()
@refusing
def init(folder: Annotated[Path, typer.Argument(help="Where the project is to be.")] = HERE) -> None:
    """Make a project: params.yaml, dvc.yaml, prefect.yaml and the three data folders. Existing files stay."""
    prepare(folder)
    from pipelines.observe.snapshot import ensure_repository

    if folder.exists() and not folder.is_dir():
        raise RefusalError(f"{folder} is a file: name a folder for the project")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RefusalError(f"{folder} cannot be made: {one_line(problem)}") from problem
    for name in TEMPLATES:
        if not (folder / name).exists():
            shutil.copy(_template(name), folder / name)
    for name in ("kb", "train", "golden"):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
    _ignore(folder / ".gitignore", [".ragtide/", "artifacts/", "export/"])
    ensure_repository(folder)
    out.print(
        f"{plain(str(folder.resolve()))} is a project. Put documents into data/kb, examples into data/train, "
        "golden questions"
    )
    out.print("into data/golden; then `ragtide plan` says what it would do, and `ragtide run` does it.")


@app.command()
@refusing
def snapshot(project: ProjectFolder = HERE) -> None:
    """Version what is in the data folders, with DVC."""
    prepare(project)
    from pipelines.observe.snapshot import record
    from pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    with workspace.writing():
        taken = record(workspace)
    out.print(f"snapshot {taken.id}", highlight=False)
    out.print(
        f"{len(taken.documents)} documents, {len(taken.examples)} example files, {len(taken.questions)} golden files"
    )


@app.command()
@refusing
def diff(
    before: Annotated[str | None, typer.Argument(help="A snapshot's id; without one, the live release's.")] = None,
    after: Annotated[
        str | None, typer.Argument(help="A snapshot's id; without one, what is in the folders now.")
    ] = None,
    project: ProjectFolder = HERE,
) -> None:
    """List the documents added, edited, renamed and removed between two snapshots."""
    prepare(project)
    from rich.markdown import Markdown

    from pipelines.observe.diff import diff as compare
    from pipelines.observe.snapshot import observe
    from pipelines.publish.registry import Registry
    from pipelines.publish.report import changes_markdown
    from pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    live = None if before else Registry(workspace).champion()
    old = _kept_snapshot(workspace, before) if before else live.snapshot if live else None
    new = _kept_snapshot(workspace, after) if after else observe(workspace)
    out.print(Markdown(changes_markdown(compare(old, new))))


@app.command()
@refusing
def examples(project: ProjectFolder = HERE) -> None:
    """List the training lines that nothing is learnt from, and why; exit 1 where examples.on_bad refuses them.

    Contradictions are listed too where examples.contradictions keeps them.
    """
    prepare(project)
    from pipelines.observe.snapshot import observe
    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.report import left_out_told
    from pipelines.records import flaws_of

    opened = Project.open(project, quiet)
    corpus = opened.look_into(observe(opened.workspace))
    table = Table("line", "what", "why")
    for one in corpus.left_out:
        table.add_row(*map(plain, (one.where, one.kind, one.why)))
    for one in corpus.contested:
        table.add_row(plain(one.where), f"{one.kind}, kept", plain(one.why))
    for orphan in corpus.orphans:
        table.add_row(plain(orphan.where), "no page", plain(f"{orphan.doc} is gone, or holds no text"))
    if table.row_count:
        out.print(table)
    told = left_out_told(flaws_of(corpus.left_out)) if corpus.left_out else "no line left out"
    contested = f"; {len(corpus.contested)} of them contradict each other" if corpus.contested else ""
    out.print(
        f"{len(corpus.examples)} examples to learn from{contested}; {told}; {len(corpus.orphans)} whose page is gone"
    )
    if corpus.left_out and opened.workspace.params.examples.on_bad == "refuse":
        raise typer.Exit(1)


@app.command()
@refusing
def stage(
    name: Stage,
    rebuild: Annotated[bool, typer.Option(help="Make all rows anew where they are another embedder's.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Run one stage of dvc.yaml; `dvc repro` calls this. `index` brings the index alone up to the documents."""
    prepare(project)
    from flows.stages import run_stage

    built = run_stage(name, project, bars, rebuild)
    out.print(built.model_dump_json(exclude={"graded", "settings"}), markup=False, highlight=False, soft_wrap=True)


def _kept_snapshot(workspace: Any, snapshot_id: str) -> Any:
    from pipelines.records import Snapshot

    path = workspace.snapshot_file(snapshot_id)
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.json"))[:5]) or "none yet"
        raise RefusalError(f"there is no snapshot {snapshot_id}; known: {known}")
    return Snapshot.read(path)


def _template(name: str) -> Path:
    """At the root of a checkout; beside the packages where Ragtide is installed from a wheel."""
    root = Path(__file__).parent.parent.parent
    return root / name if (root / "pyproject.toml").is_file() else root / "ragtide_templates" / name


def _ignore(path: Path, lines: list[str]) -> None:
    known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    new = [line for line in lines if line not in known]
    if new:
        path.write_text("\n".join([*known, *new]) + "\n", encoding="utf-8")
