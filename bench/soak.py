"""Recovery of a running project whose processes are killed forty times while its data changes.

    python -m bench.soak

`ragtide up` runs on a project of its own with the packaged MiniLM as embedder. So that a cycle takes seconds, a
stand-in replaces the language model: it repeats the first passage of its prompt. Pages are edited, added, renamed and
deleted all the time. Prefect's server, MLflow's server, the worker, the process of a flow and the watcher are killed by
SIGKILL at random; the recovery time is the time from a kill until the folder's contents are live. A reader keeps
querying the live release. Every section of a page names the page's edition: a passage of another edition than the one
in the release's snapshot is a torn read. It needs no data beside the repository and takes about 20 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
import yaml
from mlflow import MlflowClient

from bench.soak_pages import EDITION, PAGES, Pages, edition_of, facts_by_page
from bench.tables import markdown_table, provenance, put_table
from demo.pages import Fact
from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.services.supervisor import ServiceProcess, service_processes
from ragtide.pipelines.build import build_index_only, open_index
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.evaluation.assistant import Answer
from ragtide.pipelines.index.rows import rows_digest
from ragtide.pipelines.models.load import LoadedEmbedder, load_models
from ragtide.pipelines.params import IndexParams, read_params
from ragtide.pipelines.ports import Advance, Prompt, no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.release import Release
from ragtide.pipelines.release.serving import AnswerService
from ragtide.pipelines.release.verify import repair_mismatches, verify_project
from ragtide.pipelines.workspace import Workspace

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "soak.json"
SEED = 20261126
VICTIMS = ("worker", "flow", "prefect", "mlflow", "watcher")
PATIENCE_SECONDS = 600.0
POLL_SECONDS = 0.5


class Echo:
    """A deterministic generator that repeats the first passage of its prompt."""

    base = "echo-1"
    identity = "echo-1/first-passage"

    def __init__(self, _params: object = None) -> None:
        pass

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:  # noqa: ARG002 - the Generator protocol
        """Return one answer per prompt, in order."""
        advance(len(prompts))
        return [prompt[-1].content.removeprefix("Context:\n").split("\n\nQuestion:")[0][:400] for prompt in prompts]


# --- the project -----------------------------------------------------------------------------------------------------


def make_project(root: Path, facts: dict[int, list[Fact]], draw: random.Random) -> Pages:
    """Create a project whose cycles refresh at every change and whose gate accepts everything."""
    ports = free_ports(3)
    settings: dict[str, dict[str, object]] = {
        "generate": {"model": "bench.soak:Echo"},
        "policy": {"name": "always"},
        "evidence": {"questions": 1, "fact_checks": 0, "new_chunks": 0, "old_chunks": 0, "examples": 0},
        "deletion_guard": {"max_removed_share": 1.0},
        "gate": {"max_score_loss": 1.0, "max_retrieval_loss": 1.0},
        "score": {"target": 0.0},
        "triggers": {"quiet_seconds": 1.0, "update_imports": False},
        "services": {"prefect_port": ports[0], "mlflow_port": ports[1], "webhook_port": ports[2]},
        "registry": {"tracking_uri": f"http://127.0.0.1:{ports[1]}"},
    }
    for name in ("kb", "train", "golden"):
        (root / "data" / name).mkdir(parents=True)
    stages = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    merged = {block: {**values, **settings.get(block, {})} for block, values in stages.items()}
    (root / "params.yaml").write_text(yaml.safe_dump({**settings, **merged}), encoding="utf-8")
    deployments = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    # A missed event is noticed by the schedule: every minute here, every 15 minutes in prefect.yaml.
    (root / "prefect.yaml").write_text(deployments.replace("*/15 * * * *", "* * * * *"), encoding="utf-8")
    question = {"question": f"Which edition is page 0 about {facts[0][0].name} of?", "answers": ["edition 0"]}
    (root / "data/golden/q.jsonl").write_text(json.dumps({**question, "docs": ["page-000.md"]}) + "\n", "utf-8")
    pages = Pages(root / "data/kb", facts, draw)
    pages.begin()
    return pages


def free_ports(count: int) -> list[int]:
    """Return unused ports on the loopback interface."""
    sockets = [socket.socket() for _ in range(count)]
    for candidate in sockets:
        candidate.bind(("127.0.0.1", 0))
    ports = [int(candidate.getsockname()[1]) for candidate in sockets]
    for candidate in sockets:
        candidate.close()
    return ports


def environment(root: Path) -> dict[str, str]:
    """Return the environment of the project's processes, which finds the benchmark's generator."""
    return os.environ | {"PYTHONPATH": str(ROOT), "RAGTIDE_PROJECT": str(root), "PREFECT_LOGGING_LEVEL": "INFO"}


def ragtide(root: Path, *arguments: str) -> str:
    """Run a `ragtide` command in the project, and return its output."""
    command = [sys.executable, "-m", "ragtide", *arguments, "--project", str(root)]
    process = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, check=False)
    if process.returncode:
        output = f"{process.stdout}{process.stderr}"
        raise SystemExit(f"ragtide {' '.join(arguments)} failed with exit code {process.returncode}: {output}")
    return process.stdout


@contextmanager
def running_services(root: Path) -> Iterator[None]:
    """Start the services by `ragtide up`, and stop them by `ragtide down`."""
    try:
        print(ragtide(root, "up", "--detach"), flush=True)
        yield
    finally:
        print(ragtide(root, "down"), flush=True)


def live_release(root: Path) -> Release | None:
    """Return the live release; None before the first release, and while MLflow is unavailable."""
    with suppress(UserError):
        return Project.open(root, no_progress).registry.champion()
    return None


# --- the reader ------------------------------------------------------------------------------------------------------


@dataclass
class Reads:
    """Counts of the reader's reads, and the problems it met."""

    reads: int = 0
    torn: int = 0
    failed: int = 0
    releases: int = 0
    problems: list[str] = field(default_factory=list)


