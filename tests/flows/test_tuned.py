"""Tests of fine-tuned embedders: released and rolled back together with their index.

Everything is real but the language model; the embedder is a tiny one that sentence-transformers trains.
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
from ragtide.pipelines.models import weights
from ragtide.pipelines.models.embedder import embedder_base
from ragtide.pipelines.planning.by_hand import Request
from ragtide.pipelines.planning.plan import save_plan
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.release import BuiltIndex, Cycle, Outcome
from ragtide.pipelines.release.cleanup import maintain_project
from ragtide.pipelines.release.rollback import roll_back
from ragtide.pipelines.stages import run_stage
from tests.conftest import write_project
from tests.factories import write
from tests.pipelines.models.test_embedder import write_tiny_model
from tests.projects import Home, model_cache

NAMES = ("Pump", "Tank", "Valve", "Motor", "Gear", "Lamp", "Fan", "Coil")
QUESTION = "When does {} 1 reach end of life?"


@dataclass
class Shop(Home):
    """A project of eight documents with a section each, which make the training pairs."""

    def page(self, name: str, end_of_life: str) -> None:
        word = f"w{NAMES.index(name)}"
        text = f"# {name}\n\n## {name} 1\n\n{word} w20 w30\n\n- End of life: {end_of_life}\n"
        write(self.root / f"data/kb/{name}.md", text)

    def run_cycle(self) -> Cycle:
        return keep_current(project=str(self.root))

    def answer(self, name: str) -> str:
        return self.project.ask(QUESTION.format(name))[1].text


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_a_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with model_cache(tmp_path_factory.mktemp("cache")):
        yield
    torch.set_num_threads(threads)


def new_shop(root: Path, model: Path) -> Shop:
    embed = {"model": str(model), "backend": "torch", "device": "cpu"}
    # An untrained embedder scores badly; the gate is tested elsewhere.
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
def history(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Release 1 has the embedder of params.yaml, 2 a fine-tuned one, 3 a refresh of an edited document."""
    folder = tmp_path_factory.mktemp("tuned")
    shop = new_shop(folder / "shop", write_tiny_model(folder / "tiny"))
    recorded: dict[str, Any] = {"shop": shop, "cycles": [shop.run_cycle()], "evidence": [shop.planned().evidence]}
    by_hand = Request(action=Action.TUNE_EMBEDDER, why="a test", by="a test")
    recorded["cycles"].append(keep_current(project=str(shop.root), request=by_hand))
    recorded["evidence"].append(shop.planned().evidence)
    shop.set("policy", name="always")
    shop.page("Valve", "2031-05-05")
    recorded["cycles"].append(shop.run_cycle())
    recorded["releases"] = shop.project.registry.releases()
    return recorded


