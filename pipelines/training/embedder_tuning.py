"""Contrastive fine-tuning of the embedder on training pairs, with in-batch and hard negatives.

Uses sentence-transformers with the loss of Henderson et al. 2017 (arXiv:1705.00652). The stored weights interpolate
between the original and the tuned ones, which preserves more of other domains (WiSE-FT, Wortsman et al. 2022,
arXiv:2109.01903).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtide.pipelines.disk import folder_bytes, require_space
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.models.embedder import TUNED_CARD, TunedEmbedderCard, embedder_base, locate_embedder
from ragtide.pipelines.models.openvino_export import load_sentence_transformer
from ragtide.pipelines.models.weights import choose_device, has_native_bfloat16, store_by_digest, weights_digest
from ragtide.pipelines.params import EmbedderTuningParams, EmbedParams, Params
from ragtide.pipelines.ports import Advance, Progress
from ragtide.pipelines.records.base import PARTIAL_PREFIX, Record, json_digest, make_folder
from ragtide.pipelines.records.release import BuiltEmbedder
from ragtide.pipelines.training.pairs import PAIRS_VERSION, TrainingPair, add_hard_negatives, draw_pairs
from ragtide.pipelines.workspace import Workspace

WARM_UP_SHARE = 0.1
# A tuned embedder is stored under its digest, in MLflow, and once more where it is exported for OpenVINO.
EMBEDDER_COPIES = 3


class TuningResult(Record):
    """The result of a tuning run; `digest` names the weights and their folder, `losses` has one loss per step."""

    digest: str
    base: str
    pairs: int
    steps: int
    losses: tuple[float, ...]
    seconds: float


def fine_tune_embedder(
    pairs: Sequence[TrainingPair], embed: EmbedParams, params: EmbedderTuningParams, folder: Path, progress: Progress
) -> TuningResult:
    """Fine-tune embed.model on `pairs` and store it below `folder`, in a sentence-transformers folder named by digest.

    On one thread equal pairs give an equal digest, unless embedder_tuning.max_seconds ends the training early. An
    interrupted run leaves nothing behind. Raises UserError if the pairs fill no batch or the model cannot be loaded.
    """
    started = time.perf_counter()
    batch_size = f"embedder_tuning.batch_size = {params.batch_size}"
    if len(pairs) < params.batch_size:
        raise UserError(f"{len(pairs)} training pairs are fewer than {batch_size}: add examples, or lower it")
    base = embedder_base(embed)
    model = load_sentence_transformer(locate_embedder(embed.model), choose_device(embed.device))
    losses = _train(model, pairs, embed, params, progress)
    if not losses:
        problem = f"{len(pairs)} training pairs fill no batch of distinct passages with {batch_size}"
        raise UserError(f"{problem}: lower it, or embedder_tuning.negatives")
    return TuningResult(
        digest=_store_model(model, base, folder),
        base=base,
        pairs=len(pairs),
        steps=len(losses),
        losses=tuple(losses),
        seconds=round(time.perf_counter() - started, 3),
    )


def _store_model(model: Any, base: str, folder: Path) -> str:
    """Write the model below `folder`, under the digest of its weights, which is returned."""
    make_folder(folder)
    with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=folder) as scratch:
        unfinished = Path(scratch) / "new"
        model.save(str(unfinished), create_model_card=False)
        TunedEmbedderCard(base=base).write(unfinished / TUNED_CARD)
        digest = weights_digest(unfinished)
        store_by_digest(unfinished, folder, digest)
    return digest


def _train(
    model: Any, pairs: Sequence[TrainingPair], embed: EmbedParams, params: EmbedderTuningParams, progress: Progress
) -> list[float]:
    """Train `model` in place and interpolate its weights; returns the loss of each step."""
    before = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    max_seq_length = model.max_seq_length
    model.max_seq_length = min(params.max_tokens, max_seq_length or params.max_tokens)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _make_trainer(model, _make_dataset(pairs, embed), params, scratch)
        with progress("fine-tuning the embedder", params.steps(len(pairs))) as advance:
            trainer.add_callback(_step_callback(advance, params.max_seconds))
            trainer.train()
    model.max_seq_length = max_seq_length
    _interpolate_weights(model, before, params.share)
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def _make_dataset(pairs: Sequence[TrainingPair], embed: EmbedParams) -> Any:
    """A Dataset with a row for each pair: query, passage and hard negatives, with the prefixes used by the index."""
    from datasets import Dataset

    columns = {
        "query": [embed.query_prefix + pair.query for pair in pairs],
        "passage": [embed.document_prefix + pair.passage for pair in pairs],
    }
    for rank in range(max(len(pair.negatives) for pair in pairs)):
        negatives = [_hard_negative(pairs, row, rank) for row in range(len(pairs))]
        columns[f"negative_{rank}"] = [embed.document_prefix + text for text in negatives]
    return Dataset.from_dict(columns)


def _hard_negative(pairs: Sequence[TrainingPair], row: int, rank: int) -> str:
    """A hard negative of a pair; a pair with too few takes the passage of the next pair, another negative."""
    negatives = pairs[row].negatives
    return negatives[rank] if rank < len(negatives) else pairs[(row + 1) % len(pairs)].passage


def _make_trainer(model: Any, dataset: Any, params: EmbedderTuningParams, scratch: str) -> Any:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import PrinterCallback

    class TrainerWithoutCard(SentenceTransformerTrainer):  # type: ignore[misc]
        def add_model_card_callback(self, default_args_dict: Any) -> None:
            """Do nothing: no model card is written, and collecting its content takes seconds."""

    device = model.device.type
    settings = SentenceTransformerTrainingArguments(
        output_dir=scratch,
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        warmup_steps=WARM_UP_SHARE,
        seed=params.seed,
        # A passage that occurs twice in a batch would be its own in-batch negative.
        batch_sampler="no_duplicates",
        dataloader_drop_last=True,
        dataloader_pin_memory=device != "cpu",
        bf16=has_native_bfloat16(device),
        use_cpu=device == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = TrainerWithoutCard(
        model=model, args=settings, train_dataset=dataset, loss=MultipleNegativesRankingLoss(model)
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _step_callback(advance: Advance, max_seconds: float | None) -> Any:
    """A TrainerCallback that reports each step and ends the training after `max_seconds`."""
    from transformers import TrainerCallback

    deadline = time.monotonic() + max_seconds if max_seconds else float("inf")

    class StepCallback(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
            advance(1)
            control.should_training_stop = control.should_training_stop or time.monotonic() > deadline

    return StepCallback()


def _interpolate_weights(model: Any, before: dict[str, Any], share: float) -> None:
    """Set the weights to `share` of the way from `before` to the model's current ones."""
    import torch

    tuned = model.state_dict()
    model.load_state_dict(
        {name: torch.lerp(old, tuned[name], share) if old.is_floating_point() else old for name, old in before.items()}
    )


