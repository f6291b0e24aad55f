"""Tests of the model factory: built-in models, user classes, and errors that name the setting."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models import embedder
from ragtide.pipelines.models.embedder import OpenVinoEmbedder, TorchEmbedder
from ragtide.pipelines.models.generator import TransformersGenerator
from ragtide.pipelines.models.load import Models, load_embedder, load_models
from ragtide.pipelines.models.lora import LoraTrainer
from ragtide.pipelines.params import EmbedParams, Params
from tests.factories import write
from tests.fakes import CountingEmbedder, CountingReader, CountingTrainer

OWN = """
class Own:
    def __init__(self, params):
        self.params = params
"""
PORTS = [("embed", "model", "embedder"), ("generate", "model", "generator"), ("finetune", "trainer", "trainer")]
ANOTHER = {"embed": {"tokens_at_once": 999}, "generate": {"tokens_at_once": 999}, "finetune": {"batch_size": 3}}
every_port = pytest.mark.parametrize(("block", "key", "port"), PORTS)


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """User modules, importable while the test runs."""
    write(tmp_path / "own_models.py", OWN)
    write(tmp_path / "own_package/deep/models.py", OWN)
    write(tmp_path / "own_unmet.py", "import a_library_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("own_"):
            del sys.modules[name]


def models_of(**blocks: dict[str, object]) -> Models:
    return load_models(Params.model_validate(blocks))


@pytest.mark.parametrize(("gpu", "kind"), [(False, OpenVinoEmbedder), (True, TorchEmbedder)])
def test_the_defaults_are_the_built_in_models_and_nothing_is_loaded(
    gpu: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "may_have_gpu", lambda: gpu)
    monkeypatch.setattr(embedder, "choose_device", lambda _: "cuda" if gpu else "cpu")
    models = models_of()
    assert type(models.embedder) is kind
    assert isinstance(models.generator, TransformersGenerator)
    assert isinstance(models.trainer, LoraTrainer)


def test_a_missing_model_is_an_error_only_when_it_is_used() -> None:
    models = models_of(embed={"model": "/no/such/folder"}, generate={"model": "no/such-model"})
    assert isinstance(models.embedder, OpenVinoEmbedder | TorchEmbedder)
    with pytest.raises(UserError, match=r"generate\.model = 'no/such-model' cannot be loaded"):
        _ = models.generator.base


@every_port
@pytest.mark.parametrize("module", ["own_models", "own_package.deep.models"])
def test_a_user_class_is_called_with_the_block_that_names_it(block: str, key: str, port: str, module: str) -> None:
    params = Params.model_validate({block: {key: f"{module}:Own"} | ANOTHER[block]})
    own = getattr(load_models(params), port)
    assert type(own).__name__ == "Own"
    assert own.params == getattr(params, block)


def test_all_three_models_may_be_user_classes() -> None:
    models = models_of(
        embed={"model": "tests.fakes:CountingEmbedder"},
        generate={"model": "tests.fakes:CountingReader"},
        finetune={"trainer": "tests.fakes:CountingTrainer"},
    )
    assert [type(model) for model in (models.embedder, models.generator, models.trainer)] == [
        CountingEmbedder,
        CountingReader,
        CountingTrainer,
    ]


@every_port
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("own_missing:Own", "No module named 'own_missing'"),
        ("own_models.deeper:Own", "own_models.deeper"),
        ("own_models:Missing", "no attribute 'Missing'"),
        ("own_unmet:Own", "a_library_that_is_not_installed"),
    ],
)
def test_a_missing_module_or_class_is_an_error_that_names_the_setting(
    block: str, key: str, port: str, name: str, cause: str
) -> None:
    with pytest.raises(UserError) as raised:
        models_of(**{block: {key: name}})
    assert str(raised.value).startswith(f"{block}.{key} = '{name}' cannot be imported: ")
    assert cause in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("trainer", ["Lora", "qlora", "", "own_models", "own_models:own"])
def test_an_unknown_trainer_is_an_error_that_names_the_known_one(trainer: str) -> None:
    with pytest.raises(UserError) as raised:
        models_of(finetune={"trainer": trainer})
    assert str(raised.value).startswith(f"finetune.trainer = {trainer!r}: ")
    assert "lora" in str(raised.value)


def test_a_class_without_a_params_argument_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "own_bare.py", "class Own:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"^embed\.model = 'own_bare:Own' .* block embed of params"):
        load_models(Params.model_validate({"embed": {"model": "own_bare:Own"}}))


def test_the_embedder_of_an_older_release_follows_its_own_settings() -> None:
    own = load_embedder(EmbedParams(model="own_models:Own", query_prefix="query: "))
    assert (type(own).__name__, own.params.query_prefix) == ("Own", "query: ")  # type: ignore[attr-defined]
    assert type(load_embedder(EmbedParams(model="org/name", backend="torch"))) is TorchEmbedder


def test_a_user_class_cannot_be_fine_tuned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^embed\.model = 'own_models:Own' "):
        load_embedder(EmbedParams(model="own_models:Own"), tmp_path)
