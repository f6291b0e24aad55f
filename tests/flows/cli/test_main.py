"""Does bad input get one clear line, an exit code that is not 0, and leave everything as it was?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.pipelines import corpus
from ragtide.pipelines.data.documents import DocumentReader
from ragtide.pipelines.history.history import ACTION_SECONDS, FILTERED_EXAMPLES
from ragtide.pipelines.index.table import Index
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.planning.plan import save_plan
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.policy.interface import ComponentOptions, Recommendation, Recommendations
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import DataIssue, Document
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evidence import Evidence
from ragtide.pipelines.records.release import BuiltModel, Cycle
from ragtide.pipelines.registry.releases import Registry
from ragtide.pipelines.training.examples import Example, read_examples
from tests.factories import BASE, evidence, md5, write
from tests.fakes import SKILLS
from tests.projects import release_of

MakeProject = Callable[..., Path]
PAGE = "# Pump\n\n## Pump 1\n\n- End of life: 2027-01-01\n"
GOLDEN = {"question": "When does Pump 1 reach end of life?", "answers": ["2027-01-01"], "docs": ["pump.md"]}


def ragtide(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def fill(root: Path, page: str = PAGE, golden: object = GOLDEN) -> Path:
    (root / "data/kb/pump.md").write_text(page, encoding="utf-8")
    (root / "data/golden/questions.jsonl").write_text(json.dumps(golden) + "\n", encoding="utf-8")
    return root


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def on_invalid(root: Path, what: str, contradictions: str = "filter") -> None:
    """What is to become of training lines that cannot be learnt from, and of those that contradict each other."""
    path, block = root / "params.yaml", {"on_invalid": what, "contradictions": contradictions}
    path.write_text(f"{path.read_text(encoding='utf-8')}\nexamples: {json.dumps(block)}\n", encoding="utf-8")


def empty_kb(root: Path) -> str:
    (root / "data/kb/pump.md").unlink()
    return "put your documents there"


def no_kb(root: Path) -> str:
    empty_kb(root)
    (root / "data/kb").rmdir()
    return "does not exist"


def only_unreadable_formats(root: Path) -> str:
    (root / "data/kb/pump.md").rename(root / "data/kb/pump.xyz")
    return "holds no documents"


def broken_golden_line(root: Path) -> str:
    (root / "data/golden/questions.jsonl").write_text('{"question": "?"\n', encoding="utf-8")
    return "questions.jsonl:1: is not JSON"


def golden_key_of_the_wrong_type(root: Path) -> str:
    fill(root, golden=GOLDEN | {"answers": []})
    return "questions.jsonl:1: answers"


def broken_training_line(root: Path) -> str:
    (root / "data/train/examples.jsonl").write_text('\n{"prompt": "only half"}\n', encoding="utf-8")
    on_invalid(root, "refuse")
    return "data/train/examples.jsonl:2: bad line: should hold prompt and completion"


def unknown_param(root: Path) -> str:
    (root / "params.yaml").write_text("policy:\n  points_per_our: 3\n", encoding="utf-8")
    return "unknown key 'policy.points_per_our'"


def missing_params(root: Path) -> str:
    (root / "params.yaml").unlink()
    return "ragtide init"


def missing_embedder(root: Path) -> str:
    (root / "params.yaml").write_text("embed: {model: 'packaged:nothing'}\n", encoding="utf-8")
    return "embed.model = 'packaged:nothing' is not installed"


def missing_generator(root: Path) -> str:
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("tests.fakes:CountingReader", "packaged:nothing"), encoding="utf-8")
    return "generate.model = 'packaged:nothing' is not installed"


def golden_answers_that_stand_nowhere(root: Path) -> str:
    fill(root, golden=GOLDEN | {"answers": ["2031-01-01"]})
    return "golden questions are stale"


@pytest.mark.parametrize(
    "spoil",
    [
        empty_kb,
        no_kb,
        only_unreadable_formats,
        broken_golden_line,
        golden_key_of_the_wrong_type,
        broken_training_line,
        unknown_param,
        missing_params,
        missing_embedder,
        missing_generator,
        golden_answers_that_stand_nowhere,
    ],
)
def test_bad_input_is_named_in_one_line_and_changes_nothing(
    spoil: Callable[[Path], str], make_project: MakeProject
) -> None:
    root = fill(make_project())
    expected = spoil(root)
    before = files(root)
    code, out, err = ragtide("plan", "--project", str(root))
    assert (code, out) == (1, "")
    assert err.startswith("ragtide: ")
    assert expected in err
    assert err.count("\n") == 1
    assert files(root) == before


def test_a_plan_changes_neither_data_nor_registry_nor_index(make_project: MakeProject) -> None:
    root = fill(make_project())
    before = files(root)
    code, out, _ = ragtide("plan", "--project", str(root))
    kept = (".ragtide/plans", ".ragtide/answers")
    made = {name for name in files(root).keys() - before.keys() if not name.startswith(kept)}
    assert code == 0
    assert "The decision is REFRESH" in out
    assert not made
    assert {name: content for name, content in files(root).items() if name in before} == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ask", "Anything?"], "nothing is live yet"),
        (["serve"], "nothing is live yet"),
        (["rollback"], "nothing is live yet"),
        (["export"], "nothing is live yet"),
        (["export", "7", "--format", "adapter"], "nothing is live yet"),
        (["diff", "0" * 32 + ".dir"], "there is no snapshot"),
    ],
)
def test_asking_for_what_is_not_there_says_how_to_get_it(
    arguments: list[str], expected: str, make_project: MakeProject
) -> None:
    root = fill(make_project())
    code, _, err = ragtide(*arguments, "--project", str(root))
    assert code == 1
    assert expected in err


def test_init_makes_a_project_and_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("policy: {points_per_hour: 7}\n", encoding="utf-8")
    code, _, _ = ragtide("init", str(tmp_path))
    assert code == 0
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == "policy: {points_per_hour: 7}\n"
    assert all((tmp_path / name).exists() for name in ("dvc.yaml", "prefect.yaml", "data/kb", ".dvc"))


def test_a_snapshot_is_named_by_content_and_listed_by_status(make_project: MakeProject) -> None:
    root = fill(make_project())
    _, first, _ = ragtide("snapshot", "--project", str(root))
    _, second, _ = ragtide("snapshot", "--project", str(root))
    _, status, _ = ragtide("status", "--project", str(root))
    assert first == second
    assert first.split()[1].endswith(".dir")
    assert "nothing is live yet" in status


# --- commands of the index -----------------------------------------------------------------------------------------

UNREADABLE = b"caf\xe9 \xff\x00"


def at(root: Path, *arguments: str) -> tuple[int, str, str]:
    return ragtide(*arguments, "--project", str(root))


def index_of(root: Path) -> Index:
    return Project.open(root, no_progress).index


@pytest.fixture
def indexed(make_project: MakeProject) -> Path:
    """A project with an index and no release."""
    root = fill(make_project())
    assert at(root, "stage", "index")[0] == 0
    return root


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["approve", "0123456789ab"], "there is no plan 0123456789ab"),
        (["run", "--plan", "0123456789ab"], "there is no plan 0123456789ab"),
    ],
)
def test_a_plan_that_is_not_there_is_refused(arguments: list[str], expected: str, make_project: MakeProject) -> None:
    code, _, err = at(fill(make_project()), *arguments)
    assert code == 1
    assert expected in err
    assert err.count("\n") == 1


def test_a_plan_that_holds_nothing_back_cannot_be_approved(make_project: MakeProject) -> None:
    root = fill(make_project())
    _, out, _ = at(root, "plan")
    [digest] = [path.stem for path in (root / ".ragtide/plans").iterdir()]
    code, _, err = at(root, "approve", digest)
    assert f"plan {digest}: `ragtide run --plan {digest}`" in out
    assert (code, err) == (1, f"ragtide: plan {digest} holds nothing back: there is nothing to approve\n")


def test_what_a_person_says_no_to_is_not_asked_for_again_and_a_later_yes_counts(make_project: MakeProject) -> None:
    root = fill(make_project(policy={"mode": "suggest"}))
    assert at(root, "run")[0] == 3
    [digest] = [path.stem for path in (root / ".ragtide/plans").iterdir()]
    assert at(root, "reject", digest)[0] == 2
    code, out, _ = at(root, "reject", digest, "--why", "not before the fair")
    assert (code, " ".join(out.split())) == (0, "rejected: REFRESH; the next `ragtide run` goes on without it")
    code, out, _ = at(root, "run")
    assert (code, out.split(":")[0]) == (0, "NOTHING")
    assert "it was rejected by a person: not before the fair" in " ".join(out.split())
    assert at(root, "approve", digest)[0] == 0
    assert at(root, "run")[1].split(":")[0] == "REFRESH"
    assert at(root, "reject", "0123456789ab", "--why", "no")[2].startswith("ragtide: there is no plan 0123456789ab")


def test_an_action_above_the_limit_is_carried_out_once_somebody_says_yes(make_project: MakeProject) -> None:
    root = fill(make_project(policy={"approve_above_seconds": 0}))
    code, out, _ = at(root, "run")
    assert (code, out.split(":")[0]) == (3, "HOLD")
    [digest] = [path.stem for path in (root / ".ragtide/plans").iterdir()]
    assert "pending approval" in " ".join(out.split())
    assert not files(root / ".ragtide/lance")
    code, out, _ = at(root, "approve", digest)
    assert (code, " ".join(out.split())) == (
        0,
        "approved: REFRESH; the next `ragtide run` goes ahead with it, on this very data",
    )
    code, out, _ = at(root, "run")
    assert (code, out.split(":")[0]) == (0, "REFRESH")
    assert "release 1; score" in out
    assert not list((root / ".ragtide/approvals").iterdir())


def test_what_cannot_be_read_is_listed_by_status_and_by_the_plan(indexed: Path) -> None:
    (indexed / "data/kb/bad.md").write_bytes(UNREADABLE)
    (indexed / "data/kb/nowhere.md").symlink_to("nothing")
    assert at(indexed, "stage", "index")[0] == 0
    _, status, _ = at(indexed, "status")
    _, plan, _ = at(indexed, "plan")
    assert "2 documents cannot be read" in status
    assert "2 documents cannot be read" in plan.replace("\n", " ")
    for page in (status, plan):
        assert "bad.md" in page
        assert "is a link to nothing" in page


def teach(root: Path, *rows: object) -> Path:
    content = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    (root / "data/train/lines.jsonl").write_text(content, encoding="utf-8")
    return root


LEAK = {"prompt": GOLDEN["question"], "completion": "2027-01-01", "doc": "pump.md"}
FINE = {"prompt": "How old is it?", "completion": "Old."}


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(("what", "code"), [("skip", 0), ("refuse", 1)])
def test_training_lines_that_are_left_out_are_listed_with_their_place_and_why(
    what: str, code: int, make_project: MakeProject
) -> None:
    root = teach(fill(make_project()), FINE, LEAK, "{", FINE, FINE | {"doc": "gone.md"})
    on_invalid(root, what)
    before = files(root)
    ended, out, _ = at(root, "examples")
    assert ended == code
    assert [row[:2] for row in cells(out)] == [
        ["data/train/lines.jsonl:2", "leak"],
        ["data/train/lines.jsonl:3", "bad line"],
        ["data/train/lines.jsonl:4", "duplicate"],
        ["data/train/lines.jsonl:5", "no page"],
    ]
    assert "1 examples to learn from; 3 lines filtered (1 bad line, 1 duplicate, 1 leak); 1 whose page is gone" in out
    assert files(root) == before


@pytest.mark.usefixtures("wide")
def test_contradictions_are_listed_whether_they_are_left_out_or_kept(make_project: MakeProject) -> None:
    root = teach(fill(make_project()), FINE, FINE | {"completion": "Young."})
    code, out, _ = at(root, "examples")
    assert (code, [row[1] for row in cells(out)]) == (0, ["contradiction", "contradiction"])
    assert "0 examples to learn from; 2 lines filtered (2 contradictions); 0 whose page is gone" in out
    on_invalid(root, "refuse", contradictions="keep")
    code, out, _ = at(root, "examples")
    assert (code, [row[1] for row in cells(out)]) == (0, ["contradiction, kept", "contradiction, kept"])
    assert "2 examples to learn from; 2 of them contradict each other; no line left out; 0 whose page is gone" in out


def test_where_every_training_line_is_fit_to_learn_from_that_is_said(make_project: MakeProject) -> None:
    root = teach(fill(make_project()), FINE)
    on_invalid(root, "refuse")
    assert at(root, "examples") == (0, "1 examples to learn from; no line left out; 0 whose page is gone\n", "")


@pytest.mark.parametrize("lines", [0, 2])
def test_status_says_how_many_training_lines_the_last_turn_left_out(lines: int, make_project: MakeProject) -> None:
    root = teach(fill(make_project()), FINE, LEAK)
    assert "left out" not in at(root, "status")[1]
    opened = Project.open(root, no_progress)
    for seen in (5, lines):
        with opened.registry.cycle() as log:
            log.metrics({FILTERED_EXAMPLES: seen})
    out = at(root, "status")[1]
    told = f"training lines left out at cycle-0002: {lines}; `ragtide examples` lists those of now\n"
    assert (told in out, "left out" in out) == (bool(lines), bool(lines))


def test_status_reads_neither_documents_nor_training_lines(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = teach(fill(make_project()), FINE, LEAK)
    release_of(Project.open(root, no_progress), BASE)
    read: list[str] = []
    usual_read, usual_lines = DocumentReader.read, read_examples

    def counting_read(library: DocumentReader, name: str) -> Document | None:
        read.append(name)
        return usual_read(library, name)

    def counting_lines(folder: Path, files: dict[str, str]) -> list[Example | DataIssue]:
        read.extend(files)
        return usual_lines(folder, files)

    monkeypatch.setattr(DocumentReader, "read", counting_read)
    monkeypatch.setattr(corpus, "read_examples", counting_lines)
    assert at(root, "examples")[0] == 0
    assert read == ["pump.md", "data/train/lines.jsonl"]
    read.clear()
    write(root / "data/kb/new.md", "# New\n\nA page.\n")
    (root / "data/golden/questions.jsonl").write_text("{", encoding="utf-8")
    code, out, _ = at(root, "status")
    assert (code, "live release" in out, "The data has moved since" in out) == (0, True, True)
    assert read == []


def test_a_plan_names_the_lines_that_are_left_out(make_project: MakeProject) -> None:
    root = teach(fill(make_project()), FINE, LEAK)
    assert "1, 1 line filtered (1 leak)" in " ".join(at(root, "plan")[1].split())


def test_nothing_to_verify_is_said(make_project: MakeProject) -> None:
    code, out, _ = at(fill(make_project()), "verify")
    assert (code, out) == (0, "table, tags, registry and snapshots agree\n")


def test_a_mismatch_is_named_and_mended_on_demand(indexed: Path) -> None:
    index = index_of(indexed)
    index.tag("release-9", index.latest() or 0)
    code, out, _ = at(indexed, "verify")
    assert (code, out) == (1, "index: tag release-9 belongs to no release: take it away\n")
    assert index.has_tag("release-9")
    code, out, _ = at(indexed, "verify", "--repair")
    assert (code, out) == (0, "mended index: tag release-9 belongs to no release: take it away\n")
    assert not index.has_tag("release-9")
    assert at(indexed, "verify")[0] == 0


STEPS = ("sweep", "compact", "prune", "prune vectors")


def test_upkeep_says_of_each_step_whether_it_was_done_and_why(indexed: Path) -> None:
    code, out, _ = at(indexed, "maintain")
    assert code == 0
    steps = [line.split(": ")[:2] for line in out.splitlines()]
    assert steps == [[step, "not done"] for step in (*STEPS, "sweep models")]


def test_upkeep_without_an_index_has_nothing_to_do(make_project: MakeProject) -> None:
    code, out, _ = at(fill(make_project()), "maintain")
    assert (code, out) == (0, "there is no index yet: nothing to keep up\n")


def test_a_dry_run_of_upkeep_says_what_it_would_do_and_does_nothing(indexed: Path) -> None:
    left = indexed / ".ragtide/lance/chunks.lance/data/.tmp123"
    left.write_text("half", encoding="utf-8")
    before = files(indexed)
    code, out, _ = at(indexed, "maintain", "--dry-run")
    assert code == 0
    assert "sweep: not done: 1 files left behind by killed writers" in out
    assert files(indexed) == before
    _, out, _ = at(indexed, "maintain")
    assert "sweep: done: 1 files left behind by killed writers" in out
    assert not left.exists()


@pytest.mark.parametrize("command", [["verify"], ["maintain"], ["approve", "0123456789ab"], ["stage", "index"]])
def test_a_command_that_writes_is_refused_while_another_is_at_work(command: list[str], indexed: Path) -> None:
    with Project.open(indexed, no_progress).workspace.write_lock():
        code, _, err = at(indexed, *command)
    assert code == 1
    assert "another run is at work" in err


def test_one_can_go_back_while_a_run_is_at_work_and_is_told_what_becomes_of_it(taught: Path) -> None:
    with Project.open(taught, no_progress).workspace.write_lock(what="flow run busy-bee"):
        code, out, _ = at(taught, "rollback")
    assert code == 0
    assert "a run is at work (flow run busy-bee, process " in " ".join(out.split())
    assert "it publishes nothing over this release" in " ".join(out.split())


def test_a_stage_under_other_settings_is_refused_until_one_asks_for_a_rebuild(indexed: Path) -> None:
    path = indexed / "params.yaml"
    path.write_text(path.read_text().replace("document_prefix: ''", "document_prefix: 'passage: '"), encoding="utf-8")
    code, _, err = at(indexed, "stage", "index")
    assert code == 1
    assert "`ragtide plan` says what a rebuild costs" in err
    assert err.count("\n") == 1
    code, out, _ = at(indexed, "stage", "index", "--rebuild")
    assert (code, json.loads(out)["rows"]) == (0, 1)


# --- policies, and what others would have decided ------------------------------------------------------------------

KNOWN = ("evidence", "always", "never", "periodic", "amount", "cusum", "drift", "cara", "modyn")


class Eager:
    """Wants whatever [can] be had,
    at once.

    What follows is for those who read the code.
    """

    def choose(self, evidence: Evidence, halves: ComponentOptions, params: PolicyParams) -> Recommendations:
        wish = Recommendation(True, "why not", "it would never have been otherwise")
        return Recommendations(refresh=wish, retrain=wish)


def recorded(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, **blocks: dict[str, object]) -> Path:
    """A project with one recorded turn: a refresh that took 42 s and brought 25 points."""
    root = make_project(**blocks)
    seen = evidence()
    made = Plan(evidence=seen, decision=make_decision(seen, PolicyParams()), params="p1")
    turn = Cycle(
        name="cycle-0001",
        run="",
        at="2030-01-01T12:34:56+00:00",
        action="REFRESH",
        outcome="released",
        reason="",
        plan=save_plan(Project.open(root, no_progress), made),
        release="2",
        score_before=0.5,
        score_after=0.75,
        signals={ACTION_SECONDS: 42.0},
    )
    monkeypatch.setattr(Registry, "history", lambda _: [turn])
    return root


def cells(out: str) -> list[list[str]]:
    """The rows of every table that is shown."""
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in out.splitlines() if line.startswith("│")]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no cell is broken into lines."""
    monkeypatch.setattr("ragtide.flows.cli.console.out._width", 200)


