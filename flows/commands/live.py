"""Which commands use what is live? status, metrics, evaluate, ask, serve, ui, rollback, export, lineage."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.console import HERE, Port, ProjectFolder, out, plain, refusing
from flows.environment import make_prefect_home, prepare
from flows.progress import bars
from pipelines.build.merge import Format
from pipelines.errors import RefusalError

app = typer.Typer()


@app.command()
@refusing
def status(
    check: Annotated[bool, typer.Option("--check", help="One line; exit code 4 past a limit of `freshness`.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Say what is live, since when, from which data, and whether the data has moved since."""
    prepare(project)
    if check:
        _check(project)
        return
    from rich.markdown import Markdown

    from pipelines.observe.diff import diff as compare
    from pipelines.observe.documents import Library
    from pipelines.observe.freshness import freshness, read_source
    from pipelines.observe.past import LEFT_OUT, last_look, live_since
    from pipelines.observe.snapshot import observe
    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.report import changes_markdown, set_aside_markdown

    opened = Project.open(project, quiet)
    workspace, registry = opened.workspace, opened.registry
    live = registry.champion()
    now, clock = observe(workspace), datetime.now(UTC)
    if set_aside := Library(workspace, now).set_aside:
        out.print(f"{len(set_aside)} documents cannot be read:")
        out.print(Markdown(set_aside_markdown(set_aside)))
    history = registry.history()
    if (last := last_look(history)) and (lines := last.signals[LEFT_OUT]):
        out.print(f"training lines left out at {last.name}: {lines:g}; `ragtide examples` lists those of now")
    if live is None:
        out.print("nothing is live yet: `ragtide plan` says what a first run would do, `ragtide run` does it")
        return
    table = Table(show_header=False, box=None)
    for name, value in (
        ("live release", f"{live.id}, since {live_since(live, history)}, by {live.decision}"),
        ("data", live.snapshot.id),
        ("index", f"version {live.index.version} (tag {live.index_tag}), {live.index.rows} chunks"),
        ("retriever", f"tuned {tuned.digest} from {tuned.base}" if (tuned := live.index.retriever) else "not tuned"),
        ("model", f"{live.model.base} + {live.model.adapter or 'no adapter'}"),
        ("answer score", str(live.scorecard.answer_score)),
        ("before it", f"release {live.previous}" if live.previous else "nothing"),
        ("freshness", _freshness(freshness(read_source(workspace, now, clock), live, history, clock))),
    ):
        table.add_row(f"[bold]{name}[/]", plain(value))
    out.print(table)
    if (base := live.model.base.rpartition("@")[0]) not in ("", workspace.params.generate.model):
        out.print(
            f"\nparams.yaml names another base model; the live release keeps {base} until a retrain.", soft_wrap=True
        )
    _say_what_is_gone(opened, live, now)
    changes = compare(live.snapshot, now)
    if changes.is_empty:
        out.print("\nThe data is as the live release knows it.")
    else:
        out.print("\nThe data has moved since:")
        out.print(Markdown(changes_markdown(changes)))


@app.command()
@refusing
def evaluate(project: ProjectFolder = HERE) -> None:
    """Ask what is live the golden questions of now. The scores are a run in MLflow, with a row a question."""
    prepare(project)
    from rich.markdown import Markdown

    from pipelines.publish import evaluation
    from pipelines.publish.project import Project

    opened = Project.open(project, bars)
    done = evaluation.evaluate(opened, opened.registry.live())
    out.print(Markdown(done.markdown))
    out.print(f"\nin MLflow (`ragtide ui` opens it): {done.address}", highlight=False, soft_wrap=True)


@app.command()
@refusing
def ask(question: str, project: ProjectFolder = HERE) -> None:
    """Answer a question from the live release, and name the sources."""
    prepare(project)
    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.serve import asked

    release, answer = Project.open(project, quiet).ask(asked(question))
    out.print(answer.text, markup=False, highlight=False, soft_wrap=True)
    out.print(f"\n[dim]release {release.id}, from:[/]")
    for passage in answer.passages:
        where = passage.heading or f"part {passage.position + 1}"
        out.print(f"  {passage.document} · {where}", markup=False, soft_wrap=True)


@app.command()
@refusing
def serve(project: ProjectFolder = HERE, port: Port = 5001) -> None:
    """Answer questions over HTTP, on this machine only, from whatever release is live: `mlflow models serve`."""
    prepare(project)

    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.registry import CHAMPION

    opened = Project.open(project, quiet)
    release, workspace = opened.assistant().release, opened.workspace
    out.print(f"release {release.id}: http://127.0.0.1:{port}/invocations (Ctrl-C stops it)", highlight=False)
    model = f"models:/{workspace.params.registry.model}@{CHAMPION}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # MLflow looks for uvicorn on the PATH, where a virtual environment that is not activated does not stand.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    told = {"MLFLOW_TRACKING_URI": workspace.tracking_uri, "RAGTIDE_PROJECT": str(workspace.root), "PATH": path}
    os.execve(sys.executable, command, os.environ | told)


