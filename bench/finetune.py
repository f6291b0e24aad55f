"""Is a training loop of our own worth having? The same examples, LoRA and steps, by Ragtide and by TRL's SFTTrainer.

    python -m bench.finetune --data FOLDER

FOLDER holds eol/snapshot_24 and eol/snapshot_25, each with kb/*.md and facts.jsonl. Each side is a process of its own
on one thread, timed in processor seconds of its training loop alone; tokens are those of the lessons, without padding,
so that padding counts against whoever pads. The loss is that of the product's own generator on lessons that no side has
seen.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path

from bench.quarter import choose, read_facts
from bench.streams.lifecycle import Fact
from bench.tables import markdown_table, put_table
from ragtide.flows.environment import OFFLINE
from ragtide.pipelines.build import open_index
from ragtide.pipelines.corpus import InMemorySource
from ragtide.pipelines.data.text import holds_answer
from ragtide.pipelines.index.chunking import chunk_document
from ragtide.pipelines.models.generator import TransformersGenerator, load_base_model, load_tokenizer, tokenize_sample
from ragtide.pipelines.models.load import load_embedder
from ragtide.pipelines.models.weights import locate_generator
from ragtide.pipelines.params import GenerateParams, Params
from ragtide.pipelines.ports import Message, TrainingSample, no_progress
from ragtide.pipelines.records.base import Record
from ragtide.pipelines.records.data import Document
from ragtide.pipelines.training.examples import Example
from ragtide.pipelines.training.samples import samples_with_passages
from ragtide.pipelines.workspace import Workspace

QUARTER = "24"
TAUGHT, FEW, HELD_OUT = 64, 16, 40
RANK, RATE, BATCH, SEED = 16, 5e-4, 4, 7
ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


class Side(StrEnum):
    """Who trains. TRL as it comes gets the first few lessons only: enough for a speed, too few for a loss."""

    RAGTIDE = "Ragtide"
    TRL_DEFAULT = "TRL, as it comes"
    TRL_TUNED = "TRL, tuned"
    TRL_PACKED = "TRL, tuned and packed"

    @property
    def lessons(self) -> int:
        return FEW if self is Side.TRL_DEFAULT else TAUGHT


class Took(Record):
    """What a side's training took; memory is the peak of the whole process."""

    cpu_seconds: float
    peak_rss_mb: int


class Measured(Took):
    """Beside what it took: true tokens a processor second, and the loss on held-out lessons (None: not all lessons)."""

    tokens_a_second: float
    held_out_loss: float | None


