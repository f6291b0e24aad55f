"""Commands that decide and act: plan, run, history, policies, replay."""

from __future__ import annotations

import os
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.padding import Padding
from rich.table import Table

from ragtide.flows.cli.console import (
    HERE,
    AsJson,
    ProjectFolder,
    Why,
    emit_json,
    escape_markup,
    minute_of,
    out,
    pending_approval,
    print_parts,
    print_text,
    report_errors,
)
from ragtide.flows.environment import (
    make_prefect_home,
    prepare_environment,
    protect_temporary_server,
)
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.disk import RUN_BYTES, require_space
from ragtide.pipelines.errors import UserError

if TYPE_CHECKING:
    from ragtide.pipelines.planning.by_hand import Request
    from ragtide.pipelines.planning.policy_replay import ReplayedCycle
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.records.decision import Plan
    from ragtide.pipelines.records.release import Cycle

app = typer.Typer()


@app.command("plan")
@report_errors
def plan_command(as_json: AsJson = False, project: ProjectFolder = HERE) -> None:
    """Show what `run` would do, why, and what it would cost.

    Changes neither the data nor the index nor the live release.
    """
    prepare_environment(project)
    from ragtide.pipelines.data.snapshot import take_snapshot
    from ragtide.pipelines.planning.plan import save_plan
    from ragtide.pipelines.planning.reuse import make_current_plan
    from ragtide.pipelines.project import Project

    opened = Project.open(project, progress_bars)
    current = make_current_plan(opened, take_snapshot(opened.workspace), opened.corpus)
    plan, measured_in = current.plan, current.measured_in
    digest = save_plan(opened, plan)
    if as_json:
        emit_json("plan", digest=digest, plan=plan, pending_approval=pending_approval(plan), measured_in=measured_in)
        return
    _print_plan(plan, digest)
    if measured_in:
        print_text(f"nothing has changed since {measured_in}: its evidence is reused")


def _print_plan(plan: Plan, digest: str) -> None:
    from ragtide.flows.cli.views.decision import decision_renderables
    from ragtide.pipelines.reports.wording import approval_subject

    print_parts(decision_renderables(plan))
    print_text("")
    if plan.needs_approval:
        what = approval_subject(plan)
        print_text(
            f"plan {digest}: approval needed for {what}: "
            f"`ragtide approve {digest}` approves, `ragtide reject {digest} --why TEXT` declines"
        )
    if plan.decision.action.builds:
        print_text(
            f"plan {digest}: `ragtide run --plan {digest}` runs exactly this plan; "
            "it fails if data, params or the live release changed"
        )
    if not plan.needs_approval and not plan.decision.action.builds:
        print_text(f"plan {digest}: there is nothing to do")


@app.command("run")
@report_errors
def run_command(
    plan_digest: Annotated[
        str | None,
        typer.Option("--plan", help="Run exactly this plan; fails if data, params or the live release changed."),
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="Run this action by hand, whatever the policy says; needs --why.")
    ] = None,
    why: Why = None,
    as_json: AsJson = False,
    project: ProjectFolder = HERE,
) -> None:
    """Run one cycle: observe, decide, build, prove, publish.

    The exit code is 3 if something needs approval, and 5 if the gate rejected the candidate.
    """
    if plan_digest is not None and action is not None:
        raise UserError("name only one of these: --plan or --action")
    prepare_environment(project)
    if action is not None:
        run_by_hand(project, action, why, as_json)
    else:
        _run(project, as_json, plan_digest)


def _run(project: Path, as_json: bool, plan_digest: str | None = None, request: Request | None = None) -> None:
    from ragtide.pipelines.planning.plan import read_plan
    from ragtide.pipelines.project import Project
    from ragtide.pipelines.records.release import Outcome

    # A missing project or plan is an error before anything is created.
    opened = Project.open(project, progress_bars)
    if plan_digest is not None:
        read_plan(opened, plan_digest)
    cycle = _run_cycle(opened, project, plan_digest, request)
    plan = read_plan(opened, cycle.plan)
    if as_json:
        emit_json("run", cycle=cycle, plan=cycle.plan, pending_approval=pending_approval(plan))
    else:
        _print_outcome(cycle)
    if cycle.outcome is Outcome.REJECTED:
        raise typer.Exit(5)  # 2 is the code of a usage error.
    if plan.needs_approval:
        if not as_json:
            print_text(f"approval needed: `ragtide approve {cycle.plan}` or `ragtide reject {cycle.plan} --why TEXT`")
        raise typer.Exit(3)


def run_by_hand(project: Path, action: str, why: str | None, as_json: bool) -> None:
    """Run one cycle with the action that a person asks for; the exit codes are those of `run`."""
    from ragtide.pipelines.planning.by_hand import parse_request

    try:
        user = getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        user = f"user {os.getuid()}"
    _run(project, as_json, request=parse_request(action, why, user))


