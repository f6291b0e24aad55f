"""Which commands use what is live? status, metrics, evaluate, ask, serve, ui, rollback, export, lineage."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ragtide.flows.cli.console import HERE, Port, ProjectFolder, escape_markup, out, report_errors
from ragtide.flows.environment import make_prefect_home, prepare_environment
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.save import ExportFormat

app = typer.Typer()


@app.command("status")
@report_errors
def status_command(
    check: Annotated[bool, typer.Option("--check", help="One line; exit code 4 past a limit of `freshness`.")] = False,
    project: ProjectFolder = HERE,
) -> None:
    """Say what is live, since when, from which data, and whether the data has moved since."""
    prepare_environment(project)
    if check:
        _check(project)
        return
    from rich.markdown import Markdown

    from ragtide.pipelines.data.diff import diff_snapshots as compare
    from ragtide.pipelines.data.documents import DocumentReader
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.history.freshness import measure_freshness, read_source_times
    from ragtide.pipelines.history.history import FILTERED_EXAMPLES, last_validated_cycle, live_since
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.reports.data import quarantine_markdown
    from ragtide.pipelines.reports.markdown import changes_markdown

    opened = Project.open(project, no_progress)
    workspace, registry = opened.workspace, opened.registry
    live = registry.champion()
    now, clock = take_snapshot(workspace), datetime.now(UTC)
    if quarantined := DocumentReader(workspace, now).quarantined:
        out.print(f"{len(quarantined)} documents cannot be read:")
        out.print(Markdown(quarantine_markdown(quarantined)))
    history = registry.history()
    if (last := last_validated_cycle(history)) and (lines := last.signals[FILTERED_EXAMPLES]):
        out.print(f"training lines left out at {last.name}: {lines:g}; `ragtide examples` lists those of now")
    if live is None:
        out.print("nothing is live yet: `ragtide plan` says what a first run would do, `ragtide run` does it")
        return
    table = Table(show_header=False, box=None)
    for name, value in (
        ("live release", f"{live.id}, since {live_since(live, history)}, by {live.decision}"),
        ("data", live.snapshot.id),
        ("index", f"version {live.index.version} (tag {live.index_tag}), {live.index.rows} chunks"),
        (
            "retriever",
            f"tuned {tuned.digest} from {tuned.base}" if (tuned := live.index.tuned_embedder) else "not tuned",
        ),
        ("model", f"{live.model.base} + {live.model.adapter or 'no adapter'}"),
        ("answer score", str(live.scorecard.answer_score)),
        ("before it", f"release {live.previous}" if live.previous else "nothing"),
        ("freshness", _freshness(measure_freshness(read_source_times(workspace, now, clock), live, history, clock))),
    ):
        table.add_row(f"[bold]{name}[/]", escape_markup(value))
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


@app.command("evaluate")
@report_errors
def evaluate_command(project: ProjectFolder = HERE) -> None:
    """Ask what is live the golden questions of now. The scores are a run in MLflow, with a row a question."""
    prepare_environment(project)
    from rich.markdown import Markdown

    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release import live_evaluation

    opened = Project.open(project, progress_bars)
    done = live_evaluation.evaluate_release(opened, opened.registry.live())
    out.print(Markdown(done.markdown))
    out.print(f"\nin MLflow (`ragtide ui` opens it): {done.address}", highlight=False, soft_wrap=True)


@app.command("ask")
@report_errors
def ask_command(question: str, project: ProjectFolder = HERE) -> None:
    """Answer a question from the live release, and name the sources."""
    prepare_environment(project)
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.serving import parse_question

    release, answer = Project.open(project, no_progress).ask(parse_question(question))
    out.print(answer.text, markup=False, highlight=False, soft_wrap=True)
    out.print(f"\n[dim]release {release.id}, from:[/]")
    for passage in answer.passages:
        where = passage.heading or f"part {passage.position + 1}"
        out.print(f"  {passage.document} · {where}", markup=False, soft_wrap=True)


@app.command("serve")
@report_errors
def serve_command(project: ProjectFolder = HERE, port: Port = 5001) -> None:
    """Answer questions over HTTP, on this machine only, from whatever release is live: `mlflow models serve`."""
    prepare_environment(project)

    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.registry.releases import CHAMPION

    opened = Project.open(project, no_progress)
    release, workspace = opened.assistant().release, opened.workspace
    out.print(f"release {release.id}: http://127.0.0.1:{port}/invocations (Ctrl-C stops it)", highlight=False)
    model = f"models:/{workspace.params.registry.model}@{CHAMPION}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # MLflow looks for uvicorn on the PATH, where a virtual environment that is not activated does not stand.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    told = {"MLFLOW_TRACKING_URI": workspace.tracking_uri, "RAGTIDE_PROJECT": str(workspace.root), "PATH": path}
    os.execve(sys.executable, command, os.environ | told)


@app.command("rollback")
@report_errors
def rollback_command(
    to: Annotated[str | None, typer.Option("--to", help="A release's number; without one, the release before.")] = None,
    why: Annotated[str, typer.Option("--why", help="Kept in the history.")] = "by hand",
    project: ProjectFolder = HERE,
) -> None:
    """Go back to an earlier release: index and model together, by one pointer."""
    prepare_environment(project)
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.lease import describe_holder
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.rollback import roll_back as go_back

    opened = Project.open(project, progress_bars)
    release = go_back(opened.registry, to, why, opened.check_servable)
    _tell_of_rollback(opened, release.id, why)
    out.print(f"release {release.id} is live: index {release.index_tag}, adapter {release.model.adapter or 'none'}")
    if at_work := describe_holder(opened.workspace.state):
        out.print(
            escape_markup(f"a run is at work ({at_work}): it publishes nothing over this release"), soft_wrap=True
        )
    try:
        _say_what_is_gone(opened, release, take_snapshot(opened.workspace))
    except UserError as problem:
        # It was gone back all the same: that is what the exit code says.
        out.print(
            escape_markup(f"what its adapter has seen of deleted documents is not known: {problem}"), soft_wrap=True
        )


@app.command("export")
@report_errors
def export_command(
    release: Annotated[str | None, typer.Argument(help="A release's number; without one, the live one.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="An empty or new folder; else below export/.")] = None,
    form: Annotated[ExportFormat, typer.Option("--format", help="Merged weights, or the adapter alone.")] = (
        ExportFormat.SAFETENSORS
    ),
    project: ProjectFolder = HERE,
) -> None:
    """Write a release's model into a folder, to be served elsewhere by transformers, vLLM, Ollama or llama.cpp."""
    prepare_environment(project)
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.export import export_release as write

    folder = write(Project.open(project, progress_bars), release, form, to)
    out.print(f"{folder}: README.md in it says how to use it", soft_wrap=True, highlight=False)


