"""Does a project in operation survive forty kills, while its data moves and a reader goes on asking?

    python -m bench.soak

`ragtide up` runs on a project of its own, with the packaged MiniLM as embedder and, so that a turn takes seconds, a
reader of the benchmark's own in place of the language model: it repeats the passage that it was shown. Pages are
edited, added, renamed and deleted all the time. One after another Prefect's server, MLflow's server, the worker, the
process of a flow and the watcher are ended by SIGKILL at random; then it is measured how long it takes until what is
in the folder is live. Every section of a page says of which edition the page is, so that what a reader is shown can be
told to belong to one release: a passage of another edition than the release's snapshot names is a torn read.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
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
from hashlib import md5
from pathlib import Path

import numpy as np
import psutil
import yaml
from mlflow import MlflowClient

from bench.tables import markdown_table, provenance, put_table
from demo.pages import Fact, read_facts
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
PAGES = 60
VICTIMS = ("worker", "flow", "prefect", "mlflow", "watcher")
CHANGES = ("edit", "edit", "edit", "add", "rename", "delete")
PATIENCE_SECONDS = 600.0
POLL_SECONDS = 0.5
EDITION = re.compile(r"edition (\d+) of page (\d+)\b")


class Echo:
    """A generator that repeats the first passage that it is shown: the same prompt, the same answer, at no cost."""

    base = "echo-1"
    identity = "echo-1/first-passage"

    def __init__(self, _params: object = None) -> None:
        pass

    def generate(self, prompts: Sequence[Prompt], adapter: Path | None, advance: Advance) -> list[str]:  # noqa: ARG002 - the form of a generator
        """One answer for each prompt, in order."""
        advance(len(prompts))
        return [prompt[-1].content.removeprefix("Context:\n").split("\n\nQuestion:")[0][:400] for prompt in prompts]


# --- the data, and how one knows of what it is ------------------------------------------------------------------------


@dataclass
class Pages:
    """The folder as it should be: name -> (page, edition). Every page that ever was can be told by its digest."""

    folder: Path
    facts: dict[int, list[Fact]]
    draw: random.Random
    there: dict[str, tuple[int, int]] = field(default_factory=dict)
    changes: int = 0

    @property
    def editions(self) -> Path:
        """Digest of a page -> its page and edition, as files: the reader is another process."""
        return self.folder.parents[2] / "editions"

    def begin(self) -> None:
        self.editions.mkdir(parents=True)
        for page in range(PAGES):
            self._write(f"page-{page:03d}.md", page, 0)

    def change(self) -> None:
        """One change, at random; the first page stays as it is, since it is asked about."""
        self.changes += 1
        names = sorted(name for name, (page, _) in self.there.items() if page)
        how, name = self.draw.choice(CHANGES), self.draw.choice(names)
        page, edition = self.there[name]
        if how == "edit" or len(names) < PAGES // 2:
            self._write(name, page, self.changes)
        elif how == "add":
            self._write(f"new-{self.changes}.md", self.draw.randrange(1, PAGES), self.changes)
        else:
            del self.there[name]
            if how == "rename":
                moved = f"moved-{self.changes}.md"
                (self.folder / name).rename(self.folder / moved)
                self.there[moved] = page, edition
            else:
                (self.folder / name).unlink()

    def _write(self, name: str, page: int, edition: int) -> None:
        text = page_text(self.facts[page % len(self.facts)], page, edition)
        digest = md5(text.encode(), usedforsecurity=False).hexdigest()
        (self.editions / digest).write_text(f"{page} {edition}", encoding="utf-8")
        unfinished = self.folder.parents[2] / "unfinished"
        unfinished.write_text(text, encoding="utf-8")
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished.replace(self.folder / name)
        self.there[name] = page, edition

    def lost(self, live: Release | None) -> int:
        """Pages whose last state is not live, and pages that are and should not be."""
        documents = live.snapshot.documents if live else {}
        missing = sum(self._told(documents.get(name)) != wanted for name, wanted in self.there.items())
        return missing + len(set(documents) - set(self.there))

    def _told(self, digest: str | None) -> tuple[int, int] | None:
        return edition_of(self.editions, digest) if digest else None


def edition_of(editions: Path, digest: str) -> tuple[int, int]:
    page, edition = (editions / digest).read_text(encoding="utf-8").split()
    return int(page), int(edition)


def page_text(facts: Sequence[Fact], page: int, edition: int) -> str:
    """A page of release lines; each section says of which edition it is."""
    says = f"This is edition {edition} of page {page}."
    lines = (
        f"## {fact.name} {fact.cycle} ({page})\n\n{says}\n\n- Released: {fact.released}\n- End of life: {fact.eol}\n"
        for fact in facts[:6]
    )
    return f"# {facts[0].name} ({page})\n\n{says}\n\n" + "\n".join(lines)


def facts_by_page(data: Path) -> dict[int, list[Fact]]:
    """The products of the first quarter, numbered."""
    facts = [fact for fact in read_facts() if fact.as_of == min(one.as_of for one in read_facts())]
    products = sorted({fact.product for fact in facts})
    assert data.is_file(), data
    return {at: [fact for fact in facts if fact.product == name] for at, name in enumerate(products)}


# --- the project -----------------------------------------------------------------------------------------------------


def make_project(root: Path, facts: dict[int, list[Fact]], draw: random.Random) -> Pages:
    """A project whose turns refresh at every change, and refuse nothing: what is tried are its faults."""
    ports = free_ports(3)
    settings = {
        "generate": {"model": "bench.soak:Echo"},
        "policy": {"name": "always"},
        "evidence": {"questions": 1, "probes": 0, "new_chunks": 0, "old_chunks": 0, "examples": 0},
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
    # What a lost event has left out is asked for every minute here, not every quarter of an hour.
    (root / "prefect.yaml").write_text(deployments.replace("*/15 * * * *", "* * * * *"), encoding="utf-8")
    question = {"question": f"Which edition is page 0 about {facts[0][0].name} of?", "answers": ["edition 0"]}
    (root / "data/golden/q.jsonl").write_text(json.dumps({**question, "docs": ["page-000.md"]}) + "\n", "utf-8")
    pages = Pages(root / "data/kb", facts, draw)
    pages.begin()
    return pages


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def environment(root: Path) -> dict[str, str]:
    """What the project's programs need: the benchmark's own plug-in, and patience."""
    return os.environ | {"PYTHONPATH": str(ROOT), "RAGTIDE_PROJECT": str(root), "PREFECT_LOGGING_LEVEL": "INFO"}


def ragtide(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "ragtide.flows.cli.main", *arguments, "--project", str(root)]
    done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"ragtide {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def in_operation(root: Path) -> Iterator[None]:
    """`ragtide up`, and `ragtide down` with all that it has left."""
    try:
        print(ragtide(root, "up", "--detach"), flush=True)
        yield
    finally:
        print(ragtide(root, "down"), flush=True)


def live_release(root: Path) -> Release | None:
    """What is live, as its registry says it; None before the first, and while MLflow is away."""
    with suppress(UserError):
        return Project.open(root, no_progress).registry.champion()
    return None


# --- the reader ------------------------------------------------------------------------------------------------------


@dataclass
class Reads:
    """What the reader has seen."""

    reads: int = 0
    torn: int = 0
    failed: int = 0
    releases: int = 0
    problems: list[str] = field(default_factory=list)


def read_until_told(root: Path, seed: int) -> None:
    """Ask what is live, by the library, until a file named `stop` is there."""
    seen, draw, service, releases = Reads(), random.Random(seed), AnswerService(root), set()
    while not (root.parent / "stop").exists():
        seen.reads += 1
        try:
            with service.live() as assistant:
                releases.add(assistant.release.id)
                problem = torn(root, assistant.release, assistant.ask(f"End of life of page {draw.randrange(PAGES)}?"))
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is a read that failed
            seen.failed += 1
            seen.problems.append(f"{type(raised).__name__}: {raised}"[:300])
            time.sleep(POLL_SECONDS)
            continue
        if problem:
            seen.torn += 1
            seen.problems.append(problem)
    seen.releases, seen.problems = len(releases), seen.problems[:20]
    (root.parent / "reads.json").write_text(json.dumps(asdict(seen)), encoding="utf-8")


def torn(root: Path, release: Release, answer: Answer) -> str | None:
    """Which passage is not of the release's own data; None where all are."""
    if not answer.passages:
        return f"release {release.id}: no passage at all"
    for passage in answer.passages:
        digest = release.snapshot.documents.get(passage.document)
        wanted = edition_of(root.parent / "editions", digest) if digest else None
        said = {(int(page), int(edition)) for edition, page in EDITION.findall(passage.text)}
        if said != {wanted}:
            return f"release {release.id}: {passage.document} says {sorted(said)}, its snapshot {wanted}"
    return None


