"""Tests of generation and answer losses: order, batches, adapters, identities and errors.

The model is a real transformers model, tiny and untrained: its answers are meaningless but deterministic.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.adapters import BASE, AdapterBase
from ragtide.pipelines.models.generator import (
    ANSWER_TOKEN_COST,
    TokenizedSample,
    TransformersGenerator,
    load_base_model,
    load_tokenizer,
    prompt_ids,
    render_prompt,
    shared_prefix_cache,
    tokenize_sample,
)
from ragtide.pipelines.models.weights import weights_digest
from ragtide.pipelines.params import GenerateParams
from ragtide.pipelines.ports import Message, Prompt, TrainingSample
from tests.factories import write
from tests.tiny import MARKS, TEMPLATE, WORDS, one_thread, settings_for, write_random_adapter, write_tiny_model

__all__ = ["one_thread"]  # A fixture: pytest finds it here.

PROMPTS: tuple[Prompt, ...] = tuple(
    (Message("user", " ".join(WORDS[at : at + 1 + 5 * (at % 4)])),) for at in (0, 7, 2, 5, 11, 4, 9, 13, 7)
)
# Prompts and answers of different lengths, the longest answer to the shortest prompt.
SAMPLES = tuple(
    TrainingSample(prompt, " ".join(WORDS[50 + at : 50 + at + 1 + (7 * at) % 5])) for at, prompt in enumerate(PROMPTS)
)
Break = Callable[[Path], object]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("generate") / "tiny")


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_adapter(tiny, tmp_path_factory.mktemp("generate") / "adapter")


def ask(params: GenerateParams, prompts: tuple[Prompt, ...] = PROMPTS, adapter: Path | None = None) -> list[str]:
    return TransformersGenerator(params).generate(prompts, adapter, lambda _: None)


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
def test_answers_have_the_order_of_the_prompts_for_any_batch_size(tiny: Path, adapter: Path, adapted: bool) -> None:
    chosen = adapter if adapted else None
    generator = TransformersGenerator(settings_for(tiny))
    alone = [generator.generate([prompt], chosen, lambda _: None)[0] for prompt in PROMPTS]
    assert len(set(alone)) >= 6
    assert alone[1] == alone[8]
    for tokens in (1, 30, 60, 10_000):
        assert ask(settings_for(tiny, tokens_at_once=tokens), adapter=chosen) == alone


def test_an_adapter_changes_the_answers_and_leaves_the_base_model_unchanged(tiny: Path, adapter: Path) -> None:
    generator = TransformersGenerator(settings_for(tiny))
    base = generator.generate(PROMPTS, None, lambda _: None)
    adapted = generator.generate(PROMPTS, adapter, lambda _: None)
    assert adapted != base
    assert generator.generate(PROMPTS, None, lambda _: None) == base
    assert ask(settings_for(tiny), adapter=adapter) == adapted


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_an_answer_is_no_longer_than_the_limit(tiny: Path, limit: int) -> None:
    answers = ask(settings_for(tiny, max_new_tokens=limit))
    assert max(len(answer.split()) for answer in answers) == limit


def test_a_shorter_limit_gives_the_beginning_of_the_same_answer(tiny: Path) -> None:
    short, long = (ask(settings_for(tiny, max_new_tokens=limit)) for limit in (2, 6))
    assert all(after.startswith(before) for before, after in zip(short, long, strict=True))


def test_an_answer_ends_at_the_end_token_and_holds_no_special_tokens(tiny: Path) -> None:
    answers = ask(settings_for(tiny, tokens_at_once=512), tuple((Message("user", word),) for word in WORDS))
    assert min(len(answer.split()) for answer in answers) < 6
    assert all(answer == answer.strip() for answer in answers)
    assert not {word for answer in answers for word in answer.split()} & set(MARKS)


def test_without_prompts_there_are_no_answers(tiny: Path) -> None:
    assert ask(settings_for(tiny), ()) == []


@pytest.mark.parametrize(("tokens", "batches"), [(1, [1] * 9), (60, [2, 2, 4, 1]), (10_000, [9])])
def test_progress_counts_the_prompts_batch_by_batch(tiny: Path, tokens: int, batches: list[int]) -> None:
    done: list[int] = []
    ask_and_count = TransformersGenerator(settings_for(tiny, tokens_at_once=tokens)).generate
    ask_and_count(PROMPTS, None, done.append)
    assert done == batches


@pytest.mark.parametrize("tokens", [1, 40, 60, 10_000])
def test_no_batch_exceeds_the_token_budget_and_each_prompt_is_in_one(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    batches: list[list[list[int]]] = []
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=tokens))
    monkeypatch.setattr(
        generator, "_generate_batch", lambda token_ids, _: batches.append(token_ids) or [""] * len(token_ids)
    )
    generator.generate(PROMPTS, None, lambda _: None)
    assert sorted(ids for batch in batches for ids in batch) == sorted(
        prompt_ids(generator.tokenizer, prompt) for prompt in PROMPTS
    )
    assert all(len(batch) == 1 or len(batch) * (len(batch[0]) + 6) <= tokens for batch in batches)
    assert [len(batch[0]) for batch in batches] == sorted((len(max(batch, key=len)) for batch in batches), reverse=True)


SYSTEM = Message("system", " ".join(WORDS[60:80]))
SHARING = tuple((SYSTEM, *prompt) for prompt in PROMPTS)


def prompt_shapes(generator: TransformersGenerator, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    """Shapes (rows, width) of the forward passes over prompts, without those that generate single tokens."""
    shapes: list[tuple[int, ...]] = []
    model = generator._model(None)
    hook = model.register_forward_pre_hook(lambda *call: shapes.append(call[2]["input_ids"].shape), with_kwargs=True)
    generator.generate(prompts, None, lambda _: None)
    hook.remove()
    return [tuple(shape) for shape in shapes if shape[1] > 1]


def test_the_shared_prefix_of_a_batch_is_computed_once_and_changes_no_answer(tiny: Path) -> None:
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=10_000))
    alone = [generator.generate([prompt], None, lambda _: None)[0] for prompt in SHARING]
    assert generator.generate(SHARING, None, lambda _: None) == alone
    assert len(set(alone)) >= 6
    # The prefix is <system>, 20 words, <end> and <user>; the second pass covers the rest of the longest prompt.
    longest = max(len(prompt_ids(generator.tokenizer, prompt)) for prompt in SHARING)
    assert prompt_shapes(generator, SHARING) == [(1, 23), (len(SHARING), longest - 23)]


def test_identical_prompts_leave_a_token_to_compute(tiny: Path) -> None:
    same = ask(settings_for(tiny, tokens_at_once=10_000), (PROMPTS[1],) * 3)
    assert same == ask(settings_for(tiny), (PROMPTS[1],)) * 3


def test_a_single_prompt_is_computed_in_one_pass(tiny: Path) -> None:
    generator = TransformersGenerator(settings_for(tiny))
    assert prompt_shapes(generator, SHARING[:1]) == [(1, len(prompt_ids(generator.tokenizer, SHARING[0])))]


def test_a_model_with_a_sliding_window_has_no_shared_prefix_cache() -> None:
    from transformers import MistralConfig

    sliding = SimpleNamespace(config=MistralConfig(num_hidden_layers=2, sliding_window=8))
    assert shared_prefix_cache(sliding, [[1, 2, 3], [1, 2, 4]]) is None


def test_prompts_with_different_beginnings_have_no_shared_prefix_cache() -> None:
    from transformers import LlamaConfig

    assert shared_prefix_cache(SimpleNamespace(config=LlamaConfig(num_hidden_layers=2)), [[1, 2], [3, 2]]) is None


def test_the_answer_depends_on_the_whole_conversation(tiny: Path) -> None:
    def answer_to(*turns: Message) -> str:
        return ask(settings_for(tiny), (turns,))[0]

    last = Message("user", "w7 w8")
    answers = {
        answer_to(last),
        answer_to(Message("system", "w1"), last),
        answer_to(Message("user", "w1"), Message("assistant", "w2"), last),
    }
    assert len(answers) == 3


def test_a_tokenizer_without_a_padding_token_pads_with_the_end_token(tmp_path: Path, tiny: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", pad_token=None)
    assert load_tokenizer(settings_for(folder), str(folder)).pad_token == "<end>"
    assert ask(settings_for(folder)) == ask(settings_for(tiny))


def test_a_prompt_is_rendered_by_the_chat_template_up_to_the_answer(tiny: Path) -> None:
    tokenizer = load_tokenizer(settings_for(tiny), str(tiny))
    prompt = (Message("system", "w1"), Message("user", "w2 w3"))
    assert render_prompt(tokenizer, prompt) == "<system> w1 <end> <user> w2 w3 <end> <assistant> "
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("left", "<pad>")


# --- losses --------------------------------------------------------------------------------------------------------


def losses(
    params: GenerateParams, samples: Sequence[TrainingSample] = SAMPLES, adapter: Path | None = None
) -> list[float]:
    return TransformersGenerator(params).losses(samples, adapter, lambda _: None)


def plain_loss(model: Any, ids: list[int], answer_tokens: int) -> float:
    """The mean cross-entropy by hand: one sample, no padding, logits of all positions."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    answer = range(len(ids) - answer_tokens, len(ids))
    return -sum(float(logits[at - 1, ids[at]]) for at in answer) / answer_tokens


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("tokens", [1, 100, 200, 10_000])
def test_a_loss_covers_the_answer_tokens_only_whatever_the_batch(
    tiny: Path, adapter: Path, adapted: bool, tokens: int
) -> None:
    chosen = adapter if adapted else None
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=tokens))
    measured = generator.losses(SAMPLES, chosen, lambda _: None)
    tokenized = [tokenize_sample(generator.tokenizer, sample) for sample in SAMPLES]
    by_hand = [plain_loss(generator._model(chosen), sample.ids, sample.answer_tokens) for sample in tokenized]
    assert measured == pytest.approx(by_hand, abs=1e-3)
    assert len({round(loss, 2) for loss in by_hand}) == len(SAMPLES)


