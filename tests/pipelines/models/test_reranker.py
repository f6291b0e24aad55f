"""Tests of the cross-encoder reranker: scores, order, and errors that name the setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index import search
from ragtide.pipelines.index.search import Retriever
from ragtide.pipelines.models.reranker import Reranker
from ragtide.pipelines.params import IndexParams
from tests.factories import Shelf, chunk
from tests.tiny import write_tiny_bert

WORDS = tuple(f"w{number}" for number in range(20))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer that gives a pair of texts one number."""
    folder = tmp_path_factory.mktemp("rerank") / "tiny"
    return write_tiny_bert(folder, "BertForSequenceClassification", WORDS, num_labels=1, initializer_range=0.5)


@pytest.fixture(scope="module")
def reranker(tiny: Path) -> Reranker:
    return Reranker(str(tiny), "cpu")


def test_each_passage_gets_a_number_of_its_own_in_its_order(reranker: Reranker) -> None:
    passages = ["w1 w2", "w3", "w4 w5 w6", "w1 w2"]
    scores = reranker.score("w9", passages)
    assert all(type(score) is float for score in scores)
    assert scores[0] == pytest.approx(scores[3], abs=1e-5)
    assert len({round(score, 4) for score in scores}) == 3
    assert scores == pytest.approx([reranker.score("w9", [passage])[0] for passage in passages], abs=1e-5)


def test_the_score_depends_on_the_question(reranker: Reranker) -> None:
    assert reranker.score("w9", ["w1"]) != pytest.approx(reranker.score("w10 w11", ["w1"]), abs=1e-6)


def test_no_passages_load_no_model() -> None:
    assert Reranker("/no/such/folder", "cpu").score("w1", []) == []


@pytest.mark.parametrize("name", ["/no/such/folder", "no/such-model", "a b"])
def test_a_missing_reranker_is_an_error_that_names_the_setting(name: str) -> None:
    with pytest.raises(UserError) as raised:
        Reranker(name, "cpu").score("w1", ["w2"])
    assert str(raised.value).startswith(f"index.rerank = '{name}' cannot be loaded (")
    assert "\n" not in str(raised.value)


def test_a_search_uses_the_reranker_of_the_index_settings(tiny: Path, tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "lance"), params=IndexParams(rerank=str(tiny)))
    shelf.embed = shelf.embed.model_copy(update={"device": "cpu"})
    texts = [f"w{number} w{number + 1}" for number in range(8)]
    version = shelf.refresh([chunk(text, text) for text in texts]).version
    [hits] = shelf.search(version, "w9", top_k=3)
    wanted = dict(zip(texts, Reranker(str(tiny), "cpu").score("w9", texts), strict=True))
    assert [hit.text for hit in hits] == sorted(texts, key=lambda text: -wanted[text])[:3]
    assert [hit.score for hit in hits] == pytest.approx(sorted(wanted.values(), reverse=True)[:3], abs=1e-5)


def test_without_a_reranker_in_the_settings_none_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(str(tmp_path / "lance"))
    version = shelf.refresh([chunk("a.md", "w1")]).version
    monkeypatch.setattr(search, "_reorder", None)
    reader: Retriever = shelf.index.retriever(version)
    hits: Sequence[Any] = reader.search(["w1"], 1)[0]
    assert [hit.text for hit in hits] == ["w1"]
