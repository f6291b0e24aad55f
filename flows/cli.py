"""The `ragtide` command: look, decide, run, ask, go back. Each command imports the heavy libraries that it needs."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows.environment import end_in_order, leave, make_prefect_home, prepare
from flows.progress import bars
from pipelines.build.merge import Format, Precision
from pipelines.errors import RefusalError

app = typer.Typer(
    help="Keeps the index and the fine-tuned model of a question-answering assistant current.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

ProjectFolder = Annotated[Path, typer.Option("--project", "-p", help="The project's folder.", envvar="RAGTIDE_PROJECT")]
HERE = Path()
TEMPLATES = ("params.yaml", "dvc.yaml", "prefect.yaml")


class Stage(StrEnum):
    INDEX = "index"
    FINETUNE = "finetune"
    SCORE = "score"


def refusing(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a RefusalError into one clear line and exit code 1."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except RefusalError as problem:
            err.print(f"[bold red]ragtide:[/] {_plain(str(problem))}", soft_wrap=True, highlight=False)
            raise typer.Exit(1) from None

    return wrapped


class SaidOnce(logging.Filter):
    """Keeps Prefect from logging a refusal with its traceback: the command says it in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        return RefusalError.__name__ not in record.getMessage()


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def main() -> None:
    """Entry point of the `ragtide` script."""
    end_in_order()
    try:
        app()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else int(bool(end.code)))


@app.command()
@refusing
def init(folder: Annotated[Path, typer.Argument(help="Where the project is to be.")] = HERE) -> None:
    """Make a project: params.yaml, dvc.yaml, prefect.yaml and the three data folders. Existing files stay."""
    prepare(folder)
    from pipelines.observe.snapshot import ensure_repository

    folder.mkdir(parents=True, exist_ok=True)
    for name in TEMPLATES:
        if not (folder / name).exists():
            shutil.copy(_template(name), folder / name)
    for name in ("kb", "train", "golden"):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
    _ignore(folder / ".gitignore", [".ragtide/", "artifacts/", "export/"])
    ensure_repository(folder)
    out.print(
        f"{folder.resolve()} is a project. Put documents into data/kb, examples into data/train, golden questions"
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
def plan(project: ProjectFolder = HERE) -> None:
    """Say what `run` would do, why, and what it would cost. Changes neither data nor index nor what is live."""
    prepare(project)
    from flows.decision_view import decision_renderables
    from pipelines.observe.snapshot import observe
    from pipelines.publish.plan import keep_plan, make_plan
    from pipelines.publish.project import Project

    opened = Project.open(project, bars)
    made = make_plan(opened, opened.corpus(observe(opened.workspace)))
    digest = keep_plan(opened, made)
    for part in decision_renderables(made.evidence, made.decision):
        out.print(part)
    if made.decision.proposed:
        out.print(f"\nplan {digest} holds {made.decision.proposed} back: `ragtide approve {digest}` says yes to it.")
    if made.decision.action.builds:
        out.print(f"\nplan {digest}: `ragtide run --plan {digest}` does just this, or nothing if the world has moved.")
    if not made.decision.proposed and not made.decision.action.builds:
        out.print(f"\nplan {digest}: there is nothing to do.")


@app.command()
@refusing
def run(
    plan_digest: Annotated[str | None, typer.Option("--plan", help="Carry out exactly this plan, or nothing.")] = None,
    project: ProjectFolder = HERE,
) -> None:
    """Do what the plan says: observe, decide, build, prove, publish."""
    prepare(project)
    from pipelines.workspace import Workspace

    Workspace.open(project)  # Says so where there is no project, before anything is made.
    make_prefect_home()
    from flows.keep_current import keep_current

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(SaidOnce())
    cycle = keep_current(project=str(project), plan=plan_digest)
    out.print(f"[bold]{cycle.decision}[/]: {_plain(cycle.reason)}")
    out.print(
        f"{cycle.outcome}; score {_score(cycle.score_before)} -> {_score(cycle.score_after)}; {cycle.seconds:.0f} s"
    )
    if cycle.outcome.startswith("refused"):
        raise typer.Exit(2)


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
        out.print(f"[green]mended[/] {_plain(f'{one.where}: {one.what}: {one.remedy}')}", soft_wrap=True)
    for one, remedy in left:
        out.print(f"[red]{_plain(one.where)}[/]: {_plain(one.what)}: {_plain(remedy)}", soft_wrap=True)
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
        out.print(f"[bold]{step.step}[/]: {'done' if step.done else 'not done'}: {_plain(step.why)}", soft_wrap=True)


@app.command()
@refusing
def ask(question: str, project: ProjectFolder = HERE) -> None:
    """Answer a question from the live release, and name the sources."""
    prepare(project)
    from pipelines.ports import quiet
    from pipelines.publish.project import Project

    release, answer = Project.open(project, quiet).ask(question)
    out.print(answer.text, markup=False, highlight=False, soft_wrap=True)
    out.print(f"\n[dim]release {release.id}, from:[/]")
    for passage in answer.passages:
        where = passage.heading or f"part {passage.position + 1}"
        out.print(f"  {passage.document} · {where}", markup=False, soft_wrap=True)


@app.command()
@refusing
def status(project: ProjectFolder = HERE) -> None:
    """Say what is live, since when, from which data, and whether the data has moved since."""
    prepare(project)
    from rich.markdown import Markdown

    from pipelines.observe.diff import diff as compare
    from pipelines.observe.documents import Library
    from pipelines.observe.past import LEFT_OUT, last_look, live_since
    from pipelines.observe.snapshot import observe
    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.report import changes_markdown, set_aside_markdown

    opened = Project.open(project, quiet)
    workspace, registry = opened.workspace, opened.registry
    live = registry.champion()
    now = observe(workspace)
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
    ):
        table.add_row(f"[bold]{name}[/]", _plain(value))
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
        table.add_row(*map(_plain, (one.where, one.kind, one.why)))
    for one in corpus.contested:
        table.add_row(_plain(one.where), f"{one.kind}, kept", _plain(one.why))
    for orphan in corpus.orphans:
        table.add_row(_plain(orphan.where), "no page", _plain(f"{orphan.doc} is gone, or holds no text"))
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
def history(project: ProjectFolder = HERE) -> None:
    """List what was decided each time, why, and what came of it."""
    prepare(project)
    from pipelines.publish.registry import Registry
    from pipelines.workspace import Workspace

    cycles = Registry(Workspace.open(project)).history()
    if not cycles:
        out.print("no runs yet")
        return
    out.print(history_table(cycles))


