"""Does a model answer every prompt in order, the same in any batch, with and without an adapter?

The model is a real one of transformers, only tiny and untrained: it answers nonsense, but always the same nonsense.
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
    ANSWER_TOKEN,
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
LESSONS = tuple(
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
def test_answers_come_in_the_order_of_the_prompts_whatever_the_batch(tiny: Path, adapter: Path, adapted: bool) -> None:
    chosen = adapter if adapted else None
    generator = TransformersGenerator(settings_for(tiny))
    alone = [generator.generate([prompt], chosen, lambda _: None)[0] for prompt in PROMPTS]
    assert len(set(alone)) >= 6
    assert alone[1] == alone[8]
    for tokens in (1, 30, 60, 10_000):
        assert ask(settings_for(tiny, tokens_at_once=tokens), adapter=chosen) == alone


def test_an_adapter_answers_otherwise_and_the_base_model_stays_what_it_was(tiny: Path, adapter: Path) -> None:
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


def test_an_answer_ends_at_the_end_mark_and_holds_no_marks(tiny: Path) -> None:
    answers = ask(settings_for(tiny, tokens_at_once=512), tuple((Message("user", word),) for word in WORDS))
    assert min(len(answer.split()) for answer in answers) < 6
    assert all(answer == answer.strip() for answer in answers)
    assert not {word for answer in answers for word in answer.split()} & set(MARKS)


def test_no_prompts_have_no_answers(tiny: Path) -> None:
    assert ask(settings_for(tiny), ()) == []


@pytest.mark.parametrize(("tokens", "batches"), [(1, [1] * 9), (60, [2, 2, 4, 1]), (10_000, [9])])
def test_progress_counts_the_prompts_batch_by_batch(tiny: Path, tokens: int, batches: list[int]) -> None:
    done: list[int] = []
    ask_and_count = TransformersGenerator(settings_for(tiny, tokens_at_once=tokens)).generate
    ask_and_count(PROMPTS, None, done.append)
    assert done == batches


@pytest.mark.parametrize("tokens", [1, 40, 60, 10_000])
def test_no_batch_takes_more_than_its_tokens_and_each_prompt_is_in_one(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    batches: list[list[list[int]]] = []
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=tokens))
    monkeypatch.setattr(generator, "_batch", lambda asked, _: batches.append(asked) or [""] * len(asked))
    generator.generate(PROMPTS, None, lambda _: None)
    assert sorted(ids for batch in batches for ids in batch) == sorted(
        prompt_ids(generator.tokenizer, prompt) for prompt in PROMPTS
    )
    assert all(len(batch) == 1 or len(batch) * (len(batch[0]) + 6) <= tokens for batch in batches)
    assert [len(batch[0]) for batch in batches] == sorted((len(max(batch, key=len)) for batch in batches), reverse=True)


SYSTEM = Message("system", " ".join(WORDS[60:80]))
SHARING = tuple((SYSTEM, *prompt) for prompt in PROMPTS)


def sizes_read(generator: TransformersGenerator, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    """Rows and width of everything that the model reads for its answers, token by token writing left out."""
    read: list[tuple[int, ...]] = []
    model = generator._model(None)
    hook = model.register_forward_pre_hook(lambda *told: read.append(told[2]["input_ids"].shape), with_kwargs=True)
    generator.generate(prompts, None, lambda _: None)
    hook.remove()
    return [tuple(shape) for shape in read if shape[1] > 1]


def test_what_the_prompts_of_a_batch_begin_with_is_read_once_and_changes_no_answer(tiny: Path) -> None:
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=10_000))
    alone = [generator.generate([prompt], None, lambda _: None)[0] for prompt in SHARING]
    assert generator.generate(SHARING, None, lambda _: None) == alone
    assert len(set(alone)) >= 6
    # The system's mark, its words, its end and the user's mark; then what is left of the longest.
    longest = max(len(prompt_ids(generator.tokenizer, prompt)) for prompt in SHARING)
    assert sizes_read(generator, SHARING) == [(1, 23), (len(SHARING), longest - 23)]


def test_prompts_that_are_all_the_same_still_have_a_token_to_read(tiny: Path) -> None:
    same = ask(settings_for(tiny, tokens_at_once=10_000), (PROMPTS[1],) * 3)
    assert same == ask(settings_for(tiny), (PROMPTS[1],)) * 3


def test_a_prompt_alone_is_read_at_one_go(tiny: Path) -> None:
    generator = TransformersGenerator(settings_for(tiny))
    assert sizes_read(generator, SHARING[:1]) == [(1, len(prompt_ids(generator.tokenizer, SHARING[0])))]


def test_a_model_that_looks_back_only_so_far_reads_each_prompt_whole() -> None:
    from transformers import MistralConfig

    near_sighted = SimpleNamespace(config=MistralConfig(num_hidden_layers=2, sliding_window=8))
    assert shared_prefix_cache(near_sighted, [[1, 2, 3], [1, 2, 4]]) is None


def test_prompts_that_begin_otherwise_share_nothing() -> None:
    from transformers import LlamaConfig

    assert shared_prefix_cache(SimpleNamespace(config=LlamaConfig(num_hidden_layers=2)), [[1, 2], [3, 2]]) is None


def test_the_whole_conversation_is_put_before_the_model(tiny: Path) -> None:
    def asked(*turns: Message) -> str:
        return ask(settings_for(tiny), (turns,))[0]

    last = Message("user", "w7 w8")
    answers = {
        asked(last),
        asked(Message("system", "w1"), last),
        asked(Message("user", "w1"), Message("assistant", "w2"), last),
    }
    assert len(answers) == 3


def test_a_tokenizer_without_a_padding_mark_pads_with_the_end_mark(tmp_path: Path, tiny: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", pad_token=None)
    assert load_tokenizer(settings_for(folder), str(folder)).pad_token == "<end>"
    assert ask(settings_for(folder)) == ask(settings_for(tiny))


def test_a_prompt_is_written_by_the_models_own_template_up_to_its_answer(tiny: Path) -> None:
    tokenizer = load_tokenizer(settings_for(tiny), str(tiny))
    prompt = (Message("system", "w1"), Message("user", "w2 w3"))
    assert render_prompt(tokenizer, prompt) == "<system> w1 <end> <user> w2 w3 <end> <assistant> "
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("left", "<pad>")


# --- losses --------------------------------------------------------------------------------------------------------


def losses(
    params: GenerateParams, lessons: Sequence[TrainingSample] = LESSONS, adapter: Path | None = None
) -> list[float]:
    return TransformersGenerator(params).losses(lessons, adapter, lambda _: None)


def plain_loss(model: Any, ids: list[int], answer_tokens: int) -> float:
    """The mean cross-entropy by hand: one lesson, no padding, logits over everything."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    answer = range(len(ids) - answer_tokens, len(ids))
    return -sum(float(logits[at - 1, ids[at]]) for at in answer) / answer_tokens


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("tokens", [1, 100, 200, 10_000])
def test_a_loss_is_that_of_the_answers_tokens_alone_whatever_the_batch(
    tiny: Path, adapter: Path, adapted: bool, tokens: int
) -> None:
    chosen = adapter if adapted else None
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=tokens))
    found = generator.losses(LESSONS, chosen, lambda _: None)
    whole = [tokenize_sample(generator.tokenizer, lesson) for lesson in LESSONS]
    by_hand = [plain_loss(generator._model(chosen), one.ids, one.answer_tokens) for one in whole]
    assert found == pytest.approx(by_hand, abs=1e-3)
    assert len({round(loss, 2) for loss in by_hand}) == len(LESSONS)


