"""Which commands decide and act? plan, run, history, policies, replay."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.padding import Padding
from rich.table import Table

from flows.console import HERE, ProjectFolder, out, plain, refusing
from flows.environment import make_prefect_home, prepare
from flows.progress import bars
from pipelines.errors import RefusalError, UnavailableError, one_line

if TYPE_CHECKING:
    from pipelines.records import Cycle

app = typer.Typer()


class SaidOnce(logging.Filter):
    """Keeps Prefect from logging a refusal with its traceback: the command says it in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        return not any(kind.__name__ in said for kind in (RefusalError, UnavailableError))


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
    if made.asks:
        what = made.decision.proposed or f"{len(made.asked_removals)} removals"
        out.print(f"\nplan {digest} holds {what} back: `ragtide approve {digest}` says yes to it, `ragtide reject` no.")
    if made.decision.action.builds:
        out.print(f"\nplan {digest}: `ragtide run --plan {digest}` does just this, or nothing if the world has moved.")
    if not made.asks and not made.decision.action.builds:
        out.print(f"\nplan {digest}: there is nothing to do.")


@app.command()
@refusing
def run(
    plan_digest: Annotated[str | None, typer.Option("--plan", help="Carry out exactly this plan, or nothing.")] = None,
    project: ProjectFolder = HERE,
) -> None:
    """Do what the plan says: observe, decide, build, prove, publish."""
    prepare(project)
    from pipelines.publish.plan import read_plan
    from pipelines.publish.project import Project

    # No project, or no such plan, is said before anything is made.
    opened = Project.open(project, bars)
    if plan_digest is not None:
        read_plan(opened, plan_digest)
    make_prefect_home()
    from flows.keep_current import keep_current
    from flows.notify import check

    check(opened.workspace.params.notify)

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(SaidOnce())
    with _reaching_prefect():
        cycle = keep_current(project=str(project), plan=plan_digest)
    out.print(f"[bold]{cycle.decision}[/]: {plain(cycle.reason)}")
    out.print(
        f"{cycle.outcome}; score {_score(cycle.score_before)} -> {_score(cycle.score_after)}; {cycle.seconds:.0f} s"
    )
    if cycle.outcome.startswith("refused"):
        raise typer.Exit(5)  # 2 is what the command line itself says to a word that it does not know.
    if read_plan(opened, cycle.plan).asks:
        out.print(f"something waits: `ragtide approve {cycle.plan}` or `ragtide reject {cycle.plan} --why TEXT`")
        raise typer.Exit(3)


@contextmanager
def _reaching_prefect() -> Iterator[None]:
    """Tell in one line where it is Prefect's server that is away. What was done by then is whole; the rest is not."""
    from httpx import HTTPError

    try:
        yield
    except (HTTPError, RuntimeError) as problem:
        said = one_line(problem)
        if not isinstance(problem, HTTPError) and "API" not in said:
            raise
        raise UnavailableError(
            f"Prefect's server does not answer: {said}; see PREFECT_API_URL, or run again"
        ) from problem


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
    for cycle in cycles:
        out.print(turn_told(cycle))


def turn_told(cycle: Cycle) -> Group:
    """A turn of the loop: what was done, and below it why, which may be long."""
    parts = [f"[dim]{cycle.at[:16].replace('T', ' ')}[/]", f"[bold]{plain(cycle.decision)}[/]", plain(cycle.outcome)]
    if cycle.score_after is not None:
        parts.append(f"score {_score(cycle.score_before)} -> {_score(cycle.score_after)}")
    return Group("  ".join([*parts, f"{cycle.seconds:.0f} s"]), Padding(plain(cycle.reason), (0, 0, 1, 4)))


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
        table.add_row("→" if name == chosen else "", plain(name), plain(about(name)))
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


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
