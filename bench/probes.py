"""How long do the probes take? 200 golden questions, with what is retrieved and with the right passage.

    python -m bench.probes --data FOLDER

FOLDER holds eol/snapshot_24 and eol/snapshot_25; the questions are those of bench.quarter, of the first of the two. The
400 prompts are made once and kept under --work. Each side answers them in a process of its own, with the base model
(whose answers are longer) unless --adapter names another. Answers are compared over all prompts with those of the first
side, and over a sample with those that the same model gives to each prompt alone. What the evidence asks is less: with
the right passage only what search did not bring it up for.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.quarter import QUARTERS, choose, read_facts
from bench.recording import corpus_of
from bench.streams import Step
from bench.tables import markdown_table, provenance, put_table
from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.evaluation.evaluator import gold_context, is_gold_passage
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.models.generator import TransformersGenerator, render_prompt
from ragtide.pipelines.models.load import load_embedder
from ragtide.pipelines.models.prompts import question_prompt
from ragtide.pipelines.models.weights import available_cores
from ragtide.pipelines.params import GenerateParams, Params
from ragtide.pipelines.ports import Message, Prompt
from ragtide.pipelines.records.evaluation import GoldenQuestion

RESULTS = Path(__file__).parent / "results" / "probes.json"
REFERENCE, RAGTIDE, ALONE = "transformers, batches of 16", "Ragtide", "Ragtide, each prompt alone"
EVIDENCE = "Ragtide, what the evidence asks"
SAMPLED_EVERY = 8


@dataclass
class Meter:
    """Seconds in the model: reading prompts, and writing answers token by token for `rows` at a time."""

    reading: float = 0.0
    writing: float = 0.0
    read_tokens: int = 0
    written_rows: int = 0
    steps: int = 0
    _since: float = field(default=0.0, repr=False)

    def attach(self, model: Any) -> None:
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        model.register_forward_hook(self._end, with_kwargs=True)

    def _begin(self, *_: object) -> None:
        self._since = time.perf_counter()

    def _end(self, _model: object, _args: object, inputs: dict[str, Any], _output: object) -> None:
        took, (rows, width) = time.perf_counter() - self._since, inputs["input_ids"].shape
        if width > 1:
            self.reading += took
            self.read_tokens += rows * width
        else:
            self.writing += took
            self.written_rows += rows
            self.steps += 1


@dataclass(frozen=True)
class Side:
    """Who answers, and with what."""

    name: str
    adapter: Path | None
    dtype: str


@dataclass(frozen=True)
class Run:
    """What a side said, and what it took."""

    answers: list[str]
    seconds: float
    meter: Meter
    prompt_tokens: int
    answer_tokens: int
    peak_mb: int


# --- prompts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prompts:
    """Every question with what is retrieved and with the right passage; `missed`: search did not bring that up."""

    retrieved: list[Prompt]
    right: list[Prompt]
    missed: list[bool]

    @property
    def every(self) -> list[Prompt]:
        return [*self.retrieved, *self.right]

    @property
    def of_evidence(self) -> list[Prompt]:
        """What has to be answered at most to know both scores of every question."""
        return [*self.retrieved, *(prompt for prompt, missed in zip(self.right, self.missed, strict=True) if missed)]


def prompts_at(data: Path, work: Path) -> Prompts:
    """The prompts, as they were made at `work`, or made there now."""
    kept = work / "prompts.json"
    if not kept.is_file():
        work.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(make_prompts(data, work))), encoding="utf-8")
    made = json.loads(kept.read_text(encoding="utf-8"))
    retrieved, right = (
        [tuple(Message(**turn) for turn in prompt) for prompt in made[name]] for name in ("retrieved", "right")
    )
    return Prompts(retrieved, right, made["missed"])


def make_prompts(data: Path, work: Path) -> Prompts:
    """The questions of a quarter, with the passages of a real index at `work`."""
    params, facts = Params(), read_facts(data, QUARTERS[0])
    chosen = choose(facts, read_facts(data, QUARTERS[1]))
    asked = [facts[key] for key in [*chosen.changed, *chosen.unchanged]]
    questions = tuple(GoldenQuestion(id=f.id, question=f.question, answers=(f.answer,), docs=(f.doc,)) for f in asked)
    pages = sorted((data / f"snapshot_{QUARTERS[0]}/kb").glob("*.md"))
    documents = {page.name: page.read_text(encoding="utf-8") for page in pages}
    step = Step(documents=documents, examples=(), questions=questions, truth=questions, right=None, what="a quarter")
    corpus = corpus_of(step, {}, params)
    index = Index(str(work / "index"), load_embedder(params.embed), params.chunk)
    built = index.refresh(corpus.knowledge.source, corpus.snapshot.id, progress_bars, rebuild=True)
    found = index.retriever(built.version).search([one.question for one in questions], params.index.top_k)
    pairs = list(zip(questions, found, strict=True))
    retrieved = [question_prompt(one.question, [passage.text for passage in some]) for one, some in pairs]
    right = [
        question_prompt(one.question, gold_context(one, corpus.knowledge, params.index.top_k)) for one in questions
    ]
    missed = [not any(is_gold_passage(passage, one) for passage in some) for one, some in pairs]
    return Prompts(retrieved, right, missed)


# --- answers -------------------------------------------------------------------------------------------------------


def answer(side: Side, prompts: list[Prompt]) -> Run:
    """All prompts through one side; the two contexts are two calls, as the product makes them."""
    params = GenerateParams.model_validate(
        {"dtype": side.dtype} | ({"tokens_at_once": 1} if side.name == ALONE else {})
    )
    generator, meter = TransformersGenerator(params), Meter()
    ask = _sixteen(generator, params) if side.name == REFERENCE else generator.generate
    ask(prompts[:1], side.adapter, lambda _: None)
    meter.attach(generator._model(side.adapter))
    started, half = time.perf_counter(), len(prompts) // 2
    answers = [said for some in (prompts[:half], prompts[half:]) for said in ask(some, side.adapter, lambda _: None)]
    seconds = time.perf_counter() - started
    texts = [render_prompt(generator.tokenizer, prompt) for prompt in prompts]
    lengths = [sum(len(ids) for ids in generator.tokenizer(some)["input_ids"]) for some in (texts, answers)]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Run(answers, seconds, meter, *lengths, peak_mb)


def _sixteen(generator: TransformersGenerator, params: GenerateParams) -> Callable[..., list[str]]:
    """transformers as it is mostly used: sixteen prompts of like length at a time, padded by the tokenizer."""

    def ask(prompts: Sequence[Prompt], adapter: Path | None, _: object) -> list[str]:
        texts = [render_prompt(generator.tokenizer, prompt) for prompt in prompts]
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        said = {}
        for some in (order[at : at + 16] for at in range(0, len(order), 16)):
            inputs = generator.tokenizer([texts[at] for at in some], return_tensors="pt", padding=True)
            output = generator._model(adapter).generate(
                **inputs.to(generator._model(adapter).device),
                max_new_tokens=params.max_new_tokens,
                do_sample=False,
                pad_token_id=generator.tokenizer.pad_token_id,
            )
            new = generator.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            said |= {at: text.strip() for at, text in zip(some, new, strict=True)}
        return [said[at] for at in range(len(texts))]

    return ask


def apart(side: Side, prompts: list[Prompt]) -> Run:
    """`answer` in a process of its own, so that its memory is its own too."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(answer, side, prompts).result()