def read_until_stopped(root: Path, seed: int) -> None:
    """Query the live release through the library until a file named `stop` appears; write the counts as JSON."""
    counts, draw, service, releases = Reads(), random.Random(seed), AnswerService(root), set()
    while not (root.parent / "stop").exists():
        counts.reads += 1
        try:
            with service.live() as assistant:
                releases.add(assistant.release.id)
                problem = torn_read(
                    root, assistant.release, assistant.ask(f"End of life of page {draw.randrange(PAGES)}?")
                )
        except Exception as raised:  # noqa: BLE001 - any exception is a failed read
            counts.failed += 1
            counts.problems.append(f"{type(raised).__name__}: {raised}"[:300])
            time.sleep(POLL_SECONDS)
            continue
        if problem:
            counts.torn += 1
            counts.problems.append(problem)
    counts.releases, counts.problems = len(releases), counts.problems[:20]
    (root.parent / "reads.json").write_text(json.dumps(asdict(counts)), encoding="utf-8")


def torn_read(root: Path, release: Release, answer: Answer) -> str | None:
    """Describe a passage that is not of the release's own snapshot; None if there is none."""
    if not answer.passages:
        return f"release {release.id}: no passage was retrieved"
    for passage in answer.passages:
        digest = release.snapshot.documents.get(passage.document)
        expected = edition_of(root.parent / "editions", digest) if digest else None
        served = {(int(page), int(edition)) for edition, page in EDITION.findall(passage.text)}
        if served != {expected}:
            mismatch = f"{passage.document} is served as {sorted(served)}, its snapshot has {expected}"
            return f"release {release.id}: {mismatch}"
    return None


@contextmanager
def reading(root: Path, seed: int, counts: Reads) -> Iterator[None]:
    """Run the reader process, and copy its counts into `counts` at the end."""
    command = [sys.executable, "-m", "bench.soak", "--role", "reader", "--work", str(root.parent), "--seed", str(seed)]
    reader = subprocess.Popen(command, cwd=ROOT, env=environment(root))
    try:
        yield
    finally:
        (root.parent / "stop").write_text("", encoding="utf-8")
        reader.wait(timeout=120)
        counts.__dict__.update(json.loads((root.parent / "reads.json").read_text(encoding="utf-8")))


# --- the kills -------------------------------------------------------------------------------------------------------


@dataclass
class Soak:
    """Result of the benchmark; `lost_changes` are pages whose last state is not live at the end."""

    kills: int = 0
    changes: int = 0
    lost_changes: int = 0
    torn_reads: int = 0
    failed_reads: int = 0
    recovery_seconds_p95: float = 0.0


@dataclass
class Detail:
    """Further results that only the table shows."""

    recoveries: list[float] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    reads: Reads = field(default_factory=Reads)
    seconds: float = 0.0


def endure(root: Path, pages: Pages, kills: int, draw: random.Random) -> tuple[Soak, Detail]:
    """Kill processes `kills` times and wait for recovery after each; then compare the live state with the data."""
    started, detail = time.monotonic(), Detail()
    with running_services(root):
        wait_until_live(root, pages, detail)
        with reading(root, draw.randrange(10**6), detail.reads):
            for number in range(kills):
                _kill_once(root, pages, draw, detail)
                print(f"kill {number + 1}: recovered after {detail.recoveries[-1]:.0f} s", flush=True)
        lost = pages.count_outdated(live_release(root))
        detail.problems += final_problems(root)
    detail.seconds = round(time.monotonic() - started, 1)
    p95 = round(float(np.percentile(detail.recoveries, 95)), 1) if detail.recoveries else 0.0
    reads = detail.reads
    return Soak(sum(detail.killed.values()), pages.changes, lost, reads.torn, reads.failed, p95), detail


def _kill_once(root: Path, pages: Pages, draw: random.Random, detail: Detail) -> None:
    for _ in range(draw.randint(1, 3)):
        pages.change()
        time.sleep(draw.uniform(0.0, 6.0))
    killed = kill(root, draw.choice(VICTIMS))
    killed_at = time.monotonic()
    detail.killed[killed] += 1
    print(f"killed: {killed}", flush=True)
    pages.change()
    wait_until_live(root, pages, detail)
    detail.recoveries.append(time.monotonic() - killed_at)