def test_an_adapter_has_losses_of_its_own(tiny: Path, adapter: Path) -> None:
    assert losses(settings_for(tiny), adapter=adapter) != pytest.approx(losses(settings_for(tiny)), abs=0.1)


def test_the_models_own_answer_surprises_it_least(tiny: Path) -> None:
    prompt = PROMPTS[1]
    [own] = ask(settings_for(tiny, max_new_tokens=1), (prompt,))
    assert own in WORDS
    found = dict(zip(WORDS, losses(settings_for(tiny), [TrainingSample(prompt, word) for word in WORDS]), strict=True))
    assert found[own] < sum(found.values()) / len(found) - 1


def test_the_end_mark_is_a_token_of_the_answer(tiny: Path) -> None:
    tokenizer = load_tokenizer(settings_for(tiny), str(tiny))
    assert tokenize_sample(tokenizer, TrainingSample((Message("user", "w1"),), "")).answer_tokens == 1
    [loss] = losses(settings_for(tiny), [TrainingSample((Message("user", "w1"),), "")])
    assert math.isfinite(loss)
    assert loss > 0


def test_a_lesson_over_the_models_window_is_measured_by_its_last_tokens(tiny: Path) -> None:
    long = TrainingSample((Message("user", "w1 " * 400),), "w2 w3")
    endless = TrainingSample((Message("user", "w1"),), "w2 w3 " * 200)
    generator = TransformersGenerator(settings_for(tiny))
    found = generator.losses([long, endless, LESSONS[0]], None, lambda _: None)
    cut = [tokenize_sample(generator.tokenizer, one).ids[-256:] for one in (long, endless)]
    model = generator._model(None)
    assert found[:2] == pytest.approx([plain_loss(model, cut[0], 3), plain_loss(model, cut[1], 255)], abs=1e-3)
    assert found[2:] == pytest.approx(losses(settings_for(tiny), LESSONS[:1]), abs=1e-3)


