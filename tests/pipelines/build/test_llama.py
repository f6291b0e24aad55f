"""Does llama.cpp say what transformers says, from a file that is written once? Real llama.cpp, a tiny model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("llama_cpp", reason="the extra llamacpp is not installed")

from pipelines.build import llama
from pipelines.build.generate import TransformersGenerator, load_base, load_tokenizer, prompt_ids
from pipelines.build.gguf_file import write_gguf
from pipelines.build.llama import LlamaCppGenerator
from pipelines.build.models import load_generator
from pipelines.errors import RefusalError
from pipelines.ports import Lesson, Message, Prompt, quiet
from tests.tiny import MARKS, WORDS, one_thread, settings_for, write_byte_model, write_random_adapter

__all__ = ["one_thread"]  # A fixture: pytest finds it here.

PROMPTS: tuple[Prompt, ...] = tuple(
    (Message("user", " ".join(WORDS[at : at + 1 + 5 * (at % 4)])),) for at in (0, 7, 2, 5, 11, 4, 9, 13, 7)
)
Make = Callable[..., LlamaCppGenerator]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_model(tmp_path_factory.mktemp("llama") / "tiny")


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_adapter(tiny, tmp_path_factory.mktemp("llama") / "adapter")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setattr(llama, "user_cache_path", lambda _: tmp_path / "cache")
    monkeypatch.setattr(llama, "available_cores", lambda: 1)
    return tmp_path / "cache/gguf"


def generator_tokens(tiny: Path, answer: str) -> list[int]:
    ids: list[int] = TransformersGenerator(settings_for(tiny)).tokenizer(answer)["input_ids"]
    return ids


def ask(generator: Any, adapter: Path | None = None, prompts: tuple[Prompt, ...] = PROMPTS) -> list[str]:
    said: list[str] = generator.generate(prompts, adapter, lambda _: None)
    return said


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
def test_it_answers_as_transformers_does(tiny: Path, adapter: Path, adapted: bool) -> None:
    chosen = adapter if adapted else None
    expected = ask(TransformersGenerator(settings_for(tiny)), chosen)
    assert len(set(expected)) >= 6
    assert ask(LlamaCppGenerator(settings_for(tiny)), chosen) == expected


def test_an_adapter_answers_otherwise_and_the_base_model_stays_what_it_was(tiny: Path, adapter: Path) -> None:
    generator = LlamaCppGenerator(settings_for(tiny))
    base = ask(generator)
    assert ask(generator, adapter) != base
    assert ask(generator) == base


def test_an_answer_hangs_on_nothing_that_was_asked_before(tiny: Path) -> None:
    generator = LlamaCppGenerator(settings_for(tiny))
    together = ask(generator)
    alone = [ask(generator, None, (prompt,))[0] for prompt in reversed(PROMPTS)]
    assert alone == together[::-1]


@pytest.mark.parametrize("limit", [1, 3])
def test_an_answer_is_no_longer_than_the_limit(tiny: Path, limit: int) -> None:
    long, short = (ask(LlamaCppGenerator(settings_for(tiny, max_new_tokens=most))) for most in (6, limit))
    assert all(one.startswith(other) for one, other in zip(long, short, strict=True))
    assert long != short


def test_an_answer_ends_at_the_end_mark_and_holds_no_marks(tiny: Path) -> None:
    prompts = tuple((Message("user", word),) for word in WORDS)
    answers = ask(LlamaCppGenerator(settings_for(tiny)), None, prompts)
    expected = ask(TransformersGenerator(settings_for(tiny)), None, prompts)
    # Two ways to add up the same numbers: now and then two tokens are as good as level.
    assert sum(one == other for one, other in zip(answers, expected, strict=True)) >= 0.95 * len(prompts)
    assert any(answer == "" or len(generator_tokens(tiny, answer)) < 6 for answer in answers)
    assert not any(mark in answer for answer in answers for mark in MARKS)


def test_a_prompt_longer_than_those_before_finds_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "STEP", 256)
    params = settings_for(write_byte_model(tmp_path / "wide", max_position_embeddings=1024))
    long = (Message("user", " ".join(WORDS * 3)),)
    generator = LlamaCppGenerator(params)
    assert len(prompt_ids(generator.tokenizer, long)) > 256
    both = [ask(generator, None, (prompt,))[0] for prompt in (PROMPTS[0], long)]
    assert both == ask(TransformersGenerator(params), None, (PROMPTS[0], long))


def test_no_prompts_have_no_answers_and_progress_counts_the_prompts(tiny: Path, cache: Path) -> None:
    done: list[int] = []
    generator = LlamaCppGenerator(settings_for(tiny))
    assert generator.generate((), None, done.append) == []
    assert not cache.exists()
    generator.generate(PROMPTS, None, done.append)
    assert done == [1] * len(PROMPTS)


def test_losses_are_those_of_transformers(tiny: Path) -> None:
    lessons = [Lesson(prompt, "w1 w2") for prompt in PROMPTS]
    found = [kind(settings_for(tiny)).losses(lessons, None, lambda _: None) for kind in (LlamaCppGenerator,) * 2]
    assert found[0] == TransformersGenerator(settings_for(tiny)).losses(lessons, None, lambda _: None)


def test_its_answers_are_never_taken_for_those_of_transformers(tiny: Path) -> None:
    mine, theirs = LlamaCppGenerator(settings_for(tiny)), TransformersGenerator(settings_for(tiny))
    assert mine.base == theirs.base
    assert mine.identity != theirs.identity
    assert mine.identity != LlamaCppGenerator(settings_for(tiny, max_new_tokens=7)).identity


def test_params_choose_it(tiny: Path) -> None:
    assert type(load_generator(settings_for(tiny, backend="llama.cpp"))) is LlamaCppGenerator
    assert type(load_generator(settings_for(tiny))) is TransformersGenerator


@pytest.fixture(scope="module")
def tokenizers(tiny: Path) -> Iterator[tuple[Any, Any]]:
    """Of one model: that of transformers, and llama.cpp's own, read from the GGUF file."""
    params = settings_for(tiny)
    theirs = load_tokenizer(params, str(tiny))
    write_gguf(load_base(params, str(tiny)), theirs, tiny / "words.gguf", "f32", quiet)
    mine = llama.import_llama_cpp().Llama(str(tiny / "words.gguf"), vocab_only=True, verbose=False)
    yield theirs, mine
    mine.close()


