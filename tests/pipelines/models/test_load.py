"""Are the three ports filled as params.yaml says, and is a model that cannot be had named by its key?"""

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
    """Modules of a user's own, importable for as long as the test runs."""
    write(tmp_path / "own_models.py", OWN)
    write(tmp_path / "own_package/deep/models.py", OWN)
    write(tmp_path / "own_unmet.py", "import a_library_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("own_"):
            del sys.modules[name]


def filled(**blocks: dict[str, object]) -> Models:
    return load_models(Params.model_validate(blocks))


@pytest.mark.parametrize(("gpu", "kind"), [(False, OpenVinoEmbedder), (True, TorchEmbedder)])
def test_the_defaults_are_the_models_of_the_house_and_nothing_is_loaded(
    gpu: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "may_have_gpu", lambda: gpu)
    monkeypatch.setattr(embedder, "choose_device", lambda _: "cuda" if gpu else "cpu")
    models = filled()
    assert type(models.embedder) is kind
    assert isinstance(models.generator, TransformersGenerator)
    assert isinstance(models.trainer, LoraTrainer)


def test_a_model_that_is_nowhere_is_not_looked_for_before_it_is_used() -> None:
    models = filled(embed={"model": "/no/such/folder"}, generate={"model": "no/such-model"})
    assert isinstance(models.embedder, OpenVinoEmbedder | TorchEmbedder)
    with pytest.raises(UserError, match=r"generate\.model = 'no/such-model' cannot be loaded"):
        _ = models.generator.base


@every_port
@pytest.mark.parametrize("module", ["own_models", "own_package.deep.models"])
def test_a_class_of_ones_own_is_called_with_the_block_that_names_it(
    block: str, key: str, port: str, module: str
) -> None:
    params = Params.model_validate({block: {key: f"{module}:Own"} | ANOTHER[block]})
    own = getattr(load_models(params), port)
    assert type(own).__name__ == "Own"
    assert own.params == getattr(params, block)


def test_all_three_may_be_of_ones_own() -> None:
    models = filled(
        embed={"model": "tests.fakes:CountingEmbedder"},
        generate={"model": "tests.fakes:CountingReader"},
        finetune={"trainer": "tests.fakes:CountingTrainer"},
    )
    assert [type(one) for one in (models.embedder, models.generator, models.trainer)] == [
        CountingEmbedder,
        CountingReader,
        CountingTrainer,
    ]


@every_port
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_missing:Own", "No module named 'own_missing'"),
        ("own_models.deeper:Own", "own_models.deeper"),
        ("own_models:Missing", "no attribute 'Missing'"),
        ("own_unmet:Own", "a_library_that_is_not_installed"),
    ],
)
def test_a_missing_module_or_class_is_refused_by_its_key(block: str, key: str, port: str, name: str, said: str) -> None:
    with pytest.raises(UserError) as refusal:
        filled(**{block: {key: name}})
    assert str(refusal.value).startswith(f"{block}.{key} = '{name}' cannot be imported: ")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("trainer", ["Lora", "qlora", "", "own_models", "own_models:own"])
def test_an_unknown_trainer_is_refused_with_what_is_known(trainer: str) -> None:
    with pytest.raises(UserError) as refusal:
        filled(finetune={"trainer": trainer})
    assert str(refusal.value) == f"finetune.trainer = {trainer!r}: known are lora, or module:Class of your own"


def test_a_class_that_takes_no_params_is_refused_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "own_bare.py", "class Own:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"embed\.model = 'own_bare:Own' cannot be made .* block embed of params"):
        load_models(Params.model_validate({"embed": {"model": "own_bare:Own"}}))


def test_the_embedder_of_an_older_release_is_filled_as_its_settings_say() -> None:
    own = load_embedder(EmbedParams(model="own_models:Own", query_prefix="query: "))
    assert (type(own).__name__, own.params.query_prefix) == ("Own", "query: ")  # type: ignore[attr-defined]
    assert type(load_embedder(EmbedParams(model="org/name", backend="torch"))) is TorchEmbedder


def test_code_of_a_users_own_is_not_tuned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^embed\.model = 'own_models:Own' is code of your own"):
        load_embedder(EmbedParams(model="own_models:Own"), tmp_path)
