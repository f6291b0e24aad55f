"""Tests of the DVC stages with the real DVC and fake models: builds, scores, rebuilds and pending deletions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lancedb
import pytest
import yaml

from ragtide.flows.cli.data import Stage
from ragtide.pipelines.data import documents as reading
from ragtide.pipelines.data.dvc import ensure_repository, run_dvc
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.errors import UserError
from ragtide.pipelines.index.fingerprint import TABLE
from ragtide.pipelines.planning.plan import make_plan
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.evaluation import Scorecard
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel
from ragtide.pipelines.stages import run_stage
from tests import fakes
from tests.conftest import write_project
from tests.factories import md5, write

MakeProject = Callable[..., Path]
ROOT = Path(__file__).parent.parent.parent
STAGES = tuple(Stage)
GOLDEN, TRAINED = ("Pump", "Tank"), ("Valve", "Motor")


def page(name: str, end_of_life: str = "2027-01-01") -> str:
    return f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n"


def fill(root: Path) -> Path:
    """Write four pages, two of them with golden questions and two with training examples."""
    question = "When does {} 1 reach end of life?"
    for name in (*GOLDEN, *TRAINED):
        write(root / f"data/kb/{name}.md", page(name))
    golden = [{"question": question.format(name), "answers": ["2027-01-01"], "docs": [f"{name}.md"]} for name in GOLDEN]
    train = [{"prompt": question.format(name), "completion": "2027-01-01", "doc": f"{name}.md"} for name in TRAINED]
    for folder, rows in (("golden", golden), ("train", train)):
        write(root / f"data/{folder}/rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def root(make_project: MakeProject) -> Path:
    return fill(make_project())


def opened(root: Path) -> Project:
    return Project.open(root, no_progress)


def on_path(patch: pytest.MonkeyPatch) -> None:
    """Put this environment's `ragtide` on DVC's path, and the fakes on that of `ragtide`."""
    patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("PYTHONPATH", str(ROOT))


@dataclass(frozen=True)
class Reproduced:
    """A project after `dvc repro`, and the output of that command."""

    root: Path
    output: str


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Reproduced:
    root = fill(write_project(tmp_path_factory.mktemp("stages") / "project"))
    ensure_repository(root)
    with pytest.MonkeyPatch.context() as patch:
        on_path(patch)
        return Reproduced(root, run_dvc(root, ["repro"]))


# --- dvc repro -----------------------------------------------------------------------------------------------------


def test_dvc_runs_every_stage(reproduced: Reproduced) -> None:
    assert all(f"Running stage '{name}'" in reproduced.output for name in STAGES)
    assert set(yaml.safe_load((reproduced.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]) == set(STAGES)


def test_after_all_stages_dvc_is_up_to_date(reproduced: Reproduced) -> None:
    assert "up to date" in run_dvc(reproduced.root, ["status"])


def test_the_artifacts_refer_to_each_other(reproduced: Reproduced) -> None:
    artifacts = reproduced.root / "artifacts"
    index, model = BuiltIndex.read(artifacts / "index.json"), BuiltModel.read(artifacts / "model.json")
    card = Scorecard.read(artifacts / "scorecard.json")
    assert (card.index_version, card.adapter) == (index.version, model.adapter)
    data = take_snapshot(opened(reproduced.root).workspace)
    assert (index.documents, card.snapshot, card.answer_score.value) == (data.kb_id, data.id, 1.0)
    assert model.adapter is not None
    kept = reproduced.root / ".ragtide/adapters" / model.adapter / fakes.SKILLS
    assert (artifacts / "adapter" / fakes.SKILLS).read_bytes() == kept.read_bytes()


def test_dvc_releases_nothing(reproduced: Reproduced) -> None:
    project = opened(reproduced.root)
    assert project.registry.champion() is None
    assert project.registry.history() == []
    assert not (reproduced.root / ".ragtide/mlflow.db").exists()
    assert not lancedb.connect(project.workspace.index_uri).open_table(TABLE).tags.list()


def test_a_changed_page_makes_a_new_index_and_no_new_model(
    reproduced: Reproduced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(monkeypatch)
    root = tmp_path / "project"
    shutil.copytree(reproduced.root, root)
    write(root / "data/kb/Valve.md", page("Valve", "2031-05-05"))
    output = run_dvc(root, ["repro"])
    assert "Running stage 'index'" in output
    assert "Stage 'finetune' didn't change, skipping" in output
    index = BuiltIndex.read(root / "artifacts/index.json")
    assert (index.rows, index.embedded) == (4, 1)
    assert Scorecard.read(root / "artifacts/scorecard.json").index_version == index.version
    assert "up to date" in run_dvc(root, ["status"])


# --- one stage -----------------------------------------------------------------------------------------------------


def test_the_stages_are_those_that_dvc_yaml_calls() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    # `--project .` overrides RAGTIDE_PROJECT.
    wanted = {name: f"ragtide stage {name} --project ." for name in STAGES}
    assert {name: stage["cmd"] for name, stage in stages.items()} == wanted


def test_a_stage_writes_only_the_outputs_of_dvc_yaml_and_its_state(root: Path) -> None:
    before = set(root.iterdir())
    for name in ("index", "finetune", "score"):
        run_stage(name, root, no_progress)
    assert {path.name for path in set(root.iterdir()) - before} == {"artifacts", ".ragtide"}
    assert {path.name for path in (root / "artifacts").iterdir()} == {
        "index.json",
        "adapter",
        "model.json",
        "scorecard.json",
    }


def test_an_index_that_is_current_embeds_nothing(root: Path) -> None:
    first = run_stage("index", root, no_progress)
    assert isinstance(first, BuiltIndex)
    assert first.embedded == len(fakes.CountingEmbedder.embedded) == 4
    again = run_stage("index", root, no_progress)
    assert isinstance(again, BuiltIndex)
    assert (again.embedded, again.version, again.rows) == (0, first.version, 4)
    assert len(fakes.CountingEmbedder.embedded) == 4


def test_the_model_is_trained_with_the_current_passages(root: Path) -> None:
    run_stage("index", root, no_progress)
    write(root / "data/kb/Valve.md", page("Valve", "2031-05-05"))
    lines = (root / "data/train/rows.jsonl").read_text(encoding="utf-8").split("\n")
    write(root / "data/train/rows.jsonl", "\n".join([lines[0].replace("2027-01-01", "2031-05-05"), *lines[1:]]))
    run_stage("finetune", root, no_progress)
    prompts = [sample.prompt[-1].content for sample in fakes.CountingTrainer.lessons]
    assert len(prompts) == 2
    assert any("Valve 1\n- End of life: 2031-05-05" in prompt for prompt in prompts)
    assert not any("Valve 1\n- End of life: 2027-01-01" in prompt for prompt in prompts)


@pytest.mark.parametrize("missing", ["index", "model"])
def test_scoring_before_building_is_an_error_that_names_the_missing_artifact(missing: str, root: Path) -> None:
    for name in ("index", "finetune"):
        run_stage(name, root, no_progress)
    (root / f"artifacts/{missing}.json").unlink()
    with pytest.raises(UserError, match=rf"{missing}\.json cannot be read as a Built"):
        run_stage("score", root, no_progress)


def test_too_few_examples_are_an_error_and_leave_no_model(root: Path) -> None:
    write(root / "data/train/rows.jsonl", json.dumps({"prompt": "Who?", "completion": "nobody"}) + "\n")
    with pytest.raises(UserError, match=r"1 examples and finetune\.min_examples is 2"):
        run_stage("finetune", root, no_progress)
    assert not (root / "artifacts/model.json").exists()
    assert not fakes.CountingTrainer.lessons


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_fails_while_another_run_holds_the_lock(name: str, root: Path) -> None:
    with opened(root).workspace.write_lock(), pytest.raises(UserError, match="another run is at work"):
        run_stage(name, root, no_progress)
    assert not (root / "artifacts").exists()


# --- the index without a cycle -------------------------------------------------------------------------------------

HEAVY = ("torch", "lancedb", "lance", "pyarrow", "mlflow", "prefect", "transformers", "openvino")
STAGE_SCRIPT = """
import sys
from ragtide.flows.cli.main import app
try:
    app(["stage", "index", "--project", sys.argv[1]])