def main() -> int:
    """Run the benchmark; say clearly where its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/finetune"))
    options = parser.parse_args()
    if not (options.data / f"eol/snapshot_{QUARTER}/facts.jsonl").is_file():
        sys.stderr.write(f"bench.finetune: {options.data} has no eol/snapshot_{QUARTER}: name the data with --data\n")
        return 1
    shutil.rmtree(options.work, ignore_errors=True)
    write_work(options.data / "eol", options.work)
    measured = {side: measure(side, options.work) for side in Side}
    report(measured, scores(options.work))
    return 0


# --- the lessons ---------------------------------------------------------------------------------------------------


def write_work(data: Path, work: Path) -> None:
    """The base model as a folder that both load, and lessons as the product makes them: real passages before each."""
    work.mkdir(parents=True)
    base = GenerateParams(dtype="float32")
    source = locate_generator(base.model)
    load_base_model(base, source).save_pretrained(work / "base")
    load_tokenizer(base, source).save_pretrained(work / "base")
    questions = choose(read_facts(data, QUARTER), read_facts(data, "25"))
    old = read_facts(data, QUARTER)
    taught = questions.taught[:TAUGHT]
    asked = random.Random(SEED).sample([old[key] for key in [*questions.changed, *questions.unchanged]], HELD_OUT)
    made = _lessons(data / f"snapshot_{QUARTER}/kb", [*taught, *asked], work)
    rows = [asdict(lesson) for lesson in made]
    (work / "lessons.json").write_text(json.dumps(rows), encoding="utf-8")


def _lessons(pages: Path, facts: Sequence[Fact], work: Path) -> list[TrainingSample]:
    """What the product would teach of `facts`, with an index of their pages alone."""
    space = Workspace(work, Params())
    index = open_index(space, load_embedder(space.params.embed))
    names = sorted({fact.doc for fact in facts})
    documents = [Document(id=name, text=(pages / name).read_text(encoding="utf-8"), digest=name) for name in names]
    chunks = InMemorySource.of(chunk for one in documents for chunk in chunk_document(one, space.params.chunk))
    reader = index.retriever(index.refresh(chunks, QUARTER, no_progress).version)
    examples = [Example((Message("user", fact.question),), fact.answer, fact.doc) for fact in facts]
    return samples_with_passages(examples, chunks.by_document, reader, space.params.index.top_k, SEED)


def read_lessons(work: Path) -> tuple[list[TrainingSample], list[TrainingSample]]:
    """The lessons to train on, and those that are held out."""
    rows = json.loads((work / "lessons.json").read_text(encoding="utf-8"))
    every = [
        TrainingSample(tuple(Message(**turn) for turn in row["prompt"]), row["completion"], tuple(row["documents"]))
        for row in rows
    ]
    return every[:TAUGHT], every[TAUGHT:]


# --- the sides -----------------------------------------------------------------------------------------------------


def measure(side: Side, work: Path) -> Measured:
    """Let a side train, in a process on one thread, and look at what it has learnt."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.peer.finetune_side", side, str(work)]
    environment = {**os.environ, **OFFLINE, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    took = Took.model_validate_json(done.stdout.strip().splitlines()[-1])
    taught, _ = read_lessons(work)
    taught = taught[: side.lessons]
    tokenizer = load_tokenizer(GenerateParams(), str(work / "base"))
    tokens = sum(len(tokenize_sample(tokenizer, lesson).ids) for lesson in taught)
    return Measured(
        **took.model_dump(),
        tokens_a_second=round(tokens / took.cpu_seconds, 1),
        held_out_loss=_loss(work, side) if side.lessons == TAUGHT else None,
    )


def _loss(work: Path, side: Side) -> float:
    _, held_out = read_lessons(work)
    losses = _generator(work).losses(held_out, work / side, lambda _: None)
    return round(sum(losses) / len(losses), 4)


def _generator(work: Path) -> TransformersGenerator:
    return TransformersGenerator(GenerateParams(model=str(work / "base"), dtype="float32"))


def scores(work: Path) -> dict[str, float]:
    """The share of held-out lessons that hold the right answer, by the base model and by Ragtide's adapter."""
    _, held_out = read_lessons(work)
    found = {}
    for name, adapter in (("score_before", None), ("score_after", work / Side.RAGTIDE)):
        answers = _generator(work).generate([lesson.prompt for lesson in held_out], adapter, lambda _: None)
        right = [holds_answer(said, [lesson.completion]) for said, lesson in zip(answers, held_out, strict=True)]
        found[name] = round(sum(right) / len(right), 4)
    return found


# --- the report ----------------------------------------------------------------------------------------------------


def report(measured: dict[Side, Measured], scored: dict[str, float]) -> None:
    """bench/results/finetune.json, and the table."""
    ours = measured[Side.RAGTIDE]
    times = {side: ours.tokens_a_second / one.tokens_a_second for side, one in measured.items()}
    result = {
        "speedup_vs_trl_default": round(times[Side.TRL_DEFAULT], 2),
        "speedup_vs_trl_tuned": round(min(times[Side.TRL_TUNED], times[Side.TRL_PACKED]), 2),
        "peak_rss_mb": ours.peak_rss_mb,
        **scored,
        **_retained(),
        "sides": {side: one.model_dump(exclude={"record_version"}) for side, one in measured.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "finetune.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    head = ["side", "tokens a processor second", "Ragtide is faster by", "loss on held-out lessons", "peak memory"]
    rows = [
        [
            side,
            f"{one.tokens_a_second:.0f}",
            f"{times[side]:.2f}",
            "" if one.held_out_loss is None else f"{one.held_out_loss:.3f}",
            f"{one.peak_rss_mb} MB",
        ]
        for side, one in measured.items()
    ]
    told = f"Answers on {HELD_OUT} held-out facts: {scored['score_before']:.2f} by the base model, "
    told += f"{scored['score_after']:.2f} with the adapter."
    put_table("finetune", f"{markdown_table(head, rows)}\n\n{told}")


def _retained() -> dict[str, float]:
    """What bench/skills.py measured, where it was run: earlier skills after later ones."""
    path = RESULTS / "skills.json"
    if not path.is_file():
        return {}
    return {"retained_share": json.loads(path.read_text(encoding="utf-8"))["retained_share"]}


if __name__ == "__main__":
    sys.exit(main())