@app.command("lineage")
@report_errors
def lineage_command(
    adapter: Annotated[str | None, typer.Argument(help="An adapter's name; without one, the live release's.")] = None,
    release: Annotated[str | None, typer.Option(help="A release's number, in place of an adapter.")] = None,
    document: Annotated[str | None, typer.Option(help="Which releases' adapters have seen this document?")] = None,
    project: ProjectFolder = HERE,
) -> None:
    """List the examples and documents that went into an adapter, or the adapters that have seen a document."""
    prepare_environment(project)
    if sum(one is not None for one in (adapter, release, document)) > 1:
        raise UserError("an adapter, a release or a document: name one of them")
    from ragtide.flows.cli.lineage_view import lineage_tables, sightings_table
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.lineage import lineage_of, release_with_adapter, sightings

    opened = Project.open(project, no_progress)
    if document is not None:
        out.print(sightings_table(document, sightings(opened, document)))
        return
    asked = opened.registry.release(release) if release else release_with_adapter(opened, adapter)
    for part in lineage_tables(lineage_of(opened, asked, take_snapshot(opened.workspace))):
        out.print(part)


@app.command("metrics")
@report_errors
def metrics_command(project: ProjectFolder = HERE) -> None:
    """Print how the project stands, in Prometheus' text form."""
    prepare_environment(project)
    from ragtide.flows.prefect_server.metrics import metrics_text

    sys.stdout.write(metrics_text(project))


def _check(project: Path) -> None:
    """One line for a monitor."""
    from ragtide.pipelines.planning.status import project_status
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    opened = Project.open(project, no_progress)
    fresh = project_status(opened, datetime.now(UTC)).freshness
    alarms = fresh.alarms(opened.workspace.params.freshness)
    out.print(escape_markup("; ".join(alarms) or _freshness(fresh)), soft_wrap=True, highlight=False)
    if alarms:
        raise typer.Exit(4)


def _freshness(fresh: Any) -> str:
    from ragtide.pipelines.history.freshness import format_duration

    age = fresh.source_age_seconds
    source = "" if age is None else f"; the newest change in the data folders is {format_duration(age)} old"
    if fresh.stale_since is None:
        return f"current: {fresh.why}{source}"
    return f"{format_duration(fresh.lag_seconds)} behind the data: {fresh.why}{source}"


def _tell_of_rollback(opened: Any, release: str, why: str) -> None:
    if opened.workspace.params.notify.blocks:
        make_prefect_home()
        from ragtide.flows.prefect_server.notifications import notify_rollback

        notify_rollback(opened.workspace.params.notify, release, why)


def _say_what_is_gone(opened: Any, release: Any, now: Any) -> None:
    """What a release's adapter has seen and is there no more."""
    from ragtide.pipelines.release.lineage import deleted_seen_documents
    from ragtide.pipelines.reports.markdown import list_some

    if gone := deleted_seen_documents(opened, release.model, now):
        told = f"its adapter has seen {len(gone)} of the documents that are gone: {list_some(gone)}"
        out.print(f"{escape_markup(told)}; `ragtide lineage` lists what went into it", soft_wrap=True)
