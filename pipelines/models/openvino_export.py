"""Export of sentence-transformers models to OpenVINO graphs, cached once per machine.

The graph is traced from the sentence-transformers model itself, from tokens to unit vectors, so it includes the
model's pooling and projection layers. Runs that find it in the cache need neither torch nor transformers.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.records.base import Record, atomic_directory

# Part of the cache folder's name: increase it when the export changes, so that older caches are not used.
EXPORT = "1"
GRAPH, TOKENIZER, CARD = "embedder.xml", "tokenizer.json", "embedder.json"
# Number of texts on which int8 quantization calibrates the ranges of activations.
SAMPLES = 128


class EmbedderCard(Record):
    """Metadata of an exported embedder, readable without loading it; `inputs` names the graph's inputs in order."""

    dimensions: int
    max_tokens: int
    inputs: tuple[str, ...]


def openvino_folder(source: str, digest: str, precision: str) -> Path:
    """The folder with an embedder's graph, tokenizer and card; written on first use (about 15 s, imports torch).

    `digest` names the weights. Raises UserError if OpenVINO cannot run the model.
    """
    folder = user_cache_path("ragtide") / "models" / f"embedder-{digest}-{precision}-{EXPORT}"
    if not folder.is_dir():
        _export(source, folder, precision)
    return folder


def import_openvino() -> Any:
    """Import openvino without its telemetry, which would report to a server, from a forked process, on import.

    A None in sys.modules makes `openvino_telemetry` appear not installed, which openvino tolerates.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """OpenVINO's runtime, one for the process.

    Its CPU plugin replaces the stack that signal handlers run on, and frees it with the last model of a runtime. Of two
    runtimes the second restores the freed stack of the first, and the next Ctrl-C or SIGTERM is a segmentation fault.
    """
    return import_openvino().Core()


def _export(source: str, folder: Path, precision: str) -> None:
    with atomic_directory(folder, first_stays=True) as unfinished:
        model = load_sentence_transformer(source, "cpu")
        card = _card(model)
        model.tokenizer.save_pretrained(unfinished)
        _write_graph(_trace_graph(model, card.inputs), model, card, unfinished / GRAPH, precision)
        card.write(unfinished / CARD)


def load_sentence_transformer(source: str, device: str) -> Any:
    """Load a sentence-transformers model. Raises what its loader raises."""
    import logging

    from sentence_transformers import SentenceTransformer

    # The loader warns about a tokenizer setting that it then fills in itself.
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    return SentenceTransformer(source, device=device)


def _card(model: Any) -> EmbedderCard:
    inputs = tuple(model.tokenizer(["a"]).keys())
    if not model.tokenizer.is_fast:
        raise _export_error("its tokenizer has no tokenizer.json")
    return EmbedderCard(
        dimensions=model.get_embedding_dimension(), max_tokens=int(model.max_seq_length or 512), inputs=inputs
    )


def _trace_graph(model: Any, inputs: Sequence[str]) -> Any:
    """Trace the model from tokens to unit vectors, as an OpenVINO model. Raises UserError if it cannot be traced."""
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
            # Tracing warns about every Python branch; the tests compare the vectors with those of torch.
            warnings.simplefilter("ignore")
            decoder = TorchScriptPythonDecoder(UnitVectors().eval(), example_input=sample)
            frontend = FrontEndManager().load_by_framework("pytorch")
            return frontend.convert(frontend.load(decoder))
    except Exception as problem:
        raise _export_error(summarize_error(problem)[:160]) from problem


def _write_graph(graph: Any, model: Any, card: EmbedderCard, path: Path, precision: str) -> None:
    if precision == "int8":
        graph = _quantize(graph, model, card)
    import_openvino().serialize(graph, str(path))


def _quantize(graph: Any, model: Any, card: EmbedderCard) -> Any:
    """Quantize weights and activations to int8 (mean cosine to full precision about 0.99: docs/log.md)."""
    try:
        import nncf
    except ImportError as problem:
        how = "pip install 'ragtide[int8]', or embed.precision: full"
        raise UserError(f"embed.precision = int8 needs nncf: {how}") from problem
    samples = [_model_inputs(text, model, card) for text in _calibration_texts()]
    calibration = nncf.Dataset(samples)
    return nncf.quantize(graph, calibration, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples))


def _calibration_texts() -> list[str]:
    """Texts for the calibration of activation ranges: Python's own documentation, which every machine has."""
    from pydoc_data.topics import topics

    slices = (slice(0, 200), slice(200, 1100))
    return [text[part] for text in sorted(topics.values()) for part in slices][:SAMPLES]


def _model_inputs(text: str, model: Any, card: EmbedderCard) -> list[Any]:
    tokens = model.tokenizer([text or "a"], truncation=True, max_length=card.max_tokens, return_tensors="np")
    return [tokens[name] for name in card.inputs]


def _export_error(reason: str) -> UserError:
    return UserError(f"OpenVINO cannot run embed.model ({reason}): set embed.backend: torch in params.yaml")