except SystemExit as end:
    assert not end.code
print("HEAVY", *sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[2].split(","))))
"""


def built(root: Path, rebuild: bool = False) -> BuiltIndex:
    index = run_stage("index", root, no_progress, rebuild)
    assert isinstance(index, BuiltIndex)
    return index


def set_param(root: Path, block: str, **values: object) -> None:
    content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    content[block] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def documents(root: Path) -> set[str]:
    return set(opened(root).index.documents())


def test_a_stage_with_nothing_to_do_imports_no_heavy_library(root: Path) -> None:
    first = built(root)
    command = [sys.executable, "-c", STAGE_SCRIPT, str(root), ",".join(HEAVY)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    record, heavy = done.stdout.strip().splitlines()
    assert (json.loads(record)["version"], json.loads(record)["embedded"]) == (first.version, 0)
    assert heavy == "HEAVY"


def test_a_stage_with_nothing_to_do_changes_no_file(root: Path) -> None:
    built(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    again = built(root)
    assert (again.embedded, again.new, again.seconds) == (0, 0, 0.0)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def delete_artifact(root: Path) -> None:
    (root / "artifacts/index.json").unlink()


def truncate_artifact(root: Path) -> None:
    write(root / "artifacts/index.json", '{"uri": ')


def delete_table(root: Path) -> None:
    shutil.rmtree(root / ".ragtide/lance")


def change_uri(root: Path) -> None:
    artifact = root / "artifacts/index.json"
    BuiltIndex.read(artifact).model_copy(update={"uri": "elsewhere"}).write(artifact)


def change_version(root: Path) -> None:
    artifact = root / "artifacts/index.json"
    BuiltIndex.read(artifact).model_copy(update={"version": 99}).write(artifact)


@pytest.mark.parametrize("spoil", [delete_artifact, truncate_artifact, delete_table, change_uri, change_version])
def test_an_invalid_index_artifact_is_rebuilt(spoil: Callable[[Path], None], root: Path) -> None:
    built(root)
    spoil(root)
    index = built(root)
    assert (index.rows, index.uri) == (4, str(root / ".ragtide/lance"))
    assert BuiltIndex.read(root / "artifacts/index.json") == index
    assert documents(root) == {f"{name}.md" for name in (*GOLDEN, *TRAINED)}


@pytest.mark.parametrize(
    ("block", "values", "embedded"),
    [("embed", {"document_prefix": "passage: "}, 4), ("chunk", {"max_words": 40}, 0)],
    ids=["embedder", "chunker"],
)
def test_other_settings_need_an_explicit_rebuild(
    block: str, values: dict[str, object], embedded: int, root: Path
) -> None:
    before = built(root)
    set_param(root, block, **values)
    with pytest.raises(UserError, match=r"the index was built with .*`ragtide plan` says what a rebuild costs"):
        built(root)
    assert BuiltIndex.read(root / "artifacts/index.json") == before
    index = built(root, rebuild=True)
    assert (index.rows, index.embedded) == (4, embedded)
    assert index.fingerprint != before.fingerprint
    assert opened(root).index.rows(index.version) == opened(root).index.rows(before.version)
    assert built(root).version == index.version


def test_an_unreadable_page_keeps_its_rows_and_is_retried(root: Path) -> None:
    built(root)
    write(root / "data/kb/Pump.md", b"caf\xe9 \xff\x00")
    waiting = [built(root).waiting for _ in range(4)]
    assert waiting == [1, 1, 0, 0]
    assert "Pump.md" in documents(root)
    write(root / "data/kb/Pump.md", page("Pump", "2044-04-04"))
    assert (built(root).embedded, built(root).waiting) == (1, 0)


def test_a_page_is_retried_after_its_converter_was_installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"%PDF-1.4"
    write(root / "data/kb/late.pdf", content)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "converter_signature", lambda: "without")
        for _ in range(4):
            built(root)
    # As if the installed library had converted it.
    write(root / f".ragtide/texts/{md5(content.decode())}-{reading.CONVERTER}.pdf", "text")
    built(root)
    assert "late.pdf" in documents(root)


def delete_many(root: Path) -> None:
    """Index more pages than the deletion guard allows to delete, and delete them."""
    paths = many(root)
    built(root)
    for path in paths:
        path.unlink()


def many(root: Path) -> list[Path]:
    """Write more pages than the deletion guard allows to delete."""
    return [write(root / f"data/kb/many/{number:02}.md", page(f"Many{number}")) for number in range(20)]


def test_the_stage_leaves_deletions_over_the_limit_pending(root: Path) -> None:
    delete_many(root)
    index = built(root)
    assert (index.rows, index.waiting) == (24, 20)


def test_a_pending_deletion_of_the_stage_can_be_approved_before_the_first_release(root: Path) -> None:
    delete_many(root)
    project = opened(root)
    plan = make_plan(project, project.corpus(take_snapshot(project.workspace)))
    assert len(plan.evidence.data.pending_deletions) == 20


@pytest.mark.parametrize("name", ["finetune", "score"])
def test_no_other_stage_carries_out_pending_deletions(name: str, root: Path) -> None:
    paths = many(root)
    built(root)
    run_stage("finetune", root, no_progress)
    for path in paths:
        path.unlink()
    built(root)
    run_stage(name, root, no_progress)
    assert len(documents(root)) == 24