@contextmanager
def reading(root: Path, seed: int, seen: Reads) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.soak", "--role", "reader", "--work", str(root.parent), "--seed", str(seed)]
    reader = subprocess.Popen(command, cwd=ROOT, env=environment(root))
    try:
        yield
    finally:
        (root.parent / "stop").write_text("", encoding="utf-8")
        reader.wait(timeout=120)
        told = json.loads((root.parent / "reads.json").read_text(encoding="utf-8"))
        seen.__dict__.update(told)


# --- the kills -------------------------------------------------------------------------------------------------------


@dataclass
class Soak:
    """What came of it; `lost_changes` are pages whose last state is not live at the end."""

    kills: int = 0
    changes: int = 0
    lost_changes: int = 0
    torn_reads: int = 0
    failed_reads: int = 0
    recovery_seconds_p95: float = 0.0


@dataclass
class Detail:
    """What stands in the table besides."""

    recoveries: list[float] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    reads: Reads = field(default_factory=Reads)
    seconds: float = 0.0


def endure(root: Path, pages: Pages, kills: int, draw: random.Random) -> tuple[Soak, Detail]:
    """Kill so many times, and look at what is live after each; then let it come to rest, and compare."""
    started, detail = time.monotonic(), Detail()
    with in_operation(root):
        wait_until_live(root, pages, detail)
        with reading(root, draw.randrange(10**6), detail.reads):
            for number in range(kills):
                _kill_once(root, pages, draw, detail)
                print(f"kill {number + 1}: live again after {detail.recoveries[-1]:.0f} s", flush=True)
        lost = pages.lost(live_release(root))
        detail.problems += flaws(root)
    detail.seconds = round(time.monotonic() - started, 1)
    p95 = round(float(np.percentile(detail.recoveries, 95)), 1) if detail.recoveries else 0.0
    reads = detail.reads
    return Soak(sum(detail.struck.values()), pages.changes, lost, reads.torn, reads.failed, p95), detail