def history_table(cycles: list[Any]) -> Table:
    """A row a turn of the loop."""
    table = Table("when (UTC)", "decision", "outcome", "score", "took")
    table.add_column("why", ratio=1)
    for cycle in cycles:
        score = f"{_score(cycle.score_before)} -> {_score(cycle.score_after)}" if cycle.score_after is not None else ""
        table.add_row(
            cycle.at[:16].replace("T", " "),
            cycle.decision,
            _plain(cycle.outcome),
            score,
            f"{cycle.seconds:.0f} s",
            _plain(cycle.reason),
        )
    return table


@app.command()
@refusing
def policies(project: ProjectFolder = HERE) -> None:
    """List the policies that `policy.name` can name, and the one that decides now."""
    from pipelines.decide.known import about, known_policies, load_policy
    from pipelines.workspace import Workspace

    chosen = Workspace.open(project).params.policy.name
    load_policy(chosen)
    table = Table("", "policy", "what it goes by")
    for name in dict.fromkeys([*known_policies(), chosen]):
        table.add_row("→" if name == chosen else "", _plain(name), _plain(about(name)))
    out.print(table)


@app.command()
@refusing
def replay(
    policy: Annotated[list[str] | None, typer.Option(help="A policy of `ragtide policies`; without one, all.")] = None,
    project: ProjectFolder = HERE,
) -> None:
    """Say what other policies would have decided on the recorded turns, each with the evidence that it had."""
    prepare(project)
    from flows.replay_view import totals_table, turns_table, whys
    from pipelines.decide.known import known_policies
    from pipelines.ports import quiet
    from pipelines.publish.project import Project
    from pipelines.publish.replay import recorded_turns, total
    from pipelines.publish.replay import replay as play

    opened = Project.open(project, quiet)
    params, recorded = opened.workspace.params.policy, recorded_turns(opened)
    names = policy or list(known_policies())
    played = {name: play(recorded, params.model_copy(update={"name": name})) for name in names}
    for name, turns in played.items() if policy else ():
        out.print(turns_table(name, turns), *whys(turns), sep="\n")
    out.print(totals_table([total(name, turns) for name, turns in played.items()], next(iter(played.values()))))
    out.print(
        "Each turn is taken from what was really live then. Where a policy decides as was decided, what really came of "
        "it counts; elsewhere the forecast and the expected gain.",
        style="dim",
    )


