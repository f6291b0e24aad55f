"""Consistency of the index while its writer is killed fifty times and a reader keeps reading.

    python -m bench.faults

The writer refreshes about 2,000 rows again and again, and is killed by SIGKILL 0.05 to 2 s after it has reported that
it is ready. Every page names its generation, and a generation edits every twentieth page, so that the rows alone show
which states belong together: a state with rows of another generation is torn. It needs no data and takes about
2 minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.leaked_files import leaked
from bench.tables import markdown_table, provenance, put_table
from ragtide.pipelines.build import build_index_only, maintain_index, open_index
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.index import maintenance
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.index.vector_cache import VectorCache
from ragtide.pipelines.index.writer import IndexWriter
from ragtide.pipelines.models.load import LoadedEmbedder
from ragtide.pipelines.params import MaintenanceParams, Params
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.data import Chunk
from ragtide.pipelines.records.release import MaintenanceStep
from ragtide.pipelines.workspace import Workspace
from tests.factories import HashEmbedder, write

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "faults.json"
SEED = 20261124
PARTS = 10
EVERY = 20
DELAYS = (0.05, 2.0)
LIVE, FIRST = "live", "first"
# The stages that the writer reports while it is writing to the index.
VECTORS, COMMIT, TEXT_INDEX, TAG = "keeping vectors", "committing", "indexing text", "tagging"
WRITES = (VECTORS, COMMIT, TEXT_INDEX, TAG)
WORDS = ("lantern", "harbour", "pilot", "ferry", "mole", "bridge", "oil", "wick", "glass", "hook", "stone", "sail")
PASSAGE_TEXT = re.compile(r"part (\d+) of page (\d+) as of generation (\d+)")


# --- pages and their generations -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """A project of its own whose pages change from generation to generation."""

    root: Path
    pages: int

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root, Params(maintenance=MaintenanceParams(keep_days=0)))

    @property
    def index(self) -> Index:
        return open_index(self.workspace, HashEmbedder())

    @property
    def database(self) -> Path:
        return Path(self.workspace.index_uri)

    @property
    def names(self) -> list[str]:
        return [name_of(page) for page in range(self.pages)]

    def write(self, generation: int) -> None:
        """Write the pages of a generation, whatever a killed writer has left behind."""
        for page in range(self.pages):
            path, text = self.workspace.kb / name_of(page), text_of(page, edited(page, generation))
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write(path, text)

    def wrong_rows(self, chunks: Iterable[Chunk], generation: int) -> int:
        """Count the rows that are missing, of another generation, or not part of the pages."""
        expected = {(page, part): edited(page, generation) for page in range(self.pages) for part in range(PARTS)}
        stored = {(page, part): written for part, page, written in map(part_page_generation, chunks)}
        wrong = sum(stored.get(key) != written for key, written in expected.items())
        return wrong + len(set(stored) - set(expected))

    def generation_and_wrong_rows(self, version: int | str | None = None) -> tuple[int, int]:
        """Return (generation, wrong rows) of a version of the index, or of the latest; (-1, 0) without a table."""
        chunks = self.index.chunks(self.names, version)
        generation = max((written for _, _, written in map(part_page_generation, chunks)), default=-1)
        return generation, self.wrong_rows(chunks, generation) if chunks else 0


def name_of(page: int) -> str:
    return f"shelf-{page % 7}/page-{page:03d}.md"


def edited(page: int, generation: int) -> int:
    """Return the generation in which a page was last edited, as of `generation`."""
    return max(0, generation - (generation - page) % EVERY)


def text_of(page: int, generation: int) -> str:
    draw = random.Random(f"{page} {generation}")
    parts = (
        f"## Part {part}\n\nThis is part {part} of page {page} as of generation {generation}: "
        f"{' '.join(draw.choices(WORDS, k=20))}.\n"
        for part in range(PARTS)
    )
    return f"# Page {page}\n\n" + "\n".join(parts)


def part_page_generation(chunk: Any) -> tuple[int, int, int]:
    """Return (part, page, generation) as named in a chunk's text."""
    match = PASSAGE_TEXT.search(chunk.text)
    assert match, chunk.text
    part, page, generation = map(int, match.groups())
    return part, page, generation


# --- the writer ----------------------------------------------------------------------------------------------------


