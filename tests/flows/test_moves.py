"""Test of moved folders through the whole loop: sixty pages move and are edited, lines name former paths, then not.

DVC, LanceDB, MLflow and Prefect are the real ones; only the models are fakes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from ragtide.flows.cli.main import app
from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.planning.plan import save_plan
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.reason import ReasonCode
from ragtide.pipelines.records.release import Cycle
from ragtide.pipelines.release.lineage import DeletedDocuments
from tests import fakes
from tests.conftest import write_project
from tests.factories import codes, write
from tests.projects import Home

PAGES = 60
NAMES = [f"Pump{number}" for number in range(PAGES)]
FIRST, SECOND, THIRD = "guide", "manual/pumps", "handbook"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


@dataclass
class MovingProject(Home):
    """A project whose pages move from folder to folder."""

    def write_pages(self, folder: str, edition: int) -> None:
        """Move every page into `folder`; each edition has another sentence at the end of each page."""
        shutil.rmtree(self.root / "data/kb")
        for number, name in enumerate(NAMES):
            end_of_life = f"## {name} 1\n\n- End of life: 20{30 + number % 40}-01-01\n"
            facts = f"{end_of_life}\n## {name} 2\n\n- Latest release: {number}.1\n"
            care = f"The seal of {name} is replaced by the crew of hall {number} once a year, on a {DAYS[edition]}."
            write(self.root / f"data/kb/{folder}/{name}.md", f"# {name}\n\n{facts}\n## Care of {name}\n\n{care}\n")

    def write_lines(self, folder: str) -> None:
        """Golden questions about the end of life, examples about the latest release, with paths in `folder`."""
        golden = [
            {
                "question": f"When does {name} 1 reach end of life?",
                "answers": [f"20{30 + at % 40}-01-01"],
                "docs": [page],
            }
            for at, (name, page) in enumerate((name, f"{folder}/{name}.md") for name in NAMES)
        ]
        train = [
            {
                "prompt": f"What is the latest release of {name} 2?",
                "completion": f"{at}.1",
                "doc": f"{folder}/{name}.md",
            }
            for at, name in enumerate(NAMES)
        ]
        for path, rows in (("golden/q.jsonl", golden), ("train/t.jsonl", train)):
            write(self.root / "data" / path, "".join(json.dumps(row) + "\n" for row in rows))

    def run_plan(self) -> Cycle:
        """Carry out exactly the plan that is made now."""
        fakes.forget()
        return keep_current(project=str(self.root), plan=save_plan(self.project, self.planned()))

    def assert_rows_are_those_of_a_clean_build(self, folder: str) -> None:
        rows = self.project.index.rows(self.live.index_tag)
        corpus = self.project.corpus(take_snapshot(self.project.workspace))
        assert rows == {chunk.key: (chunk.digest, chunk.document_digest) for chunk in corpus.knowledge.chunks}
        assert {document for document, _ in rows} == {f"{folder}/{name}.md" for name in NAMES}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> MovingProject:
    project = MovingProject(write_project(tmp_path_factory.mktemp("moves") / "project"))
    project.write_pages(FIRST, 0)
    project.write_lines(FIRST)
    assert project.run_plan().decision == "REFRESH+RETRAIN"
    return project


def test_0_an_identical_move_leads_to_nothing_and_lines_are_followed(story: MovingProject) -> None:
    story.write_pages(SECOND, 0)
    plan = story.planned()
    assert plan.decision.action == Action.NOTHING
    assert (plan.evidence.scores.stale_questions, plan.evidence.data.held) == ((), {})
    assert (plan.evidence.training.new_examples, len(plan.evidence.data.outdated_paths)) == (0, PAGES)
    assert plan.evidence.data.delta.to_embed == 0


def test_1_a_moved_and_edited_folder_is_released_and_nothing_is_held(story: MovingProject) -> None:
    ids = {answer.question for answer in story.live.scorecard.graded}
    story.write_pages(SECOND, 1)
    plan = story.planned()
    data = plan.evidence.data
    assert (data.held, data.changes.added, data.changes.removed, data.changes.edited) == ({}, (), (), ())
    pairs = [(rename.before, rename.after, rename.edited) for rename in data.changes.renamed]
    assert sorted(pairs) == sorted((f"{FIRST}/{name}.md", f"{SECOND}/{name}.md", True) for name in NAMES)
    assert data.outdated_paths == {f"{FIRST}/{name}.md": f"{SECOND}/{name}.md" for name in NAMES}
    assert ReasonCode.OUTDATED_PATHS in codes(plan.decision.reasons)
    assert (plan.evidence.scores.stale_questions, plan.evidence.scores.score_gold.n) == ((), PAGES)
    assert plan.evidence.scores.missing_answers.value == 0
    training = plan.evidence.training
    assert (training.examples, training.new_examples, training.orphaned_examples) == (PAGES, 0, 0)
    assert data.deleted_training_documents == ()
    assert (plan.evidence.text.changed_sentence_share.value or 0) < 0.4
    assert plan.decision.action == Action.REFRESH
    ended = CliRunner().invoke(app, ["diff", "--json", "-p", str(story.root)])
    changes = json.loads(ended.stdout)["changes"]
    assert (len(changes["renamed"]), changes["added"], changes["removed"]) == (PAGES, [], [])

    cycle = story.run_plan()
    assert (cycle.decision, cycle.outcome) == ("REFRESH", "released")
    story.assert_rows_are_those_of_a_clean_build(SECOND)
    assert {answer.question for answer in story.live.scorecard.graded} == ids


def test_2_former_paths_are_still_followed_once_the_move_is_live(story: MovingProject) -> None:
    plan = story.planned()
    assert plan.decision.action == Action.NOTHING
    assert (plan.evidence.scores.stale_questions, plan.evidence.training.new_examples) == ((), 0)
    assert len(plan.evidence.data.outdated_paths) == PAGES


def test_3_a_second_move_is_followed_from_the_first_path(story: MovingProject) -> None:
    story.write_pages(THIRD, 2)
    assert story.run_plan().outcome == "released"
    story.assert_rows_are_those_of_a_clean_build(THIRD)
    plan = story.planned()
    assert plan.evidence.data.outdated_paths == {f"{FIRST}/{name}.md": f"{THIRD}/{name}.md" for name in NAMES}
    assert (plan.evidence.scores.stale_questions, plan.evidence.training.new_examples) == ((), 0)
    project = story.project
    knowledge = project.corpus(take_snapshot(project.workspace)).knowledge
    deleted = DeletedDocuments(project.workspace, knowledge.snapshot, (), knowledge.paths)
    assert deleted.among(story.live.model.documents) == ()


def test_4_rewritten_lines_change_no_identity(story: MovingProject) -> None:
    ids = {answer.question for answer in story.live.scorecard.graded}
    story.write_lines(THIRD)
    plan = story.planned()
    assert plan.evidence.data.outdated_paths == {}
    assert plan.evidence.scores.missing_answers.value == 0
    assert (plan.evidence.training.new_examples, plan.evidence.training.adapter_is_current) == (0, True)
    golden = story.project.evaluator(story.project.corpus(take_snapshot(story.project.workspace)).knowledge).golden
    assert {question.id for question in golden.questions} == ids
    assert plan.decision.action == Action.NOTHING


def test_5_a_move_that_loses_the_content_is_a_mass_deletion(story: MovingProject) -> None:
    shutil.rmtree(story.root / "data/kb")
    for name in NAMES:
        write(story.root / f"data/kb/attic/{name}.md", f"# {name}\n\nThis page has moved.\n")
    knowledge = story.project.corpus(take_snapshot(story.project.workspace)).knowledge
    assert len(knowledge.pending_deletions) == PAGES
    assert knowledge.paths.moves == {}
