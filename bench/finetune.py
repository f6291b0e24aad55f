"""Training speed and memory of Ragtide's LoRA trainer, compared with TRL's SFTTrainer on the same samples.

    python -m bench.finetune --data FOLDER

FOLDER holds eol/snapshot_24 and eol/snapshot_25, each with kb/*.md and facts.jsonl. Each trainer runs in a process of
its own on one thread, timed in processor seconds of its training loop alone. Tokens are those of the samples without
padding, so that padding lowers the measured speed. The loss is that of the product's generator on held-out samples.
It takes about 15 minutes on one core.
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
from ragtide.pipelines.data.text import holds_answer
from ragtide.pipelines.index.chunking import chunk_documents
from ragtide.pipelines.index.source import InMemorySource
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
TRAINED, FEW, HELD_OUT = 64, 16, 40
RANK, RATE, BATCH, SEED = 16, 5e-4, 4, 7
ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


class Side(StrEnum):
    """A trainer with its settings. TRL with default settings gets fewer samples: its speed is measured, no loss."""

    RAGTIDE = "Ragtide"
    TRL_DEFAULT = "TRL, default settings"
    TRL_TUNED = "TRL, tuned"
    TRL_PACKED = "TRL, tuned and packed"

    @property
    def samples(self) -> int:
        return FEW if self is Side.TRL_DEFAULT else TRAINED


class Usage(Record):
    """Resources that a training took; the memory is the peak of the whole process."""

    cpu_seconds: float
    peak_rss_mb: int


class Measured(Usage):
    """Usage, tokens (without padding) per processor second, and the held-out loss (None after a partial training)."""

    tokens_a_second: float
    held_out_loss: float | None


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/finetune"))
    options = parser.parse_args()
    if not (options.data / f"eol/snapshot_{QUARTER}/facts.jsonl").is_file():
        sys.stderr.write(
            f"bench.finetune: {options.data} has no eol/snapshot_{QUARTER}: pass the data folder with --data\n"
        )
        return 1
    shutil.rmtree(options.work, ignore_errors=True)
    write_work(options.data / "eol", options.work)
    measured = {side: measure(side, options.work) for side in Side}
    report(measured, scores(options.work))
    return 0


# --- training samples ----------------------------------------------------------------------------------------------


def write_work(data: Path, work: Path) -> None:
    """Write the base model that both trainers load, and the training samples with retrieved passages."""
    work.mkdir(parents=True)
    base = GenerateParams(dtype="float32")
    source = locate_generator(base.model)
    load_base_model(base, source).save_pretrained(work / "base")
    load_tokenizer(base, source).save_pretrained(work / "base")
    questions = choose(read_facts(data, QUARTER), read_facts(data, "25"))
    old = read_facts(data, QUARTER)
    trained_on = questions.training[:TRAINED]
    held_out = random.Random(SEED).sample([old[key] for key in [*questions.changed, *questions.unchanged]], HELD_OUT)
    samples = _samples(data / f"snapshot_{QUARTER}/kb", [*trained_on, *held_out], work)
    rows = [asdict(sample) for sample in samples]
    (work / "samples.json").write_text(json.dumps(rows), encoding="utf-8")


def _samples(pages: Path, facts: Sequence[Fact], work: Path) -> list[TrainingSample]:
    """Return the product's training samples for `facts`, with passages from an index of their pages alone."""
    space = Workspace(work, Params())
    index = open_index(space, load_embedder(space.params.embed))
    names = sorted({fact.doc for fact in facts})
    documents = [Document(id=name, text=(pages / name).read_text(encoding="utf-8"), digest=name) for name in names]
    chunks = InMemorySource.of(chunk_documents(documents, space.params.chunk))
    retriever = index.retriever(index.refresh(chunks, QUARTER, no_progress).version)
    examples = [Example((Message("user", fact.question),), fact.answer, fact.doc) for fact in facts]
    return samples_with_passages(examples, chunks.by_document, retriever, space.params.index.top_k, SEED)


