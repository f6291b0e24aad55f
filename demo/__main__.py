"""Demo of four quarters of software support facts: `python -m demo` runs them in a project of its own, .demo.

It takes about 10 minutes on 2 cores, and downloads nothing.
"""

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
from ragtide.flows.environment import make_prefect_home, prepare_environment, protect_temporary_server
from ragtide.flows.interruption import exit_on_signals
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.reports.markdown import markdown_table
from ragtide.pipelines.reports.wording import describe_outcome

QUESTION = "What is the latest release of Node.js 22?"


@dataclass(frozen=True)
class Step:
    """A change of the data, followed by a cycle of the loop."""

    title: str
    description: str
    change_data: Callable[[Path], None]


@dataclass(frozen=True)
class StepResult:
    """A step with its cycle, the answer to the demo's question, and the cycle's duration in seconds."""

    step: Step
    cycle: Cycle
    answer: str
    seconds: float


def main() -> None:
    """Run all steps, and print how to inspect the results."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--project", type=Path, default=Path(".demo"), help="project folder, created afresh (default: .demo)"
    )
    project = parser.parse_args().project
    console = Console()
    exit_on_signals()
    run_demo(project, console)
    console.print("To inspect every run, decision and release:\n")
    console.print(
        f"    {Path(sys.executable).parent / 'ragtide'} ui --project {project}\n", highlight=False, soft_wrap=True
    )


def run_demo(project: Path, console: Console) -> list[StepResult]:
    """Run every step in a new project at `project`, and print a table at the end."""
    started = time.perf_counter()
    _make_project(project, console)
    planned = steps()
    results = [
        _run_step(step, f"Step {number} of {len(planned)}", project, console)
        for number, step in enumerate(planned, start=1)
    ]
    console.print(_table(results))
    console.print(f"\nTotal: {time.perf_counter() - started:.0f} s.", highlight=False)
    return results


def steps() -> list[Step]:
    """Return the steps: four quarters of facts, a repetition without changes, and a change of the answer format."""
    first, second, third, fourth = quarters()
    pages, examples, questions = render_pages(first), training_rows(first), golden_rows(first)
    sizes = f"{len(pages)} pages, {len(examples)} training examples, {len(questions)} golden questions"
    return [
        Step(f"{first}: first build", sizes, _quarter(first, "plain", True)),
        Step(f"{second}: changed facts", "new pages, same examples", _quarter(second, "plain")),
        Step(f"{second}, repeated", "no changes", lambda _: None),
        Step("new answer format", "examples and golden questions now require JSON", _quarter(second, "json", True)),
        Step(f"{third}: changed facts", "new pages, one product removed and one added", _quarter(third, "json")),
        Step(f"{fourth}: changed facts", "new pages", _quarter(fourth, "json")),
    ]


def _quarter(quarter: str, answer_format: AnswerFormat, with_examples: bool = False) -> Callable[[Path], None]:
    def change_data(project: Path) -> None:
        write_pages(project / "data/kb", quarter)
        write_golden(project, quarter, answer_format)
        if with_examples:
            write_training(project, quarter, answer_format)

    return change_data


def _make_project(project: Path, console: Console) -> None:
    replaceable = (project / ".ragtide").is_dir() or not project.exists() or not any(project.iterdir())
    if not replaceable:
        raise SystemExit(
            f"demo: {project} is neither empty nor a Ragtide project: choose another folder with --project"
        )
    shutil.rmtree(project, ignore_errors=True)
    prepare_environment(project)
    from ragtide.flows.cli.data import init_command

    console.rule("[bold]Ragtide: four quarters of software support facts")
    init_command(project)
    make_prefect_home()
    protect_temporary_server()


def _run_step(step: Step, label: str, project: Path, console: Console) -> StepResult:
    from ragtide.flows.keep_current import keep_current
    from ragtide.pipelines.ports import no_progress
    from ragtide.pipelines.project import Project

    console.print()
    console.rule(f"[bold]{label} · {step.title}")
    console.print(f"[dim]Data: {step.description}[/]")
    step.change_data(project)
    started = time.perf_counter()
    cycle = keep_current(project=str(project))
    seconds = time.perf_counter() - started
    release, answer = Project.open(project, no_progress).ask(QUESTION)
    console.print(Markdown(f"**{cycle.decision}**: {cycle.reason}. → {describe_outcome(cycle)}, {seconds:.0f} s"))
    console.print(f"{QUESTION} → {answer.text}  [dim](release {release.id}, {answer.sources[0]})[/]", highlight=False)
    return StepResult(step, cycle, answer.text, seconds)


HEAD = ("data", "decision", "reason", "score", "time")


def _row(result: StepResult) -> tuple[str, ...]:
    cycle = result.cycle
    before = "none" if cycle.score_before is None else f"{cycle.score_before:.2f}"
    change = "" if cycle.score_after is None else f"{before} → {cycle.score_after:.2f}"
    return (result.step.title, cycle.decision, cycle.reason, change, f"{result.seconds:.0f} s")


def _table(results: list[StepResult]) -> Table:
    """Return a table for a terminal of 80 columns."""
    table = Table(title="Decisions, reasons, scores and times", show_lines=True, expand=True)
    for name, ratio in zip(HEAD, (3, None, 6, None, None), strict=True):
        table.add_column(name, ratio=ratio, no_wrap=ratio is None)
    for result in results:
        table.add_row(*_row(result))
    return table


def markdown(results: list[StepResult]) -> str:
    """Return the closing table as Markdown, for the README."""
    return markdown_table(HEAD, map(_row, results))


if __name__ == "__main__":
    main()
