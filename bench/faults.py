"""Does an index survive fifty kills? A writer dies at random moments, while a reader goes on reading.

    python -m bench.faults

The writer refreshes about 2,000 rows again and again, and is ended by SIGKILL 0.05 to 2 s after it has said that it is
ready. Every page says of which generation it is, and a generation edits every twentieth page, so that what belongs
together can be told from the rows alone: a state that holds anything else is torn.
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

import lance

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
# What the writer says that it is at; in these it is in the midst of a write to the index.
VECTORS, COMMIT, TEXT_INDEX, TAG = "keeping vectors", "committing", "indexing text", "tagging"
WRITES = (VECTORS, COMMIT, TEXT_INDEX, TAG)
WORDS = ("lantern", "harbour", "pilot", "ferry", "mole", "bridge", "oil", "wick", "glass", "hook", "stone", "sail")
TRANSACTION = re.compile(rb"\d+-[0-9a-f-]{36}\.txn")
SAYS = re.compile(r"part (\d+) of page (\d+) as of generation (\d+)")


# --- what is written, and how one knows that it is whole -----------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """Pages that change from generation to generation, in a project of their own."""

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
        """Bring the folder to a generation, whatever a killed writer has left of another."""
        for page in range(self.pages):
            path, text = self.workspace.kb / name_of(page), text_of(page, edited(page, generation))
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write(path, text)

    def wrong_rows(self, chunks: Iterable[Chunk], generation: int) -> int:
        """Rows of a generation that are missing or of another one, and rows that should not be there."""
        wanted = {(page, part): edited(page, generation) for page in range(self.pages) for part in range(PARTS)}
        found = {(page, part): of for part, page, of in map(says, chunks)}
        return sum(found.get(key) != of for key, of in wanted.items()) + len(set(found) - set(wanted))

    def held(self, version: int | str | None = None) -> tuple[int, int]:
        """(generation, wrong rows) of a version of the index, or of the latest; (-1, 0) without a table."""
        chunks = self.index.chunks(self.names, version)
        generation = max((of for _, _, of in map(says, chunks)), default=-1)
        return generation, self.wrong_rows(chunks, generation) if chunks else 0


def name_of(page: int) -> str:
    return f"shelf-{page % 7}/page-{page:03d}.md"


def edited(page: int, generation: int) -> int:
    """The generation that a page was last edited in, as of a later one."""
    return max(0, generation - (generation - page) % EVERY)


def text_of(page: int, generation: int) -> str:
    draw = random.Random(f"{page} {generation}")
    parts = (
        f"## Part {part}\n\nThis is part {part} of page {page} as of generation {generation}: "
        f"{' '.join(draw.choices(WORDS, k=20))}.\n"
        for part in range(PARTS)
    )
    return f"# Page {page}\n\n" + "\n".join(parts)


def says(chunk: Any) -> tuple[int, int, int]:
    """(part, page, generation) of a row."""
    found = SAYS.search(chunk.text)
    assert found, chunk.text
    part, page, generation = map(int, found.groups())
    return part, page, generation


# --- the writer, which is killed -----------------------------------------------------------------------------------


def write_for_ever(library: Library) -> None:
    """Go on with the generation after the one that the index holds; say what is done, line by line."""
    _announce(VectorCache, "put", VECTORS)
    _announce(IndexWriter, "merge", COMMIT)
    _announce(maintenance, "update_text_index", TEXT_INDEX)
    generation = library.held()[0] + 1
    _say("ready")
    while True:
        library.write(generation)
        _say("refreshing")
        snapshot = take_snapshot(library.workspace)
        built = build_index_only(library.workspace, LoadedEmbedder(HashEmbedder()), snapshot, no_progress)
        _say(f"done {generation}")
        _say(TAG)
        _move_tags(library.index, built.version)
        _say("editing")
        generation += 1


def _move_tags(index: Index, version: int) -> None:
    if index.has_tag(LIVE):
        index.retag(LIVE, version)
    else:
        index.tag(FIRST, version)
        index.tag(LIVE, version)


def _announce(owner: Any, name: str, what: str) -> None:
    whole: Callable[..., Any] = getattr(owner, name)

    def announced(*arguments: Any, **options: Any) -> Any:
        _say(what)
        result = whole(*arguments, **options)
        _say("refreshing")
        return result

    setattr(owner, name, announced)


def _say(what: str) -> None:
    print(what, flush=True)


# --- the reader, which goes on -------------------------------------------------------------------------------------


@dataclass
class Reads:
    """What the reader has seen."""

    reads: int = 0
    torn: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)


def read_until_told(library: Library) -> None:
    """Open what is live, read it whole and search it, until a file named `stop` is there."""
    seen, draw = Reads(), random.Random(SEED)
    while not (library.root / "stop").exists():
        seen.reads += 1
        try:
            problem = torn(library, draw.randrange(library.pages))
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is a read that failed
            seen.failed += 1
            seen.problems.append(f"{type(raised).__name__}: {raised}"[:300])
            continue
        if problem:
            seen.torn += 1
            seen.problems.append(problem)
    print(json.dumps(asdict(seen)))


def torn(library: Library, page: int) -> str | None:
    """What is not of one generation in what a reader of the live version gets; None where all is."""
    reader = library.index.retriever(LIVE)
    found = [one for some in reader.search([f"part 3 of page {page}"], 5) for one in some]
    generation, wrong = library.held(reader.version)
    if wrong:
        return f"version {reader.version}: {wrong} rows are not of generation {generation}"
    others = [one for one in found if says(one)[2] != edited(says(one)[1], generation)]
    if others or not found:
        return f"version {reader.version}: a search found {len(others)} of {len(found)} passages of another generation"
    return None


# --- the kills -----------------------------------------------------------------------------------------------------


@dataclass
class Faults:
    """What came of it. `leaked_*`: files that no version names, temporary ones of killed writers among them."""

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
    upkeep: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def endure(library: Library, kills: int) -> Faults:
    """Kill the writer so many times, and look at the index after each; then maintain it, and look for what is left."""
    started, draw, faults = time.perf_counter(), random.Random(SEED), Faults()
    _first_generation(library)
    with _reading(library, faults):
        for _ in range(kills):
            _kill_once(library, draw.uniform(*DELAYS), faults)
    faults.leaked_before = leaked(library.database)
    steps: list[MaintenanceStep] = maintain_index(library.workspace, HashEmbedder())
    faults.upkeep = [f"{one.step}: {'done' if one.done else 'not done'}: {one.why}" for one in steps]
    faults.leaked_after = leaked(library.database)
    faults.tagged_are_whole = library.held(FIRST) == (0, 0) and library.held(LIVE)[1] == 0
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
        said, _ = reader.communicate(timeout=120)
    seen = Reads(**json.loads(said))
    faults.reads, faults.torn_reads, faults.failed_reads = seen.reads, seen.torn, seen.failed
    faults.problems += seen.problems[:20]


def _kill_once(library: Library, delay: float, faults: Faults) -> None:
    before, temporary = library.held()[0], _temporary(library)
    writer = _start("writer", library)
    assert writer.stdout
    first = writer.stdout.readline().strip()
    assert first == "ready", f"the writer did not start: {first} {writer.communicate()[0]}"
    time.sleep(delay)
    assert writer.poll() is None, f"the writer ended by itself: {writer.communicate()[0]}"
    writer.send_signal(signal.SIGKILL)
    said = ["ready", *writer.communicate()[0].splitlines()]
    faults.kills += 1
    faults.at = dict(Counter(faults.at) + Counter([said[-1] if not said[-1].startswith("done") else TAG]))
    faults.in_a_write += said[-1] in WRITES or _temporary(library) > temporary
    done = max([before, *(int(line.split()[1]) for line in said if line.startswith("done"))])
    _look(library, done, faults)


def _look(library: Library, done: int, faults: Faults) -> None:
    """The latest version is one whole generation, and none that was called done is gone."""
    generation, wrong = library.held()
    if generation < done:
        wrong = library.wrong_rows(library.index.chunks(library.names), done)
        faults.problems.append(f"generation {done} was done, {generation} is there")
    faults.lost_rows += wrong
    faults.generations = generation + 1
    faults.rows = len(library.index.rows())


def _start(role: str, library: Library) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.faults", "--role", role]
    command += ["--work", str(library.root), "--pages", str(library.pages)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


# --- what is left behind -------------------------------------------------------------------------------------------


def leaked(database: Path) -> dict[str, int]:
    """Files in the database that no version of their table names, by kind."""
    unnamed: Counter[str] = Counter()
    for folder in sorted(database.glob("*.lance")):
        named = _named(folder)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            relative = path.relative_to(folder)
            if path.name.startswith(".tmp"):
                unnamed["temporary"] += 1
            elif relative.parts[0] in ("data", "_deletions", "_indices", "_transactions"):
                key = "/".join(relative.parts[:2])
                unnamed[f"{folder.stem.split('-')[0]} {relative.parts[0].strip('_')}"] += key not in named
    return {kind: count for kind, count in sorted(unnamed.items()) if count}


def _temporary(library: Library) -> int:
    return len(list(library.database.rglob(".tmp*")))


def _named(folder: Path) -> set[str]:
    """What the versions of a table name: data files, deletion files, indexes and transactions."""
    named: set[str] = set()
    latest = lance.dataset(str(folder))
    for one in latest.versions():
        version = latest.checkout_version(one["version"])
        for fragment in version.get_fragments():
            named |= {f"data/{file.path}" for file in fragment.metadata.files}
            if deletions := fragment.deletion_file():
                named.add(deletions)
        named |= {f"_indices/{one.uuid}" for index in version.describe_indices() for one in index.segments}
    # lance 7 cannot read the transaction of a compaction back; its file stands in the manifest by name.
    for manifest in (folder / "_versions").glob("*.manifest"):
        named |= {f"_transactions/{name.decode()}" for name in TRANSACTION.findall(manifest.read_bytes())}
    return named


# --- the table -----------------------------------------------------------------------------------------------------


def as_markdown(faults: Faults) -> str:
    """The outcome as a table, and below it where the kills struck."""
    head = [
        "kills",
        "in a write",
        "generations",
        "rows",
        "lost rows",
        "reads",
        "torn",
        "failed",
        "leaked files",
        "after upkeep",
    ]
    before, after = sum(faults.leaked_before.values()), sum(faults.leaked_after.values())
    row = [faults.kills, faults.in_a_write, faults.generations, faults.rows, faults.lost_rows]
    row += [faults.reads, faults.torn_reads, faults.failed_reads, before, after]
    struck = ", ".join(f"{name} {times}" for name, times in sorted(faults.at.items(), key=lambda one: -one[1]))
    return f"{markdown_table(head, [[str(cell) for cell in row]])}\n\nWhere the kills struck: {struck}."


def main() -> int:
    """Run the benchmark, or the part of a child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path(".bench/faults"))
    parser.add_argument("--role", choices=["writer", "reader"], help="what a child process does")
    options = parser.parse_args()
    library = Library(options.work.resolve(), options.pages)
    if options.role:
        {"writer": write_for_ever, "reader": read_until_told}[options.role](library)
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
