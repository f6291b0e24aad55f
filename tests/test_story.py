"""Test of the demo's four quarters with counting fakes: decisions, work and live releases.

DVC, LanceDB, MLflow and Prefect are the real ones; only the models are fakes.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from demo.pages import AnswerFormat, quarters, render_pages, write_golden, write_pages, write_training
from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.data.dvc import run_dvc
from ragtide.pipelines.data.snapshot import take_snapshot
from ragtide.pipelines.records.release import Cycle, Release
from ragtide.pipelines.release.rollback import roll_back
from tests import fakes
from tests.projects import Home

QUESTION = "What is the latest release of Node.js 22?"


@dataclass
class Story(Home):
    """A project that runs through the demo's quarters."""

    def write_data(self, quarter: str, answer_format: AnswerFormat = "plain", with_examples: bool = False) -> None:
        write_pages(self.root / "data/kb", quarter)
        write_golden(self.root, quarter, answer_format)
        if with_examples:
            write_training(self.root, quarter, answer_format)

    def run_cycle(self) -> Cycle:
        fakes.forget()
        return keep_current(project=str(self.root))

    def answer(self) -> str:
        return self.project.ask(QUESTION)[1].text

    def status(self) -> str:
        return run_dvc(self.root, ["status"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A project with the data of the first quarter."""
    from tests.conftest import write_project

    project = Story(write_project(tmp_path_factory.mktemp("story") / "project"))
    project.write_data(quarters()[0], with_examples=True)
    return project


def rows_of(release: Release, story: Story) -> dict[tuple[str, int], tuple[str, str]]:
    return story.project.index.rows(release.index.version)


def test_1_the_first_quarter_builds_the_index_and_trains_the_model(story: Story) -> None:
    cycle = story.run_cycle()
    assert (cycle.decision, cycle.release) == ("REFRESH+RETRAIN", "2")
    assert len(fakes.CountingTrainer.lessons) == 80
    assert cycle.score_before == 0.0
    assert (cycle.score_after or 0) > 0.8
    assert story.answer() == "22.17.0"
    assert "up to date" in story.status()


def test_2_changed_facts_lead_to_a_refresh_and_only_new_texts_are_embedded(story: Story) -> None:
    before = story.live
    first, second, *_ = quarters()
    story.write_data(second)
    cycle = story.run_cycle()
    assert (cycle.decision, cycle.release) == ("REFRESH", "3")
    assert not fakes.CountingTrainer.lessons
    assert story.live.model == before.model
    old = {section for page in render_pages(first).values() for section in page.split("\n## ")[1:]}
    new = {section for page in render_pages(second).values() for section in page.split("\n## ")[1:]}
    assert 0 < cycle.work["embedded_chunks"] <= len(new - old) + 5
    assert story.answer() == "22.20.0"


def test_3_the_same_data_again_leads_to_nothing_which_is_recorded(story: Story) -> None:
    before = story.live
    cycle = story.run_cycle()
    assert (cycle.decision, cycle.outcome) == ("NOTHING", "nothing")
    assert not fakes.CountingTrainer.lessons
    # Some questions that the new release answers wrong are asked once with gold context.
    assert len(fakes.CountingReader.prompts) <= story.project.workspace.params.evidence.questions
    assert story.project.registry.history()[-1].name == cycle.name
    assert story.run_cycle().decision == "NOTHING"
    assert not fakes.CountingReader.prompts
    assert story.live == before


def test_4_a_new_answer_format_leads_to_a_retrain(story: Story) -> None:
    before = story.live
    story.write_data(quarters()[1], "json", with_examples=True)
    cycle = story.run_cycle()
    assert (cycle.decision, cycle.release) == ("RETRAIN", "4")
    assert (cycle.score_before, story.live.index) == (0.0, before.index)
    assert (cycle.score_after or 0) > 0.8
    assert story.answer() == '{"value": "22.20.0"}'
    assert "up to date" in story.status()


def test_5_the_third_quarter_refreshes_and_drops_a_deleted_page(story: Story) -> None:
    third = quarters()[2]
    deleted = set(render_pages(quarters()[1])) - set(render_pages(third))
    story.write_data(third, "json")
    assert story.run_cycle().decision == "REFRESH"
    documents = {document for document, _ in rows_of(story.live, story)}
    assert deleted
    assert not deleted & documents
    assert documents == set(render_pages(third))


def test_6_the_live_rows_equal_a_clean_build_of_the_snapshot(story: Story) -> None:
    corpus = story.project.corpus(take_snapshot(story.project.workspace))
    clean = {chunk.key: (chunk.digest, chunk.document_digest) for chunk in corpus.knowledge.chunks}
    assert rows_of(story.live, story) == clean


def test_7_a_rollback_moves_index_and_model_together_and_persists(story: Story) -> None:
    third = story.live
    roll_back(story.project.registry, None, "a test")
    assert (story.live.id, story.live.index_tag, story.live.snapshot.id) == ("4", "release-4", story.live.snapshot.id)
    assert story.answer() == '{"value": "22.20.0"}'
    again = story.run_cycle()
    assert (again.decision, story.live.id) == ("NOTHING", "4")
    assert "rolled back (a test)" in again.reason
    roll_back(story.project.registry, third.id, "forward again")
    assert story.live == third


def test_8_a_plan_is_executed_exactly_or_not_at_all(story: Story) -> None:
    from ragtide.pipelines.errors import UserError
    from ragtide.pipelines.planning.plan import make_plan, save_plan

    story.write_data(quarters()[3], "json")
    plan = make_plan(story.project, story.project.corpus(take_snapshot(story.project.workspace)))
    digest = save_plan(story.project, plan)
    (story.root / "data/kb/late.md").write_text("# Late\n\nWritten after the plan.\n", encoding="utf-8")
    before = story.live
    with pytest.raises(UserError, match=digest[:6]):
        keep_current(project=str(story.root), plan=digest)
    assert story.live == before
    (story.root / "data/kb/late.md").unlink()
    cycle = keep_current(project=str(story.root), plan=digest)
    assert (cycle.decision, cycle.release) == (str(plan.decision.action), story.live.id)


def test_9_the_history_has_every_cycle(story: Story) -> None:
    decisions = [cycle.decision for cycle in story.project.registry.history()]
    first = ["REFRESH+RETRAIN", "REFRESH", "NOTHING", "NOTHING"]
    expected = [*first, "RETRAIN", "REFRESH", "ROLLBACK", "NOTHING", "ROLLBACK"]
    # The outdated plan is recorded too: its run failed, with the reason.
    assert decisions == [*expected, "undecided", "REFRESH"]
    assert all(cycle.outcome for cycle in story.project.registry.history())
