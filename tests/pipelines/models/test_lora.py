"""Does training teach the answers, the answers alone, and the same way each time? On a tiny real model."""

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
LESSONS = tuple(
    TrainingSample(
        (Message("user", " ".join(WORDS[at : at + 1 + at % 4])),), " ".join(WORDS[40 + 2 * at : 42 + 2 * at - at % 2])
    )
    for at in range(8)
)
END = MARKS.index("<end>")
# Of the loss, relative: autocast to bfloat16 costs some of it.
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


def train(tiny: Path, folder: Path, lessons: Sequence[TrainingSample] = LESSONS, **changed: Any) -> TrainingResult:
    return LoraTrainer(finetune(**changed), settings_for(tiny)).train(lessons, folder, no_progress)


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


# --- training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Path]:
    """One training run, and the folder of its adapter."""
    folder = tmp_path_factory.mktemp("finetune") / "adapter"
    return train(tiny, folder), folder


def test_training_lowers_the_loss(learnt: tuple[TrainingResult, Path]) -> None:
    trained, _ = learnt
    assert len(trained.losses) == 20
    assert trained.final_loss == pytest.approx(sum(trained.losses[-2:]) / 2)
    assert trained.final_loss < trained.losses[0] / 3


def test_the_adapter_gives_the_answers_that_it_was_taught(tiny: Path, learnt: tuple[TrainingResult, Path]) -> None:
    def right(adapter: Path | None) -> int:
        asked = [lesson.prompt for lesson in LESSONS]
        answers = TransformersGenerator(settings_for(tiny)).generate(asked, adapter, lambda _: None)
        return sum(answer == lesson.completion for answer, lesson in zip(answers, LESSONS, strict=True))

    assert right(None) == 0
    assert right(learnt[1]) >= 6


def test_the_adapter_is_safetensors_and_names_its_base_as_params_do(
    tiny: Path, learnt: tuple[TrainingResult, Path]
) -> None:
    _, folder = learnt
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == str(tiny)
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 4, 8)
    assert len(settings["target_modules"]) == 14
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_base_is_recorded_by_its_name_and_not_by_where_it_lies(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "locate_generator", lambda name: str(tiny) if name == "packaged:tiny" else name)
    trainer = LoraTrainer(finetune(min_steps=1), settings_for("packaged:tiny"))
    trainer.train(LESSONS[:1], tmp_path / "adapter", no_progress)
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
    tiny: Path, learnt: tuple[TrainingResult, Path], tmp_path: Path, changed: dict[str, Any]
) -> None:
    train(tiny, tmp_path / "other", **changed)
    assert weights(tmp_path / "other") != weights(learnt[1])


def test_the_order_of_the_lessons_is_the_trainers_own(tiny: Path, tmp_path: Path) -> None:
    # Of different lengths, since lessons of one length keep the order in which they come.
    lessons = [TrainingSample((Message("user", " ".join(WORDS[: 1 + at])),), WORDS[50 + at]) for at in range(6)]
    train(tiny, tmp_path / "one", lessons, min_steps=3)
    train(tiny, tmp_path / "two", lessons[::-1], min_steps=3)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


