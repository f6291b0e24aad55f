"""Time, memory and embedded chunks of index updates by Ragtide and by three libraries used as documented.

    python -m bench.peers --data FOLDER

FOLDER holds django_docs/snapshot_00. The peers are LangChain's index() with a record manager, LlamaIndex's
IngestionPipeline with upserts and deletes, and CocoIndex, all three into LanceDB, with Ragtide's chunks and the same
weights, in a virtual environment of their own that is created on the first run (2 GB). Each step is a new process,
timed as a whole, and its table is read afterwards: if it does not hold the folder's chunks, the benchmark fails.
It takes about 15 minutes on 2 cores, without creating the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.peer.pages import SOURCE, STEPS, Pages, all_chunks, pages_by_step, read_source, write_pages
from bench.peer.sides import MODULES, RAGTIDE, Side, lowest_cosine, make_environment, peers, ragtide, run, vectors
from bench.peer.sides import versions as peer_versions
from bench.tables import LIBRARIES, markdown_table, put_table

RESULTS = Path(__file__).parent / "results" / "peers.json"
SCALE_STEPS = ("initial", "noop", "edit")
NAMED = ("langchain-core", "langchain-community", "llama-index-core", "cocoindex", "lancedb", "sentence-transformers")
# The instruction sets that decide which kernels a matrix product on a CPU can use.
FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16")
console = Console(highlight=False)


@dataclass(frozen=True)
class Row:
    """One run of one system."""

    system: str
    step: str
    repeat: int
    seconds: float
    cpu_seconds: float
    rss_mb: float
    embedded: int


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    options = parse()
    source = read_source(options.data)
    needed = max([options.pages, *options.scale]) + 1
    if len(source) < needed:
        problem = f"has {len(source)} pages in {SOURCE}, but {needed} are needed"
        sys.stderr.write(f"bench.peers: {options.data} {problem}: pass the data folder with --data\n")
        return 1
    console.print(f"The peers' virtual environment is {options.venv}; creating it takes some minutes.")
    python = make_environment(options.venv)
    states = pages_by_step(source, options.pages)
    warm_up(states["initial"], options.work / "warm-up", python)
    rows, cosine = compare(states, options.work, python, options.repeats)
    scale = [measure_scale(source, count, options.work) for count in options.scale]
    report(summary(rows) | {"lowest_cosine_to_peers": cosine}, rows, states, scale)
    return 0


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, default=Path(".bench/peers"), help="created afresh (default: .bench/peers)"
    )
    parser.add_argument("--venv", type=Path, default=Path(".bench/peers-venv"), help="default: .bench/peers-venv")
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--scale", type=int, nargs="*", default=[40, 160, 600], help="numbers of pages for the runs of Ragtide alone"
    )
    return parser.parse_args()


def warm_up(pages: Pages, work: Path, python: Path) -> None:
    """Run every system once on one page, untimed, so that its imports are in the page cache and compiled."""
    name = next(iter(pages))
    for side in (ragtide(work), *peers(work, python)):
        write_pages({name: pages[name]}, side.pages)
        run(side)


def compare(states: dict[str, Pages], work: Path, python: Path, repeats: int) -> tuple[list[Row], float]:
    """Run every system through every step, alternating within a step; each repeat starts with empty folders."""
    rows: list[Row] = []
    for repeat in range(1, repeats + 1):
        sides = [ragtide(work), *peers(work, python)]
        for step in STEPS:
            rows += [run_step(side, step, states[step], repeat) for side in sides]
    ours, *theirs = [vectors(side) for side in sides]
    return rows, round(min(lowest_cosine(ours, vectors_of_peer) for vectors_of_peer in theirs), 6)


def run_step(side: Side, step: str, pages: Pages, repeat: int = 1) -> Row:
    """Change the system's folder, time its run, and check that its table holds exactly the folder's chunks."""
    write_pages(pages, side.pages)
    measured = run(side)
    row = Row(side.name, step, repeat, **asdict(measured))
    expected, stored = set(all_chunks(pages)), set(vectors(side))
    if stored != expected:
        difference = f"{len(expected - stored)} chunks are missing, {len(stored - expected)} are obsolete"
        raise SystemExit(f"bench.peers: the index of {side.name} is wrong after {STEPS[step]!r}: {difference}")
    cost = f"{row.seconds:7.2f} s {row.cpu_seconds:7.2f} s CPU {row.rss_mb:6.0f} MB {row.embedded:5d} embedded"
    console.print(f"{repeat}  {STEPS[step]:16} {side.name:11} {cost}")
    return row


def measure_scale(source: Pages, count: int, work: Path) -> dict[str, Any]:
    """Measure Ragtide alone on `count` pages: the first build, a run without changes, and a run after one edit."""
    states, side = pages_by_step(source, count), ragtide(work / "scale")
    rows = {step: run_step(side, step, states[step]) for step in SCALE_STEPS}
    costs = {
        step: {"seconds": row.seconds, "rss_mb": row.rss_mb, "embedded": row.embedded} for step, row in rows.items()
    }
    return {"pages": count, "chunks": len(all_chunks(states["initial"])), **costs}


# --- results ---------------------------------------------------------------------------------------------------------


def seconds(rows: list[Row], system: str, step: str) -> float:
    """Return the median over the repeats."""
    return median(row.seconds for row in rows if (row.system, row.step) == (system, step))


def embedded(rows: list[Row], system: str, step: str) -> int:
    """Return the largest number of texts that a repeat embedded."""
    return max(row.embedded for row in rows if (row.system, row.step) == (system, step))


def peak(rows: list[Row], system: str) -> float:
    """Return the peak resident memory over all steps, in MB."""
    return max(row.rss_mb for row in rows if row.system == system)


def speedup(rows: list[Row], step: str) -> float:
    """Return the seconds of the fastest peer divided by those of Ragtide."""
    return round(min(seconds(rows, peer, step) for peer in MODULES) / seconds(rows, RAGTIDE, step), 2)


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the figures that are quoted elsewhere."""
    return {
        "initial_speedup_vs_best_peer": speedup(rows, "initial"),
        "noop_seconds": seconds(rows, RAGTIDE, "noop"),
        "noop_speedup_vs_best_peer": speedup(rows, "noop"),
        "edit_speedup_vs_best_peer": speedup(rows, "edit"),
        "delete_speedup_vs_best_peer": speedup(rows, "delete"),
        "add_speedup_vs_best_peer": speedup(rows, "add"),
        "embedded_per_changed_chunk": embedded(rows, RAGTIDE, "edit"),
        "embedded_per_changed_chunk_by_peer": {peer: embedded(rows, peer, "edit") for peer in MODULES},
        "peak_rss_mb": peak(rows, RAGTIDE),
        "peak_rss_mb_of_lowest_peer": min(peak(rows, peer) for peer in MODULES),
    }