def _kill_once(root: Path, pages: Pages, draw: random.Random, detail: Detail) -> None:
    for _ in range(draw.randint(1, 3)):
        pages.change()
        time.sleep(draw.uniform(0.0, 6.0))
    struck = strike(root, draw.choice(VICTIMS))
    at = time.monotonic()
    detail.struck[struck] += 1
    print(f"killed: {struck}", flush=True)
    pages.change()
    wait_until_live(root, pages, detail)
    detail.recoveries.append(time.monotonic() - at)


def strike(root: Path, victim: str) -> str:
    """End a service, all its processes, or a flow's process alone, and say which; where no flow runs, the worker.

    One that is down since the last kill is waited for.
    """
    workspace, deadline = Workspace(root, read_params(root / "params.yaml")), time.monotonic() + 30
    while not (found := [part.process for part in service_processes(workspace) if is_of(part, victim)]):
        if time.monotonic() > deadline:
            if victim != "flow":
                raise SystemExit(f"{victim} has not come back within 30 s of its death")
            return strike(root, "worker")
        time.sleep(POLL_SECONDS)
    for process in found:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    return victim


def is_of(part: ServiceProcess, victim: str) -> bool:
    """Whether a process is the victim's; those that a worker starts for a flow are the flow's."""
    with suppress(psutil.Error):
        runs_flow = any("flow_engine" in word or "prefect.engine" in word for word in part.process.cmdline())
        return victim == ("flow" if runs_flow and part.service == "worker" else part.service)
    return False


