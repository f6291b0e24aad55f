"""Tests of LoRA training on a tiny real model: results, schedule, early stopping, resumption and loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models import lora as module
from ragtide.pipelines.models.generator import (
    TokenizedSample,
    TransformersGenerator,
    ignore_peft_warnings,
    load_base_model,
    load_tokenizer,
)
from ragtide.pipelines.models.lora import (
    LoraTrainer,
    TrainingSchedule,
    check_held_out,
    micro_batches,
    plan_schedule,
    sum_answer_loss,
    truncate_sample,
)
from ragtide.pipelines.models.weights import has_native_bfloat16, weights_digest
from ragtide.pipelines.params import FinetuneParams
from ragtide.pipelines.ports import HeldOutCheck, Message, Progress, TrainingResult, TrainingSample, no_progress
from tests.tiny import MARKS, WORDS, one_thread, settings_for, write_tiny_model

ROOT = Path(__file__).parents[3]

# Questions of different lengths, each with an answer of one or two words of its own.
SAMPLES = tuple(
    TrainingSample(
        (Message("user", " ".join(WORDS[at : at + 1 + at % 4])),), " ".join(WORDS[40 + 2 * at : 42 + 2 * at - at % 2])
    )
    for at in range(8)
)
END = MARKS.index("<end>")
# Relative tolerance of losses; bfloat16 autocast is less precise.
PRECISION = 2e-2 if has_native_bfloat16("cpu") else 1e-4
# pytest finds this fixture here by its name.
__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("finetune") / "tiny")


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    return load_tokenizer(settings_for(tiny), str(tiny))


def finetune(**changed: Any) -> FinetuneParams:
    usual: dict[str, Any] = {"learning_rate": 2e-2, "min_steps": 20, "rank": 4, "batch_size": 4}
    return FinetuneParams(**(usual | changed))


def train(tiny: Path, folder: Path, samples: Sequence[TrainingSample] = SAMPLES, **changed: Any) -> TrainingResult:
    return LoraTrainer(finetune(**changed), settings_for(tiny)).train(samples, folder, no_progress)


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


# --- training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Path]:
    """One training run, and the folder of its adapter."""
    folder = tmp_path_factory.mktemp("finetune") / "adapter"
    return train(tiny, folder), folder


def test_training_lowers_the_loss(trained: tuple[TrainingResult, Path]) -> None:
    trained, _ = trained
    assert len(trained.losses) == 20
    assert trained.final_loss == pytest.approx(sum(trained.losses[-2:]) / 2)
    assert trained.final_loss < trained.losses[0] / 3


def test_the_adapter_gives_the_answers_that_it_was_trained_on(tiny: Path, trained: tuple[TrainingResult, Path]) -> None:
    def right(adapter: Path | None) -> int:
        prompts = [sample.prompt for sample in SAMPLES]
        answers = TransformersGenerator(settings_for(tiny)).generate(prompts, adapter, lambda _: None)
        return sum(answer == sample.completion for answer, sample in zip(answers, SAMPLES, strict=True))

    assert right(None) == 0
    assert right(trained[1]) >= 6


def test_the_adapter_is_safetensors_and_names_its_base_as_params_do(
    tiny: Path, trained: tuple[TrainingResult, Path]
) -> None:
    _, folder = trained
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == str(tiny)
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 4, 8)
    assert len(settings["target_modules"]) == 14
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_base_is_recorded_by_its_name_and_not_by_its_location(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "locate_generator", lambda name: str(tiny) if name == "packaged:tiny" else name)
    trainer = LoraTrainer(finetune(min_steps=1), settings_for("packaged:tiny"))
    trainer.train(SAMPLES[:1], tmp_path / "adapter", no_progress)
    settings = (tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    assert json.loads(settings)["base_model_name_or_path"] == "packaged:tiny"
    assert str(tiny) not in settings


def test_training_leaves_the_base_model_as_it_was(tiny: Path, tmp_path: Path) -> None:
    before = weights_digest(tiny)
    train(tiny, tmp_path / "adapter", min_steps=1)
    assert weights_digest(tiny) == before


def test_the_same_seed_gives_the_same_weights_to_the_byte(tiny: Path, tmp_path: Path) -> None:
    first, second = (train(tiny, tmp_path / name, min_steps=4) for name in ("first", "second"))
    assert first == second
    assert weights(tmp_path / "first") == weights(tmp_path / "second")
    assert weights_digest(tmp_path / "first") == weights_digest(tmp_path / "second")


@pytest.mark.parametrize(
    "changed", [{"seed": 8}, {"learning_rate": 1e-2}, {"epochs": 11}, {"rank": 2}, {"batch_size": 3}]
)
def test_another_setting_gives_other_weights(
    tiny: Path, trained: tuple[TrainingResult, Path], tmp_path: Path, changed: dict[str, Any]
) -> None:
    train(tiny, tmp_path / "other", **changed)
    assert weights(tmp_path / "other") != weights(trained[1])


def test_the_order_of_the_samples_does_not_change_the_weights(tiny: Path, tmp_path: Path) -> None:
    # Of different lengths, so that the order by length is strict.
    samples = [TrainingSample((Message("user", " ".join(WORDS[: 1 + at])),), WORDS[50 + at]) for at in range(6)]
    train(tiny, tmp_path / "one", samples, min_steps=3)
    train(tiny, tmp_path / "two", samples[::-1], min_steps=3)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


def test_progress_counts_the_steps(tiny: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    done: list[int] = []

    def progress(label: str, total: int) -> Any:
        seen.append((label, total))
        return nullcontext(done.append)

    LoraTrainer(finetune(min_steps=3), settings_for(tiny)).train(SAMPLES, tmp_path / "adapter", progress)
    assert seen == [("fine-tuning", 4)]
    assert sum(done) == 4


def test_an_existing_adapter_folder_is_replaced_as_a_whole(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "half").write_text("half an adapter", encoding="utf-8")
    train(tiny, tmp_path / "adapter", min_steps=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
    assert not (tmp_path / "adapter" / "half").exists()
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


# --- tokenized samples ---------------------------------------------------------------------------------------------


def tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_a_sample_is_the_rendered_prompt_the_answer_and_the_end_token(tokenizer: Any) -> None:
    sample = truncate_sample(tokenizer, TrainingSample((Message("user", "w1 w2"),), "w3 w4"), 64)
    assert sample == TokenizedSample(tokens(tokenizer, "<user> w1 w2 <end> <assistant> w3 w4 <end>"), 3)


@pytest.mark.parametrize("max_tokens", range(4, 12))
def test_a_prompt_too_long_loses_its_beginning_and_never_the_answer(tokenizer: Any, max_tokens: int) -> None:
    sample = TrainingSample((Message("user", "w1 w2 w3 w4 w5"),), "w6 w7")
    whole = tokens(tokenizer, "<user> w1 w2 w3 w4 w5 <end> <assistant> w6 w7 <end>")
    truncated = truncate_sample(tokenizer, sample, max_tokens)
    assert truncated.ids == whole[-max_tokens:]
    assert truncated.ids[-truncated.answer_tokens :] == tokens(tokenizer, "w6 w7 <end>")


@pytest.mark.parametrize("max_tokens", [1, 5, 6])
def test_an_answer_too_long_is_an_error_of_one_line(tokenizer: Any, max_tokens: int) -> None:
    sample = TrainingSample((Message("user", "w1"),), "w6 w7\nw8 w9 w10")
    with pytest.raises(UserError) as raised:
        truncate_sample(tokenizer, sample, max_tokens)
    assert f"exceeds finetune.max_tokens = {max_tokens} tokens" in str(raised.value)
    assert r"'w6 w7\nw8" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert truncate_sample(tokenizer, sample, 7).answer_tokens == 6


def test_an_answer_too_long_fails_before_an_adapter_is_written(tiny: Path, tmp_path: Path) -> None:
    long = TrainingSample((Message("user", "w1"),), "w2 " * 70)
    with pytest.raises(UserError, match=r"exceeds finetune\.max_tokens = 64"):
        train(tiny, tmp_path / "adapter", [*SAMPLES, long], max_tokens=64)
    assert list(tmp_path.iterdir()) == []


def test_the_trainer_lists_samples_whose_answer_is_too_long(tiny: Path) -> None:
    long = TrainingSample((Message("user", "w1"),), "w2 " * 70)
    trainer = LoraTrainer(finetune(max_tokens=64), settings_for(tiny))
    assert trainer.too_long([*SAMPLES[:2], long, *SAMPLES[2:], long]) == [2, 9]


def test_training_works_on_truncated_samples(tiny: Path, tmp_path: Path) -> None:
    cut = [TrainingSample((Message("user", " ".join(WORDS)),), WORDS[at]) for at in range(3)]
    trained = train(tiny, tmp_path / "adapter", cut, max_tokens=3, min_steps=2)
    assert len(trained.losses) == 2
    assert all(loss > 0 for loss in trained.losses)


# --- schedule ------------------------------------------------------------------------------------------------------


def of_length(length: int, first: int = 0) -> TokenizedSample:
    return TokenizedSample([first, *range(1, length)], 1)


def schedule_of(samples: Sequence[TokenizedSample], base: str = "base", **changed: Any) -> TrainingSchedule:
    return plan_schedule(samples, finetune(**changed), base)


def lengths(batches: Sequence[Sequence[TokenizedSample]]) -> list[int]:
    return sorted(len(sample.ids) for batch in batches for sample in batch)


@pytest.mark.parametrize(
    ("count", "changed", "passes"),
    [
        (8, {"min_steps": 1}, 1),
        (8, {"min_steps": 1, "epochs": 3}, 3),
        (8, {"min_steps": 20}, 10),
        (7, {"min_steps": 1, "batch_size": 2}, 1),
        (1, {"min_steps": 5, "batch_size": 4}, 5),
    ],
)
def test_each_pass_contains_each_sample_once(count: int, changed: dict[str, Any], passes: int) -> None:
    batches = schedule_of([of_length(length) for length in range(1, count + 1)], **changed).batches
    steps = len(batches) // passes
    assert steps * passes == len(batches) >= finetune(**changed).min_steps
    assert max(len(batch) for batch in batches) <= finetune(**changed).batch_size
    for start in range(0, len(batches), steps):
        assert lengths(batches[start : start + steps]) == list(range(1, count + 1))


def test_a_batch_holds_samples_of_similar_length() -> None:
    batches = schedule_of([of_length(length) for length in (9, 1, 8, 2, 7, 3)], batch_size=2, min_steps=1).batches
    assert sorted(lengths([batch]) for batch in batches) == [[1, 2], [3, 7], [8, 9]]


def test_the_order_of_batches_depends_on_the_pass_and_the_seed() -> None:
    samples = [of_length(length) for length in range(1, 13)]

    def order(seed: int) -> list[int]:
        return [len(batch[0].ids) for batch in schedule_of(samples, batch_size=1, epochs=2, seed=seed).batches]

    assert order(7) == order(7)
    assert order(7) != order(8)
    assert order(7)[:12] != order(7)[12:24]


@pytest.mark.parametrize(
    ("count", "share", "held_out"),
    [(34, 0.1, 0), (40, 0.1, 4), (200, 0.1, 20), (900, 0.1, 32), (900, 0, 0), (8, 0.5, 4)],
)
def test_held_out_samples_are_never_trained_on(count: int, share: float, held_out: int) -> None:
    samples = [of_length(2 + at % 9, first=at) for at in range(count)]
    planned = schedule_of(samples, held_out_share=share, min_steps=1)
    trained = {sample.ids[0] for batch in planned.batches for sample in batch}
    assert len(planned.held_out) == held_out
    assert trained | {sample.ids[0] for sample in planned.held_out} == set(range(count))
    assert len(trained) == count - held_out


@given(st.permutations(range(60)))
def test_the_schedule_does_not_depend_on_the_order_of_the_samples(order: list[int]) -> None:
    samples = [of_length(2 + at % 9, first=at) for at in range(60)]
    assert schedule_of([samples[at] for at in order]) == schedule_of(samples)


def test_the_key_changes_with_everything_that_the_weights_depend_on() -> None:
    samples = [of_length(length) for length in range(2, 9)]
    same = schedule_of(samples).key
    others = [
        schedule_of(samples[1:]).key,
        schedule_of(samples, base="another").key,
        schedule_of(samples, seed=8).key,
        schedule_of(samples, rank=2).key,
        schedule_of([*samples[1:], TokenizedSample(samples[0].ids, 2)]).key,
    ]
    assert len({same, *others}) == 6
    assert schedule_of(samples, max_minutes=3).key == same


# --- early stopping ------------------------------------------------------------------------------------------------

# Four of eight samples are held out: training on the others improves their loss little, and soon worsens it.
HOLDING_OUT = {"held_out_share": 0.5, "check_every_steps": 2, "min_steps": 40}


def loss_of(tiny: Path, tokenizer: Any, adapter: Path, samples: Sequence[TokenizedSample]) -> HeldOutCheck:
    from peft import PeftModel

    with ignore_peft_warnings():
        model = PeftModel.from_pretrained(load_base_model(settings_for(tiny), str(tiny)), str(adapter))
    return check_held_out(model, samples, tokenizer.pad_token_id, 0)


def test_training_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best_weights(
    tiny: Path, tokenizer: Any, tmp_path: Path
) -> None:
    trained = train(tiny, tmp_path / "adapter", **HOLDING_OUT, patience=3)
    assert "3 consecutive checks" in trained.stopped
    assert not trained.cut_short
    assert len(trained.losses) < 40
    assert [check.step for check in trained.checks] == list(range(2, len(trained.losses) + 1, 2))
    best = min(trained.checks, key=lambda check: check.loss)
    assert [check.step for check in trained.checks][-4] == best.step
    held_out = schedule_of([truncate_sample(tokenizer, sample, 1024) for sample in SAMPLES], **HOLDING_OUT).held_out
    kept = loss_of(tiny, tokenizer, tmp_path / "adapter", held_out)
    assert (kept.loss, kept.score) == pytest.approx((best.loss, best.score), rel=PRECISION)


def test_with_patience_all_steps_are_done_and_the_last_is_checked(tiny: Path, tmp_path: Path) -> None:
    trained = train(tiny, tmp_path / "adapter", held_out_share=0.5, check_every_steps=4, min_steps=6, patience=9)
    assert "all training steps" in trained.stopped
    assert not trained.cut_short
    assert [check.step for check in trained.checks] == [4, 6]
    assert trained.seen == 6 * 4


def test_training_stops_at_the_time_limit(tiny: Path, tmp_path: Path) -> None:
    trained = train(tiny, tmp_path / "adapter", held_out_share=0.5, max_minutes=1e-9)
    assert "finetune.max_minutes = 1e-09" in trained.stopped
    assert trained.cut_short
    assert len(trained.losses) == 1
    assert [check.step for check in trained.checks] == [1]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_a_held_out_sample_counts_as_correct_exactly_if_greedy_decoding_reproduces_it(
    tiny: Path, tokenizer: Any, trained: tuple[TrainingResult, Path]
) -> None:
    prompts = [sample.prompt for sample in SAMPLES]
    answers = TransformersGenerator(settings_for(tiny)).generate(prompts, trained[1], lambda _: None)
    right = [answer == sample.completion for answer, sample in zip(answers, SAMPLES, strict=True)]
    assert sum(right) > 0
    scores = [
        loss_of(tiny, tokenizer, trained[1], [truncate_sample(tokenizer, sample, 1024)]).score for sample in SAMPLES
    ]
    assert scores == [float(is_right) for is_right in right]


# --- resumption after a kill ---------------------------------------------------------------------------------------


class KilledError(BaseException):
    pass


def dies_after(steps: int) -> Progress:
    """A progress bar under which the run ends in the middle."""
    left = steps

    def advance(count: int) -> None:
        nonlocal left
        left -= count
        if left < 0:
            raise KilledError

    return lambda _label, _total: nullcontext(advance)


@pytest.mark.parametrize("held_out", [{}, {"held_out_share": 0.5, "patience": 99}])
@pytest.mark.parametrize(("kill", "resumed"), [(1, 0), (3, 3), (10, 9)])
def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(
    tiny: Path, tmp_path: Path, held_out: dict[str, Any], kill: int, resumed: int
) -> None:
    settings = {"min_steps": 14, "check_every_steps": 3, **held_out}
    whole = train(tiny, tmp_path / "whole", **settings)
    trainer = LoraTrainer(finetune(**settings), settings_for(tiny))
    with pytest.raises(KilledError):
        trainer.train(SAMPLES, tmp_path / "adapter", dies_after(kill))
    again = trainer.train(SAMPLES, tmp_path / "adapter", no_progress)
    assert again.resumed_at == resumed
    assert replace(again, resumed_at=0) == whole
    assert weights(tmp_path / "adapter") == weights(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "whole"]


@pytest.mark.parametrize("changed", [{"learning_rate": 1e-2}, {"samples": SAMPLES[1:]}])
def test_a_different_run_does_not_resume_from_the_checkpoint_of_a_killed_run(
    tiny: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    settings = {"min_steps": 6, "check_every_steps": 1}
    with pytest.raises(KilledError):
        LoraTrainer(finetune(**settings), settings_for(tiny)).train(SAMPLES, tmp_path / "adapter", dies_after(3))
    assert train(tiny, tmp_path / "adapter", **(settings | changed)).resumed_at == 0
    train(tiny, tmp_path / "whole", **(settings | changed))
    assert weights(tmp_path / "adapter") == weights(tmp_path / "whole")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a file"])
def test_a_damaged_checkpoint_is_ignored(tiny: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapter.checkpoint").write_bytes(content)
    assert train(tiny, tmp_path / "adapter", min_steps=2).resumed_at == 0
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


TRAIN_SCRIPT = """
import sys
from pathlib import Path
from ragtide.pipelines.models.lora import LoraTrainer
from ragtide.pipelines.params import FinetuneParams, GenerateParams
from ragtide.pipelines.ports import Message, TrainingSample, no_progress
base = GenerateParams(model=sys.argv[1], device="cpu", dtype="float32")
samples = [TrainingSample((Message("user", f"w{at}"),), f"w{at + 1}") for at in range(8)]
params = FinetuneParams(min_steps=int(sys.argv[3]), check_every_steps=5)
print(LoraTrainer(params, base).train(samples, Path(sys.argv[2]), no_progress).resumed_at)
"""


@pytest.mark.slow
@pytest.mark.long
def test_the_next_process_resumes_the_run_of_a_killed_one_to_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    def command(folder: str) -> list[str]:
        return [sys.executable, "-c", TRAIN_SCRIPT, str(tiny), str(tmp_path / folder), "100"]

    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command("adapter"), env=env, cwd=ROOT, stdout=subprocess.DEVNULL) as killed:
        while killed.poll() is None and not (tmp_path / "adapter.checkpoint").is_file():
            time.sleep(0.01)
        killed.kill()
    assert not (tmp_path / "adapter").exists()
    again, whole = (
        subprocess.run(command(folder), env=env, cwd=ROOT, check=True, capture_output=True, text=True)
        for folder in ("adapter", "whole")
    )
    assert int(again.stdout) >= 5
    assert int(whole.stdout) == 0
    assert weights(tmp_path / "adapter") == weights(tmp_path / "whole")


# --- loss ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return load_base_model(settings_for(tiny), str(tiny)).eval()


def plain_loss(model: Any, samples: Sequence[TokenizedSample]) -> float:
    """Cross-entropy per answer token, from the logits of all positions, sample by sample and without padding."""
    losses: list[float] = []
    for sample in samples:
        logits = model(input_ids=torch.tensor([sample.ids])).logits[0].float().log_softmax(-1)
        answer = range(len(sample.ids) - sample.answer_tokens, len(sample.ids))
        losses += [-float(logits[at - 1, sample.ids[at]]) for at in answer]
    return sum(losses) / len(losses)


def mean_loss(model: Any, batch: Sequence[TokenizedSample], pad: int) -> float:
    return float(sum_answer_loss(model, batch, pad)) / sum(sample.answer_tokens for sample in batch)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_loss_covers_the_answer_tokens_only_whatever_the_padding(model: Any, tokenizer: Any, size: int) -> None:
    batch = [truncate_sample(tokenizer, sample, 64) for sample in SAMPLES[:size]]
    with torch.inference_mode():
        assert mean_loss(model, batch, tokenizer.pad_token_id) == pytest.approx(plain_loss(model, batch), rel=PRECISION)


@pytest.mark.parametrize("max_eager_tokens", [0, 1000])
def test_optimizations_of_training_change_neither_loss_nor_gradient(
    tiny: Path, tokenizer: Any, max_eager_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compares both kinds of attention, the reduced casts and the contiguous head input with a model without them."""
    monkeypatch.setattr(module, "MAX_EAGER_TOKENS", max_eager_tokens)
    samples = [truncate_sample(tokenizer, sample, 64) for sample in SAMPLES]
    torch.manual_seed(0)
    optimized = LoraTrainer(finetune(), settings_for(tiny))._load_with_adapter(str(tiny))
    monkeypatch.setattr(module, "_reduce_casts", lambda _: None)
    monkeypatch.setattr(module, "_make_head_input_contiguous", lambda _: None)
    torch.manual_seed(0)
    plain = LoraTrainer(finetune(), settings_for(tiny))._load_with_adapter(str(tiny))
    for model in (optimized, plain):
        for sample in samples:
            sum_answer_loss(model, [sample], tokenizer.pad_token_id).backward()
    with torch.inference_mode():
        assert mean_loss(optimized, samples, 1) == pytest.approx(mean_loss(plain, samples, 1), rel=PRECISION)
    pairs = zip(optimized.parameters(), plain.parameters(), strict=True)
    gradients = [(actual.grad.flatten(), wanted.grad.flatten()) for actual, wanted in pairs if actual.requires_grad]
    actual, wanted = (torch.cat(parts) for parts in zip(*gradients, strict=True))
    assert float((actual - wanted).norm() / wanted.norm()) < PRECISION