# --- tell ----------------------------------------------------------------------------------------------------------


def measure(made: Prompts, adapter: Path | None, dtype: str) -> None:
    """Both sides, what the evidence asks, and a sample one by one; then results/probes.json and the table."""
    prompts = made.every
    runs = {name: apart(Side(name, adapter, dtype), prompts) for name in (REFERENCE, RAGTIDE)}
    evidence = apart(Side(EVIDENCE, adapter, dtype), made.of_evidence)
    alone = apart(Side(ALONE, adapter, dtype), prompts[::SAMPLED_EVERY])
    rows = {name: _row(run, runs[REFERENCE], alone) for name, run in runs.items()}
    head = {
        "seconds": rows[RAGTIDE]["seconds"],
        "evidence_seconds": round(evidence.seconds, 1),
        "evidence_prompts": len(made.of_evidence),
        "speedup": rows[RAGTIDE]["times the first"],
        "cores": available_cores(),
        "dtype": dtype,
        "prompts": len(prompts),
    }
    RESULTS.write_text(json.dumps({**head, "sides": rows, "of": provenance()}, indent=2) + "\n", encoding="utf-8")
    columns = ["", *rows[REFERENCE]]
    table = markdown_table(columns, [[name, *map(str, row.values())] for name, row in rows.items()])
    ours = runs[RAGTIDE]
    told = f"{len(prompts)} prompts, {ours.prompt_tokens} prompt and {ours.answer_tokens} answer tokens; "
    told += f"{available_cores()} cores used, dtype {dtype}. What the evidence asks of them, {len(made.of_evidence)} "
    told += f"prompts at most, took Ragtide {evidence.seconds:.0f} s."
    put_table("probes", f"{table}\n\n{told}")


def _row(run: Run, first: Run, alone: Run) -> dict[str, float]:
    same = [one == other for one, other in zip(run.answers, first.answers, strict=True)]
    as_alone = [one == other for one, other in zip(run.answers[::SAMPLED_EVERY], alone.answers, strict=True)]
    return {
        "seconds": round(run.seconds, 1),
        "times the first": round(first.seconds / run.seconds, 2),
        "prompts a second": round(len(run.answers) / run.seconds, 2),
        "tokens read a second": round(run.prompt_tokens / run.meter.reading),
        "written a second": round(run.answer_tokens / run.meter.writing),
        "reading": round(run.meter.reading / run.seconds, 2),
        "writing": round(run.meter.writing / run.seconds, 2),
        "peak MB": run.peak_mb,
        "answers as the first": round(sum(same) / len(same), 3),
        "as each alone": round(sum(as_alone) / len(as_alone), 3),
    }


def main() -> int:
    """Run the benchmark; say clearly where its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/probes"))
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    missing = [q for q in QUARTERS if not (options.data / f"eol/snapshot_{q}/facts.jsonl").is_file()]
    if missing:
        sys.stderr.write(f"bench.probes: {options.data} has no eol/snapshot_{missing[0]}: name the data with --data\n")
        return 1
    apply_offline_defaults()
    measure(prompts_at(options.data / "eol", options.work), options.adapter, options.dtype)
    return 0


if __name__ == "__main__":
    sys.exit(main())
