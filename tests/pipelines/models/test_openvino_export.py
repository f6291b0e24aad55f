"""Tests of the OpenVINO export: caching, atomic writes, concurrent exports and errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models import openvino_export
from ragtide.pipelines.models.embedder import OpenVinoEmbedder
from ragtide.pipelines.models.openvino_export import (
    CARD,
    EXPORT,
    GRAPH,
    TOKENIZER,
    EmbedderCard,
    import_openvino,
    openvino_folder,
)
from ragtide.pipelines.params import EmbedParams
from ragtide.pipelines.records.base import PARTIAL_PREFIX
from tests.factories import write

DIGEST = "0123456789ab"


class Model:
    """The parts of a sentence-transformers model that the export uses."""

    max_seq_length: int | None = 32

    def __init__(self, fast: bool = True) -> None:
        self.tokenizer = self
        self.is_fast = fast

    def __call__(self, texts: list[str]) -> dict[str, Any]:
        return {"input_ids": [], "token_type_ids": [], "attention_mask": []}

    def get_embedding_dimension(self) -> int:
        return 16

    def save_pretrained(self, folder: Path) -> None:
        write(folder / TOKENIZER, "{}")


class Exports:
    """A stub of the export that records the loaded models and raises `problem` when writing, if set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ragtide" / "models"
        self.loaded: list[str] = []
        self.model = Model()
        self.problem: BaseException | None = None

    def load(self, source: str, device: str) -> Model:
        self.loaded.append(source)
        return self.model

    def write(self, graph: object, model: Model, card: EmbedderCard, path: Path, precision: str) -> None:
        if self.problem:
            raise self.problem
        write(path, f"{precision} graph")


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exports]:
    made = Exports(tmp_path)
    monkeypatch.setattr(openvino_export, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(openvino_export, "load_sentence_transformer", made.load)
    monkeypatch.setattr(openvino_export, "_trace_graph", lambda model, inputs: "graph")
    monkeypatch.setattr(openvino_export, "_write_graph", made.write)
    return made


def test_a_model_is_exported_once_with_everything_needed_to_run_it(exports: Exports) -> None:
    folders = {openvino_folder("org/name", DIGEST, "full") for _ in range(3)}
    [folder] = folders
    assert exports.loaded == ["org/name"]
    assert folder == exports.folder / f"embedder-{DIGEST}-full-{EXPORT}"
    assert {path.name for path in folder.iterdir()} >= {GRAPH, TOKENIZER, CARD}
    card = EmbedderCard.read(folder / CARD)
    assert card == EmbedderCard(dimensions=16, max_tokens=32, inputs=("input_ids", "token_type_ids", "attention_mask"))


def test_the_folder_depends_on_weights_precision_and_export_version(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [
        openvino_folder("a", "aaa", "full"),
        openvino_folder("b", "bbb", "full"),
        openvino_folder("a", "aaa", "int8"),
    ]
    monkeypatch.setattr(openvino_export, "EXPORT", "next")
    folders.append(openvino_folder("a", "aaa", "full"))
    assert len(set(folders)) == len(exports.loaded) == 4
    assert (folders[2] / GRAPH).read_text(encoding="utf-8") == "int8 graph"


def test_a_model_without_a_token_limit_gets_the_default(exports: Exports) -> None:
    exports.model.max_seq_length = None
    assert EmbedderCard.read(openvino_folder("a", DIGEST, "full") / CARD).max_tokens == 512


@pytest.mark.parametrize("problem", [OSError("disk full"), UserError("no nncf"), KeyboardInterrupt()])
def test_a_failed_or_interrupted_export_leaves_nothing(exports: Exports, problem: BaseException) -> None:
    exports.problem = problem
    with pytest.raises(type(problem)):
        openvino_folder("a", DIGEST, "full")
    assert list(exports.folder.iterdir()) == []
    exports.problem = None
    assert (openvino_folder("a", DIGEST, "full") / GRAPH).is_file()


def test_the_remains_of_a_killed_export_are_not_used(exports: Exports) -> None:
    write(exports.folder / f"{PARTIAL_PREFIX}embedder-{DIGEST}-full-{EXPORT}-abc" / "new" / GRAPH, "half")
    assert (openvino_folder("a", DIGEST, "full") / GRAPH).read_text(encoding="utf-8") == "full graph"


def test_of_two_concurrent_exports_the_first_to_finish_is_kept(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exports.folder / f"embedder-{DIGEST}-full-{EXPORT}"

    def overtaken(*_: object) -> None:
        write(folder / GRAPH, "of another process")

    monkeypatch.setattr(openvino_export, "_write_graph", overtaken)
    assert openvino_folder("a", DIGEST, "full") == folder
    assert (folder / GRAPH).read_text(encoding="utf-8") == "of another process"
    assert [path.name for path in exports.folder.iterdir()] == [folder.name]


def test_a_model_without_a_fast_tokenizer_needs_torch(exports: Exports) -> None:
    exports.model = Model(fast=False)
    with pytest.raises(UserError, match=r"no tokenizer\.json\): set embed\.backend: torch in params\.yaml"):
        openvino_folder("a", DIGEST, "full")


# --- with the real OpenVINO ----------------------------------------------------------------------------------------


def test_openvino_is_imported_without_its_telemetry() -> None:
    assert import_openvino().__name__ == "openvino"
    assert sys.modules.get("openvino_telemetry") is None


def test_a_model_that_cannot_be_traced_needs_torch() -> None:
    import torch

    class Branching(torch.nn.Module):
        def forward(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            raise NotImplementedError("not with this shape\nof input")

    with pytest.raises(UserError, match=r"set embed\.backend: torch in params\.yaml") as raised:
        openvino_export._trace_graph(Branching(), ("input_ids", "attention_mask"))
    assert "not with this shape" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_int8_without_nncf_is_an_error_that_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    card = EmbedderCard(dimensions=16, max_tokens=32, inputs=("input_ids",))
    with pytest.raises(UserError) as raised:
        openvino_export._quantize("graph", Model(), card)
    assert "pip install 'ragtide[int8]'" in str(raised.value)


def test_an_int8_embedder_without_nncf_fails_and_leaves_nothing(
    tmp_path: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setattr(
        openvino_export, "_write_graph", lambda graph, model, card, *_: openvino_export._quantize(graph, model, card)
    )
    monkeypatch.setattr(OpenVinoEmbedder, "_revision", DIGEST)
    made = OpenVinoEmbedder(
        EmbedParams(model=str(write(tmp_path / "model/config.json", "{}").parent), precision="int8")
    )
    with pytest.raises(UserError, match=r"pip install 'ragtide\[int8\]'"):
        made.embed(["w1"])
    assert list(exports.folder.iterdir()) == []