@app.command()
@refusing
def rollback(
    to: Annotated[str | None, typer.Option("--to", help="A release's number; without one, the release before.")] = None,
    why: Annotated[str, typer.Option("--why", help="Kept in the history.")] = "by hand",
    project: ProjectFolder = HERE,
) -> None:
    """Go back to an earlier release: index and model together, by one pointer."""
    prepare(project)
    from pipelines.lease import holder
    from pipelines.observe.snapshot import observe
    from pipelines.publish.project import Project
    from pipelines.publish.release import rollback as go_back

    opened = Project.open(project, bars)
    release = go_back(opened.registry, to, why, opened.serves)
    _tell_of_rollback(opened, release.id, why)
    out.print(f"release {release.id} is live: index {release.index_tag}, adapter {release.model.adapter or 'none'}")
    if at_work := holder(opened.workspace.state):
        out.print(plain(f"a run is at work ({at_work}): it publishes nothing over this release"), soft_wrap=True)
    try:
        _say_what_is_gone(opened, release, observe(opened.workspace))
    except RefusalError as problem:
        # It was gone back all the same: that is what the exit code says.
        out.print(plain(f"what its adapter has seen of deleted documents is not known: {problem}"), soft_wrap=True)


@app.command()
@refusing
def export(
    release: Annotated[str | None, typer.Argument(help="A release's number; without one, the live one.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="An empty or new folder; else below export/.")] = None,
    form: Annotated[Format, typer.Option("--format", help="Merged weights, or the adapter alone.")] = (
        Format.SAFETENSORS
    ),
    project: ProjectFolder = HERE,
) -> None:
    """Write a release's model into a folder, to be served elsewhere by transformers, vLLM, Ollama or llama.cpp."""
    prepare(project)
    from pipelines.publish.export import export as write
    from pipelines.publish.project import Project

    folder = write(Project.open(project, bars), release, form, to)
    out.print(f"{folder}: README.md in it says how to use it", soft_wrap=True, highlight=False)


@app.command()
@refusing
def lineage(
    adapter: Annotated[str | None, typer.Argument(help="An adapter's name; without one, the live release's.")] = None,
    release: Annotated[str | None, typer.Option(help="A release's number, in place of an adapter.")] = None,
    document: Annotated[str | None, typer.Option(help="Which releases' adapters have seen this document?")] = None,
    project: ProjectFolder = HERE,
) -> None:
    """List the examples and documents that went into an adapter, or the adapters that have seen a document."""
    prepare(project)
    if sum(one is not None for one in (adapter, release, document)) > 1:
        raise RefusalError("an adapter, a release or a document: name one of them")
    from flows.lineage_view import lineage_tables, sightings_table
    from pipelines.observe.snapshot import observe
    from pipelines.ports import quiet
    from pipelines.publish.lineage import lineage_of, release_with, sightings
    from pipelines.publish.project import Project

    opened = Project.open(project, quiet)
    if document is not None:
        out.print(sightings_table(document, sightings(opened, document)))
        return
    asked = opened.registry.release(release) if release else release_with(opened, adapter)
    for part in lineage_tables(lineage_of(opened, asked, observe(opened.workspace))):
        out.print(part)


@app.command()
@refusing
def metrics(project: ProjectFolder = HERE) -> None:
    """Print how the project stands, in Prometheus' text form."""
    prepare(project)
    from flows.metrics import text

    sys.stdout.write(text(project))


def _check(project: Path) -> None:
    """One line for a monitor."""
    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.standing import standing

    opened = Project.open(project, quiet)
    fresh = standing(opened, datetime.now(UTC)).freshness
    alarms = fresh.alarms(opened.workspace.params.freshness)
    out.print(plain("; ".join(alarms) or _freshness(fresh)), soft_wrap=True, highlight=False)
    if alarms:
        raise typer.Exit(4)


def _freshness(fresh: Any) -> str:
    from pipelines.observe.freshness import told

    age = fresh.source_age_seconds
    source = "" if age is None else f"; the newest change in the data folders is {told(age)} old"
    if fresh.stale_since is None:
        return f"current: {fresh.why}{source}"
    return f"{told(fresh.lag_seconds)} behind the data: {fresh.why}{source}"


def _tell_of_rollback(opened: Any, release: str, why: str) -> None:
    if opened.workspace.params.notify.blocks:
        make_prefect_home()
        from flows.notify import rolled_back

        rolled_back(opened.workspace.params.notify, release, why)


def _say_what_is_gone(opened: Any, release: Any, now: Any) -> None:
    """What a release's adapter has seen and is there no more."""
    from pipelines.publish.lineage import seen_and_gone
    from pipelines.publish.markdown import some

    if gone := seen_and_gone(opened, release.model, now):
        told = f"its adapter has seen {len(gone)} of the documents that are gone: {some(gone)}"
        out.print(f"{plain(told)}; `ragtide lineage` lists what went into it", soft_wrap=True)
