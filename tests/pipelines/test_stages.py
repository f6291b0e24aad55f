"""Do the stages of dvc.yaml build and score, and release nothing? With the real DVC; only the models are fakes."""

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
from tests.factories import write

MakeProject = Callable[..., Path]
ROOT = Path(__file__).parent.parent.parent
STAGES = tuple(Stage)
ASKED, TAUGHT = ("Pump", "Tank"), ("Valve", "Motor")


def page(name: str, end_of_life: str = "2027-01-01") -> str:
    return f"# {name}\n\n## {name} 1\n\n- End of life: {end_of_life}\n"


def fill(root: Path) -> Path:
    """Four pages, two of them asked about and two taught."""
    question = "When does {} 1 reach end of life?"
    for name in (*ASKED, *TAUGHT):
        write(root / f"data/kb/{name}.md", page(name))
    golden = [{"question": question.format(one), "answers": ["2027-01-01"], "docs": [f"{one}.md"]} for one in ASKED]
    train = [{"prompt": question.format(one), "completion": "2027-01-01", "doc": f"{one}.md"} for one in TAUGHT]
    for folder, rows in (("golden", golden), ("train", train)):
        write(root / f"data/{folder}/rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def root(make_project: MakeProject) -> Path:
    return fill(make_project())


def opened(root: Path) -> Project:
    return Project.open(root, no_progress)


def on_path(patch: pytest.MonkeyPatch) -> None:
    """Let DVC find this environment's `ragtide`, and `ragtide` the fakes."""
    patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("PYTHONPATH", str(ROOT))


@dataclass(frozen=True)
class Reproduced:
    """A project in which `dvc repro` has run, and what it said."""

    root: Path
    said: str


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Reproduced:
    root = fill(write_project(tmp_path_factory.mktemp("stages") / "project"))
    ensure_repository(root)
    with pytest.MonkeyPatch.context() as patch:
        on_path(patch)
        return Reproduced(root, run_dvc(root, ["repro"]))


# --- dvc repro -----------------------------------------------------------------------------------------------------


def test_dvc_runs_every_stage(reproduced: Reproduced) -> None:
    assert all(f"Running stage '{name}'" in reproduced.said for name in STAGES)
    assert set(yaml.safe_load((reproduced.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]) == set(STAGES)


def test_when_all_have_run_dvc_is_at_rest(reproduced: Reproduced) -> None:
    assert "up to date" in run_dvc(reproduced.root, ["status"])


def test_the_artifacts_name_each_other(reproduced: Reproduced) -> None:
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


def test_a_moved_page_makes_a_new_index_and_no_new_model(
    reproduced: Reproduced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(monkeypatch)
    root = tmp_path / "project"
    shutil.copytree(reproduced.root, root)
    write(root / "data/kb/Valve.md", page("Valve", "2031-05-05"))
    said = run_dvc(root, ["repro"])
    assert "Running stage 'index'" in said
    assert "Stage 'finetune' didn't change, skipping" in said
    index = BuiltIndex.read(root / "artifacts/index.json")
    assert (index.rows, index.embedded) == (4, 1)
    assert Scorecard.read(root / "artifacts/scorecard.json").index_version == index.version
    assert "up to date" in run_dvc(root, ["status"])


# --- one stage -----------------------------------------------------------------------------------------------------


def test_the_stages_are_those_that_dvc_yaml_calls() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    # In this folder, whatever RAGTIDE_PROJECT names.
    wanted = {name: f"ragtide stage {name} --project ." for name in STAGES}
    assert {name: stage["cmd"] for name, stage in stages.items()} == wanted


def test_a_stage_leaves_only_what_dvc_yaml_says_and_its_state(root: Path) -> None:
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


def test_the_model_is_taught_with_passages_as_they_now_are(root: Path) -> None:
    run_stage("index", root, no_progress)
    write(root / "data/kb/Valve.md", page("Valve", "2031-05-05"))
    taught = (root / "data/train/rows.jsonl").read_text(encoding="utf-8").split("\n")
    write(root / "data/train/rows.jsonl", "\n".join([taught[0].replace("2027-01-01", "2031-05-05"), *taught[1:]]))
    run_stage("finetune", root, no_progress)
    prompts = [lesson.prompt[-1].content for lesson in fakes.CountingTrainer.lessons]
    assert len(prompts) == 2
    assert any("Valve 1\n- End of life: 2031-05-05" in prompt for prompt in prompts)
    assert not any("Valve 1\n- End of life: 2027-01-01" in prompt for prompt in prompts)


@pytest.mark.parametrize("missing", ["index", "model"])
def test_scoring_before_building_is_refused_with_what_is_missing(missing: str, root: Path) -> None:
    for name in ("index", "finetune"):
        run_stage(name, root, no_progress)
    (root / f"artifacts/{missing}.json").unlink()
    with pytest.raises(UserError, match=rf"{missing}\.json cannot be read as a Built"):
        run_stage("score", root, no_progress)


def test_too_few_examples_are_refused_and_leave_no_model(root: Path) -> None:
    write(root / "data/train/rows.jsonl", json.dumps({"prompt": "Who?", "completion": "nobody"}) + "\n")
    with pytest.raises(UserError, match=r"holds 1 examples and finetune\.min_examples is 2: add some"):
        run_stage("finetune", root, no_progress)
    assert not (root / "artifacts/model.json").exists()
    assert not fakes.CountingTrainer.lessons


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_refused_while_another_run_is_at_work(name: str, root: Path) -> None:
    with opened(root).workspace.write_lock(), pytest.raises(UserError, match="another run is at work"):
        run_stage(name, root, no_progress)
    assert not (root / "artifacts").exists()


# --- the index without the loop ------------------------------------------------------------------------------------

HEAVY = ("torch", "lancedb", "lance", "pyarrow", "mlflow", "prefect", "transformers", "openvino")
LOOK = """
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


def test_that_there_is_nothing_to_do_is_found_out_without_a_heavy_library(root: Path) -> None:
    first = built(root)
    command = [sys.executable, "-c", LOOK, str(root), ",".join(HEAVY)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    said, heavy = done.stdout.strip().splitlines()
    assert (json.loads(said)["version"], json.loads(said)["embedded"]) == (first.version, 0)
    assert heavy == "HEAVY"


def test_nothing_to_do_leaves_every_file_as_it_is(root: Path) -> None:
    built(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    again = built(root)
    assert (again.embedded, again.new, again.seconds) == (0, 0, 0.0)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def lost_note(root: Path) -> None:
    (root / "artifacts/index.json").unlink()


def half_a_note(root: Path) -> None:
    write(root / "artifacts/index.json", '{"uri": ')


def lost_table(root: Path) -> None:
    shutil.rmtree(root / ".ragtide/lance")


def foreign_note(root: Path) -> None:
    note = root / "artifacts/index.json"
    BuiltIndex.read(note).model_copy(update={"uri": "elsewhere"}).write(note)


def version_from_the_future(root: Path) -> None:
    note = root / "artifacts/index.json"
    BuiltIndex.read(note).model_copy(update={"version": 99}).write(note)


@pytest.mark.parametrize("spoil", [lost_note, half_a_note, lost_table, foreign_note, version_from_the_future])
def test_a_note_that_cannot_be_believed_is_made_anew(spoil: Callable[[Path], None], root: Path) -> None:
    built(root)
    spoil(root)
    index = built(root)
    assert (index.rows, index.uri) == (4, str(root / ".ragtide/lance"))
    assert BuiltIndex.read(root / "artifacts/index.json") == index
    assert documents(root) == {f"{name}.md" for name in (*ASKED, *TAUGHT)}


@pytest.mark.parametrize(
    ("block", "values", "embedded"),
    [("embed", {"document_prefix": "passage: "}, 4), ("chunk", {"max_words": 40}, 0)],
    ids=["embedder", "chunker"],
)
def test_under_other_settings_the_rows_are_made_anew_only_when_one_says_so(
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


def test_a_page_that_cannot_be_read_keeps_its_rows_and_is_tried_again(root: Path) -> None:
    built(root)
    write(root / "data/kb/Pump.md", b"caf\xe9 \xff\x00")
    waiting = [built(root).waiting for _ in range(4)]
    assert waiting == [1, 1, 0, 0]
    assert "Pump.md" in documents(root)
    write(root / "data/kb/Pump.md", page("Pump", "2044-04-04"))
    assert (built(root).embedded, built(root).waiting) == (1, 0)


def test_a_page_that_was_given_up_is_read_once_its_libraries_are_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "data/kb/late.pdf", b"%PDF-1.4")
    with monkeypatch.context() as patch:
        patch.setattr(reading, "converter_signature", lambda: "without")
        for _ in range(4):
            built(root)
    monkeypatch.setattr(
        reading, "convert_document", lambda path, content: "text" if path == "late.pdf" else content.decode()
    )
    built(root)
    assert "late.pdf" in documents(root)


def lose_many(root: Path) -> None:
    """Such pages are indexed, and then gone."""
    paths = many(root)
    built(root)
    for path in paths:
        path.unlink()


def many(root: Path) -> list[Path]:
    """Pages past what may vanish without being asked about."""
    return [write(root / f"data/kb/many/{number:02}.md", page(f"Many{number}")) for number in range(20)]


def test_the_stage_holds_removals_back_past_the_limit(root: Path) -> None:
    lose_many(root)
    index = built(root)
    assert (index.rows, index.waiting) == (24, 20)


def test_a_removal_that_the_stage_holds_back_can_be_approved_before_the_first_release(root: Path) -> None:
    lose_many(root)
    project = opened(root)
    plan = make_plan(project, project.corpus(take_snapshot(project.workspace)))
    assert len(plan.evidence.data.pending_deletions) == 20


@pytest.mark.parametrize("name", ["finetune", "score"])
def test_no_other_stage_carries_out_what_the_index_holds_back(name: str, root: Path) -> None:
    paths = many(root)
    built(root)
    run_stage("finetune", root, no_progress)
    for path in paths:
        path.unlink()
    built(root)
    run_stage(name, root, no_progress)
    assert len(documents(root)) == 24