# Size of a sketch of pairs; with 1000 digests the estimated share of new pairs is accurate to 3 percentage points.
SKETCH_SIZE = 1000


@dataclass(frozen=True)
class TuningData:
    """The available pairs, the least number needed to tune, and the share that is new to the live embedder."""

    pairs: int
    least: int
    new_share: float


def tuning_data(params: Params, pairs: Sequence[TrainingPair], live: BuiltEmbedder | None) -> TuningData:
    """Compare `pairs` with those that the live embedder was tuned on; under other settings all of them are new."""
    is_comparable = live is not None and live.settings == tuning_settings(params)
    return TuningData(
        pairs=len(pairs),
        least=params.embedder_tuning.batch_size,
        new_share=new_pair_share(live.sketch if is_comparable and live else (), pair_sketch(pairs)),
    )


def build_embedder(
    workspace: Workspace, pairs: Sequence[TrainingPair], retriever: Retriever, progress: Progress
) -> BuiltEmbedder:
    """Fine-tune embed.model on a sample of `pairs`, with hard negatives retrieved from the live index.

    Raises UserError for fewer pairs than embedder_tuning.batch_size.
    """
    started = time.perf_counter()
    params = workspace.params
    size = folder_bytes(Path(locate_embedder(params.embed.model)))
    require_space(workspace.tuned_embedders, EMBEDDER_COPIES * size, "tuning the embedder")
    tuning = params.embedder_tuning
    trained = add_hard_negatives(draw_pairs(pairs, tuning.max_pairs, tuning.seed), retriever, tuning.negatives)
    tuned = fine_tune_embedder(trained, params.embed, tuning, workspace.tuned_embedders, progress)
    return BuiltEmbedder(
        digest=tuned.digest,
        base=tuned.base,
        settings=tuning_settings(params),
        pairs=len(trained),
        sketch=pair_sketch(pairs),
        steps=tuned.steps,
        final_loss=round(tuned.losses[-1], 6) if tuned.losses else None,
        seconds=round(time.perf_counter() - started, 3),
    )


def tuning_settings(params: Params) -> str:
    """A digest of everything that a tuned embedder depends on, except the pairs."""
    prefixes = [params.embed.document_prefix, params.embed.query_prefix]
    return json_digest([params.embed.model, prefixes, PAIRS_VERSION, params.embedder_tuning.model_dump(mode="json")])


def pair_sketch(pairs: Sequence[TrainingPair]) -> tuple[str, ...]:
    """The lowest digests of the pairs, a uniform sample by which sets compare (KMV synopses, Beyer et al. 2007)."""
    return tuple(sorted({json_digest([pair.query, pair.passage]) for pair in pairs})[:SKETCH_SIZE])


def new_pair_share(before: Sequence[str], now: Sequence[str]) -> float:
    """The estimated share of the pairs of the sketch `now` that those of the sketch `before` did not include."""
    # A full sketch is complete only up to its largest digest.
    limits = [sketch[-1] for sketch in (before, now) if len(sketch) == SKETCH_SIZE]
    comparable = [digest for digest in now if not limits or digest <= min(limits)]
    return len(set(comparable) - set(before)) / len(comparable) if comparable else 0.0
