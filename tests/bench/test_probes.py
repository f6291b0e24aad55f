"""Tests of the benchmark of the evidence's prompts: equal answers, prefill and decoding times, kept prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.probes import Meter, Prompts, Run, _padded_batches, _row, prompts_at
from ragtide.pipelines.models.generator import TransformersGenerator
from ragtide.pipelines.ports import Message, Prompt
from tests.tiny import WORDS, one_thread, settings_for, write_tiny_model

__all__ = ["one_thread"]  # A fixture: pytest finds it here.

PROMPTS: list[Prompt] = [(Message("user", " ".join(WORDS[at : at + 1 + at % 5])),) for at in range(40)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("probes") / "tiny")


def test_the_reference_gives_the_same_answers_as_the_product_in_the_same_order(tiny: Path) -> None:
    params = settings_for(tiny)
    generator = TransformersGenerator(params)
    assert _padded_batches(generator, params)(PROMPTS, None, None) == generator.generate(PROMPTS, None, lambda _: None)


def test_prefill_and_decoding_are_measured_separately(tiny: Path) -> None:
    generator, meter = TransformersGenerator(settings_for(tiny, max_new_tokens=3)), Meter()
    meter.attach(generator._model(None))
    generator.generate(PROMPTS[:1], None, lambda _: None)
    prompt = len(generator.tokenizer("<user> w0 <end> <assistant>")["input_ids"])
    # The first token of an answer comes from the prefill, each further token from a decoding step.
    assert (meter.read_tokens, meter.steps, meter.written_rows) == (prompt, 2, 2)
    assert meter.prefill > 0
    assert meter.decoding > 0


def test_kept_prompts_are_not_made_again(tmp_path: Path) -> None:
    retrieved, gold = ([[{"role": "user", "content": word}]] for word in ("w1", "w2"))
    content = {"retrieved": retrieved, "gold": gold, "missed": [False]}
    (tmp_path / "prompts.json").write_text(json.dumps(content), encoding="utf-8")
    prompts = prompts_at(tmp_path / "no data", tmp_path)
    assert prompts == Prompts([(Message("user", "w1"),)], [(Message("user", "w2"),)], [False])
    assert prompts.all == [(Message("user", "w1"),), (Message("user", "w2"),)]


def test_the_evidence_needs_gold_context_only_where_the_gold_passage_was_not_retrieved() -> None:
    assert Prompts(PROMPTS[:3], PROMPTS[3:6], [False, True, True]).of_evidence == [*PROMPTS[:3], PROMPTS[4], PROMPTS[5]]


def test_a_row_compares_answers_with_the_reference_and_with_the_sample() -> None:
    def run(answers: list[str], seconds: float) -> Run:
        return Run(answers, seconds, Meter(prefill=3, decoding=1), prompt_tokens=60, answer_tokens=10, peak_mb=1)

    first, new = run(["a"] * 16, 10), run(["a"] * 12 + ["b"] * 4, 5)
    row = _row(new, first, run(["a", "b"], 1))
    assert (row["speedup"], row["prompts per second"]) == (2.0, 3.2)
    assert (row["same answers as reference"], row["same answers as alone"]) == (0.75, 0.5)
    assert (row["prefill share"], row["decoding share"], row["prompt tokens per second"]) == (0.6, 0.2, 20)