def write_forever(library: Library) -> None:
    """Write generation after generation, starting after the indexed one; report every stage as a line of output."""
    _report_calls(VectorCache, "put", VECTORS)
    _report_calls(IndexWriter, "merge", COMMIT)
    _report_calls(maintenance, "update_text_index", TEXT_INDEX)
    generation = library.generation_and_wrong_rows()[0] + 1
    _report("ready")
    while True:
        library.write(generation)
        _report("refreshing")
        snapshot = take_snapshot(library.workspace)
        built = build_index_only(library.workspace, LoadedEmbedder(HashEmbedder()), snapshot, no_progress)
        _report(f"done {generation}")
        _report(TAG)
        _move_tags(library.index, built.version)
        _report("editing")
        generation += 1


def _move_tags(index: Index, version: int) -> None:
    if index.has_tag(LIVE):
        index.retag(LIVE, version)
    else:
        index.tag(FIRST, version)
        index.tag(LIVE, version)


def _report_calls(owner: Any, name: str, stage: str) -> None:
    """Wrap a function so that the writer reports `stage` while it runs."""
    original: Callable[..., Any] = getattr(owner, name)

    def reporting(*arguments: Any, **options: Any) -> Any:
        _report(stage)
        result = original(*arguments, **options)
        _report("refreshing")
        return result

    setattr(owner, name, reporting)


def _report(stage: str) -> None:
    print(stage, flush=True)


# --- the reader ----------------------------------------------------------------------------------------------------


@dataclass
class Reads:
    """Counts of the reader's reads, and the problems it met."""

    reads: int = 0
    torn: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)


def read_until_stopped(library: Library) -> None:
    """Read and search the live version until a file named `stop` appears; print the counts as JSON."""
    counts, draw = Reads(), random.Random(SEED)
    while not (library.root / "stop").exists():
        counts.reads += 1
        try:
            problem = torn_read(library, draw.randrange(library.pages))
        except Exception as raised:  # noqa: BLE001 - any exception is a failed read
            counts.failed += 1
            counts.problems.append(f"{type(raised).__name__}: {raised}"[:300])
            continue
        if problem:
            counts.torn += 1
            counts.problems.append(problem)
    print(json.dumps(asdict(counts)))


def torn_read(library: Library, page: int) -> str | None:
    """Describe rows or passages of the live version that are of another generation; None if there are none."""
    retriever = library.index.retriever(LIVE)
    passages = [passage for ranking in retriever.search([f"part 3 of page {page}"], 5) for passage in ranking]
    generation, wrong = library.generation_and_wrong_rows(retriever.version)
    if wrong:
        return f"version {retriever.version}: {wrong} rows are not of generation {generation}"
    others = [passage for passage in passages if _is_of_another_generation(passage, generation)]
    if others or not passages:
        share = f"{len(others)} of {len(passages)} passages"
        return f"version {retriever.version}: {share} that a search returned are of another generation"
    return None


def _is_of_another_generation(passage: Any, generation: int) -> bool:
    _, page, written = part_page_generation(passage)
    return written != edited(page, generation)


# --- the kills -----------------------------------------------------------------------------------------------------


@dataclass
class Faults:
    """Result of the benchmark. `leaked_*`: files that no version references, with killed writers' temporary files."""

    kills: int = 0
    in_a_write: int = 0
    at: dict[str, int] = field(default_factory=dict)
    generations: int = 0
    rows: int = 0
    lost_rows: int = 0
    reads: int = 0
    torn_reads: int = 0
    failed_reads: int = 0
    leaked_before: dict[str, int] = field(default_factory=dict)
    leaked_after: dict[str, int] = field(default_factory=dict)
    tagged_are_whole: bool = False
    maintenance: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def endure(library: Library, kills: int) -> Faults:
    """Kill the writer `kills` times, check the index after each kill; then run maintenance and count leaked files."""
    started, draw, faults = time.perf_counter(), random.Random(SEED), Faults()
    _first_generation(library)
    with _reading(library, faults):
        for _ in range(kills):
            _kill_once(library, draw.uniform(*DELAYS), faults)
    faults.leaked_before = leaked(library.database)
    steps: list[MaintenanceStep] = maintain_index(library.workspace, HashEmbedder())
    faults.maintenance = [f"{step.step}: {'done' if step.done else 'not done'}: {step.why}" for step in steps]
    faults.leaked_after = leaked(library.database)
    faults.tagged_are_whole = (
        library.generation_and_wrong_rows(FIRST) == (0, 0) and library.generation_and_wrong_rows(LIVE)[1] == 0
    )
    faults.seconds = round(time.perf_counter() - started, 1)
    return faults