def read_samples(work: Path) -> tuple[list[TrainingSample], list[TrainingSample]]:
    """Return the samples to train on, and the held-out ones."""
    rows = json.loads((work / "samples.json").read_text(encoding="utf-8"))
    samples = [
        TrainingSample(
            tuple(Message(**message) for message in row["prompt"]), row["completion"], tuple(row["documents"])
        )
        for row in rows
    ]
    return samples[:TRAINED], samples[TRAINED:]


# --- the trainers --------------------------------------------------------------------------------------------------


def measure(side: Side, work: Path) -> Measured:
    """Train in a process of its own on one thread, and measure speed, memory and held-out loss."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.peer.finetune_side", side, str(work)]
    environment = {**os.environ, **OFFLINE, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    usage = Usage.model_validate_json(done.stdout.strip().splitlines()[-1])
    trained_on = read_samples(work)[0][: side.samples]
    tokenizer = load_tokenizer(GenerateParams(), str(work / "base"))
    tokens = sum(len(tokenize_sample(tokenizer, sample).ids) for sample in trained_on)
    return Measured(
        **usage.model_dump(),
        tokens_a_second=round(tokens / usage.cpu_seconds, 1),
        held_out_loss=_loss(work, side) if side.samples == TRAINED else None,
    )


def _loss(work: Path, side: Side) -> float:
    _, held_out = read_samples(work)
    losses = _generator(work).losses(held_out, work / side, lambda _: None)
    return round(sum(losses) / len(losses), 4)


def _generator(work: Path) -> TransformersGenerator:
    return TransformersGenerator(GenerateParams(model=str(work / "base"), dtype="float32"))


def scores(work: Path) -> dict[str, float]:
    """Return the share of held-out questions answered correctly by the base model and with Ragtide's adapter."""
    _, held_out = read_samples(work)
    shares = {}
    for name, adapter in (("score_before", None), ("score_after", work / Side.RAGTIDE)):
        answers = _generator(work).generate([sample.prompt for sample in held_out], adapter, lambda _: None)
        pairs = zip(answers, held_out, strict=True)
        correct = [holds_answer(answer, [sample.completion]) for answer, sample in pairs]
        shares[name] = round(sum(correct) / len(correct), 4)
    return shares


# --- the report ----------------------------------------------------------------------------------------------------


def report(measured: dict[Side, Measured], scored: dict[str, float]) -> None:
    """Write bench/results/finetune.json and the table."""
    ours = measured[Side.RAGTIDE]
    speedups = {side: ours.tokens_a_second / other.tokens_a_second for side, other in measured.items()}
    result = {
        "speedup_vs_trl_default": round(speedups[Side.TRL_DEFAULT], 2),
        "speedup_vs_trl_tuned": round(min(speedups[Side.TRL_TUNED], speedups[Side.TRL_PACKED]), 2),
        "peak_rss_mb": ours.peak_rss_mb,
        **scored,
        **_retained(),
        "sides": {side: values.model_dump(exclude={"record_version"}) for side, values in measured.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "finetune.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    head = ["trainer", "tokens per processor second", "speedup of Ragtide", "loss on held-out samples", "peak memory"]
    rows = [
        [
            side,
            f"{values.tokens_a_second:.0f}",
            f"{speedups[side]:.2f}",
            "" if values.held_out_loss is None else f"{values.held_out_loss:.3f}",
            f"{values.peak_rss_mb} MB",
        ]
        for side, values in measured.items()
    ]
    summary = f"Answer score on {HELD_OUT} held-out facts: {scored['score_before']:.2f} by the base model, "
    summary += f"{scored['score_after']:.2f} with the adapter."
    put_table("finetune", f"{markdown_table(head, rows)}\n\n{summary}")


def _retained() -> dict[str, float]:
    """Return the retained share that bench/skills.py measured; empty if it has not been run."""
    path = RESULTS / "skills.json"
    if not path.is_file():
        return {}
    return {"retained_share": json.loads(path.read_text(encoding="utf-8"))["retained_share"]}


if __name__ == "__main__":
    sys.exit(main())
