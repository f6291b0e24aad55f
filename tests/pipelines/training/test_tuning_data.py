"""Tests of tuning data: sketches of pairs, the share of new pairs and the tuning settings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtide.pipelines.params import Params
from ragtide.pipelines.records.release import BuiltEmbedder
from ragtide.pipelines.training import embedder_tuning as module
from ragtide.pipelines.training.embedder_tuning import new_pair_share, pair_sketch, tuning_data, tuning_settings
from ragtide.pipelines.training.pairs import TrainingPair

law = settings(derandomize=True, deadline=None, max_examples=60)
PARAMS = Params()


def pairs(*numbers: int) -> list[TrainingPair]:
    return [TrainingPair(f"question {number}", f"passage {number}", f"{number}.md", None) for number in numbers]


def tuned(*numbers: int, settings_digest: str | None = None) -> BuiltEmbedder:
    return BuiltEmbedder(
        digest="d",
        base="b",
        settings=settings_digest or tuning_settings(PARAMS),
        pairs=len(numbers),
        sketch=pair_sketch(pairs(*numbers)),
        steps=1,
        final_loss=0.1,
        seconds=1.0,
    )


NUMBERS = st.sets(st.integers(0, 300), max_size=80)


@law
@given(NUMBERS, NUMBERS)
def test_below_the_size_of_a_sketch_the_share_is_exact(before: set[int], now: set[int]) -> None:
    share = new_pair_share(pair_sketch(pairs(*before)), pair_sketch(pairs(*now)))
    assert share == (len(now - before) / len(now) if now else 0.0)


@pytest.mark.parametrize("new", [0, 200, 1000, 2000])
def test_above_the_size_of_a_sketch_the_share_is_accurate_to_a_few_points(
    monkeypatch: pytest.MonkeyPatch, new: int
) -> None:
    monkeypatch.setattr(module, "SKETCH_SIZE", 400)
    then, now = pairs(*range(2000)), pairs(*range(new, 2000 + new))
    assert len(pair_sketch(now)) == 400
    assert new_pair_share(pair_sketch(then), pair_sketch(now)) == pytest.approx(new / 2000, abs=0.08)


@law
@given(st.permutations(range(20)))
def test_a_sketch_does_not_depend_on_the_order(order: list[int]) -> None:
    assert pair_sketch(pairs(*order)) == pair_sketch(pairs(*range(20)))


def test_all_pairs_are_new_without_a_comparable_tuned_embedder() -> None:
    available = pairs(*range(10))
    assert tuning_data(PARAMS, available, None).new_share == 1.0
    assert tuning_data(PARAMS, available, tuned(*range(10), settings_digest="others")).new_share == 1.0
    assert tuning_data(PARAMS, available, tuned(*range(10))).new_share == 0.0
    assert tuning_data(PARAMS, available, tuned(*range(5))).new_share == 0.5
    assert (tuning_data(PARAMS, available, None).pairs, tuning_data(PARAMS, available, None).least) == (
        10,
        PARAMS.embedder_tuning.batch_size,
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"embedder_tuning": {"seed": 8}},
        {"embedder_tuning": {"share": 0.4}},
        {"embed": {"query_prefix": "q: "}},
        {"embed": {"model": "other"}},
    ],
)
def test_the_tuning_settings_cover_what_a_tuned_embedder_depends_on(changed: dict[str, dict[str, object]]) -> None:
    assert tuning_settings(Params.model_validate(changed)) != tuning_settings(PARAMS)
    assert tuning_settings(Params.model_validate({"index": {"top_k": 9}})) == tuning_settings(PARAMS)
