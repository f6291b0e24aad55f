"""Do a tuned retriever and its index go live together, and back together? Everything is real but the language model.

The retriever is a tiny one that sentence-transformers really trains.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.models import openvino_export, weights
from ragtide.pipelines.models.embedder import embedder_base
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.release import BuiltIndex, Cycle
from ragtide.pipelines.release.cleanup import maintain_project
from ragtide.pipelines.release.rollback import roll_back
from ragtide.pipelines.stages import run_stage
from tests.conftest import write_project
from tests.factories import write
from tests.pipelines.models.test_embedder import write_tiny_model
from tests.projects import Home

NAMES = ("Pump", "Tank", "Valve", "Motor", "Gear", "Lamp", "Fan", "Coil")
QUESTION = "When does {} 1 reach end of life?"


@dataclass
class Shop(Home):
    """A project of eight pages with a section each, so that there are pairs to learn from."""

    def page(self, name: str, end_of_life: str) -> None:
        word = f"w{NAMES.index(name)}"
        text = f"# {name}\n\n## {name} 1\n\n{word} w20 w30\n\n- End of life: {end_of_life}\n"
        write(self.root / f"data/kb/{name}.md", text)

    def turn(self) -> Cycle:
        return keep_current(project=str(self.root))

    def answer(self, name: str) -> str:
        return self.project.ask(QUESTION.format(name))[1].text


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_a_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import torch

    usual, home = torch.get_num_threads(), tmp_path_factory.mktemp("cache")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for module in (openvino_export, weights):
            patch.setattr(module, "user_cache_path", lambda name: home / name)
        yield
    torch.set_num_threads(usual)


def new_shop(root: Path, model: Path) -> Shop:
    embed = {"model": str(model), "backend": "torch", "device": "cpu"}
    # Whatever an untrained retriever finds: what the gate says of it is tested elsewhere.
    gate = {"max_score_loss": 1, "max_retrieval_loss": 1}
    shop = Shop(
        write_project(root, embed=embed, gate=gate, embedder_tuning={"batch_size": 2, "epochs": 2, "negatives": 0})
    )
    for name in NAMES:
        shop.page(name, "2027-01-01")
    rows = [{"question": QUESTION.format(name), "answers": ["2027"], "docs": [f"{name}.md"]} for name in NAMES[:2]]
    golden = [{**row, "answers": ["2027-01-01"]} for row in rows]
    write(shop.root / "data/golden/q.jsonl", "".join(json.dumps(row) + "\n" for row in golden))
    return shop


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Release 1 with the retriever of params.yaml, release 2 with one tuned from it, 3 a refresh of an edited page."""
    folder = tmp_path_factory.mktemp("tuned")
    shop = new_shop(folder / "shop", write_tiny_model(folder / "tiny"))
    seen: dict[str, Any] = {"shop": shop, "cycles": [shop.turn()], "evidence": [shop.planned().evidence]}
    shop.set("policy", name="tests.fakes:AlwaysTunes")
    seen["cycles"].append(shop.turn())
    seen["evidence"].append(shop.planned().evidence)
    shop.set("policy", name="always")
    shop.page("Valve", "2031-05-05")
    seen["cycles"].append(shop.turn())
    seen["releases"] = shop.project.registry.releases()
    return seen