@given(st.text(st.characters(codec="utf-8", max_codepoint=0x2FFF), max_size=30))
@example("isn't it 2024?  12\n\n  caf\u00e9 w1 w22 \u6771\u4eac")
def test_an_exported_file_cuts_text_as_transformers_does(tokenizers: tuple[Any, Any], text: str) -> None:
    theirs, mine = tokenizers
    assert mine.tokenize(text.encode(), add_bos=False) == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "F32"), ("bfloat16", "BF16"), ("float16", "F16")])
def test_the_file_is_in_the_precision_of_the_generator(tiny: Path, dtype: str, kind: str) -> None:
    generator = LlamaCppGenerator(settings_for(tiny, dtype=dtype))
    assert {one.tensor_type.name for one in gguf.GGUFReader(generator._file(None)).tensors} == {"F32", kind}
    assert f"/{kind.lower()}/" in generator.identity


# --- the file ------------------------------------------------------------------------------------------------------


def test_the_file_of_a_model_is_written_once_a_machine(tiny: Path, adapter: Path, cache: Path) -> None:
    for chosen in (None, adapter):
        ask(LlamaCppGenerator(settings_for(tiny)), chosen)
    before = {path.name: path.stat().st_ino for path in cache.iterdir()}
    assert len(before) == 2
    generator = LlamaCppGenerator(settings_for(tiny))
    for chosen in (None, adapter, None):
        ask(generator, chosen)
    assert {path.name: path.stat().st_ino for path in cache.iterdir()} == before


def test_a_killed_writing_leaves_no_half(tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.build import gguf_file

    def killed(model: Any, tokenizer: Any, path: Path, *_: Any) -> None:
        path.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    generator = LlamaCppGenerator(settings_for(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(gguf_file, "write_gguf", killed)
        with pytest.raises(KeyboardInterrupt):
            ask(generator)
    assert list(cache.iterdir()) == []
    assert ask(LlamaCppGenerator(settings_for(tiny))) == ask(TransformersGenerator(settings_for(tiny)))


def test_only_the_files_of_the_last_models_stay(tiny: Path, cache: Path, tmp_path: Path) -> None:
    written = []
    for seed in range(llama.KEPT + 1):
        adapter = write_random_adapter(tiny, tmp_path / str(seed), seed)
        written.append(LlamaCppGenerator(settings_for(tiny))._file(adapter).name)
    assert {path.name for path in cache.iterdir()} == set(written[1:])


def test_without_the_package_it_is_refused_with_what_to_do(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    for use in (ask, lambda generator: generator.identity):
        with pytest.raises(RefusalError, match=r"pip install 'ragtide\[llamacpp\]'") as refusal:
            use(LlamaCppGenerator(settings_for(tiny)))
        assert "\n" not in str(refusal.value)
