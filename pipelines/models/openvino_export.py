"""How does an embedder run without torch? As an OpenVINO graph, written once a machine from the model's own modules.

The graph is traced from the sentence-transformers model itself, tokens in and unit vectors out, so any pooling or
projection that the model has is in it. Written once into the cache; later runs need neither torch nor transformers.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import Record, atomic_directory

# Raised when the export changes, so that an old cache is not taken for a new one.
EXPORT = "1"
GRAPH, TOKENIZER, CARD = "embedder.xml", "tokenizer.json", "embedder.json"
# Texts from which int8 takes the ranges of its activations.
SAMPLES = 128


class EmbedderCard(Record):
    """What one has to know of an exported embedder before it is loaded; `inputs` are the names of the graph's."""

    dimensions: int
    max_tokens: int
    inputs: tuple[str, ...]


def openvino_folder(source: str, digest: str, precision: str) -> Path:
    """The folder of an embedder's graph, tokenizer and card; written on first use (about 15 s, imports torch).

    `digest` names the weights. Raises RefusalError where OpenVINO cannot run the model.
    """
    folder = user_cache_path("ragtide") / "models" / f"embedder-{digest}-{precision}-{EXPORT}"
    if not folder.is_dir():
        _export(source, folder, precision)
    return folder


def import_openvino() -> Any:
    """The openvino module, without its telemetry: merely importing it would report to a server, from a forked process.

    It goes without where `openvino_telemetry` is not installed; a None in sys.modules is how Python says so.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _export(source: str, folder: Path, precision: str) -> None:
    with atomic_directory(folder, first_stays=True) as unfinished:
        model = load_sentence_transformer(source, "cpu")
        card = _card(model)
        model.tokenizer.save_pretrained(unfinished)
        _write_graph(_graph(model, card.inputs), model, card, unfinished / GRAPH, precision)
        card.write(unfinished / CARD)


def load_sentence_transformer(source: str, device: str) -> Any:
    """The sentence-transformers model. Raises what its loader raises."""
    import logging

    from sentence_transformers import SentenceTransformer

    # Its loader warns of a tokenizer setting that it then fills in itself.
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    return SentenceTransformer(source, device=device)


def _card(model: Any) -> EmbedderCard:
    inputs = tuple(model.tokenizer(["a"]).keys())
    if not model.tokenizer.is_fast:
        raise _cannot("its tokenizer has no tokenizer.json")
    return EmbedderCard(
        dimensions=model.get_embedding_dimension(), max_tokens=int(model.max_seq_length or 512), inputs=inputs
    )


def _graph(model: Any, inputs: Sequence[str]) -> Any:
    """Trace tokens to unit vectors."""
    import_openvino()
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    class UnitVectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tokens: torch.Tensor) -> torch.Tensor:
            vectors = self.model(dict(zip(inputs, tokens, strict=True)))["sentence_embedding"]
            return torch.nn.functional.normalize(vectors, dim=1)

    sample = tuple(torch.ones((2, 16), dtype=torch.long) for _ in inputs)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Tracing warns of every branch of Python's; that the vectors are right, the tests say.
            warnings.simplefilter("ignore")
            decoder = TorchScriptPythonDecoder(UnitVectors().eval(), example_input=sample)
            frontend = FrontEndManager().load_by_framework("pytorch")
            return frontend.convert(frontend.load(decoder))
    except Exception as problem:
        raise _cannot(summarize_error(problem)[:160]) from problem


def _write_graph(graph: Any, model: Any, card: EmbedderCard, path: Path, precision: str) -> None:
    if precision == "int8":
        graph = _quantized(graph, model, card)
    import_openvino().serialize(graph, str(path))


def _quantized(graph: Any, model: Any, card: EmbedderCard) -> Any:
    """Weights and activations in eight bits (mean cosine about 0.99 to full precision: docs/log.md)."""
    try:
        import nncf
    except ImportError as problem:
        how = "pip install 'ragtide[int8]', or embed.precision: full"
        raise UserError(f"embed.precision = int8 needs nncf: {how}") from problem
    samples = [_sample(text, model, card) for text in _prose()]
    quantized = nncf.Dataset(samples)
    return nncf.quantize(graph, quantized, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples))


def _prose() -> list[str]:
    """Texts to take the ranges of activations from: Python's own documentation, which every machine has."""
    from pydoc_data.topics import topics

    return [text[at : at + length] for text in sorted(topics.values()) for at, length in ((0, 200), (200, 900))][
        :SAMPLES
    ]


def _sample(text: str, model: Any, card: EmbedderCard) -> list[Any]:
    tokens = model.tokenizer([text or "a"], truncation=True, max_length=card.max_tokens, return_tensors="np")
    return [tokens[name] for name in card.inputs]


def _cannot(why: str) -> UserError:
    return UserError(f"OpenVINO cannot run embed.model ({why}): set embed.backend: torch in params.yaml")