def _run_cycle(opened: Project, project: Path, plan_digest: str | None, request: Request | None) -> Cycle:
    require_space(opened.workspace.state, RUN_BYTES, "a run")
    make_prefect_home()
    protect_temporary_server()
    from ragtide.flows.prefect_server.temporary import one_line_errors, require_sound_database

    require_sound_database()
    from ragtide.flows.keep_current import keep_current
    from ragtide.flows.prefect_server.notifications import check_blocks

    check_blocks(opened.workspace.params.notify)
    with one_line_errors():
        return keep_current(project=str(project), plan=plan_digest, request=request)


def _print_outcome(cycle: Cycle) -> None:
    from ragtide.pipelines.reports.wording import describe_outcome

    out.print(f"[bold]{cycle.decision}[/]: {escape_markup(cycle.reason)}")
    out.print("; ".join([escape_markup(describe_outcome(cycle)), *_scores(cycle), f"{cycle.seconds:.0f} s"]))


@app.command("history")
@report_errors
def history_command(as_json: AsJson = False, project: ProjectFolder = HERE) -> None:
    """List past cycles with their decisions and outcomes."""
    prepare_environment(project)
    from ragtide.pipelines.registry.releases import Registry
    from ragtide.pipelines.workspace import Workspace

    cycles = Registry(Workspace.open(project)).history()
    if as_json:
        emit_json("history", cycles=cycles)
        return
    if not cycles:
        print_text("no cycle has run yet: `ragtide run` runs the first")
    for cycle in cycles:
        out.print(cycle_lines(cycle))


def cycle_lines(cycle: Cycle) -> Group:
    """A cycle in a line, with the reason of its decision below, which may be long."""
    from ragtide.pipelines.reports.wording import describe_outcome

    parts = [
        f"[dim]{minute_of(cycle.at)}[/]",
        f"[bold]{escape_markup(cycle.decision)}[/]",
        escape_markup(describe_outcome(cycle)),
        *_scores(cycle),
        f"{cycle.seconds:.0f} s",
    ]
    return Group("  ".join(parts), Padding(escape_markup(cycle.reason), (0, 0, 1, 4)))


@app.command("policies")
@report_errors
def policies_command(as_json: AsJson = False, project: ProjectFolder = HERE) -> None:
    """List the decision policies and mark the active one.

    The setting `policy.name` selects the active one.
    """
    from ragtide.pipelines.policy.registry import describe_policy, known_policies, load_policy
    from ragtide.pipelines.workspace import Workspace

    active = Workspace.open(project).params.policy.name
    load_policy(active)
    policies = {name: describe_policy(name) for name in dict.fromkeys([*known_policies(), active])}
    if as_json:
        emit_json("policies", active=active, policies=policies)
        return
    table = Table("", "policy", "what it does")
    for name, description in policies.items():
        table.add_row("→" if name == active else "", escape_markup(name), escape_markup(description))
    out.print(table)


@app.command("replay")
@report_errors
def replay_command(
    policy: Annotated[
        list[str] | None, typer.Option(help="Policy to replay, from `ragtide policies`; repeatable; default: all.")
    ] = None,
    as_json: AsJson = False,
    project: ProjectFolder = HERE,
) -> None:
    """Show what other policies would have decided in recorded cycles.

    Each cycle is decided with the evidence that was recorded for it. With `--policy`, each cycle is listed.
    """
    prepare_environment(project)
    from ragtide.pipelines.planning.policy_replay import recorded_cycles, replay_policy, replay_total
    from ragtide.pipelines.policy.registry import known_policies
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    opened = Project.open(project, no_progress)
    params, recorded = opened.workspace.params.policy, recorded_cycles(opened)
    replays = {
        name: replay_policy(recorded, params.model_copy(update={"name": name})) for name in policy or known_policies()
    }
    if as_json:
        totals = [replay_total(name, cycles) for name, cycles in replays.items()]
        emit_json("replay", totals=totals, cycles=replays)
    else:
        _print_replays(replays, list_cycles=bool(policy))


def _print_replays(replays: dict[str, list[ReplayedCycle]], list_cycles: bool) -> None:
    from ragtide.flows.cli.views.replay import cycles_table, reasons_for_changes, totals_table
    from ragtide.pipelines.planning.policy_replay import replay_total

    if list_cycles:
        for name, cycles in replays.items():
            out.print(cycles_table(name, cycles), *reasons_for_changes(cycles), sep="\n")
    totals = [replay_total(name, cycles) for name, cycles in replays.items()]
    out.print(totals_table(totals, next(iter(replays.values()))))
    out.print(
        "Each cycle starts from the release that was live then. Where a policy decides as was decided, the measured "
        "points and seconds count; elsewhere the expected gain and the forecast.",
        style="dim",
    )


def _scores(cycle: Cycle) -> list[str]:
    """The scores before and after a cycle that has built something."""
    if cycle.score_after is None:
        return []
    return [f"score {'-' if cycle.score_before is None else f'{cycle.score_before:.2f}'} -> {cycle.score_after:.2f}"]