def test_padding_shifts_no_position_in_a_model_with_absolute_positions(tokenizer: Any) -> None:
    torch.manual_seed(0)
    size = len(MARKS) + len(WORDS)
    config = GPT2Config(vocab_size=size, n_positions=64, n_embd=32, n_layer=1, n_head=2, initializer_range=0.3)
    counting = GPT2LMHeadModel(config).eval()
    batch = [truncate_sample(tokenizer, sample, 64) for sample in SAMPLES]
    with torch.inference_mode():
        assert mean_loss(counting, batch, 1) == pytest.approx(plain_loss(counting, batch), rel=PRECISION)


def test_micro_batches_are_single_samples_on_a_cpu_and_whole_batches_on_a_gpu() -> None:
    batch = [of_length(3), of_length(4)]
    assert micro_batches(batch, "cpu") == [[batch[0]], [batch[1]]]
    assert micro_batches(batch, "cuda") == [batch]


@pytest.mark.parametrize("pad", [0, 1, END, 50])
def test_the_loss_does_not_depend_on_the_padding_token(model: Any, tokenizer: Any, pad: int) -> None:
    batch = [truncate_sample(tokenizer, sample, 64) for sample in SAMPLES]
    with torch.inference_mode():
        usual = mean_loss(model, batch, tokenizer.pad_token_id)
        assert mean_loss(model, batch, pad) == pytest.approx(usual, rel=PRECISION)