def _first_generation(library: Library) -> None:
    library.write(0)
    built = build_index_only(
        library.workspace, LoadedEmbedder(HashEmbedder()), take_snapshot(library.workspace), no_progress
    )
    _move_tags(library.index, built.version)


@contextmanager
def _reading(library: Library, faults: Faults) -> Iterator[None]:
    reader = _start("reader", library)
    try:
        yield
    finally:
        write(library.root / "stop", "")
        output, _ = reader.communicate(timeout=120)
    counts = Reads(**json.loads(output))
    faults.reads, faults.torn_reads, faults.failed_reads = counts.reads, counts.torn, counts.failed
    faults.problems += counts.problems[:20]


def _kill_once(library: Library, delay: float, faults: Faults) -> None:
    before, temporary = library.generation_and_wrong_rows()[0], _temporary(library)
    writer = _start("writer", library)
    assert writer.stdout
    first = writer.stdout.readline().strip()
    assert first == "ready", f"the writer did not start: {first} {writer.communicate()[0]}"
    time.sleep(delay)
    assert writer.poll() is None, f"the writer ended before it was killed: {writer.communicate()[0]}"
    writer.send_signal(signal.SIGKILL)
    stages = ["ready", *writer.communicate()[0].splitlines()]
    faults.kills += 1
    faults.at = dict(Counter(faults.at) + Counter([stages[-1] if not stages[-1].startswith("done") else TAG]))
    faults.in_a_write += stages[-1] in WRITES or _temporary(library) > temporary
    done = max([before, *(int(line.split()[1]) for line in stages if line.startswith("done"))])
    _check(library, done, faults)


def _check(library: Library, done: int, faults: Faults) -> None:
    """Check that the latest version is one whole generation, and that no completed generation is lost."""
    generation, wrong = library.generation_and_wrong_rows()
    if generation < done:
        wrong = library.wrong_rows(library.index.chunks(library.names), done)
        faults.problems.append(f"generation {done} was completed, but the index holds generation {generation}")
    faults.lost_rows += wrong
    faults.generations = generation + 1
    faults.rows = len(library.index.rows())


def _temporary(library: Library) -> int:
    return len(list(library.database.rglob(".tmp*")))


def _start(role: str, library: Library) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.faults", "--role", role]
    command += ["--work", str(library.root), "--pages", str(library.pages)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


# --- the table -----------------------------------------------------------------------------------------------------


def as_markdown(faults: Faults) -> str:
    """Return the result as a table, followed by the stages in which the writer was killed."""
    head = [
        "kills",
        "during a write",
        "generations",
        "rows",
        "lost rows",
        "reads",
        "torn reads",
        "failed reads",
        "leaked files",
        "leaked files after maintenance",
    ]
    before, after = sum(faults.leaked_before.values()), sum(faults.leaked_after.values())
    row = [faults.kills, faults.in_a_write, faults.generations, faults.rows, faults.lost_rows]
    row += [faults.reads, faults.torn_reads, faults.failed_reads, before, after]
    stages = ", ".join(f"{stage} {count}" for stage, count in sorted(faults.at.items(), key=lambda item: -item[1]))
    return f"{markdown_table(head, [[str(cell) for cell in row]])}\n\nStages in which the writer was killed: {stages}."


def main() -> int:
    """Run the benchmark, or one role of a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path(".bench/faults"))
    parser.add_argument("--role", choices=["writer", "reader"], help="role of a child process (internal)")
    options = parser.parse_args()
    library = Library(options.work.resolve(), options.pages)
    if options.role:
        {"writer": write_forever, "reader": read_until_stopped}[options.role](library)
        return 0
    shutil.rmtree(library.root, ignore_errors=True)
    faults = endure(library, options.kills)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**asdict(faults), "measured": provenance()}, indent=2) + "\n", encoding="utf-8")
    put_table("faults", as_markdown(faults))
    print(as_markdown(faults))
    return 0


if __name__ == "__main__":
    sys.exit(main())