def test_an_adapter_changes_the_losses(tiny: Path, adapter: Path) -> None:
    assert losses(settings_for(tiny), adapter=adapter) != pytest.approx(losses(settings_for(tiny)), abs=0.1)


def test_the_models_own_answer_has_a_low_loss(tiny: Path) -> None:
    prompt = PROMPTS[1]
    [own] = ask(settings_for(tiny, max_new_tokens=1), (prompt,))
    assert own in WORDS
    samples = [TrainingSample(prompt, word) for word in WORDS]
    by_word = dict(zip(WORDS, losses(settings_for(tiny), samples), strict=True))
    assert by_word[own] < sum(by_word.values()) / len(by_word) - 1


def test_the_end_token_is_part_of_the_answer(tiny: Path) -> None:
    tokenizer = load_tokenizer(settings_for(tiny), str(tiny))
    assert tokenize_sample(tokenizer, TrainingSample((Message("user", "w1"),), "")).answer_tokens == 1
    [loss] = losses(settings_for(tiny), [TrainingSample((Message("user", "w1"),), "")])
    assert math.isfinite(loss)
    assert loss > 0


def test_a_sample_over_the_context_window_is_measured_by_its_last_tokens(tiny: Path) -> None:
    long = TrainingSample((Message("user", "w1 " * 400),), "w2 w3")
    endless = TrainingSample((Message("user", "w1"),), "w2 w3 " * 200)
    generator = TransformersGenerator(settings_for(tiny))
    measured = generator.losses([long, endless, SAMPLES[0]], None, lambda _: None)
    cut = [tokenize_sample(generator.tokenizer, sample).ids[-256:] for sample in (long, endless)]
    model = generator._model(None)
    assert measured[:2] == pytest.approx([plain_loss(model, cut[0], 3), plain_loss(model, cut[1], 255)], abs=1e-3)
    assert measured[2:] == pytest.approx(losses(settings_for(tiny), SAMPLES[:1]), abs=1e-3)


