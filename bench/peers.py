"""How long does it take to bring an index up to date, by Ragtide and by three peers used as they are meant to be used?

    python -m bench.peers --data FOLDER

FOLDER holds django_docs/snapshot_00. The peers are LangChain's index() with a record manager, LlamaIndex's
IngestionPipeline with upserts and deletes, and CocoIndex, all three into LanceDB, with Ragtide's chunks and the same
weights, in a virtual environment of their own that is made on the first run (2 GB). Each step is a fresh process, timed
as a whole, and the table is read afterwards: a side that does not hold the chunks of the folder fails the benchmark.
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

from bench.peer.pages import SOURCE, STEPS, Pages, all_chunks, lay, pages_by_step, read_source
from bench.peer.sides import MODULES, RAGTIDE, Side, lowest_cosine, make_environment, peers, ragtide, run, vectors
from bench.peer.sides import versions as peer_versions
from bench.tables import LIBRARIES, markdown_table, put_table

RESULTS = Path(__file__).parent / "results" / "peers.json"
SCALE_STEPS = ("initial", "noop", "edit")
NAMED = ("langchain-core", "langchain-community", "llama-index-core", "cocoindex", "lancedb", "sentence-transformers")
# What decides which kernels a matrix product on a CPU can take.
FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16")
console = Console(highlight=False)


@dataclass(frozen=True)
class Row:
    """One run of one side."""

    who: str
    step: str
    repeat: int
    seconds: float
    cpu_seconds: float
    rss_mb: float
    embedded: int


def main() -> int:
    """Run the benchmark; say clearly where its data is missing."""
    options = parse()
    source = read_source(options.data)
    needed = max([options.pages, *options.scale]) + 1
    if len(source) < needed:
        problem = f"has {len(source)} pages in {SOURCE}, and {needed} are needed"
        sys.stderr.write(f"bench.peers: {options.data} {problem}: name the data with --data\n")
        return 1
    console.print(f"the peers' virtual environment is {options.venv}; to make it takes some minutes")
    python = make_environment(options.venv)
    states = pages_by_step(source, options.pages)
    warm_up(states["initial"], options.work / "warm-up", python)
    rows, cosine = compare(states, options.work, python, options.repeats)
    scale = [measure_scale(source, count, options.work) for count in options.scale]
    report(summary(rows) | {"lowest_cosine_to_peers": cosine}, rows, states, scale)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/peers"), help="made anew (default: .bench/peers)")
    parser.add_argument("--venv", type=Path, default=Path(".bench/peers-venv"), help="default: .bench/peers-venv")
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=int, nargs="*", default=[40, 160, 600], help="pages, Ragtide only")
    return parser.parse_args()


def warm_up(pages: Pages, work: Path, python: Path) -> None:
    """Every side once on one page, not counted: what it imports is then in the page cache and compiled."""
    name = next(iter(pages))
    for side in (ragtide(work), *peers(work, python)):
        lay({name: pages[name]}, side.pages)
        run(side)


def compare(states: dict[str, Pages], work: Path, python: Path, repeats: int) -> tuple[list[Row], float]:
    """Every side through every step, side by side within a step, from nothing in each repeat."""
    rows: list[Row] = []
    for repeat in range(1, repeats + 1):
        sides = [ragtide(work), *peers(work, python)]
        for step in STEPS:
            rows += [take(side, step, states[step], repeat) for side in sides]
    ours, *theirs = [vectors(side) for side in sides]
    return rows, round(min(lowest_cosine(ours, one) for one in theirs), 6)


def take(side: Side, step: str, pages: Pages, repeat: int = 1) -> Row:
    """One step of one side: the change in its folder, the timed run, and a look at what its table holds."""
    lay(pages, side.pages)
    measured = run(side)
    row = Row(side.name, step, repeat, **asdict(measured))
    wanted, held = set(all_chunks(pages)), set(vectors(side))
    if held != wanted:
        apart = f"{len(wanted - held)} chunks are missing, {len(held - wanted)} should be gone"
        raise SystemExit(f"bench.peers: the index of {side.name} is wrong after {STEPS[step]!r}: {apart}")
    cost = f"{row.seconds:7.2f} s {row.cpu_seconds:7.2f} s CPU {row.rss_mb:6.0f} MB {row.embedded:5d} embedded"
    console.print(f"{repeat}  {STEPS[step]:16} {side.name:11} {cost}")
    return row


def measure_scale(source: Pages, count: int, work: Path) -> dict[str, Any]:
    """Ragtide alone on `count` pages: what it takes at first, when nothing has changed, and after one edit."""
    states, side = pages_by_step(source, count), ragtide(work / "scale")
    rows = {step: take(side, step, states[step]) for step in SCALE_STEPS}
    costs = {
        step: {"seconds": row.seconds, "rss_mb": row.rss_mb, "embedded": row.embedded} for step, row in rows.items()
    }
    return {"pages": count, "chunks": len(all_chunks(states["initial"])), **costs}


# --- what came of it -------------------------------------------------------------------------------------------------


def seconds(rows: list[Row], who: str, step: str) -> float:
    """The median over the repeats."""
    return median(row.seconds for row in rows if (row.who, row.step) == (who, step))


def embedded(rows: list[Row], who: str, step: str) -> int:
    """The most texts that any repeat embedded."""
    return max(row.embedded for row in rows if (row.who, row.step) == (who, step))


def peak(rows: list[Row], who: str) -> float:
    """The highest resident memory over all steps."""
    return max(row.rss_mb for row in rows if row.who == who)


def speedup(rows: list[Row], step: str) -> float:
    """How many times the quickest peer takes what Ragtide takes."""
    return round(min(seconds(rows, who, step) for who in MODULES) / seconds(rows, RAGTIDE, step), 2)


def summary(rows: list[Row]) -> dict[str, Any]:
    """The figures that are quoted."""
    return {
        "initial_speedup_vs_best_peer": speedup(rows, "initial"),
        "noop_seconds": seconds(rows, RAGTIDE, "noop"),
        "noop_speedup_vs_best_peer": speedup(rows, "noop"),
        "edit_speedup_vs_best_peer": speedup(rows, "edit"),
        "delete_speedup_vs_best_peer": speedup(rows, "delete"),
        "add_speedup_vs_best_peer": speedup(rows, "add"),
        "embedded_per_changed_chunk": embedded(rows, RAGTIDE, "edit"),
        "embedded_per_changed_chunk_by_peer": {who: embedded(rows, who, "edit") for who in MODULES},
        "peak_rss_mb": peak(rows, RAGTIDE),
        "peak_rss_mb_of_lowest_peer": min(peak(rows, who) for who in MODULES),
    }


def report(found: dict[str, Any], rows: list[Row], states: dict[str, Pages], scale: list[dict[str, Any]]) -> None:
    """The figures as JSON, the tables in the terminal and in bench/README.md."""
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
    RESULTS.write_text(json.dumps(found | about, indent=2) + "\n", encoding="utf-8")
    head, cells = ["", RAGTIDE, *MODULES, "best peer / Ragtide"], list(table_rows(rows, chunks))
    tables = [markdown_table(head, cells)]
    show("Bringing an index up to date", head, cells)
    if scale:
        head, cells = scale_rows(scale)
        tables.append(markdown_table(head, cells))
        show("Ragtide on more pages", head, cells)
    pinned = peer_versions()
    tables.append("Peers: " + ", ".join(f"{name} {pinned[name]}" for name in NAMED) + ".")
    put_table("peers", "\n\n".join(tables))


def table_rows(rows: list[Row], chunks: int) -> Iterator[list[str]]:
    """A row a step: medians in seconds; then what was embedded for the edit, and memory."""
    everyone = (RAGTIDE, *MODULES)
    for step, title in STEPS.items():
        named = f"{title}, {chunks} chunks" if step == "initial" else title
        times = [f"{seconds(rows, who, step):.2f} s" for who in everyone]
        yield [named, *times, f"{speedup(rows, step):.1f}"]
    yield ["embedded for the 1 chunk edited", *[str(embedded(rows, who, "edit")) for who in everyone], ""]
    lowest = min(peak(rows, who) for who in MODULES)
    memory = [f"{peak(rows, who):.0f} MB" for who in everyone]
    yield ["peak memory", *memory, f"{lowest / peak(rows, RAGTIDE):.1f}"]


def scale_rows(scale: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the second table."""
    head = ["pages", "chunks", *[f"{STEPS[step]}: seconds, embedded" for step in SCALE_STEPS]]
    return head, [[str(one["pages"]), str(one["chunks"]), *[_cost(one[step]) for step in SCALE_STEPS]] for one in scale]


def _cost(measured: dict[str, Any]) -> str:
    return f"{measured['seconds']:.2f} s, {measured['embedded']}"


def show(title: str, head: list[str], cells: list[list[str]]) -> None:
    """A table in the terminal."""
    table = Table(*head, title=title)
    for line in cells:
        table.add_row(*line)
    console.print(table)


def machine() -> dict[str, Any]:
    """What the figures hang on: processor, cores, the instruction sets that matter, and how busy it was."""
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
    """How it was called, without the folders of this machine."""
    words = [re.sub(r"^(/|\.\.).*", "DATA", word) for word in sys.argv[1:]]
    return " ".join(["python", "-m", "bench.peers", *words])


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "120")
    sys.exit(main())
