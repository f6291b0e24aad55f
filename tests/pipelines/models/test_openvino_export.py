"""Is an embedder's graph written once, whole or not at all, and is a model that cannot be exported told what to do?"""

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
    """What an export asks of a sentence-transformers model."""

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
    """An export in which nothing is computed; counts the models that are loaded, and fails where it is told to."""

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
    monkeypatch.setattr(openvino_export, "_graph", lambda model, inputs: "graph")
    monkeypatch.setattr(openvino_export, "_write_graph", made.write)
    return made


def test_a_model_is_exported_once_with_all_that_is_needed_to_run_it(exports: Exports) -> None:
    folders = {openvino_folder("org/name", DIGEST, "full") for _ in range(3)}
    [folder] = folders
    assert exports.loaded == ["org/name"]
    assert folder == exports.folder / f"embedder-{DIGEST}-full-{EXPORT}"
    assert {path.name for path in folder.iterdir()} >= {GRAPH, TOKENIZER, CARD}
    card = EmbedderCard.read(folder / CARD)
    assert card == EmbedderCard(dimensions=16, max_tokens=32, inputs=("input_ids", "token_type_ids", "attention_mask"))


def test_other_weights_another_precision_and_another_way_to_export_have_their_own_folder(
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


def test_a_model_without_a_limit_of_tokens_gets_one(exports: Exports) -> None:
    exports.model.max_seq_length = None
    assert EmbedderCard.read(openvino_folder("a", DIGEST, "full") / CARD).max_tokens == 512


@pytest.mark.parametrize("problem", [OSError("disk full"), UserError("no nncf"), KeyboardInterrupt()])
def test_an_export_that_fails_or_is_stopped_leaves_nothing(exports: Exports, problem: BaseException) -> None:
    exports.problem = problem
    with pytest.raises(type(problem)):
        openvino_folder("a", DIGEST, "full")
    assert list(exports.folder.iterdir()) == []
    exports.problem = None
    assert (openvino_folder("a", DIGEST, "full") / GRAPH).is_file()


def test_what_a_killed_export_left_behind_is_no_model(exports: Exports) -> None:
    write(exports.folder / f"{PARTIAL_PREFIX}embedder-{DIGEST}-full-{EXPORT}-abc" / "new" / GRAPH, "half")
    assert (openvino_folder("a", DIGEST, "full") / GRAPH).read_text(encoding="utf-8") == "full graph"


def test_of_two_exports_at_a_time_the_first_to_end_is_kept(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exports.folder / f"embedder-{DIGEST}-full-{EXPORT}"

    def overtaken(*_: object) -> None:
        write(folder / GRAPH, "of another process")

    monkeypatch.setattr(openvino_export, "_write_graph", overtaken)
    assert openvino_folder("a", DIGEST, "full") == folder
    assert (folder / GRAPH).read_text(encoding="utf-8") == "of another process"
    assert [path.name for path in exports.folder.iterdir()] == [folder.name]


def test_a_model_without_a_fast_tokenizer_is_told_to_use_torch(exports: Exports) -> None:
    exports.model = Model(fast=False)
    with pytest.raises(UserError, match=r"no tokenizer\.json\): set embed\.backend: torch in params\.yaml"):
        openvino_folder("a", DIGEST, "full")


# --- with the real OpenVINO ----------------------------------------------------------------------------------------


def test_openvino_is_imported_without_its_telemetry() -> None:
    assert import_openvino().__name__ == "openvino"
    assert sys.modules.get("openvino_telemetry") is None


def test_a_model_that_cannot_be_traced_is_told_to_use_torch() -> None:
    import torch

    class Branching(torch.nn.Module):
        def forward(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            raise NotImplementedError("not with this shape\nof input")

    with pytest.raises(UserError, match=r"set embed\.backend: torch in params\.yaml") as refusal:
        openvino_export._graph(Branching(), ("input_ids", "attention_mask"))
    assert "not with this shape" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_eight_bits_without_nncf_are_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    card = EmbedderCard(dimensions=16, max_tokens=32, inputs=("input_ids",))
    with pytest.raises(UserError) as refusal:
        openvino_export._quantized("graph", Model(), card)
    said = "embed.precision = int8 needs nncf: pip install 'ragtide[int8]', or embed.precision: full"
    assert str(refusal.value) == said


def test_an_embedder_of_eight_bits_without_nncf_is_refused_and_leaves_nothing(
    tmp_path: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setattr(
        openvino_export, "_write_graph", lambda graph, model, card, *_: openvino_export._quantized(graph, model, card)
    )
    monkeypatch.setattr(OpenVinoEmbedder, "_revision", DIGEST)
    made = OpenVinoEmbedder(
        EmbedParams(model=str(write(tmp_path / "model/config.json", "{}").parent), precision="int8")
    )
    with pytest.raises(UserError, match=r"pip install 'ragtide\[int8\]'"):
        made.embed(["w1"])
    assert list(exports.folder.iterdir()) == []
