"""Optional cross-encoder that reranks retrieved passages by reading each together with the question."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ragtide.pipelines.models.weights import choose_device, load_error


class Reranker:
    """A sentence-transformers cross-encoder, from a folder or a hub; loaded on first use.

    Source: Nogueira, Cho 2019, Passage Re-ranking with BERT.
    """

    def __init__(self, model: str, device: str) -> None:
        self._name = model
        self._device = device

    @cached_property
    def _model(self) -> Any:
        from safetensors import SafetensorError
        from sentence_transformers import CrossEncoder

        try:
            return CrossEncoder(self._name, device=choose_device(self._device))
        except (OSError, ValueError, SafetensorError) as problem:
            raise load_error("index.rerank", self._name, problem) from problem

    def score(self, question: str, passages: Sequence[str]) -> list[float]:
        """The relevance of each passage, in order; higher is better."""
        if not passages:
            return []
        pairs = [(question, passage) for passage in passages]
        return [float(score) for score in self._model.predict(pairs, show_progress_bar=False)]