def kill(root: Path, victim: str) -> str:
    """Kill all processes of a service, or a flow's process (the worker if no flow runs); return which was killed.

    A service that is still down after an earlier kill is awaited for 30 s.
    """
    workspace, deadline = Workspace(root, read_params(root / "params.yaml")), time.monotonic() + 30
    while not (processes := [part.process for part in service_processes(workspace) if belongs_to(part, victim)]):
        if time.monotonic() > deadline:
            if victim != "flow":
                raise SystemExit(f"{victim} was not restarted within 30 s")
            return kill(root, "worker")
        time.sleep(POLL_SECONDS)
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    return victim


def belongs_to(part: ServiceProcess, victim: str) -> bool:
    """Return whether a process is one of the victim's; those that a worker starts for a flow are the flow's."""
    with suppress(psutil.Error):
        runs_flow = any("flow_engine" in word or "prefect.engine" in word for word in part.process.cmdline())
        return victim == ("flow" if runs_flow and part.service == "worker" else part.service)
    return False


def wait_until_live(root: Path, pages: Pages, detail: Detail) -> None:
    """Wait until the folder's contents are live; a timeout is recorded as a problem."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while pages.count_outdated(live_release(root)):
        if time.monotonic() > deadline:
            detail.problems.append(
                f"after {PATIENCE_SECONDS:.0f} s {pages.count_outdated(live_release(root))} pages are not live"
            )
            return
        time.sleep(POLL_SECONDS)


def final_problems(root: Path) -> list[str]:
    """Compare the live rows with a clean build, check the alias, and verify and repair the project."""
    project = Project.open(root, no_progress)
    live = project.registry.champion()
    assert live is not None
    clean = Workspace(
        root, project.workspace.params.model_copy(update={"index": IndexParams(uri=str(root.parent / "clean"))})
    )
    built = build_index_only(
        clean, LoadedEmbedder(load_models(clean.params).embedder), take_snapshot(clean), no_progress
    )
    rows = open_index(clean, project.models.embedder).rows(built.version)
    problems: list[str] = []
    if rows_digest(rows) != project.index.content(live.index_tag):
        problems.append("the live rows differ from those of a clean build")
    params = project.workspace.params.registry
    aliases = MlflowClient(tracking_uri=project.workspace.tracking_uri).get_registered_model(params.model).aliases
    if list(aliases) != ["champion"]:
        problems.append(f"the aliases are {aliases}")
    with project.workspace.write_lock(120):
        _, unrepaired = repair_mismatches(verify_project(project))
        remaining = [*(mismatch for mismatch, _ in unrepaired), *verify_project(project)]
    return [*problems, *(f"{mismatch.where}: {mismatch.what}" for mismatch in remaining)]


def as_markdown(soak: Soak, detail: Detail) -> str:
    """Return the result as a table, followed by what was killed."""
    head = ["kills", "changes", "lost changes", "reads", "releases read", "torn reads", "failed reads"]
    head += ["recovery: median", "recovery: p95", "duration"]
    median = float(np.median(detail.recoveries)) if detail.recoveries else 0.0
    reads = detail.reads
    row = [soak.kills, soak.changes, soak.lost_changes, reads.reads, reads.releases, soak.torn_reads, soak.failed_reads]
    cells = [*map(str, row), f"{median:.0f} s", f"{soak.recovery_seconds_p95:.0f} s", f"{detail.seconds / 60:.0f} min"]
    killed = ", ".join(f"{name} {count}" for name, count in detail.killed.most_common())
    problems = "; ".join(detail.problems) or "none"
    summary = (
        f"Killed: {killed}. Problems at the end: {problems}. The model is a stand-in that repeats its first passage."
    )
    return f"{markdown_table(head, [cells])}\n\n{summary}"


def main() -> int:
    """Run the benchmark, or the reader process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--work", type=Path, default=Path(".bench/soak"))
    parser.add_argument("--role", choices=["reader"], help="role of a child process (internal)")
    parser.add_argument("--dry", action="store_true", help="write neither the results file nor the table")
    options = parser.parse_args()
    apply_offline_defaults()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    work = options.work.resolve()
    if options.role:
        read_until_stopped(work / "project", options.seed)
        return 0
    shutil.rmtree(work, ignore_errors=True)
    draw = random.Random(options.seed)
    pages = make_project(work / "project", facts_by_page(), draw)
    soak, detail = endure(work / "project", pages, options.kills, draw)
    print(as_markdown(soak, detail), *detail.problems, *detail.reads.problems, sep="\n")
    if not options.dry:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({**asdict(soak), "measured": provenance()}, indent=2) + "\n", encoding="utf-8")
        put_table("soak", as_markdown(soak, detail))
    return int(bool(detail.problems or soak.lost_changes or soak.torn_reads or soak.failed_reads))


if __name__ == "__main__":
    sys.exit(main())