@pytest.mark.usefixtures("wide")
def test_the_policies_are_listed_and_the_one_that_decides_is_marked(make_project: MakeProject) -> None:
    code, out, _ = at(make_project(policy={"name": "never"}), "policies")
    rows = cells(out)
    assert code == 0
    assert tuple(row[1] for row in rows) == KNOWN
    assert [row[1] for row in rows if row[0]] == ["never"]
    assert all(row[2].endswith(".") for row in rows)


@pytest.mark.usefixtures("wide")
def test_a_policy_of_ones_own_stands_in_the_list_when_it_decides(make_project: MakeProject) -> None:
    name = f"{__name__}:Eager"
    code, out, _ = at(make_project(policy={"name": name}), "policies")
    assert code == 0
    assert cells(out)[-1] == ["→", name, "Wants whatever [can] be had, at once."]


@pytest.mark.usefixtures("wide")
def test_without_a_name_every_policy_is_replayed_and_summed_up(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = at(recorded(make_project, monkeypatch), "replay")
    rows = cells(out)
    assert code == 0
    assert "Totals of 1 recorded cycles" in out
    assert "Every recorded cycle under" not in out
    assert tuple(row[0] for row in rows) == ("as recorded", *KNOWN)
    assert rows[:4] == [
        ["as recorded", "+25.0", "42", "0", ""],
        ["evidence", "+25.0", "42", "0", "0"],
        ["always", "+8.0", "330", "1", "1"],
        ["never", "+0.0", "0", "0", "1"],
    ]


@pytest.mark.usefixtures("wide")
def test_a_policy_that_is_named_is_shown_turn_by_turn(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = at(recorded(make_project, monkeypatch), "replay", "--policy", "never", "--policy", "always")
    rows = cells(out)
    assert code == 0
    assert [f"Every recorded cycle under {name!r}" in out for name in ("never", "always", "evidence")] == [1, 1, 0]
    assert rows[0] == ["2030-01-01 12:34", "REFRESH", "NOTHING", "+25.0 → +0.0", "42 → 0"]
    assert rows[1] == ["2030-01-01 12:34", "REFRESH", "REFRESH+RETRAIN", "+25.0 → +8.0", "42 → 330"]
    assert [row[0] for row in rows[2:]] == ["as recorded", "never", "always"]
    assert " NOTHING: " in out


@pytest.mark.usefixtures("wide")
def test_a_replay_goes_by_the_projects_own_settings(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    root = recorded(make_project, monkeypatch, policy={"points_per_hour": 100000.0})
    _, out, _ = at(root, "replay", "--policy", "evidence")
    assert cells(out)[0][1:3] == ["REFRESH", "NOTHING"]


def test_a_replay_changes_nothing(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    root = recorded(make_project, monkeypatch)
    before = files(root)
    assert at(root, "replay")[0] == 0
    assert files(root) == before


@pytest.mark.parametrize("name", ["nonsense", "tests:Nobody", "no_such_module:Policy"])
def test_a_replay_under_a_policy_that_is_not_there_is_refused_in_one_line(
    name: str, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = at(recorded(make_project, monkeypatch), "replay", "--policy", name)
    assert (code, out) == (1, "")
    assert err.startswith(f"ragtide: policy.name = {name!r}")
    assert err.count("\n") == 1


def test_a_policy_in_the_settings_that_is_not_there_is_refused_with_those_that_are(make_project: MakeProject) -> None:
    code, out, err = at(make_project(policy={"name": "nonsense"}), "policies")
    assert (code, out) == (1, "")
    assert err == f"ragtide: policy.name = 'nonsense': known are {', '.join(KNOWN)}, or module:Class\n"


def test_a_replay_without_a_recorded_turn_says_how_to_get_one(make_project: MakeProject) -> None:
    code, out, err = at(make_project(), "replay")
    assert (code, out) == (1, "")
    assert err == "ragtide: no recorded cycle has a plan to replay: `ragtide run` stores one each time\n"


@pytest.mark.parametrize("command", ["policies", "replay"])
def test_outside_of_a_project_it_is_said_how_to_make_one(command: str, tmp_path: Path) -> None:
    code, out, err = at(tmp_path, command)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "ragtide init" in err
    assert not list(tmp_path.iterdir())


# --- lineage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def taught(make_project: MakeProject) -> Path:
    """Two releases whose adapter was taught from pump.md and has seen tank.md beside it."""
    root = fill(make_project())
    write(root / "data/kb/tank.md", PAGE.replace("Pump", "Tank"))
    project = Project.open(root, no_progress)
    write(project.workspace.adapters / "a1b2" / SKILLS, "{}")
    seen = {"pump.md": md5(PAGE), "tank.md": md5(PAGE.replace("Pump", "Tank"))}
    model = BuiltModel(
        base="reader-1", adapter="a1b2", examples=None, settings=None, trained_on=("d1",), documents=seen
    )
    for _ in range(2):
        release_of(project, model.model_copy(update={"source_documents": ("pump.md",)}))
    return root


def test_the_lineage_of_an_adapter_is_listed_by_its_name_its_release_or_because_it_is_live(taught: Path) -> None:
    told = [at(taught, "lineage", *asked) for asked in ([], ["a1b2"], ["--release", "1"])]
    assert told[0] == told[1] == told[2]
    code, said, _ = told[0]
    assert code == 0
    assert said.startswith("adapter a1b2 on reader-1, of release 1, 2: 1 examples, 2 documents")
    assert all(name in said for name in ("d1", "pump.md", "tank.md"))


def test_a_document_is_told_which_adapters_have_seen_it(taught: Path) -> None:
    code, said, _ = at(taught, "lineage", "--document", "tank.md")
    assert (code, said.count("a1b2"), said.count("stood beside")) == (0, 2, 2)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["a1b2", "--release", "1"], "an adapter, a release or a document: name one of them"),
        (["other"], "no release answers with the adapter 'other'; known: a1b2"),
        (["--release", "7"], "there is no release 7"),
    ],
)
def test_what_has_no_lineage_is_refused_in_one_line(asked: list[str], expected: str, taught: Path) -> None:
    code, said, err = at(taught, "lineage", *asked)
    assert (code, said, err.count("\n")) == (1, "", 1)
    assert expected in err


def test_what_the_adapter_saw_and_is_gone_is_said_by_status_and_on_going_back(taught: Path) -> None:
    assert "has seen" not in at(taught, "status")[1]
    (taught / "data/kb/tank.md").unlink()
    for command in ("status", "rollback"):
        _, said, _ = at(taught, command)
        assert "its adapter has seen 1 of the documents that are gone: `tank.md`" in said


def test_the_command_line_starts_without_the_records_which_take_a_tenth_of_a_second() -> None:
    script = "import sys, ragtide.flows.cli.main; sys.exit('ragtide.pipelines.records.base' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3], check=False).returncode == 0
