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

from ragtide.flows.cli.console import HERE, ProjectFolder, escape_markup, out, report_errors
from ragtide.flows.environment import make_prefect_home, prepare_environment
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.errors import UnavailableError, UserError, summarize_error

if TYPE_CHECKING:
    from ragtide.pipelines.records.release import Cycle

app = typer.Typer()


class ErrorLogFilter(logging.Filter):
    """Keeps Prefect from logging a refusal with its traceback: the command says it in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        return not any(kind.__name__ in said for kind in (UserError, UnavailableError))


@app.command("plan")
@report_errors
def plan_command(project: ProjectFolder = HERE) -> None:
    """Say what `run` would do, why, and what it would cost. Changes neither data nor index nor what is live."""
    prepare_environment(project)
    from ragtide.flows.cli.decision_view import decision_renderables
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.planning.plan import make_plan, save_plan
    from ragtide.pipelines.project import Project

    opened = Project.open(project, progress_bars)
    made = make_plan(opened, opened.corpus(take_snapshot(opened.workspace)))
    digest = save_plan(opened, made)
    for part in decision_renderables(made):
        out.print(part)
    if made.needs_approval:
        what = made.decision.proposed or f"{len(made.deletions_to_approve)} removals"
        out.print(f"\nplan {digest} holds {what} back: `ragtide approve {digest}` says yes to it, `ragtide reject` no.")
    if made.decision.action.builds:
        out.print(f"\nplan {digest}: `ragtide run --plan {digest}` does just this, or nothing if the world has moved.")
    if not made.needs_approval and not made.decision.action.builds:
        out.print(f"\nplan {digest}: there is nothing to do.")


@app.command("run")
@report_errors
def run_command(
    plan_digest: Annotated[str | None, typer.Option("--plan", help="Carry out exactly this plan, or nothing.")] = None,
    project: ProjectFolder = HERE,
) -> None:
    """Do what the plan says: observe, decide, build, prove, publish."""
    prepare_environment(project)
    from ragtide.pipelines.planning.plan import read_plan
    from ragtide.pipelines.project import Project

    # No project, or no such plan, is said before anything is made.
    opened = Project.open(project, progress_bars)
    if plan_digest is not None:
        read_plan(opened, plan_digest)
    make_prefect_home()
    from ragtide.flows.keep_current import keep_current
    from ragtide.flows.prefect_server.notifications import check_blocks
    from ragtide.pipelines.records.release import Outcome
    from ragtide.pipelines.reports.wording import describe_outcome

    check_blocks(opened.workspace.params.notify)

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(ErrorLogFilter())
    with _reaching_prefect():
        cycle = keep_current(project=str(project), plan=plan_digest)
    out.print(f"[bold]{cycle.decision}[/]: {escape_markup(cycle.reason)}")
    out.print(
        f"{describe_outcome(cycle)}; score {_score(cycle.score_before)} -> {_score(cycle.score_after)}; {cycle.seconds:.0f} s"
    )
    if cycle.outcome is Outcome.REJECTED:
        raise typer.Exit(5)  # 2 is what the command line itself says to a word that it does not know.
    if read_plan(opened, cycle.plan).needs_approval:
        out.print(f"something waits: `ragtide approve {cycle.plan}` or `ragtide reject {cycle.plan} --why TEXT`")
        raise typer.Exit(3)


@contextmanager
def _reaching_prefect() -> Iterator[None]:
    """Tell in one line where it is Prefect's server that is away. What was done by then is whole; the rest is not."""
    from httpx import HTTPError

    try:
        yield
    except (HTTPError, RuntimeError) as problem:
        said = summarize_error(problem)
        if not isinstance(problem, HTTPError) and "API" not in said:
            raise
        raise UnavailableError(
            f"Prefect's server does not answer: {said}; see PREFECT_API_URL, or run again"
        ) from problem


@app.command("history")
@report_errors
def history_command(project: ProjectFolder = HERE) -> None:
    """List what was decided each time, why, and what came of it."""
    prepare_environment(project)
    from ragtide.pipelines.registry.releases import Registry
    from ragtide.pipelines.workspace import Workspace

    cycles = Registry(Workspace.open(project)).history()
    if not cycles:
        out.print("no runs yet")
        return
    for cycle in cycles:
        out.print(cycle_lines(cycle))


def cycle_lines(cycle: Cycle) -> Group:
    """A turn of the loop: what was done, and below it why, which may be long."""
    from ragtide.pipelines.reports.wording import describe_outcome

    parts = [
        f"[dim]{cycle.at[:16].replace('T', ' ')}[/]",
        f"[bold]{escape_markup(cycle.decision)}[/]",
        escape_markup(describe_outcome(cycle)),
    ]
    if cycle.score_after is not None:
        parts.append(f"score {_score(cycle.score_before)} -> {_score(cycle.score_after)}")
    return Group("  ".join([*parts, f"{cycle.seconds:.0f} s"]), Padding(escape_markup(cycle.reason), (0, 0, 1, 4)))


@app.command("policies")
@report_errors
def policies_command(project: ProjectFolder = HERE) -> None:
    """List the policies that `policy.name` can name, and the one that decides now."""
    from ragtide.pipelines.policy.registry import describe_policy, known_policies, load_policy
    from ragtide.pipelines.workspace import Workspace

    chosen = Workspace.open(project).params.policy.name
    load_policy(chosen)
    table = Table("", "policy", "what it goes by")
    for name in dict.fromkeys([*known_policies(), chosen]):
        table.add_row("→" if name == chosen else "", escape_markup(name), escape_markup(describe_policy(name)))
    out.print(table)


@app.command("replay")
@report_errors
def replay_command(
    policy: Annotated[list[str] | None, typer.Option(help="A policy of `ragtide policies`; without one, all.")] = None,
    project: ProjectFolder = HERE,
) -> None:
    """Say what other policies would have decided on the recorded turns, each with the evidence that it had."""
    prepare_environment(project)
    from ragtide.flows.cli.replay_view import cycles_table, reasons_for_changes, totals_table
    from ragtide.pipelines.planning.policy_replay import recorded_cycles, replay_total
    from ragtide.pipelines.planning.policy_replay import replay_policy as play
    from ragtide.pipelines.policy.registry import known_policies
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    opened = Project.open(project, no_progress)
    params, recorded = opened.workspace.params.policy, recorded_cycles(opened)
    names = policy or list(known_policies())
    played = {name: play(recorded, params.model_copy(update={"name": name})) for name in names}
    for name, turns in played.items() if policy else ():
        out.print(cycles_table(name, turns), *reasons_for_changes(turns), sep="\n")
    out.print(totals_table([replay_total(name, turns) for name, turns in played.items()], next(iter(played.values()))))
    out.print(
        "Each turn is taken from what was really live then. Where a policy decides as was decided, what really came of "
        "it counts; elsewhere the forecast and the expected gain.",
        style="dim",
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