@pytest.mark.parametrize(("max_tokens", "kept"), [(9, 3), (6, 3), (5, 3), (4, 3), (3, 2), (2, 1)])
def test_truncation_cuts_the_beginning_and_leaves_a_token_before_the_answer(max_tokens: int, kept: int) -> None:
    assert TokenizedSample([1, 2, 3, 4, 5, 6], 3).truncate(max_tokens) == TokenizedSample(
        [1, 2, 3, 4, 5, 6][-max_tokens:], kept
    )


@pytest.mark.parametrize("tokens", [1, 100, 300])
def test_no_batch_of_samples_exceeds_the_token_budget(tiny: Path, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    batches: list[list[TokenizedSample]] = []
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=tokens))
    monkeypatch.setattr(generator, "_batch_losses", lambda samples, _: batches.append(samples) or [0.0] * len(samples))
    generator.losses(SAMPLES, None, lambda _: None)
    assert sum(map(len, batches)) == len(SAMPLES)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(sample.ids) for sample in batch) <= tokens
        assert (
            len(batch) == 1 or len(batch) * max(sample.answer_tokens for sample in batch) <= tokens / ANSWER_TOKEN_COST
        )


def test_no_samples_have_no_losses_and_progress_counts_the_samples(tiny: Path) -> None:
    done: list[int] = []
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=200))
    assert generator.losses([], None, done.append) == []
    generator.losses(SAMPLES, None, done.append)
    assert sum(done) == len(SAMPLES)
    assert len(done) > 1


# --- which model answers -------------------------------------------------------------------------------------------


def test_the_base_is_named_by_its_location_and_its_weights(tiny: Path, tmp_path: Path) -> None:
    assert TransformersGenerator(settings_for(tiny)).base == f"{tiny}@{weights_digest(tiny)}"
    other = TransformersGenerator(settings_for(write_tiny_model(tmp_path / "other", seed=1))).base
    assert other.split("@")[1] != weights_digest(tiny)


