"""Time to answer 200 golden questions with retrieved context and with gold context.

    python -m bench.probes --data FOLDER

FOLDER holds eol/snapshot_24 and eol/snapshot_25; the questions are those of bench.quarter for the first of the two. The
400 prompts are made once and kept under --work. Each implementation answers them in a process of its own, with the
base model (whose answers are longer) unless --adapter names an adapter. All answers are compared with those of the
reference, and a sample with those that Ragtide gives to each prompt alone. The evidence needs fewer prompts: gold
context only for questions whose gold passage was not retrieved. It takes about 10 minutes on 2 cores.
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

from bench.quarter import QUARTERS, choose, missing_quarters, read_facts
from bench.step_corpus import corpus_of
from bench.streams import Step
from bench.tables import markdown_table, provenance, put_table
from ragtide.flows.environment import apply_offline_defaults
from ragtide.flows.progress import progress_bars
from ragtide.pipelines.evaluation.gold import GoldPassages, gold_context
from ragtide.pipelines.index.chunking import text_digest
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
EVIDENCE = "Ragtide, prompts of the evidence"
SAMPLED_EVERY = 8


@dataclass
class Meter:
    """Seconds in the model: prefill (reading prompts) and decoding (writing answers token by token)."""

    prefill: float = 0.0
    decoding: float = 0.0
    read_tokens: int = 0
    written_rows: int = 0
    steps: int = 0
    _since: float = field(default=0.0, repr=False)

    def attach(self, model: Any) -> None:
        """Measure every forward pass of `model` from now on."""
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        model.register_forward_hook(self._end, with_kwargs=True)

    def _begin(self, *_: object) -> None:
        self._since = time.perf_counter()

    def _end(self, _model: object, _args: object, inputs: dict[str, Any], _output: object) -> None:
        seconds, (rows, width) = time.perf_counter() - self._since, inputs["input_ids"].shape
        if width > 1:
            self.prefill += seconds
            self.read_tokens += rows * width
        else:
            self.decoding += seconds
            self.written_rows += rows
            self.steps += 1


@dataclass(frozen=True)
class Side:
    """An implementation that answers, with its adapter and data type."""

    name: str
    adapter: Path | None
    dtype: str


@dataclass(frozen=True)
class Run:
    """The answers of an implementation, with their time, tokens and peak memory."""

    answers: list[str]
    seconds: float
    meter: Meter
    prompt_tokens: int
    answer_tokens: int
    peak_mb: int


# --- prompts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prompts:
    """Every question with retrieved and with gold context; `missed`: the gold passage was not retrieved."""

    retrieved: list[Prompt]
    gold: list[Prompt]
    missed: list[bool]

    @property
    def all(self) -> list[Prompt]:
        return [*self.retrieved, *self.gold]

    @property
    def of_evidence(self) -> list[Prompt]:
        """Return the prompts that must be answered, at most, to know both scores of every question."""
        return [*self.retrieved, *(prompt for prompt, missed in zip(self.gold, self.missed, strict=True) if missed)]


def prompts_at(data: Path, work: Path) -> Prompts:
    """Return the prompts kept at `work`; make them if there are none."""
    kept = work / "prompts.json"
    if not kept.is_file():
        work.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(make_prompts(data, work))), encoding="utf-8")
    content = json.loads(kept.read_text(encoding="utf-8"))
    retrieved, gold = (
        [tuple(Message(**message) for message in prompt) for prompt in content[name]] for name in ("retrieved", "gold")
    )
    return Prompts(retrieved, gold, content["missed"])


def make_prompts(data: Path, work: Path) -> Prompts:
    """Make the prompts of a quarter's golden questions, with the passages of a real index at `work`."""
    params, questions = Params(), _golden_questions(data)
    pages = sorted((data / f"snapshot_{QUARTERS[0]}/kb").glob("*.md"))
    documents = {page.name: page.read_text(encoding="utf-8") for page in pages}
    step = Step(
        documents=documents, examples=(), questions=questions, truth=questions, right=None, description="a quarter"
    )
    corpus = corpus_of(step, {}, params)
    index = Index(str(work / "index"), load_embedder(params.embed), params.chunk)
    built = index.refresh(corpus.knowledge.source, corpus.snapshot.id, progress_bars, rebuild=True)
    texts = [question.question for question in questions]
    pairs = list(zip(questions, index.retriever(built.version).contexts(texts, params.index.top_k), strict=True))
    retrieved = [question_prompt(question.question, [passage.text for passage in found]) for question, found in pairs]
    gold = [
        question_prompt(
            question.question, gold_context(question, corpus.knowledge, params.index.top_k, params.chunk.max_words)
        )
        for question, _ in pairs
    ]
    missed = [
        not GoldPassages.of(question, corpus.knowledge).are_in({text_digest(passage.text) for passage in found})
        for question, found in pairs
    ]
    return Prompts(retrieved, gold, missed)


def _golden_questions(data: Path) -> tuple[GoldenQuestion, ...]:
    facts = read_facts(data, QUARTERS[0])
    chosen = choose(facts, read_facts(data, QUARTERS[1]))
    golden = [facts[key] for key in [*chosen.changed, *chosen.unchanged]]
    return tuple(
        GoldenQuestion(id=fact.id, question=fact.question, answers=(fact.answer,), docs=(fact.doc,)) for fact in golden
    )


# --- answers -------------------------------------------------------------------------------------------------------