@app.command()
@refusing
def rollback(
    to: Annotated[str | None, typer.Option("--to", help="A release's number; without one, the release before.")] = None,
    why: Annotated[str, typer.Option("--why", help="Kept in the history.")] = "by hand",
    project: ProjectFolder = HERE,
) -> None:
    """Go back to an earlier release: index and model together, by one pointer."""
    prepare(project)
    from pipelines.observe.snapshot import observe
    from pipelines.publish.project import Project
    from pipelines.publish.release import rollback as go_back

    opened = Project.open(project, bars)
    with opened.workspace.writing():
        release = go_back(opened.registry, to, why, opened.serves)
    out.print(f"release {release.id} is live: index {release.index_tag}, adapter {release.model.adapter or 'none'}")
    _say_what_is_gone(opened, release, observe(opened.workspace))


@app.command()
@refusing
def export(
    release: Annotated[str | None, typer.Argument(help="A release's number; without one, the live one.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="An empty or new folder; else below export/.")] = None,
    form: Annotated[Format, typer.Option("--format", help="Merged weights, one GGUF file, or the adapter alone.")] = (
        Format.SAFETENSORS
    ),
    quantize: Annotated[Precision, typer.Option(help="How a GGUF file's weights are written.")] = Precision.F16,
    project: ProjectFolder = HERE,
) -> None:
    """Write a release's model into a folder, to be served elsewhere by transformers, vLLM or llama.cpp."""
    prepare(project)
    from pipelines.build.merge import Form
    from pipelines.publish.export import export as write
    from pipelines.publish.project import Project

    folder = write(Project.open(project, bars), release, Form(form, quantize), to)
    out.print(f"{folder}: README.md in it says how to use it", soft_wrap=True, highlight=False)


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


@app.command()
@refusing
def ui(project: ProjectFolder = HERE, port: int = 5000) -> None:
    """Open MLflow on this project's runs and releases, on this machine only."""
    prepare(project)
    import os

    from pipelines.workspace import Workspace

    workspace = Workspace.open(project)
    out.print(f"MLflow: http://127.0.0.1:{port} (Ctrl-C stops it)")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", workspace.tracking_uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execve(sys.executable, command, os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})


@app.command()
@refusing
def serve(project: ProjectFolder = HERE, port: int = 5001) -> None:
    """Answer questions over HTTP, on this machine only, from whatever release is live: `mlflow models serve`."""
    prepare(project)
    import os

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


def _say_what_is_gone(opened: Any, release: Any, now: Any) -> None:
    """What a release's adapter has seen and is there no more."""
    from pipelines.publish.lineage import seen_and_gone
    from pipelines.publish.markdown import some

    if gone := seen_and_gone(opened, release.model, now):
        told = f"its adapter has seen {len(gone)} of the documents that are gone: {some(gone)}"
        out.print(f"{_plain(told)}; `ragtide lineage` lists what went into it", soft_wrap=True)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _kept_snapshot(workspace: Any, snapshot_id: str) -> Any:
    from pipelines.records import Snapshot

    path = workspace.snapshot_file(snapshot_id)
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.json"))[:5]) or "none yet"
        raise RefusalError(f"there is no snapshot {snapshot_id}; known: {known}")
    return Snapshot.read(path)


def _template(name: str) -> Path:
    """At the root of a checkout; beside the packages where Ragtide is installed from a wheel."""
    root = Path(__file__).parent.parent
    return root / name if (root / "pyproject.toml").is_file() else root / "ragtide_templates" / name


def _ignore(path: Path, lines: list[str]) -> None:
    known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    new = [line for line in lines if line not in known]
    if new:
        path.write_text("\n".join([*known, *new]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