@pytest.mark.parametrize(("max_tokens", "kept"), [(9, 3), (6, 3), (5, 3), (4, 3), (3, 2), (2, 1)])
def test_what_is_cut_goes_from_the_beginning_and_leaves_a_token_before_the_answer(max_tokens: int, kept: int) -> None:
    assert TokenizedSample([1, 2, 3, 4, 5, 6], 3).cut(max_tokens) == TokenizedSample(
        [1, 2, 3, 4, 5, 6][-max_tokens:], kept
    )


@pytest.mark.parametrize("tokens", [1, 100, 300])
def test_no_batch_of_lessons_has_more_logits_than_its_tokens_pay_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    batches: list[list[TokenizedSample]] = []
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=tokens))
    monkeypatch.setattr(generator, "_batch_losses", lambda some, _: batches.append(some) or [0.0] * len(some))
    generator.losses(LESSONS, None, lambda _: None)
    assert sum(map(len, batches)) == len(LESSONS)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(one.ids) for one in batch) <= tokens
        assert len(batch) == 1 or len(batch) * max(one.answer_tokens for one in batch) <= tokens / ANSWER_TOKEN


def test_no_lessons_have_no_losses_and_progress_counts_the_lessons(tiny: Path) -> None:
    done: list[int] = []
    generator = TransformersGenerator(settings_for(tiny, tokens_at_once=200))
    assert generator.losses([], None, done.append) == []
    generator.losses(LESSONS, None, done.append)
    assert sum(done) == len(LESSONS)
    assert len(done) > 1


# --- which model answers -------------------------------------------------------------------------------------------


def test_the_base_is_named_by_its_place_and_its_weights(tiny: Path, tmp_path: Path) -> None:
    assert TransformersGenerator(settings_for(tiny)).base == f"{tiny}@{weights_digest(tiny)}"
    other = TransformersGenerator(settings_for(write_tiny_model(tmp_path / "other", seed=1))).base
    assert other.split("@")[1] != weights_digest(tiny)


