"""Answer score of the whole loop on two real quarters of software support pages, at full size.

    python -m bench.quarter --data FOLDER

FOLDER holds eol/snapshot_24 and eol/snapshot_25, each with kb/*.md and facts.jsonl: about 400 pages. The golden
questions are 200 facts, half of which change between the two; the training examples are facts of other products.
It takes about 20 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.streams.lifecycle import Fact
from bench.tables import markdown_table, put_table
from ragtide.flows.environment import make_prefect_home, prepare_environment, protect_temporary_server

QUARTERS = ("24", "25")
EXAMPLES = 240
GOLDEN = 200
SEED = 20261124
RESULTS = Path(__file__).parent / "results" / "quarter.json"


@dataclass(frozen=True)
class Questions:
    """Training facts of the first quarter, and the ids of the golden facts of both quarters."""

    training: list[Fact]
    changed: list[str]
    unchanged: list[str]


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/quarter"))
    options = parser.parse_args()
    missing = missing_quarters(options.data)
    if missing:
        sys.stderr.write(
            f"bench.quarter: {options.data} has no eol/snapshot_{missing[0]}: pass the data folder with --data\n"
        )
        return 1
    measure(options.data / "eol", options.work)
    return 0


def measure(data: Path, work: Path) -> None:
    """Run the loop on both quarters in a new project at `work`, and write the table."""
    shutil.rmtree(work, ignore_errors=True)
    prepare_environment(work)
    from ragtide.flows.cli.data import init_command

    init_command(work)
    make_prefect_home()
    protect_temporary_server()
    questions = choose(read_facts(data, "24"), read_facts(data, "25"))
    write_quarter(data, "24", questions, work)
    cycles = [run_cycle(work, "snapshot_24")]
    write_quarter(data, "25", questions, work)
    gold, stale = scores(work, questions, with_gold=True), scores(work, questions)
    cycles.append(run_cycle(work, "snapshot_25"))
    fresh = scores(work, questions)
    cycles.append(run_cycle(work, "snapshot_25, again"))
    rows = [[name, gold[name], stale[name], fresh[name]] for name in gold]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"cycles": cycles, "scores": rows}, indent=2) + "\n", encoding="utf-8")
    head = ["data", "decision", "outcome", "score before", "score after", "embedded chunks", "all chunks", "seconds"]
    table = markdown_table(head, [[str(cell) for cell in cycle.values()] for cycle in cycles])
    by_context = markdown_table(["", "gold context", "stale index (24)", "fresh index (25)"], rows)
    put_table("quarter", f"{table}\n\n{by_context}")


def missing_quarters(data: Path) -> list[str]:
    """Return the quarters whose facts are missing in the data folder."""
    return [quarter for quarter in QUARTERS if not (data / f"eol/snapshot_{quarter}/facts.jsonl").is_file()]


def read_facts(data: Path, quarter: str) -> dict[str, Fact]:
    """Return the facts of one quarter by id."""
    lines = (data / f"snapshot_{quarter}/facts.jsonl").read_text(encoding="utf-8").splitlines()
    return {fact.id: fact for fact in (Fact(**json.loads(line)) for line in lines)}


def choose(old: dict[str, Fact], new: dict[str, Fact]) -> Questions:
    """Draw a fixed sample: golden facts from half of the products, training facts from the other half."""
    draw = random.Random(SEED)
    products = sorted({fact.doc for fact in old.values()})
    draw.shuffle(products)
    golden_products = set(products[: len(products) // 2])
    both = sorted(key for key in old if key in new and old[key].doc in golden_products)
    changed = [key for key in both if old[key].answer != new[key].answer]
    unchanged = [key for key in both if old[key].answer == new[key].answer]
    training = sorted((fact for fact in old.values() if fact.doc not in golden_products), key=lambda fact: fact.id)
    half = GOLDEN // 2
    return Questions(draw.sample(training, EXAMPLES), draw.sample(changed, half), draw.sample(unchanged, half))


def write_quarter(data: Path, quarter: str, questions: Questions, work: Path) -> None:
    """Write pages and golden questions of one quarter into the project; the examples stay those of the first."""
    shutil.rmtree(work / "data/kb")
    shutil.copytree(data / f"snapshot_{quarter}/kb", work / "data/kb")
    facts = read_facts(data, quarter)
    golden = [facts[key] for key in [*questions.changed, *questions.unchanged]]
    _write(
        work / "data/golden/facts.jsonl",
        [{"id": fact.id, "question": fact.question, "answers": [fact.answer], "docs": [fact.doc]} for fact in golden],
    )
    _write(
        work / "data/train/facts.jsonl",
        [{"prompt": fact.question, "completion": fact.answer, "doc": fact.doc} for fact in questions.training],
    )


def _write(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def run_cycle(work: Path, data: str) -> dict[str, object]:
    """Run one cycle of the flow, and return it as a row of the table."""
    from ragtide.flows.keep_current import keep_current
    from ragtide.pipelines.reports.wording import describe_outcome

    started = time.perf_counter()
    cycle = keep_current(project=str(work))
    release = _project(work).registry.champion()
    return {
        "data": data,
        "decision": cycle.decision,
        "outcome": describe_outcome(cycle),
        "before": "" if cycle.score_before is None else f"{cycle.score_before:.3f}",
        "after": "" if cycle.score_after is None else f"{cycle.score_after:.3f}",
        "embedded": int(cycle.work.get("embedded_chunks", 0)),
        "chunks": release.index.rows if release else 0,
        "seconds": round(time.perf_counter() - started),
    }


def scores(work: Path, questions: Questions, with_gold: bool = False) -> dict[str, str]:
    """Return the mean score of the base and the live model on the current data, by kind of fact.

    The context is the gold context, or what the live index retrieves.
    """
    project, evaluator = _evaluator(work)
    live = project.registry.champion()
    assert live is not None
    from ragtide.pipelines.build import base_model_only
    from ragtide.pipelines.evaluation.evaluator import SystemUnderTest

    retriever = project.index.retriever(live.index_tag)
    means: dict[str, str] = {}
    for name, model in (("base", base_model_only(project.models)), ("LoRA", live.model)):
        system = SystemUnderTest(retriever, model)
        graded = evaluator.with_gold(system) if with_gold else evaluator.with_retrieval(system)
        means |= {f"{name}, {kind}": _mean(graded, ids) for kind, ids in _kinds(questions)}
    return means


def _evaluator(work: Path):  # type: ignore[no-untyped-def]
    from ragtide.pipelines.data.snapshot import take_snapshot

    project = _project(work)
    return project, project.evaluator(project.corpus(take_snapshot(project.workspace)).knowledge)


def _project(work: Path):  # type: ignore[no-untyped-def]
    from ragtide.flows.progress import progress_bars
    from ragtide.pipelines.project import Project

    return Project.open(work, progress_bars)


def _kinds(questions: Questions) -> list[tuple[str, set[str]]]:
    return [("changed facts", set(questions.changed)), ("unchanged facts", set(questions.unchanged))]


def _mean(graded, ids: set[str]) -> str:  # type: ignore[no-untyped-def]
    scores = [answer.score for answer in graded if answer.question in ids]
    return f"{sum(scores) / len(scores):.2f}" if scores else "-"


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "120")
    sys.exit(main())
