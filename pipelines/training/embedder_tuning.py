"""How does the retriever learn? From pairs, by contrast with the other passages of a batch and with near misses.

In sentence-transformers, with the loss of Henderson et al. 2017 (arXiv:1705.00652). What is kept is an average of the
weights before and after, which forgets less of other domains (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.models.embedder import TUNED_CARD, TunedEmbedderCard, embedder_base, locate_embedder
from ragtide.pipelines.models.openvino_export import load_sentence_transformer
from ragtide.pipelines.models.weights import choose_device, has_native_bfloat16, store_by_digest, weights_digest
from ragtide.pipelines.params import EmbedderTuningParams, EmbedParams, Params
from ragtide.pipelines.ports import Advance, Progress
from ragtide.pipelines.records.base import PARTIAL_PREFIX, Record, json_digest
from ragtide.pipelines.records.release import BuiltEmbedder
from ragtide.pipelines.training.pairs import PAIRS, TrainingPair, add_hard_negatives, draw_pairs
from ragtide.pipelines.workspace import Workspace

WARM_UP_SHARE = 0.1


class TuningResult(Record):
    """What a training run was; `digest` names the weights and the folder that they are in."""

    digest: str
    base: str
    pairs: int
    steps: int
    losses: tuple[float, ...]
    seconds: float


def fine_tune_embedder(
    pairs: Sequence[TrainingPair], embed: EmbedParams, params: EmbedderTuningParams, folder: Path, progress: Progress
) -> TuningResult:
    """Teach the embedder `pairs`, and keep it as a folder of sentence-transformers below `folder`, named by content.

    The same pairs make the same digest on one thread, unless embedder_tuning.max_seconds cuts the training short. A kill leaves no
    half. Raises RefusalError for fewer pairs than a batch, and for a model that cannot be loaded.
    """
    started = time.perf_counter()
    if len(pairs) < params.batch_size:
        raise UserError(
            f"{len(pairs)} pairs are fewer than embedder_tuning.batch_size = {params.batch_size}: nothing to learn"
        )
    base = embedder_base(embed)
    model = load_sentence_transformer(locate_embedder(embed.model), choose_device(embed.device))
    losses = _teach(model, pairs, embed, params, progress)
    if not losses:
        what = f"{len(pairs)} pairs fill no batch of embedder_tuning.batch_size = {params.batch_size} without a passage twice"
        raise UserError(f"{what}: lower it, or embedder_tuning.negatives")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL_PREFIX, dir=folder) as scratch:
        unfinished = Path(scratch) / "new"
        model.save(str(unfinished), create_model_card=False)
        TunedEmbedderCard(base=base).write(unfinished / TUNED_CARD)
        digest = weights_digest(unfinished)
        store_by_digest(unfinished, folder, digest)
    return TuningResult(
        digest=digest,
        base=base,
        pairs=len(pairs),
        steps=len(losses),
        losses=tuple(losses),
        seconds=round(time.perf_counter() - started, 3),
    )


def _teach(
    model: Any, pairs: Sequence[TrainingPair], embed: EmbedParams, params: EmbedderTuningParams, progress: Progress
) -> list[float]:
    """Train `model` in place; the loss of each step."""
    before = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    whole = model.max_seq_length
    model.max_seq_length = min(params.max_tokens, whole or params.max_tokens)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(model, _table(pairs, embed), params, scratch)
        with progress("tuning the retriever", params.steps(len(pairs))) as advance:
            trainer.add_callback(_watch(advance, params.max_seconds))
            trainer.train()
    model.max_seq_length = whole
    _average(model, before, params.share)
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def _table(pairs: Sequence[TrainingPair], embed: EmbedParams) -> Any:
    """A row for each pair: query, passage and near misses, with the prefixes that the index embeds them with."""
    from datasets import Dataset

    columns = {
        "query": [embed.query_prefix + pair.query for pair in pairs],
        "passage": [embed.document_prefix + pair.passage for pair in pairs],
    }
    for at in range(max(len(pair.negatives) for pair in pairs)):
        columns[f"miss_{at}"] = [embed.document_prefix + _miss(pairs, row, at) for row in range(len(pairs))]
    return Dataset.from_dict(columns)


def _miss(pairs: Sequence[TrainingPair], row: int, at: int) -> str:
    """A near miss of a pair; one that has too few takes the passage of the pair after it, which is wrong as well."""
    misses = pairs[row].negatives
    return misses[at] if at < len(misses) else pairs[(row + 1) % len(pairs)].passage


def _trainer(model: Any, table: Any, params: EmbedderTuningParams, scratch: str) -> Any:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import PrinterCallback

    class Plain(SentenceTransformerTrainer):  # type: ignore[misc]
        def add_model_card_callback(self, default_args_dict: Any) -> None:
            """No card is written, and what would go into one takes seconds."""

    device = model.device.type
    settings = SentenceTransformerTrainingArguments(
        output_dir=scratch,
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        warmup_steps=WARM_UP_SHARE,
        seed=params.seed,
        # The same passage twice in a batch would be its own wrong answer.
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
    trainer = Plain(model=model, args=settings, train_dataset=table, loss=MultipleNegativesRankingLoss(model))
    trainer.remove_callback(PrinterCallback)
    return trainer


def _watch(advance: Advance, max_seconds: float | None) -> Any:
    """Shows each step, and ends the training once its time is over."""
    from transformers import TrainerCallback

    until = time.monotonic() + max_seconds if max_seconds else float("inf")

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
            advance(1)
            control.should_training_stop = control.should_training_stop or time.monotonic() > until

    return Watch()


def _average(model: Any, before: dict[str, Any], share: float) -> None:
    """Weights `share` of the way from `before` to what the model has now."""
    import torch

    now = model.state_dict()
    model.load_state_dict(
        {name: torch.lerp(old, now[name], share) if old.is_floating_point() else old for name, old in before.items()}
    )


# Digests of pairs that are kept, the lowest ones: a share of new pairs told by a thousand is right to three points.
SKETCH = 1000


@dataclass(frozen=True)
class TuningData:
    """What there is to tune the retriever on: pairs, how many are needed, and the share that is new to the live one."""

    pairs: int
    least: int
    new_share: float


def tuning_data(params: Params, pairs: Sequence[TrainingPair], live: BuiltEmbedder | None) -> TuningData:
    """What there is to learn, beside what the live retriever was tuned on."""
    same = live is not None and live.settings == tuning_settings(params)
    return TuningData(
        len(pairs),
        params.embedder_tuning.batch_size,
        new_pair_share(live.sketch if same and live else (), pair_sketch(pairs)),
    )


def build_embedder(
    workspace: Workspace, pairs: Sequence[TrainingPair], reader: Retriever, progress: Progress
) -> BuiltEmbedder:
    """Tune embed.model on some of `pairs`, with near misses that the live index finds (`reader`); keep it by content.

    Raises RefusalError for fewer pairs than embedder_tuning.batch_size.
    """
    started = time.perf_counter()
    params = workspace.params
    taught = add_hard_negatives(
        draw_pairs(pairs, params.embedder_tuning.max_pairs, params.embedder_tuning.seed),
        reader,
        params.embedder_tuning.negatives,
    )
    tuned = fine_tune_embedder(taught, params.embed, params.embedder_tuning, workspace.tuned_embedders, progress)
    return BuiltEmbedder(
        digest=tuned.digest,
        base=tuned.base,
        settings=tuning_settings(params),
        pairs=len(taught),
        sketch=pair_sketch(pairs),
        steps=tuned.steps,
        final_loss=round(tuned.losses[-1], 6) if tuned.losses else None,
        seconds=round(time.perf_counter() - started, 3),
    )


def tuning_settings(params: Params) -> str:
    """A digest of everything but the pairs that a tuned retriever depends on."""
    prefixes = [params.embed.document_prefix, params.embed.query_prefix]
    return json_digest([params.embed.model, prefixes, PAIRS, params.embedder_tuning.model_dump(mode="json")])


def pair_sketch(pairs: Sequence[TrainingPair]) -> tuple[str, ...]:
    """The lowest digests of the pairs: a fair sample, and of two sets the same (Beyer et al. 2007, KMV synopses)."""
    return tuple(sorted({json_digest([pair.query, pair.passage]) for pair in pairs})[:SKETCH])


def new_pair_share(then: Sequence[str], now: Sequence[str]) -> float:
    """The share of the pairs behind the sketch `now` that were not behind `then`."""
    # Below the last digest of a full sketch, all there are stand in it.
    whole = [one[-1] for one in (then, now) if len(one) == SKETCH]
    told = [one for one in now if not whole or one <= min(whole)]
    return len(set(told) - set(then)) / len(told) if told else 0.0