def test_progress_counts_the_steps(tiny: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    done: list[int] = []

    def progress(label: str, total: int) -> Any:
        seen.append((label, total))
        return nullcontext(done.append)

    LoraTrainer(finetune(min_steps=3), settings_for(tiny)).train(LESSONS, tmp_path / "adapter", progress)
    assert seen == [("fine-tuning", 4)]
    assert sum(done) == 4


def test_an_adapter_that_is_there_already_makes_room_as_a_whole(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "half").write_text("half an adapter", encoding="utf-8")
    train(tiny, tmp_path / "adapter", min_steps=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
    assert not (tmp_path / "adapter" / "half").exists()
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


# --- a lesson as tokens --------------------------------------------------------------------------------------------


def tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_a_lesson_is_the_prompt_as_the_model_is_asked_and_then_the_answer_and_its_end(tokenizer: Any) -> None:
    one = truncate_sample(tokenizer, TrainingSample((Message("user", "w1 w2"),), "w3 w4"), 64)
    assert one == TokenizedSample(tokens(tokenizer, "<user> w1 w2 <end> <assistant> w3 w4 <end>"), 3)


@pytest.mark.parametrize("room", range(4, 12))
def test_a_prompt_too_long_loses_its_beginning_and_never_the_answer(tokenizer: Any, room: int) -> None:
    lesson = TrainingSample((Message("user", "w1 w2 w3 w4 w5"),), "w6 w7")
    whole = tokens(tokenizer, "<user> w1 w2 w3 w4 w5 <end> <assistant> w6 w7 <end>")
    one = truncate_sample(tokenizer, lesson, room)
    assert one.ids == whole[-room:]
    assert one.ids[-one.answer_tokens :] == tokens(tokenizer, "w6 w7 <end>")


@pytest.mark.parametrize("max_tokens", [1, 5, 6])
def test_an_answer_too_long_is_refused_in_one_line(tokenizer: Any, max_tokens: int) -> None:
    lesson = TrainingSample((Message("user", "w1"),), "w6 w7\nw8 w9 w10")
    with pytest.raises(UserError) as refusal:
        truncate_sample(tokenizer, lesson, max_tokens)
    assert f"over finetune.max_tokens = {max_tokens} tokens: 'w6 w7\\nw8" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert truncate_sample(tokenizer, lesson, 7).answer_tokens == 6


def test_an_answer_too_long_is_refused_before_an_adapter_is_written(tiny: Path, tmp_path: Path) -> None:
    long = TrainingSample((Message("user", "w1"),), "w2 " * 70)
    with pytest.raises(UserError, match=r"an example's answer is over finetune\.max_tokens = 64"):
        train(tiny, tmp_path / "adapter", [*LESSONS, long], max_tokens=64)
    assert list(tmp_path.iterdir()) == []


def test_lessons_that_would_be_refused_are_told_beforehand(tiny: Path) -> None:
    long = TrainingSample((Message("user", "w1"),), "w2 " * 70)
    trainer = LoraTrainer(finetune(max_tokens=64), settings_for(tiny))
    assert trainer.too_long([*LESSONS[:2], long, *LESSONS[2:], long]) == [2, 9]


def test_training_goes_through_lessons_that_are_cut(tiny: Path, tmp_path: Path) -> None:
    cut = [TrainingSample((Message("user", " ".join(WORDS)),), WORDS[at]) for at in range(3)]
    trained = train(tiny, tmp_path / "adapter", cut, max_tokens=3, min_steps=2)
    assert len(trained.losses) == 2
    assert all(loss > 0 for loss in trained.losses)


# --- the course ----------------------------------------------------------------------------------------------------


def of_length(length: int, first: int = 0) -> TokenizedSample:
    return TokenizedSample([first, *range(1, length)], 1)


def course(lessons: Sequence[TokenizedSample], base: str = "base", **changed: Any) -> TrainingSchedule:
    return plan_schedule(lessons, finetune(**changed), base)


def lengths(batches: Sequence[Sequence[TokenizedSample]]) -> list[int]:
    return sorted(len(one.ids) for batch in batches for one in batch)


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
def test_each_pass_shows_each_lesson_once(count: int, changed: dict[str, Any], passes: int) -> None:
    batches = course([of_length(length) for length in range(1, count + 1)], **changed).batches
    steps = len(batches) // passes
    assert steps * passes == len(batches) >= finetune(**changed).min_steps
    assert max(len(batch) for batch in batches) <= finetune(**changed).batch_size
    for start in range(0, len(batches), steps):
        assert lengths(batches[start : start + steps]) == list(range(1, count + 1))


def test_a_batch_holds_lessons_of_like_length() -> None:
    batches = course([of_length(length) for length in (9, 1, 8, 2, 7, 3)], batch_size=2, min_steps=1).batches
    assert sorted(lengths([batch]) for batch in batches) == [[1, 2], [3, 7], [8, 9]]


def test_batches_come_in_an_order_of_their_own_in_each_pass_and_by_seed() -> None:
    lessons = [of_length(length) for length in range(1, 13)]

    def order(seed: int) -> list[int]:
        return [len(batch[0].ids) for batch in course(lessons, batch_size=1, epochs=2, seed=seed).batches]

    assert order(7) == order(7)
    assert order(7) != order(8)
    assert order(7)[:12] != order(7)[12:24]


@pytest.mark.parametrize(
    ("count", "share", "watched"),
    [(34, 0.1, 0), (40, 0.1, 4), (200, 0.1, 20), (900, 0.1, 32), (900, 0, 0), (8, 0.5, 4)],
)
def test_a_share_is_watched_and_never_trained_on(count: int, share: float, watched: int) -> None:
    lessons = [of_length(2 + at % 9, first=at) for at in range(count)]
    planned = course(lessons, held_out_share=share, min_steps=1)
    trained = {one.ids[0] for batch in planned.batches for one in batch}
    assert len(planned.watched) == watched
    assert trained | {one.ids[0] for one in planned.watched} == set(range(count))
    assert len(trained) == count - watched


@given(st.permutations(range(60)))
def test_a_course_is_the_same_whatever_the_order_of_its_lessons(order: list[int]) -> None:
    lessons = [of_length(2 + at % 9, first=at) for at in range(60)]
    assert course([lessons[at] for at in order]) == course(lessons)


def test_whatever_the_weights_depend_on_makes_another_course() -> None:
    lessons = [of_length(length) for length in range(2, 9)]
    same = course(lessons).key
    others = [
        course(lessons[1:]).key,
        course(lessons, base="another").key,
        course(lessons, seed=8).key,
        course(lessons, rank=2).key,
        course([*lessons[1:], TokenizedSample(lessons[0].ids, 2)]).key,
    ]
    assert len({same, *others}) == 6
    assert course(lessons, max_minutes=3).key == same


# --- when it ends --------------------------------------------------------------------------------------------------

# Of eight lessons four are watched: what is learnt of the others helps them little, and soon harms them.
WATCHING = {"held_out_share": 0.5, "check_every_steps": 2, "min_steps": 40}


def loss_of(tiny: Path, tokenizer: Any, adapter: Path, lessons: Sequence[TokenizedSample]) -> HeldOutCheck:
    from peft import PeftModel

    with ignore_peft_warnings():
        model = PeftModel.from_pretrained(load_base_model(settings_for(tiny), str(tiny)), str(adapter))
    return check_held_out(model, lessons, tokenizer.pad_token_id, 0)


def test_training_ends_where_held_out_lessons_get_no_better_and_keeps_the_best(
    tiny: Path, tokenizer: Any, tmp_path: Path
) -> None:
    trained = train(tiny, tmp_path / "adapter", **WATCHING, patience=3)
    assert trained.stopped == "the loss on held-out lessons did not fall at 3 checks in turn"
    assert len(trained.losses) < 40
    assert [one.step for one in trained.watched] == list(range(2, len(trained.losses) + 1, 2))
    best = min(trained.watched, key=lambda one: one.loss)
    assert [one.step for one in trained.watched][-4] == best.step
    watched = course([truncate_sample(tokenizer, lesson, 1024) for lesson in LESSONS], **WATCHING).watched
    kept = loss_of(tiny, tokenizer, tmp_path / "adapter", watched)
    assert (kept.loss, kept.score) == pytest.approx((best.loss, best.score), rel=PRECISION)


def test_with_patience_all_passes_are_done_and_the_end_is_looked_at(tiny: Path, tmp_path: Path) -> None:
    trained = train(tiny, tmp_path / "adapter", held_out_share=0.5, check_every_steps=4, min_steps=6, patience=9)
    assert trained.stopped == "all passes are done"
    assert [one.step for one in trained.watched] == [4, 6]
    assert trained.seen == 6 * 4


def test_training_ends_when_its_time_is_over(tiny: Path, tmp_path: Path) -> None:
    trained = train(tiny, tmp_path / "adapter", held_out_share=0.5, max_minutes=1e-9)
    assert trained.stopped == "finetune.max_minutes = 1e-09 were over"
    assert len(trained.losses) == 1
    assert [one.step for one in trained.watched] == [1]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_a_watched_lesson_counts_as_right_exactly_where_greedy_decoding_gives_it(
    tiny: Path, tokenizer: Any, learnt: tuple[TrainingResult, Path]
) -> None:
    prompts = [lesson.prompt for lesson in LESSONS]
    answers = TransformersGenerator(settings_for(tiny)).generate(prompts, learnt[1], lambda _: None)
    right = [answer == lesson.completion for answer, lesson in zip(answers, LESSONS, strict=True)]
    assert sum(right) > 0
    told = [loss_of(tiny, tokenizer, learnt[1], [truncate_sample(tokenizer, lesson, 1024)]).score for lesson in LESSONS]
    assert told == [float(one) for one in right]


# --- after a kill --------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("watching", [{}, {"held_out_share": 0.5, "patience": 99}])
@pytest.mark.parametrize(("kill", "resumed"), [(1, 0), (3, 3), (10, 9)])
def test_after_a_kill_the_run_goes_on_to_the_same_weights_to_the_bit(
    tiny: Path, tmp_path: Path, watching: dict[str, Any], kill: int, resumed: int
) -> None:
    settings = {"min_steps": 14, "check_every_steps": 3, **watching}
    whole = train(tiny, tmp_path / "whole", **settings)
    trainer = LoraTrainer(finetune(**settings), settings_for(tiny))
    with pytest.raises(KilledError):
        trainer.train(LESSONS, tmp_path / "adapter", dies_after(kill))
    again = trainer.train(LESSONS, tmp_path / "adapter", no_progress)
    assert again.resumed_at == resumed
    assert replace(again, resumed_at=0) == whole
    assert weights(tmp_path / "adapter") == weights(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "whole"]


@pytest.mark.parametrize("changed", [{"learning_rate": 1e-2}, {"lessons": LESSONS[1:]}])
def test_another_run_does_not_go_on_where_this_one_was_killed(
    tiny: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    settings = {"min_steps": 6, "check_every_steps": 1}
    with pytest.raises(KilledError):
        LoraTrainer(finetune(**settings), settings_for(tiny)).train(LESSONS, tmp_path / "adapter", dies_after(3))
    assert train(tiny, tmp_path / "adapter", **(settings | changed)).resumed_at == 0
    train(tiny, tmp_path / "whole", **(settings | changed))
    assert weights(tmp_path / "adapter") == weights(tmp_path / "whole")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a file"])
def test_a_checkpoint_that_cannot_be_read_is_no_obstacle(tiny: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapter.checkpoint").write_bytes(content)
    assert train(tiny, tmp_path / "adapter", min_steps=2).resumed_at == 0
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


TRAINS = """
import sys
from pathlib import Path
from ragtide.pipelines.models.lora import LoraTrainer
from ragtide.pipelines.params import FinetuneParams, GenerateParams
from ragtide.pipelines.ports import Lesson, Message, quiet
base = GenerateParams(model=sys.argv[1], device="cpu", dtype="float32")
lessons = [Lesson((Message("user", f"w{at}"),), f"w{at + 1}") for at in range(8)]
params = FinetuneParams(min_steps=int(sys.argv[3]), check_every_steps=5)
print(LoraTrainer(params, base).train(lessons, Path(sys.argv[2]), quiet).resumed_at)
"""


@pytest.mark.slow
def test_a_killed_process_is_gone_on_from_by_the_next_to_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    def command(folder: str) -> list[str]:
        return [sys.executable, "-c", TRAINS, str(tiny), str(tmp_path / folder), "100"]

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


# --- the loss ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return load_base_model(settings_for(tiny), str(tiny)).eval()


def plain_loss(model: Any, lessons: Sequence[TokenizedSample]) -> float:
    """Cross-entropy a token of the answers, by logits over everything, lesson by lesson and without padding."""
    found: list[float] = []
    for one in lessons:
        logits = model(input_ids=torch.tensor([one.ids])).logits[0].float().log_softmax(-1)
        answer = range(len(one.ids) - one.answer_tokens, len(one.ids))
        found += [-float(logits[at - 1, one.ids[at]]) for at in answer]
    return sum(found) / len(found)


def mean_loss(model: Any, batch: Sequence[TokenizedSample], pad: int) -> float:
    return float(sum_answer_loss(model, batch, pad)) / sum(one.answer_tokens for one in batch)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_loss_is_that_of_the_answers_tokens_alone_whatever_the_padding(
    model: Any, tokenizer: Any, size: int
) -> None:
    batch = [truncate_sample(tokenizer, lesson, 64) for lesson in LESSONS[:size]]
    with torch.inference_mode():
        assert mean_loss(model, batch, tokenizer.pad_token_id) == pytest.approx(plain_loss(model, batch), rel=PRECISION)


@pytest.mark.parametrize("longest_plain", [0, 1000])
def test_short_cuts_of_training_change_neither_loss_nor_gradient(
    tiny: Path, tokenizer: Any, longest_plain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention of either kind, casts that are spared, the head's one product: beside the same model without them."""
    monkeypatch.setattr(module, "LONGEST_PLAIN", longest_plain)
    lessons = [truncate_sample(tokenizer, lesson, 64) for lesson in LESSONS]
    torch.manual_seed(0)
    quick = LoraTrainer(finetune(), settings_for(tiny))._adapted(str(tiny))
    monkeypatch.setattr(module, "_spare_casts", lambda _: None)
    monkeypatch.setattr(module, "_one_product", lambda _: None)
    torch.manual_seed(0)
    plain = LoraTrainer(finetune(), settings_for(tiny))._adapted(str(tiny))
    for model in (quick, plain):
        for one in lessons:
            sum_answer_loss(model, [one], tokenizer.pad_token_id).backward()
    with torch.inference_mode():
        assert mean_loss(quick, lessons, 1) == pytest.approx(mean_loss(plain, lessons, 1), rel=PRECISION)
    pairs = zip(quick.parameters(), plain.parameters(), strict=True)
    gradients = [(one.grad.flatten(), other.grad.flatten()) for one, other in pairs if one.requires_grad]
    found, wanted = (torch.cat(some) for some in zip(*gradients, strict=True))
    assert float((found - wanted).norm() / wanted.norm()) < PRECISION


def test_padding_moves_no_token_in_a_model_that_counts_positions(tokenizer: Any) -> None:
    torch.manual_seed(0)
    size = len(MARKS) + len(WORDS)
    config = GPT2Config(vocab_size=size, n_positions=64, n_embd=32, n_layer=1, n_head=2, initializer_range=0.3)
    counting = GPT2LMHeadModel(config).eval()
    batch = [truncate_sample(tokenizer, lesson, 64) for lesson in LESSONS]
    with torch.inference_mode():
        assert mean_loss(counting, batch, 1) == pytest.approx(plain_loss(counting, batch), rel=PRECISION)


def test_on_a_cpu_lessons_go_through_one_by_one_and_on_a_gpu_together() -> None:
    batch = [of_length(3), of_length(4)]
    assert micro_batches(batch, "cpu") == [[batch[0]], [batch[1]]]
    assert micro_batches(batch, "cuda") == [batch]


@pytest.mark.parametrize("pad", [0, 1, END, 50])
def test_the_token_that_pads_does_not_matter(model: Any, tokenizer: Any, pad: int) -> None:
    batch = [truncate_sample(tokenizer, lesson, 64) for lesson in LESSONS]
    with torch.inference_mode():
        usual = mean_loss(model, batch, tokenizer.pad_token_id)
        assert mean_loss(model, batch, pad) == pytest.approx(usual, rel=PRECISION)


def test_an_answer_of_one_token_after_a_prompt_of_one_is_enough(model: Any) -> None:
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
from ragtide.pipelines.ports import Lesson, Message, quiet
base = GenerateParams(model=sys.argv[1], device="cpu", dtype="float32")
lessons = [Lesson((Message("user", "w1"),), "w2")]
LoraTrainer(FinetuneParams(min_steps=1), base).train(lessons, Path(sys.argv[2]), quiet)
"""
    for seed in ("0", "1"):
        command = [sys.executable, "-c", code, str(tiny), str(tmp_path / seed)]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, check=True, capture_output=True)
    written = [{path.name: path.read_bytes() for path in (tmp_path / seed).iterdir()} for seed in ("0", "1")]
    assert written[0] == written[1]