def answer(side: Side, prompts: list[Prompt]) -> Run:
    """Answer all prompts; retrieved and gold context are two calls, as in the product."""
    params = GenerateParams.model_validate(
        {"dtype": side.dtype} | ({"tokens_at_once": 1} if side.name == ALONE else {})
    )
    generator, meter = TransformersGenerator(params), Meter()
    generate = _padded_batches(generator, params) if side.name == REFERENCE else generator.generate
    generate(prompts[:1], side.adapter, lambda _: None)
    meter.attach(generator._model(side.adapter))
    started, middle = time.perf_counter(), len(prompts) // 2
    answers = generate(prompts[:middle], side.adapter, lambda _: None)
    answers += generate(prompts[middle:], side.adapter, lambda _: None)
    seconds = time.perf_counter() - started
    texts = [render_prompt(generator.tokenizer, prompt) for prompt in prompts]
    prompt_tokens, answer_tokens = (
        sum(len(ids) for ids in generator.tokenizer(strings)["input_ids"]) for strings in (texts, answers)
    )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Run(answers, seconds, meter, prompt_tokens, answer_tokens, peak_mb)


def _padded_batches(generator: TransformersGenerator, params: GenerateParams) -> Callable[..., list[str]]:
    """Return a generate function of plain transformers: padded batches of 16 prompts of similar length."""

    def generate(prompts: Sequence[Prompt], adapter: Path | None, _: object) -> list[str]:
        texts = [render_prompt(generator.tokenizer, prompt) for prompt in prompts]
        order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
        answers: dict[int, str] = {}
        for batch in (order[start : start + 16] for start in range(0, len(order), 16)):
            inputs = generator.tokenizer([texts[position] for position in batch], return_tensors="pt", padding=True)
            output = generator._model(adapter).generate(
                **inputs.to(generator._model(adapter).device),
                max_new_tokens=params.max_new_tokens,
                do_sample=False,
                pad_token_id=generator.tokenizer.pad_token_id,
            )
            new = generator.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            answers |= {position: text.strip() for position, text in zip(batch, new, strict=True)}
        return [answers[position] for position in range(len(texts))]

    return generate


def answer_in_process(side: Side, prompts: list[Prompt]) -> Run:
    """Run `answer` in a process of its own, so that its peak memory is measured alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(answer, side, prompts).result()


# --- results -------------------------------------------------------------------------------------------------------


def measure(prompts: Prompts, adapter: Path | None, dtype: str) -> None:
    """Time both implementations, the prompts of the evidence, and a sample one by one; write results and table."""
    runs = {name: answer_in_process(Side(name, adapter, dtype), prompts.all) for name in (REFERENCE, RAGTIDE)}
    evidence = answer_in_process(Side(EVIDENCE, adapter, dtype), prompts.of_evidence)
    alone = answer_in_process(Side(ALONE, adapter, dtype), prompts.all[::SAMPLED_EVERY])
    rows = {name: _row(run, runs[REFERENCE], alone) for name, run in runs.items()}
    head = {
        "seconds": rows[RAGTIDE]["seconds"],
        "evidence_seconds": round(evidence.seconds, 1),
        "evidence_prompts": len(prompts.of_evidence),
        "speedup": rows[RAGTIDE]["speedup"],
        "cores": available_cores(),
        "dtype": dtype,
        "prompts": len(prompts.all),
    }
    RESULTS.write_text(json.dumps({**head, "sides": rows, "of": provenance()}, indent=2) + "\n", encoding="utf-8")
    columns = ["", *rows[REFERENCE]]
    table = markdown_table(columns, [[name, *map(str, row.values())] for name, row in rows.items()])
    ours = runs[RAGTIDE]
    summary = f"{len(prompts.all)} prompts, {ours.prompt_tokens} prompt tokens, {ours.answer_tokens} answer tokens, "
    summary += (
        f"{available_cores()} cores, dtype {dtype}. The evidence needs at most {len(prompts.of_evidence)} of these "
    )
    summary += f"prompts, which took Ragtide {evidence.seconds:.0f} s."
    put_table("probes", f"{table}\n\n{summary}")


def _row(run: Run, reference: Run, alone: Run) -> dict[str, float]:
    sample = run.answers[::SAMPLED_EVERY]
    same = [answer == other for answer, other in zip(run.answers, reference.answers, strict=True)]
    same_alone = [answer == other for answer, other in zip(sample, alone.answers, strict=True)]
    return {
        "seconds": round(run.seconds, 1),
        "speedup": round(reference.seconds / run.seconds, 2),
        "prompts per second": round(len(run.answers) / run.seconds, 2),
        "prompt tokens per second": round(run.prompt_tokens / run.meter.prefill),
        "answer tokens per second": round(run.answer_tokens / run.meter.decoding),
        "prefill share": round(run.meter.prefill / run.seconds, 2),
        "decoding share": round(run.meter.decoding / run.seconds, 2),
        "peak MB": run.peak_mb,
        "same answers as reference": round(sum(same) / len(same), 3),
        "same answers as alone": round(sum(same_alone) / len(same_alone), 3),
    }


def main() -> int:
    """Run the benchmark; return 1 if its data is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/probes"))
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    if missing := missing_quarters(options.data):
        sys.stderr.write(
            f"bench.probes: {options.data} has no eol/snapshot_{missing[0]}: pass the data folder with --data\n"
        )
        return 1
    apply_offline_defaults()
    measure(prompts_at(options.data / "eol", options.work), options.adapter, options.dtype)
    return 0


if __name__ == "__main__":
    sys.exit(main())
