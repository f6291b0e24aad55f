"""Commands about releases: status, evaluate, ask, serve, rollback, export, lineage, metrics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragtide.flows.cli.console import (
    HERE,
    AsJson,
    Port,
    ProjectFolder,
    Why,
    emit_json,
    out,
    print_parts,
    print_text,
    report_errors,
)
from ragtide.flows.environment import make_prefect_home, prepare_environment, protect_temporary_server
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.save import ExportFormat
from ragtide.pipelines.safe_text import escape_controls

if TYPE_CHECKING:
    from ragtide.pipelines.evaluation.assistant import Answer
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.records.release import Release

app = typer.Typer()


@app.command("status")
@report_errors
def status_command(
    check: Annotated[
        bool, typer.Option("--check", help="Print one line; exit code 4 if a limit of `freshness` is exceeded.")
    ] = False,
    as_json: AsJson = False,
    project: ProjectFolder = HERE,
) -> None:
    """Show the live release and how far it is behind the data."""
    prepare_environment(project)
    from ragtide.flows.cli.views.status import freshness_line, read_status, status_document, status_renderables
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    report = read_status(Project.open(project, no_progress))
    if as_json:
        emit_json("status", **status_document(report))
    elif check:
        # A monitor polls this: what it does not print is not read either.
        print_text("; ".join(report.alarms) or freshness_line(report.status.freshness))
    else:
        print_parts(status_renderables(report))
    if check and report.alarms:
        raise typer.Exit(4)


@app.command("evaluate")
@report_errors
def evaluate_command(as_json: AsJson = False, project: ProjectFolder = HERE) -> None:
    """Score the live release on the current golden questions.

    The scores are logged as an MLflow run with one row for each question.
    """
    prepare_environment(project)
    from rich.markdown import Markdown

    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release import live_evaluation

    opened = Project.open(project, progress_bars)
    release = opened.registry.live()
    evaluation = live_evaluation.evaluate_release(opened, release)
    if as_json:
        emit_json("evaluation", release=release.id, scorecard=evaluation.scorecard, mlflow=evaluation.address)
        return
    out.print(Markdown(evaluation.markdown))
    print_text(f"\nin MLflow (`ragtide ui` serves it): {evaluation.address}")


@app.command("ask")
@report_errors
def ask_command(
    question: Annotated[str, typer.Argument(help="The question.")],
    as_json: AsJson = False,
    project: ProjectFolder = HERE,
) -> None:
    """Answer a question from the live release and name the sources."""
    prepare_environment(project)
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.serving import parse_question

    asked = parse_question(question)
    release, answer = Project.open(project, no_progress).ask(asked)
    if as_json:
        emit_json("answer", release=release.id, question=asked, answer=answer.text, passages=answer.passages)
    else:
        _print_answer(release, answer)


def _print_answer(release: Release, answer: Answer) -> None:
    print_text(answer.text)
    out.print(f"\n[dim]release {release.id}, from:[/]")
    for passage in answer.passages:
        part = "overview" if passage.is_overview else passage.heading or f"part {passage.position + 1}"
        place = f"{passage.document} · {part}"
        # One line each: neither a name nor a heading begins another.
        print_text(f"  {escape_controls(place)}")


@app.command("serve")
@report_errors
def serve_command(project: ProjectFolder = HERE, port: Port = 5001) -> None:
    """Serve the live release over HTTP, on this machine only.

    Answers as `mlflow models serve` does; a release that becomes live later is served from then on.
    """
    prepare_environment(project)
    from ragtide.flows.services.answers import serve_answers
    from ragtide.pipelines.workspace import Workspace

    serve_answers(Workspace.open(project), port, print_text)


@app.command("rollback")
@report_errors
def rollback_command(
    to: Annotated[str | None, typer.Option("--to", help="Release number; default: the previous release.")] = None,
    why: Annotated[str, typer.Option("--why", help="Reason, stored in the history.")] = "by hand",
    project: ProjectFolder = HERE,
) -> None:
    """Make an earlier release live again, index and model together."""
    prepare_environment(project)
    from ragtide.pipelines.lease import describe_holder
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.rollback import roll_back

    opened = Project.open(project, progress_bars)
    release = roll_back(opened.registry, to, why, opened.check_servable)
    _notify_of_rollback(opened, release.id, why)
    print_text(f"release {release.id} is live: index {release.index_tag}, adapter {release.model.adapter or 'none'}")
    if holder := describe_holder(opened.workspace.state):
        print_text(f"another run is in progress ({holder}); it will not publish over this release")
    _print_deleted_seen(opened, release)


@app.command("release")
@report_errors
def release_command(
    without_adapter: Annotated[
        bool, typer.Option("--without-adapter", help="Release the live index with the base model alone.")
    ] = False,
    why: Why = None,
    as_json: AsJson = False,
    project: ProjectFolder = HERE,
) -> None:
    """Release the live parts in another combination, by hand."""
    if not without_adapter:
        raise UserError("name the combination to release: --without-adapter")
    prepare_environment(project)
    from ragtide.flows.cli.plan_and_run import run_by_hand

    run_by_hand(project, "DROP_ADAPTER", why, as_json)


def _notify_of_rollback(opened: Project, release: str, why: str) -> None:
    if opened.workspace.params.notify.blocks:
        make_prefect_home()
        protect_temporary_server()
        from ragtide.flows.prefect_server.notifications import notify_rollback

        notify_rollback(opened.workspace.params.notify, release, why)


def _print_deleted_seen(opened: Project, release: Release) -> None:
    """Name the deleted documents that a release's adapter has seen."""
    from ragtide.flows.cli.views.status import deleted_seen_renderables
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.release.lineage import deleted_seen_documents

    try:
        documents = deleted_seen_documents(opened, release.model, take_snapshot(opened.workspace))
    except UserError as problem:
        # The rollback succeeded all the same, which the exit code reports.
        print_text(f"cannot tell which deleted documents its adapter has seen: {problem}")
        return
    print_parts(deleted_seen_renderables(documents))


