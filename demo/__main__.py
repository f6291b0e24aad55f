"""What does Ragtide decide over four quarters? `python -m demo` walks through them in a project of its own, .demo."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from demo.pages import (
    AnswerFormat,
    golden_rows,
    quarters,
    render_pages,
    training_rows,
    write_golden,
    write_pages,
    write_training,
)
from ragtide.flows.environment import exit_on_sigterm, make_prefect_home, prepare_environment
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.reports.wording import describe_outcome

QUESTION = "What is the latest release of Node.js 22?"


@dataclass(frozen=True)
class Step:
    """What happens to the data before a turn of the loop."""

    title: str
    what: str
    happen: Callable[[Path], None]


@dataclass(frozen=True)
class Told:
    """A step and what came of it."""

    step: Step
    cycle: Cycle
    answer: str
    seconds: float


def main() -> None:
    """Walk through the steps, and say how to look at what they left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=Path(".demo"), help="made anew (default: .demo)")
    project = parser.parse_args().project
    console = Console()
    exit_on_sigterm()
    walk(project, console)
    console.print("To look at every run, decision and release:\n")
    console.print(
        f"    {Path(sys.executable).parent / 'ragtide'} ui --project {project}\n", highlight=False, soft_wrap=True
    )


def walk(project: Path, console: Console) -> list[Told]:
    """Take every step in a new project at `project`, and end in a table."""
    started = time.perf_counter()
    _make_project(project, console)
    told = [_take(step, number, project, console) for number, step in enumerate(steps(), start=1)]
    console.print(_table(told))
    console.print(f"\n{time.perf_counter() - started:.0f} s in all.", highlight=False)
    return told


def steps() -> list[Step]:
    """Four quarters of facts, the same data once more, and a change of what an answer should look like."""
    first, second, third, fourth = quarters()
    what = (
        f"{len(render_pages(first))} pages, {len(training_rows(first))} examples, {len(golden_rows(first))} questions"
    )
    return [
        Step(f"{first}: the first build", what, _quarter(first, "plain", True)),
        Step(f"{second}: facts have moved", "new pages, same examples", _quarter(second, "plain")),
        Step(f"{second}, once more", "nothing has changed", lambda _: None),
        Step("another answer format", "examples and golden questions now want JSON", _quarter(second, "json", True)),
        Step(f"{third}: facts have moved", "new pages, one product less and one more", _quarter(third, "json")),
        Step(f"{fourth}: facts have moved", "new pages", _quarter(fourth, "json")),
    ]


def _quarter(quarter: str, answer_format: AnswerFormat, taught: bool = False) -> Callable[[Path], None]:
    def happen(project: Path) -> None:
        write_pages(project / "data/kb", quarter)
        write_golden(project, quarter, answer_format)
        if taught:
            write_training(project, quarter, answer_format)

    return happen


def _make_project(project: Path, console: Console) -> None:
    known = (project / ".ragtide").is_dir() or not project.exists() or not any(project.iterdir())
    if not known:
        raise SystemExit(f"demo: {project} holds something else: name another folder with --project")
    shutil.rmtree(project, ignore_errors=True)
    prepare_environment(project)
    from ragtide.flows.cli.data import init_command

    console.rule("[bold]Ragtide: four quarters of software support facts")
    init_command(project)
    make_prefect_home()


def _take(step: Step, number: int, project: Path, console: Console) -> Told:
    from ragtide.flows.keep_current import keep_current
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    console.print()
    console.rule(f"[bold]{number}. {step.title}")
    console.print(f"[dim]{step.what}[/]")
    step.happen(project)
    started = time.perf_counter()
    cycle = keep_current(project=str(project))
    seconds = time.perf_counter() - started
    release, answer = Project.open(project, no_progress).ask(QUESTION)
    console.print(Markdown(f"**{cycle.decision}**: {cycle.reason}. → {describe_outcome(cycle)}, {seconds:.0f} s"))
    console.print(f"{QUESTION} → {answer.text}  [dim](release {release.id}, {answer.sources[0]})[/]", highlight=False)
    return Told(step, cycle, answer.text, seconds)


HEAD = ("data", "decision", "why", "came of it", "score before", "score after", "cost")


def _row(told: Told) -> tuple[str, ...]:
    cycle = told.cycle
    before = "" if cycle.score_before is None else f"{cycle.score_before:.2f}"
    after = "" if cycle.score_after is None else f"{cycle.score_after:.2f}"
    return (told.step.title, cycle.decision, cycle.reason, describe_outcome(cycle), before, after, f"{told.seconds:.0f} s")


def _table(told: list[Told]) -> Table:
    """Narrow enough for a terminal of 80 columns: what belongs together shares a cell."""
    table = Table(title="What was decided, why, and what it cost", show_lines=True, expand=True)
    table.add_column("data", ratio=3)
    table.add_column("decision", no_wrap=True)
    table.add_column("why", ratio=6)
    table.add_column("score", no_wrap=True)
    table.add_column("cost", no_wrap=True)
    for one in told:
        data, decision, why, outcome, before, after, cost = _row(one)
        table.add_row(data, f"{decision}\n{outcome}", why, f"{before} → {after}" if after else "", cost)
    return table


def markdown(told: list[Told]) -> str:
    """The closing table as Markdown, for the README."""
    lines = [HEAD, ["---"] * len(HEAD), *(_row(one) for one in told)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