@pytest.fixture
def shop(history: dict[str, Any], tmp_path: Path) -> Shop:
    """A copy, with release 3 live."""
    shutil.copytree(history["shop"].root, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_index_and_embedder_are_released_together(history: dict[str, Any]) -> None:
    _, tuned, _ = history["cycles"]
    first, second, _ = history["releases"]
    assert (tuned.decision, tuned.release) == ("TUNE_EMBEDDER", "2")
    assert first.index.tuned_embedder is None
    tuned_embedder = second.index.tuned_embedder
    embed = history["shop"].project.workspace.params.embed
    assert (tuned_embedder.base, tuned_embedder.pairs) == (embedder_base(embed), 8)
    assert tuned_embedder.final_loss is not None
    assert second.index.fingerprint != first.index.fingerprint
    assert second.index.embedded == second.index.rows == first.index.rows
    assert [path.name for path in history["shop"].project.workspace.tuned_embedders.iterdir()] == [
        tuned_embedder.digest
    ]


def test_new_training_pairs_are_evidence_until_they_are_used(history: dict[str, Any]) -> None:
    before, after = history["evidence"]
    # Golden questions ask for two of the sections, in other words than their headings: all eight are training pairs.
    training = before.training
    assert (training.pairs, training.min_pairs, training.new_pairs) == (8, 2, 1.0)
    assert (after.training.pairs, after.training.new_pairs) == (8, 0.0)
    assert before.limits.costs.tune_seconds > before.limits.costs.refresh_seconds


def test_the_work_is_recorded_for_the_next_forecast(history: dict[str, Any]) -> None:
    work = history["cycles"][1].work
    assert work["trained_pairs"] == 16
    assert work["tune_seconds"] > 0
    assert history["cycles"][1].signals["action_seconds"] >= work["tune_seconds"]


def test_a_refresh_keeps_the_live_embedder(history: dict[str, Any]) -> None:
    _, second, third = history["releases"]
    assert history["cycles"][2].decision == "REFRESH"
    assert third.index.tuned_embedder == second.index.tuned_embedder
    assert third.index.fingerprint == second.index.fingerprint
    assert third.index.embedded == 1


def test_a_stage_keeps_the_live_embedder(shop: Shop) -> None:
    shop.page("Lamp", "2040-01-01")
    built = run_stage("index", shop.root, no_progress)
    assert isinstance(built, BuiltIndex)
    assert built.tuned_embedder == shop.live.index.tuned_embedder
    assert built.embedded == 1
    assert run_stage("index", shop.root, no_progress).model_dump()["embedded"] == 0


def test_a_rollback_covers_index_and_embedder(shop: Shop) -> None:
    project = shop.project
    roll_back(project.registry, "1", "tried", project.check_servable)
    assert shop.live.index.tuned_embedder is None
    assert shop.answer("Valve") == "2027-01-01"
    roll_back(project.registry, "3", "better", project.check_servable)
    assert shop.live.index.tuned_embedder is not None
    assert shop.answer("Valve") == "2031-05-05"


def test_maintenance_keeps_the_embedders_of_releases(shop: Shop) -> None:
    shop.set("maintenance", keep_days=0)
    roll_back(shop.project.registry, "1", "tried", shop.project.check_servable)
    write(shop.project.workspace.tuned_embedders / "refused" / "model.safetensors", "weights")
    steps = {step.step: step for step in maintain_project(shop.project)}
    assert steps["delete unreferenced models"].done
    assert not (shop.project.workspace.tuned_embedders / "refused").exists()
    roll_back(shop.project.registry, "3", "better", shop.project.check_servable)
    assert shop.answer("Valve") == "2031-05-05"


def test_missing_weights_are_fetched_from_the_run_that_trained_them(shop: Shop) -> None:
    shutil.rmtree(shop.project.workspace.tuned_embedders)
    assert shop.answer("Valve") == "2031-05-05"
    built = shop.live.index.tuned_embedder
    assert built is not None
    assert weights.weights_digest(shop.project.workspace.tuned_embedders / built.digest) == built.digest


def test_lost_weights_are_reported(shop: Shop, tmp_path: Path) -> None:
    built = shop.live.index.tuned_embedder
    assert built is not None
    lost = built.model_copy(update={"run": "0" * 32})
    with pytest.raises(UserError, match=built.digest):
        shop.project.registry.fetch_embedder(lost, tmp_path / "retriever")
    assert not (tmp_path / "retriever").exists()


def test_another_base_in_params_discards_the_tuned_embedder(shop: Shop, tmp_path: Path) -> None:
    shop.set("embed", model=str(write_tiny_model(tmp_path / "other", seed=5)))
    assert shop.answer("Valve") == "2031-05-05"
    cycle = shop.run_cycle()
    assert cycle.action == Action.REBUILD
    assert shop.live.index.tuned_embedder is None


def test_a_refresh_goes_live_before_the_embedder_is_tuned(shop: Shop) -> None:
    roll_back(shop.project.registry, "1", "tried", shop.project.check_servable)
    shop.page("Coil", "2032-02-02")
    by_hand = Request(action=Action.REFRESH | Action.TUNE_EMBEDDER, why="a test", by="a test")
    cycle = keep_current(project=str(shop.root), request=by_hand)
    assert [(part.action, part.release) for part in cycle.parts] == [
        (Action.REFRESH, "4"),
        (Action.TUNE_EMBEDDER, "5"),
    ]
    refreshed, tuned = (shop.project.registry.release(name).index for name in ("4", "5"))
    assert (refreshed.tuned_embedder, refreshed.fingerprint != tuned.fingerprint) == (None, True)
    assert tuned.tuned_embedder is not None


def test_a_tuning_is_weighed_again_on_the_refreshed_index(shop: Shop) -> None:
    shop.page("Coil", "2032-02-02")
    plan = shop.planned()
    wanted = plan.decision.model_copy(update={"action": Action.REFRESH | Action.TUNE_EMBEDDER})
    digest = save_plan(shop.project, plan.model_copy(update={"decision": wanted}))
    cycle = keep_current(project=str(shop.root), plan=digest)
    assert [(part.action, part.release) for part in cycle.parts] == [(Action.REFRESH, "4")]
    assert (cycle.release, cycle.outcome) == ("4", Outcome.RELEASED)
    assert "TUNE_EMBEDDER was left out" in cycle.detail