@app.command("export")
@report_errors
def export_command(
    release: Annotated[str | None, typer.Argument(help="Release number; default: the live release.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="New or empty folder; default: a folder below export/.")
    ] = None,
    form: Annotated[ExportFormat, typer.Option("--format", help="Merged weights, or the adapter alone.")] = (
        ExportFormat.SAFETENSORS
    ),
    project: ProjectFolder = HERE,
) -> None:
    """Write a release's model to a folder for other servers.

    transformers, vLLM, Ollama and llama.cpp's converter can read it.
    """
    prepare_environment(project)
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.release.export import export_release

    folder = export_release(Project.open(project, progress_bars), release, form, to)
    print_text(f"the model is in {folder}; README.md in it explains how to use it")


@app.command("lineage")
@report_errors
def lineage_command(
    adapter: Annotated[str | None, typer.Argument(help="Adapter's name; default: the live release's.")] = None,
    release: Annotated[str | None, typer.Option(help="Release number, instead of an adapter.")] = None,
    document: Annotated[str | None, typer.Option(help="List the releases whose adapters saw this document.")] = None,
    as_json: AsJson = False,
    project: ProjectFolder = HERE,
) -> None:
    """Show what an adapter was trained on, or which adapters saw a document."""
    prepare_environment(project)
    if sum(choice is not None for choice in (adapter, release, document)) > 1:
        raise UserError("name only one of these: an adapter, --release or --document")
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    opened = Project.open(project, no_progress)
    if document is not None:
        _show_sightings(opened, document, as_json)
    else:
        _show_lineage(opened, adapter, release, as_json)


def _show_sightings(opened: Project, document: str, as_json: bool) -> None:
    from ragtide.flows.cli.views.lineage import sightings_table
    from ragtide.pipelines.release.lineage import sightings

    seen = sightings(opened, document)
    if as_json:
        emit_json("sightings", document=document, releases=seen)
    else:
        print_parts([sightings_table(document, seen)])


def _show_lineage(opened: Project, adapter: str | None, release_id: str | None, as_json: bool) -> None:
    from ragtide.flows.cli.views.lineage import lineage_tables
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.release.lineage import lineage_of, release_with_adapter

    release = opened.registry.release(release_id) if release_id else release_with_adapter(opened, adapter)
    lineage = lineage_of(opened, release, take_snapshot(opened.workspace))
    if as_json:
        emit_json("lineage", lineage=lineage)
        return
    print_parts(lineage_tables(lineage))


@app.command("metrics")
@report_errors
def metrics_command(project: ProjectFolder = HERE) -> None:
    """Print the project's metrics in Prometheus' text format."""
    prepare_environment(project)
    from ragtide.flows.prefect_server.metrics import metrics_text

    sys.stdout.write(escape_controls(metrics_text(project), keep="\n"))