def report(figures: dict[str, Any], rows: list[Row], states: dict[str, Pages], scale: list[dict[str, Any]]) -> None:
    """Write the figures as JSON, and the tables to the terminal and into bench/README.md."""
    chunks = len(all_chunks(states["initial"]))
    about = {
        "pages": len(states["initial"]),
        "chunks": chunks,
        "rows": [asdict(row) for row in rows],
        "scale": scale,
        "machine": machine(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {"ragtide": {name: version(name) for name in LIBRARIES}, "peers": peer_versions()},
        "command": command(),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures | about, indent=2) + "\n", encoding="utf-8")
    head, cells = ["", RAGTIDE, *MODULES, "best peer / Ragtide"], list(table_rows(rows, chunks))
    tables = [markdown_table(head, cells)]
    show("Index updates", head, cells)
    if scale:
        head, cells = scale_rows(scale)
        tables.append(markdown_table(head, cells))
        show("Ragtide on more pages", head, cells)
    pinned = peer_versions()
    tables.append("Peers: " + ", ".join(f"{name} {pinned[name]}" for name in NAMED) + ".")
    put_table("peers", "\n\n".join(tables))


def table_rows(rows: list[Row], chunks: int) -> Iterator[list[str]]:
    """Yield a row per step with median seconds, then the chunks embedded for the edit, and the peak memory."""
    systems = (RAGTIDE, *MODULES)
    for step, title in STEPS.items():
        label = f"{title}, {chunks} chunks" if step == "initial" else title
        times = [f"{seconds(rows, system, step):.2f} s" for system in systems]
        yield [label, *times, f"{speedup(rows, step):.1f}"]
    embedded_chunks = [str(embedded(rows, system, "edit")) for system in systems]
    yield ["chunks embedded after editing 1 chunk", *embedded_chunks, ""]
    lowest = min(peak(rows, peer) for peer in MODULES)
    memory = [f"{peak(rows, system):.0f} MB" for system in systems]
    yield ["peak memory", *memory, f"{lowest / peak(rows, RAGTIDE):.1f}"]


def scale_rows(scale: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the second table."""
    head = ["pages", "chunks", *[f"{STEPS[step]}: seconds, embedded" for step in SCALE_STEPS]]
    return head, [
        [str(size["pages"]), str(size["chunks"]), *[_cost(size[step]) for step in SCALE_STEPS]] for size in scale
    ]


def _cost(measured: dict[str, Any]) -> str:
    return f"{measured['seconds']:.2f} s, {measured['embedded']}"


def show(title: str, head: list[str], cells: list[list[str]]) -> None:
    """Print a table in the terminal."""
    table = Table(*head, title=title)
    for line in cells:
        table.add_row(*line)
    console.print(table)


def machine() -> dict[str, Any]:
    """Describe what the figures depend on: processor, cores, relevant instruction sets and load average."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    model, flags = (re.search(rf"^{key}\s*:\s*(.+)", text, re.MULTILINE) for key in ("model name", "flags"))
    known = set(flags.group(1).split()) if flags else set()
    return {
        "cpu": model.group(1) if model else platform.processor(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in known],
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[1], 2),
    }


def command() -> str:
    """Return the command line, with this machine's folders replaced by DATA."""
    words = [re.sub(r"^(/|\.\.).*", "DATA", word) for word in sys.argv[1:]]
    return " ".join(["python", "-m", "bench.peers", *words])


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "120")
    sys.exit(main())
