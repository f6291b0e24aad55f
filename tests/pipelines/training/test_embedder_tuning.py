"""Tests of embedder fine-tuning: results, determinism, weight interpolation, interruption and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models.embedder import TUNED_CARD, TunedEmbedderCard, embedder_base
from ragtide.pipelines.models.load import load_embedder
from ragtide.pipelines.models.weights import weights_digest
from ragtide.pipelines.params import EmbedderTuningParams, EmbedParams
from ragtide.pipelines.ports import Advance, no_progress
from ragtide.pipelines.records.base import PARTIAL_PREFIX
from ragtide.pipelines.training.embedder_tuning import TuningResult, fine_tune_embedder
from ragtide.pipelines.training.pairs import TrainingPair
from tests.pipelines.models.test_embedder import write_tiny_model
from tests.projects import model_cache
from tests.tiny import BERT_TOKENS

# A query is a word; its passage holds another word and two that are common to all passages.
PAIRS = [
    TrainingPair(f"w{number}", f"w{number + 20} w19 w39", f"{number}.md", "", (f"w{(number + 1) % 8 + 20} w19",))
    for number in range(8)
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for this module."""
    with model_cache(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def embed(tmp_path_factory: pytest.TempPathFactory) -> EmbedParams:
    """An untrained model as the base."""
    folder = write_tiny_model(tmp_path_factory.mktemp("tune") / "tiny")
    return EmbedParams(model=str(folder), device="cpu", backend="torch")


def params(**changed: Any) -> EmbedderTuningParams:
    """Parameters of sixty steps, enough for the tiny model to learn the pairs."""
    defaults: dict[str, Any] = {"batch_size": 8, "epochs": 60, "learning_rate": 1e-2, "share": 1.0, "max_tokens": 16}
    return EmbedderTuningParams(**(defaults | changed))


def nearest(tuned: Path | None, embed: EmbedParams) -> float:
    """The share of queries whose own passage is the nearest."""
    embedder = load_embedder(embed, tuned)
    likeness = embedder.embed([pair.query for pair in PAIRS]) @ embedder.embed([pair.passage for pair in PAIRS]).T
    return float(np.mean(np.argmax(likeness, axis=1) == np.arange(len(PAIRS))))


@pytest.fixture(scope="module")
def tuned(embed: EmbedParams, tmp_path_factory: pytest.TempPathFactory) -> tuple[TuningResult, Path]:
    folder = tmp_path_factory.mktemp("retrievers")
    return fine_tune_embedder(PAIRS, embed, params(), folder, no_progress), folder


def test_pairs_that_fill_no_batch_are_an_error_and_leave_nothing(embed: EmbedParams, tmp_path: Path) -> None:
    same = [replace(pair, negatives=("w20 w19",)) for pair in PAIRS]
    with pytest.raises(UserError, match=r"^8 training pairs fill no batch .* embedder_tuning\.batch_size = 8:"):
        fine_tune_embedder(same, embed, params(epochs=1), tmp_path, no_progress)
    assert list(tmp_path.iterdir()) == []


def weights_of(folder: Path) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    return dict(SentenceTransformer(str(folder), device="cpu").state_dict())


# --- results -------------------------------------------------------------------------------------------------------


def test_the_tuned_embedder_ranks_the_passage_of_a_query_first(
    embed: EmbedParams, tuned: tuple[TuningResult, Path]
) -> None:
    made, folder = tuned
    assert nearest(None, embed) < 0.5
    assert nearest(folder / made.digest, embed) > 0.8
    assert made.losses[-1] < made.losses[0]
    assert (made.pairs, made.steps, len(made.losses)) == (8, 60, 60)


def test_the_folder_is_named_by_its_digest_and_records_its_base(
    embed: EmbedParams, tuned: tuple[TuningResult, Path]
) -> None:
    made, folder = tuned
    assert [path.name for path in folder.iterdir()] == [made.digest]
    assert weights_digest(folder / made.digest) == made.digest
    assert TunedEmbedderCard.read(folder / made.digest / TUNED_CARD).base == embedder_base(embed) == made.base


def test_both_engines_run_it(embed: EmbedParams, tuned: tuple[TuningResult, Path]) -> None:
    made, folder = tuned
    by_openvino = embed.model_copy(update={"backend": "openvino"})
    assert nearest(folder / made.digest, by_openvino) == nearest(folder / made.digest, embed)


def test_the_maximum_sequence_length_is_restored_after_training(tuned: tuple[TuningResult, Path]) -> None:
    from sentence_transformers import SentenceTransformer

    made, folder = tuned
    assert SentenceTransformer(str(folder / made.digest), device="cpu").max_seq_length == BERT_TOKENS


# --- determinism and weights ---------------------------------------------------------------------------------------


def short(embed: EmbedParams, folder: Path, pairs: Sequence[TrainingPair] = PAIRS, **changed: Any) -> TuningResult:
    return fine_tune_embedder(pairs, embed, params(**({"epochs": 2} | changed)), folder, no_progress)


def test_the_same_pairs_make_the_same_weights_and_another_seed_makes_others(embed: EmbedParams, tmp_path: Path) -> None:
    first, again = short(embed, tmp_path, batch_size=4), short(embed, tmp_path, batch_size=4)
    assert first.digest == again.digest
    assert first.losses == again.losses
    assert short(embed, tmp_path, batch_size=4, seed=8).digest != first.digest
    assert len(list(tmp_path.iterdir())) == 2


def test_the_stored_weights_are_interpolated_from_the_base(embed: EmbedParams, tmp_path: Path) -> None:
    base = weights_of(Path(embed.model))
    full, halfway = (weights_of(tmp_path / short(embed, tmp_path, share=share).digest) for share in (1.0, 0.5))
    moved = [name for name, weight in base.items() if (full[name] - weight).abs().max() > 1e-3]
    assert len(moved) > len(base) / 2
    for name in moved:
        assert halfway[name].numpy() == pytest.approx((base[name] + full[name]).numpy() / 2, abs=1e-5)


def test_queries_and_passages_are_trained_with_their_prefixes(embed: EmbedParams, tmp_path: Path) -> None:
    prefixed = [embed.model_copy(update={key: "w38 "}) for key in ("query_prefix", "document_prefix")]
    assert len({short(variant, tmp_path).digest for variant in [embed, *prefixed]}) == 3


def test_pairs_without_hard_negatives_are_accepted(embed: EmbedParams, tmp_path: Path) -> None:
    alone = [replace(pair, negatives=()) for pair in PAIRS]
    assert short(embed, tmp_path, alone).digest != short(embed, tmp_path).digest


# --- progress, limits and errors -----------------------------------------------------------------------------------


def test_progress_counts_the_steps(embed: EmbedParams, tmp_path: Path) -> None:
    shown: list[int] = []

    @contextmanager
    def bar(label: str, total: int) -> Iterator[Advance]:
        shown.append(-total)
        yield shown.append

    fine_tune_embedder(PAIRS, embed, params(epochs=3, batch_size=4), tmp_path, bar)
    assert shown == [-6, *([1] * 6)]


def test_training_stops_at_the_time_limit(embed: EmbedParams, tmp_path: Path) -> None:
    made = short(embed, tmp_path, max_seconds=1e-6)
    assert made.steps == 1
    assert (tmp_path / made.digest / TUNED_CARD).is_file()


def test_an_interrupted_run_leaves_nothing(embed: EmbedParams, tmp_path: Path) -> None:
    @contextmanager
    def broken(label: str, total: int) -> Iterator[Advance]:
        def advance(steps: int) -> None:
            raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        fine_tune_embedder(PAIRS, embed, params(), tmp_path, broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", [OSError("disk full"), KeyboardInterrupt()])
def test_a_run_interrupted_while_writing_leaves_nothing(
    embed: EmbedParams, tmp_path: Path, problem: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(card: TunedEmbedderCard, path: Path) -> None:
        assert list(tmp_path.rglob("model.safetensors")), "the weights are written before the card"
        assert all(folder.name.startswith(PARTIAL_PREFIX) for folder in tmp_path.iterdir())
        raise problem

    monkeypatch.setattr(TunedEmbedderCard, "write", broken)
    with pytest.raises(type(problem)):
        short(embed, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_few_pairs_are_an_error(embed: EmbedParams, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^3 training pairs .* embedder_tuning\.batch_size = 8:"):
        short(embed, tmp_path, PAIRS[:3])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^embed\.model = .* cannot be loaded"):
        short(EmbedParams(model=str(tmp_path / "none"), device="cpu"), tmp_path / "retrievers")
    assert not (tmp_path / "retrievers").exists()


@pytest.mark.parametrize(
    ("pairs", "epochs", "trained", "steps"), [(5000, 1, 768, 24), (5000, 2, 1536, 48), (100, 1, 100, 3), (0, 3, 0, 0)]
)
def test_trained_pairs_and_steps_follow_from_the_number_of_pairs(
    pairs: int, epochs: int, trained: int, steps: int
) -> None:
    defaults = EmbedderTuningParams(epochs=epochs)
    assert defaults.trained_pairs(pairs) == trained
    assert defaults.steps(min(pairs, defaults.max_pairs)) == steps