@pytest.fixture
def shop(told: dict[str, Any], tmp_path: Path) -> Shop:
    """A copy, with release 3 live."""
    shutil.copytree(told["shop"].root, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_index_and_retriever_go_live_together(told: dict[str, Any]) -> None:
    _, tuned, _ = told["cycles"]
    first, second, _ = told["releases"]
    assert (tuned.decision, tuned.release) == ("TUNE_EMBEDDER", "2")
    assert first.index.tuned_embedder is None
    made = second.index.tuned_embedder
    embed = told["shop"].project.workspace.params.embed
    assert (made.base, made.pairs) == (embedder_base(embed), 8)
    assert made.final_loss is not None
    assert second.index.fingerprint != first.index.fingerprint
    assert second.index.embedded == second.index.rows == first.index.rows
    assert [path.name for path in told["shop"].project.workspace.tuned_embedders.iterdir()] == [made.digest]


def test_what_there_is_to_tune_on_is_evidence_and_is_used_up(told: dict[str, Any]) -> None:
    before, after = told["evidence"]
    # Golden questions ask for two of the sections, in other words than their headings: all eight are learnt from.
    assert (before.pairs, before.min_pairs, before.new_pairs) == (8, 2, 1.0)
    assert (after.pairs, after.new_pairs) == (8, 0.0)
    assert before.costs.tune_seconds > before.costs.refresh_seconds


def test_the_work_is_recorded_for_the_next_forecast(told: dict[str, Any]) -> None:
    work = told["cycles"][1].work
    assert work["trained_pairs"] == 16
    assert work["tune_seconds"] > 0
    assert told["cycles"][1].signals["action_seconds"] >= work["tune_seconds"]


def test_a_refresh_goes_on_with_the_live_retriever(told: dict[str, Any]) -> None:
    _, second, third = told["releases"]
    assert told["cycles"][2].decision == "REFRESH"
    assert third.index.tuned_embedder == second.index.tuned_embedder
    assert third.index.fingerprint == second.index.fingerprint
    assert third.index.embedded == 1


def test_a_stage_goes_on_with_it_too(shop: Shop) -> None:
    shop.page("Lamp", "2040-01-01")
    built = run_stage("index", shop.root, no_progress)
    assert isinstance(built, BuiltIndex)
    assert built.tuned_embedder == shop.live.index.tuned_embedder
    assert built.embedded == 1
    assert run_stage("index", shop.root, no_progress).model_dump()["embedded"] == 0


def test_going_back_takes_both(shop: Shop) -> None:
    project = shop.project
    roll_back(project.registry, "1", "tried", project.check_servable)
    assert shop.live.index.tuned_embedder is None
    assert shop.answer("Valve") == "2027-01-01"
    roll_back(project.registry, "3", "better", project.check_servable)
    assert shop.live.index.tuned_embedder is not None
    assert shop.answer("Valve") == "2031-05-05"


def test_upkeep_leaves_what_one_can_go_back_to(shop: Shop) -> None:
    shop.set("maintain", keep_days=0)
    roll_back(shop.project.registry, "1", "tried", shop.project.check_servable)
    write(shop.project.workspace.tuned_embedders / "refused" / "model.safetensors", "weights")
    steps = {one.step: one for one in maintain_project(shop.project)}
    assert steps["sweep models"].done
    assert not (shop.project.workspace.tuned_embedders / "refused").exists()
    roll_back(shop.project.registry, "3", "better", shop.project.check_servable)
    assert shop.answer("Valve") == "2031-05-05"


def test_weights_that_are_not_here_come_from_the_run_that_made_them(shop: Shop) -> None:
    shutil.rmtree(shop.project.workspace.tuned_embedders)
    assert shop.answer("Valve") == "2031-05-05"
    made = shop.live.index.tuned_embedder
    assert made is not None
    assert weights.weights_digest(shop.project.workspace.tuned_embedders / made.digest) == made.digest


def test_weights_that_are_nowhere_are_refused_in_one_line(shop: Shop, tmp_path: Path) -> None:
    made = shop.live.index.tuned_embedder
    assert made is not None
    lost = made.model_copy(update={"run": "0" * 32})
    with pytest.raises(UserError, match=rf"^the tuned retriever {made.digest} is neither here nor in MLflow: "):
        shop.project.registry.fetch_retriever(lost, tmp_path / "retriever")
    assert not (tmp_path / "retriever").exists()


def test_another_base_in_the_params_leaves_it_behind(shop: Shop, tmp_path: Path) -> None:
    shop.set("embed", model=str(write_tiny_model(tmp_path / "other", seed=5)))
    assert shop.answer("Valve") == "2031-05-05"
    cycle = shop.turn()
    assert cycle.decision == Action.REBUILD
    assert shop.live.index.tuned_embedder is None