def test_one_prompt_token_and_one_answer_token_are_enough(model: Any) -> None:
    batch = [TokenizedSample([10, END], 1), TokenizedSample([11, 12, 13, END], 3)]
    with torch.inference_mode():
        assert mean_loss(model, batch, 1) == pytest.approx(plain_loss(model, batch), rel=PRECISION)


def test_the_same_training_writes_the_same_files_in_another_process(tmp_path: Path) -> None:
    tiny = write_tiny_model(tmp_path / "tiny")
    code = """
import sys
from pathlib import Path
from ragtide.pipelines.models.lora import LoraTrainer
from ragtide.pipelines.params import FinetuneParams, GenerateParams
from ragtide.pipelines.ports import Message, TrainingSample, no_progress
base = GenerateParams(model=sys.argv[1], device="cpu", dtype="float32")
samples = [TrainingSample((Message("user", "w1"),), "w2")]
LoraTrainer(FinetuneParams(min_steps=1), base).train(samples, Path(sys.argv[2]), no_progress)
"""
    for seed in ("0", "1"):
        command = [sys.executable, "-c", code, str(tiny), str(tmp_path / seed)]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, check=True, capture_output=True)
    written = [{path.name: path.read_bytes() for path in (tmp_path / seed).iterdir()} for seed in ("0", "1")]
    assert written[0] == written[1]
