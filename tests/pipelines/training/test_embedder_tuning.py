"""Does a retriever learn from pairs, deterministically, into a folder named by content, and with nothing left half?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models import openvino_export, weights
from ragtide.pipelines.models.embedder import TUNED_CARD, TunedEmbedderCard, embedder_base
from ragtide.pipelines.models.load import load_embedder
from ragtide.pipelines.models.weights import weights_digest
from ragtide.pipelines.params import EmbedderTuningParams, EmbedParams
from ragtide.pipelines.ports import Advance, no_progress
from ragtide.pipelines.records.base import PARTIAL_PREFIX
from ragtide.pipelines.training.embedder_tuning import TuningResult, fine_tune_embedder
from ragtide.pipelines.training.pairs import TrainingPair
from tests.pipelines.models.test_embedder import write_tiny_model
from tests.tiny import BERT_TOKENS

# A query is a word, and its passage is another one beside words that say nothing.
PAIRS = [
    TrainingPair(f"w{number}", f"w{number + 20} w19 w39", f"{number}.md", "", (f"w{(number + 1) % 8 + 20} w19",))
    for number in range(8)
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of this module's own."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for module in (openvino_export, weights):
            patch.setattr(module, "user_cache_path", lambda name: home / name)
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


@pytest.fixture(scope="module")
def embed(tmp_path_factory: pytest.TempPathFactory) -> EmbedParams:
    """An untrained model as the base."""
    folder = write_tiny_model(tmp_path_factory.mktemp("tune") / "tiny")
    return EmbedParams(model=str(folder), device="cpu", backend="torch")


def params(**changed: Any) -> EmbedderTuningParams:
    """Sixty steps, enough for this model to learn them; or fewer."""
    usual: dict[str, Any] = {"batch_size": 8, "epochs": 60, "learning_rate": 1e-2, "share": 1.0, "max_tokens": 16}
    return EmbedderTuningParams(**(usual | changed))


def nearest(tuned: Path | None, embed: EmbedParams) -> float:
    """The share of queries whose own passage is the nearest."""
    embedder = load_embedder(embed, tuned)
    likeness = embedder.embed([pair.query for pair in PAIRS]) @ embedder.embed([pair.passage for pair in PAIRS]).T
    return float(np.mean(np.argmax(likeness, axis=1) == np.arange(len(PAIRS))))


@pytest.fixture(scope="module")
def tuned(embed: EmbedParams, tmp_path_factory: pytest.TempPathFactory) -> tuple[TuningResult, Path]:
    folder = tmp_path_factory.mktemp("retrievers")
    return fine_tune_embedder(PAIRS, embed, params(), folder, no_progress), folder


def test_pairs_that_fill_no_batch_are_refused_and_leave_nothing(embed: EmbedParams, tmp_path: Path) -> None:
    same = [replace(pair, negatives=("w20 w19",)) for pair in PAIRS]
    with pytest.raises(UserError, match=r"^8 pairs fill no batch of tune\.batch_size = 8 without a passage twice"):
        fine_tune_embedder(same, embed, params(epochs=1), tmp_path, no_progress)
    assert list(tmp_path.iterdir()) == []


def weights_of(folder: Path) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    return dict(SentenceTransformer(str(folder), device="cpu").state_dict())


# --- what comes out ------------------------------------------------------------------------------------------------


def test_it_learns_which_passage_answers_a_query(embed: EmbedParams, tuned: tuple[TuningResult, Path]) -> None:
    made, folder = tuned
    assert nearest(None, embed) < 0.5
    assert nearest(folder / made.digest, embed) > 0.8
    assert made.losses[-1] < made.losses[0]
    assert (made.pairs, made.steps, len(made.losses)) == (8, 60, 60)


def test_the_folder_has_the_name_of_its_content_and_knows_its_base(
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


def test_the_whole_length_is_read_again_after_training(tuned: tuple[TuningResult, Path]) -> None:
    from sentence_transformers import SentenceTransformer

    made, folder = tuned
    assert SentenceTransformer(str(folder / made.digest), device="cpu").max_seq_length == BERT_TOKENS


# --- the same again ------------------------------------------------------------------------------------------------


def short(embed: EmbedParams, folder: Path, pairs: Sequence[TrainingPair] = PAIRS, **changed: Any) -> TuningResult:
    return fine_tune_embedder(pairs, embed, params(**({"epochs": 2} | changed)), folder, no_progress)


def test_the_same_pairs_make_the_same_weights_and_another_seed_makes_others(embed: EmbedParams, tmp_path: Path) -> None:
    first, again = short(embed, tmp_path, batch_size=4), short(embed, tmp_path, batch_size=4)
    assert first.digest == again.digest
    assert first.losses == again.losses
    assert short(embed, tmp_path, batch_size=4, seed=8).digest != first.digest
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_kept_lies_that_share_of_the_way_from_the_base(embed: EmbedParams, tmp_path: Path) -> None:
    base = weights_of(Path(embed.model))
    whole, half = (weights_of(tmp_path / short(embed, tmp_path, share=share).digest) for share in (1.0, 0.5))
    moved = [name for name, weight in base.items() if (whole[name] - weight).abs().max() > 1e-3]
    assert len(moved) > len(base) / 2
    for name in moved:
        assert half[name].numpy() == pytest.approx((base[name] + whole[name]).numpy() / 2, abs=1e-5)


def test_queries_and_passages_are_taught_with_their_prefixes(embed: EmbedParams, tmp_path: Path) -> None:
    prefixed = [embed.model_copy(update={key: "w38 "}) for key in ("query_prefix", "document_prefix")]
    assert len({short(one, tmp_path).digest for one in [embed, *prefixed]}) == 3


def test_pairs_without_near_misses_are_taught_too(embed: EmbedParams, tmp_path: Path) -> None:
    alone = [replace(pair, negatives=()) for pair in PAIRS]
    assert short(embed, tmp_path, alone).digest != short(embed, tmp_path).digest


# --- how it goes ---------------------------------------------------------------------------------------------------


def test_progress_counts_the_steps(embed: EmbedParams, tmp_path: Path) -> None:
    shown: list[int] = []

    @contextmanager
    def bar(label: str, total: int) -> Iterator[Advance]:
        shown.append(-total)
        yield shown.append

    fine_tune_embedder(PAIRS, embed, params(epochs=3, batch_size=4), tmp_path, bar)
    assert shown == [-6, *([1] * 6)]


def test_training_ends_when_its_time_is_over(embed: EmbedParams, tmp_path: Path) -> None:
    made = short(embed, tmp_path, max_seconds=1e-6)
    assert made.steps == 1
    assert (tmp_path / made.digest / TUNED_CARD).is_file()


def test_a_run_that_breaks_off_leaves_nothing(embed: EmbedParams, tmp_path: Path) -> None:
    @contextmanager
    def broken(label: str, total: int) -> Iterator[Advance]:
        def advance(steps: int) -> None:
            raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        fine_tune_embedder(PAIRS, embed, params(), tmp_path, broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", [OSError("disk full"), KeyboardInterrupt()])
def test_a_run_that_breaks_off_while_it_writes_leaves_nothing(
    embed: EmbedParams, tmp_path: Path, problem: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(card: TunedEmbedderCard, path: Path) -> None:
        assert list(tmp_path.rglob("model.safetensors")), "the weights stand there by now"
        assert all(folder.name.startswith(PARTIAL_PREFIX) for folder in tmp_path.iterdir())
        raise problem

    monkeypatch.setattr(TunedEmbedderCard, "write", broken)
    with pytest.raises(type(problem)):
        short(embed, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_few_pairs_are_refused(embed: EmbedParams, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^3 pairs are fewer than embedder_tuning.batch_size = 8"):
        short(embed, tmp_path, PAIRS[:3])
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^embed\.model = .* cannot be loaded"):
        short(EmbedParams(model=str(tmp_path / "none"), device="cpu"), tmp_path / "retrievers")
    assert not (tmp_path / "retrievers").exists()


@pytest.mark.parametrize(
    ("there", "epochs", "taught", "steps"), [(5000, 1, 768, 24), (5000, 2, 1536, 48), (100, 1, 100, 3), (0, 3, 0, 0)]
)
def test_what_it_will_cost_is_told_from_the_number_of_pairs(there: int, epochs: int, taught: int, steps: int) -> None:
    defaults = EmbedderTuningParams(epochs=epochs)
    assert defaults.taught(there) == taught
    assert defaults.steps(min(there, defaults.max_pairs)) == steps