def test_the_identity_moves_with_what_may_change_an_answer_and_with_nothing_else(tiny: Path, tmp_path: Path) -> None:
    def identity(folder: Path, **changed: Any) -> str:
        return TransformersGenerator(settings_for(folder, **changed)).identity

    other = write_tiny_model(tmp_path / "other", seed=1)
    same = [identity(tiny), identity(tiny, tokens_at_once=1)]
    others = [identity(tiny, max_new_tokens=7), identity(tiny, dtype="bfloat16"), identity(other)]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 4


def test_an_adapter_of_another_base_is_refused_and_one_of_this_base_or_of_before_is_not(
    tiny: Path, adapter: Path, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other", seed=1)
    made = {folder: Path(shutil.copytree(adapter, tmp_path / folder.name / "adapter")) for folder in (tiny, other)}
    for base, folder in made.items():
        AdapterBase(base=f"somewhere/else@{weights_digest(base)}").write(folder / BASE)
    assert ask(settings_for(tiny), adapter=made[tiny]) == ask(settings_for(tiny), adapter=adapter)
    with pytest.raises(UserError, match=r"^adapter adapter was trained on somewhere/else@\w{12}, not on ") as refusal:
        ask(settings_for(tiny), adapter=made[other])
    assert f"not on {tiny}@{weights_digest(tiny)}: set generate.model back" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_weights_are_loaded_in_the_precision_that_is_asked_for(tiny: Path, dtype: str) -> None:
    assert str(load_base_model(settings_for(tiny, dtype=dtype), str(tiny)).dtype) == f"torch.{dtype}"


# --- what cannot be used -------------------------------------------------------------------------------------------


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
def test_a_folder_without_a_whole_model_is_refused_by_its_key_in_one_line(
    tiny: Path, tmp_path: Path, broken: Break
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    broken(folder)
    with pytest.raises(UserError) as refusal:
        ask(settings_for(folder))
    message = str(refusal.value)
    assert message.startswith(f"generate.model = {str(folder)!r} cannot be loaded (")
    assert "generate.model in params.yaml" in message
    assert "\n" not in message


def test_a_model_without_a_chat_template_is_refused_in_one_line(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template: choose an instruction-tuned model") as refusal:
        ask(settings_for(folder))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder", "a b", "one/too/many"])
def test_a_name_that_leads_nowhere_is_refused_by_its_key(name: str) -> None:
    generator = TransformersGenerator(settings_for(name))
    asked: list[Callable[[], object]] = [
        lambda: generator.base,
        lambda: generator.identity,
        lambda: generator.generate(PROMPTS, None, lambda _: None),
    ]
    for ask_for in asked:
        with pytest.raises(UserError, match=r"^generate\.model = .* cannot be loaded") as refusal:
            ask_for()
        assert repr(name) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_making_a_generator_loads_nothing() -> None:
    assert TransformersGenerator(settings_for("/no/such/folder")).source == "/no/such/folder"


def test_another_chat_template_is_another_base(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    before = TransformersGenerator(settings_for(folder)).identity
    write(folder / "chat_template.jinja", TEMPLATE.replace("<user>", "<system>") + "w1 ")
    assert TransformersGenerator(settings_for(folder)).identity != before


def test_a_template_that_knows_no_system_turn_gets_its_words_with_the_first_question(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    check = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    write(folder / "chat_template.jinja", check + TEMPLATE)
    tokenizer = load_tokenizer(settings_for(folder), str(folder))
    prompt = (Message("system", "w1"), Message("user", "w2"))
    assert render_prompt(tokenizer, prompt).split() == ["<user>", "w1", "w2", "<end>", "<assistant>"]


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(tiny: Path, device: str) -> None:
    with pytest.raises(UserError, match=f"device = '{device}' in params.yaml: this machine has"):
        ask(settings_for(tiny, device=device))


def test_a_tokenizer_without_an_end_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no end mark"):
        ask(settings_for(write_tiny_model(tmp_path / "model", eos_token=None)))


def test_weights_that_were_copied_by_half_are_refused_by_name(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded") as refusal:
        ask(settings_for(folder))
    assert "\n" not in str(refusal.value)