def test_the_identity_depends_only_on_what_can_change_an_answer(tiny: Path, tmp_path: Path) -> None:
    def identity(folder: Path, **changed: Any) -> str:
        return TransformersGenerator(settings_for(folder, **changed)).identity

    other = write_tiny_model(tmp_path / "other", seed=1)
    same = [identity(tiny), identity(tiny, tokens_at_once=1)]
    others = [identity(tiny, max_new_tokens=7), identity(tiny, dtype="bfloat16"), identity(other)]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 4


def test_only_an_adapter_recorded_with_another_base_is_an_error(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", seed=1)
    made = {folder: Path(shutil.copytree(adapter, tmp_path / folder.name / "adapter")) for folder in (tiny, other)}
    for base, folder in made.items():
        AdapterBase(base=f"somewhere/else@{weights_digest(base)}").write(folder / BASE)
    assert ask(settings_for(tiny), adapter=made[tiny]) == ask(settings_for(tiny), adapter=adapter)
    with pytest.raises(UserError, match=r"^adapter adapter was trained on somewhere/else@\w{12}, not on ") as raised:
        ask(settings_for(tiny), adapter=made[other])
    assert f"not on {tiny}@{weights_digest(tiny)}: " in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_weights_are_loaded_in_the_configured_precision(tiny: Path, dtype: str) -> None:
    assert str(load_base_model(settings_for(tiny, dtype=dtype), str(tiny)).dtype) == f"torch.{dtype}"


# --- errors --------------------------------------------------------------------------------------------------------


def without(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def with_content(name: str, content: str) -> Break:
    return lambda folder: write(folder / name, content)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda folder: [path.unlink() for path in folder.iterdir()], id="empty folder"),
        pytest.param(shutil.rmtree, id="no folder"),
        pytest.param(without("model.safetensors"), id="no weights"),
        pytest.param(without("config.json"), id="no config"),
        pytest.param(without("tokenizer.json"), id="no tokenizer"),
        pytest.param(with_content("config.json", "{"), id="a broken config"),
        pytest.param(with_content("config.json", '{"model_type": "of-tomorrow"}'), id="an unknown kind"),
        pytest.param(with_content("tokenizer.json", "{"), id="a broken tokenizer"),
    ],
)
def test_an_incomplete_model_folder_is_an_error_of_one_line_that_names_the_setting(
    tiny: Path, tmp_path: Path, broken: Break
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    broken(folder)
    with pytest.raises(UserError) as raised:
        ask(settings_for(folder))
    message = str(raised.value)
    assert message.startswith(f"generate.model = {str(folder)!r} cannot be loaded (")
    assert "generate.model in params.yaml" in message
    assert "\n" not in message


def test_a_model_without_a_chat_template_is_an_error_of_one_line(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template") as raised:
        ask(settings_for(folder))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder", "a b", "one/too/many"])
def test_an_unknown_model_is_an_error_that_names_the_setting(name: str) -> None:
    generator = TransformersGenerator(settings_for(name))
    calls: list[Callable[[], object]] = [
        lambda: generator.base,
        lambda: generator.identity,
        lambda: generator.generate(PROMPTS, None, lambda _: None),
    ]
    for call in calls:
        with pytest.raises(UserError, match=r"^generate\.model = .* cannot be loaded") as raised:
            call()
        assert repr(name) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_creating_a_generator_loads_nothing() -> None:
    assert TransformersGenerator(settings_for("/no/such/folder")).source == "/no/such/folder"


def test_another_chat_template_is_another_base(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    before = TransformersGenerator(settings_for(folder)).identity
    write(folder / "chat_template.jinja", TEMPLATE.replace("<user>", "<system>") + "w1 ")
    assert TransformersGenerator(settings_for(folder)).identity != before


def test_a_template_without_a_system_role_gets_the_system_message_with_the_first_question(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    check = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    write(folder / "chat_template.jinja", check + TEMPLATE)
    tokenizer = load_tokenizer(settings_for(folder), str(folder))
    prompt = (Message("system", "w1"), Message("user", "w2"))
    assert render_prompt(tokenizer, prompt).split() == ["<user>", "w1", "w2", "<end>", "<assistant>"]


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_missing_device_is_an_error(tiny: Path, device: str) -> None:
    with pytest.raises(UserError, match=f"device = '{device}' in params.yaml: this machine has"):
        ask(settings_for(tiny, device=device))


def test_a_tokenizer_without_an_end_token_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="eos_token"):
        ask(settings_for(write_tiny_model(tmp_path / "model", eos_token=None)))


def test_incompletely_copied_weights_are_an_error(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded") as raised:
        ask(settings_for(folder))
    assert "\n" not in str(raised.value)