def wait_until_live(root: Path, pages: Pages, detail: Detail) -> None:
    """Until all that is in the folder is live; what takes too long is a problem, and no end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while pages.lost(live_release(root)):
        if time.monotonic() > deadline:
            detail.problems.append(
                f"after {PATIENCE_SECONDS:.0f} s {pages.lost(live_release(root))} pages are not live"
            )
            return
        time.sleep(POLL_SECONDS)


def flaws(root: Path) -> list[str]:
    """What is wrong at the end: rows that a clean build has not, another pointer, what upkeep cannot mend."""
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
    found = (
        [] if rows_digest(rows) == project.index.content(live.index_tag) else ["the live rows are not a clean build's"]
    )
    params = project.workspace.params.registry
    aliases = MlflowClient(tracking_uri=project.workspace.tracking_uri).get_registered_model(params.model).aliases
    found += [] if list(aliases) == ["champion"] else [f"the pointers are {aliases}"]
    with project.workspace.write_lock(120):
        _, left = repair_mismatches(verify_project(project))
        again = verify_project(project)
    return [*found, *(f"{one.where}: {one.what}" for one, _ in left), *(f"{one.where}: {one.what}" for one in again)]


def as_markdown(soak: Soak, detail: Detail) -> str:
    """The outcome as a table, and below it what was killed."""
    head = ["kills", "changes", "lost", "reads", "releases read", "torn", "failed", "live again: median", "p95", "took"]
    median = float(np.median(detail.recoveries)) if detail.recoveries else 0.0
    reads = detail.reads
    row = [soak.kills, soak.changes, soak.lost_changes, reads.reads, reads.releases, soak.torn_reads, soak.failed_reads]
    cells = [*map(str, row), f"{median:.0f} s", f"{soak.recovery_seconds_p95:.0f} s", f"{detail.seconds / 60:.0f} min"]
    struck = ", ".join(f"{name} {times}" for name, times in detail.struck.most_common())
    wrong = "; ".join(detail.problems) or "none"
    said = f"Killed: {struck}. Found wrong at the end: {wrong}. The model is one that repeats its first passage."
    return f"{markdown_table(head, [cells])}\n\n{said}"


def main() -> int:
    """Run the benchmark, or the part of the reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--data", type=Path, default=ROOT / "demo" / "facts.csv", help="facts in the demo's form")
    parser.add_argument("--work", type=Path, default=Path(".bench/soak"))
    parser.add_argument("--role", choices=["reader"], help="what a child process does")
    parser.add_argument("--dry", action="store_true", help="write neither results nor table")
    options = parser.parse_args()
    apply_offline_defaults()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    work = options.work.resolve()
    if options.role:
        read_until_told(work / "project", options.seed)
        return 0
    shutil.rmtree(work, ignore_errors=True)
    draw = random.Random(options.seed)
    pages = make_project(work / "project", facts_by_page(options.data), draw)
    soak, detail = endure(work / "project", pages, options.kills, draw)
    print(as_markdown(soak, detail), *detail.problems, *detail.reads.problems, sep="\n")
    if not options.dry:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({**asdict(soak), "measured": provenance()}, indent=2) + "\n", encoding="utf-8")
        put_table("soak", as_markdown(soak, detail))
    return int(bool(detail.problems or soak.lost_changes or soak.torn_reads or soak.failed_reads))


if __name__ == "__main__":
    sys.exit(main())
