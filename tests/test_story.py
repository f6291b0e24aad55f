"""Does the loop tell the story of the demo? Four quarters with counting fakes: what is decided, and what it costs.

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
    """A project that goes through its quarters."""

    def data(self, quarter: str, answer_format: AnswerFormat = "plain", taught: bool = False) -> None:
        write_pages(self.root / "data/kb", quarter)
        write_golden(self.root, quarter, answer_format)
        if taught:
            write_training(self.root, quarter, answer_format)

    def turn(self) -> Cycle:
        fakes.forget()
        return keep_current(project=str(self.root))

    def answer(self) -> str:
        return self.project.ask(QUESTION)[1].text

    def status(self) -> str:
        return run_dvc(self.root, ["status"])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The first quarter has gone through the loop."""
    from tests.conftest import write_project

    story = Story(write_project(tmp_path_factory.mktemp("story") / "project"))
    story.data(quarters()[0], taught=True)
    return story


def rows_of(release: Release, story: Story) -> dict[tuple[str, int], tuple[str, str]]:
    return story.project.index.rows(release.index.version)


def test_1_the_first_quarter_builds_the_index_and_trains_the_model(told: Story) -> None:
    cycle = told.turn()
    assert (cycle.decision, cycle.release) == ("REFRESH+RETRAIN", "1")
    assert len(fakes.CountingTrainer.lessons) == 80
    assert cycle.score_before == 0.0
    assert (cycle.score_after or 0) > 0.8
    assert told.answer() == "22.17.0"
    assert "up to date" in told.status()


def test_2_moved_facts_call_for_a_refresh_alone_and_only_new_texts_are_embedded(told: Story) -> None:
    before = told.live
    first, second, *_ = quarters()
    told.data(second)
    cycle = told.turn()
    assert (cycle.decision, cycle.release) == ("REFRESH", "2")
    assert not fakes.CountingTrainer.lessons
    assert told.live.model == before.model
    old = {section for page in render_pages(first).values() for section in page.split("\n## ")[1:]}
    new = {section for page in render_pages(second).values() for section in page.split("\n## ")[1:]}
    assert 0 < cycle.work["embedded_chunks"] <= len(new - old) + 5
    assert told.answer() == "22.20.0"


def test_3_the_same_data_again_is_left_alone_and_the_nothing_is_recorded(told: Story) -> None:
    before = told.live
    cycle = told.turn()
    assert (cycle.decision, cycle.outcome) == ("NOTHING", "nothing")
    assert not fakes.CountingTrainer.lessons
    # Some of what the new release answers wrong is asked with the right passage, once.
    assert len(fakes.CountingReader.prompts) <= told.project.workspace.params.evidence.questions
    assert told.project.registry.history()[-1].name == cycle.name
    assert told.turn().decision == "NOTHING"
    assert not fakes.CountingReader.prompts
    assert told.live == before


def test_4_another_answer_format_calls_for_a_retrain_alone(told: Story) -> None:
    before = told.live
    told.data(quarters()[1], "json", taught=True)
    cycle = told.turn()
    assert (cycle.decision, cycle.release) == ("RETRAIN", "3")
    assert (cycle.score_before, told.live.index) == (0.0, before.index)
    assert (cycle.score_after or 0) > 0.8
    assert told.answer() == '{"value": "22.20.0"}'
    assert "up to date" in told.status()


def test_5_the_third_quarter_refreshes_and_a_removed_page_is_gone(told: Story) -> None:
    third = quarters()[2]
    gone = set(render_pages(quarters()[1])) - set(render_pages(third))
    told.data(third, "json")
    assert told.turn().decision == "REFRESH"
    documents = {document for document, _ in rows_of(told.live, told)}
    assert gone
    assert not gone & documents
    assert documents == set(render_pages(third))


def test_6_live_rows_equal_a_clean_cut_of_the_snapshot(told: Story) -> None:
    corpus = told.project.corpus(take_snapshot(told.project.workspace))
    clean = {chunk.key: (chunk.digest, chunk.document_digest) for chunk in corpus.knowledge.chunks}
    assert rows_of(told.live, told) == clean


def test_7_going_back_moves_index_and_model_together_and_stays(told: Story) -> None:
    third = told.live
    roll_back(told.project.registry, None, "a test")
    assert (told.live.id, told.live.index_tag, told.live.snapshot.id) == ("3", "release-3", told.live.snapshot.id)
    assert told.answer() == '{"value": "22.20.0"}'
    again = told.turn()
    assert (again.decision, told.live.id) == ("NOTHING", "3")
    assert "rolled back (a test)" in again.reason
    roll_back(told.project.registry, third.id, "forward again")
    assert told.live == third


def test_8_a_plan_is_carried_out_to_the_letter_or_not_at_all(told: Story) -> None:
    from ragtide.pipelines.errors import UserError
    from ragtide.pipelines.planning.plan import make_plan, save_plan

    told.data(quarters()[3], "json")
    plan = make_plan(told.project, told.project.corpus(take_snapshot(told.project.workspace)))
    digest = save_plan(told.project, plan)
    (told.root / "data/kb/late.md").write_text("# Late\n\nCame after the plan.\n", encoding="utf-8")
    before = told.live
    with pytest.raises(UserError, match="the data changed since plan"):
        keep_current(project=str(told.root), plan=digest)
    assert told.live == before
    (told.root / "data/kb/late.md").unlink()
    cycle = keep_current(project=str(told.root), plan=digest)
    assert (cycle.decision, cycle.release) == (str(plan.decision.action), told.live.id)


def test_9_the_history_tells_it_all(told: Story) -> None:
    decisions = [cycle.decision for cycle in told.project.registry.history()]
    first = ["REFRESH+RETRAIN", "REFRESH", "NOTHING", "NOTHING"]
    story = [*first, "RETRAIN", "REFRESH", "ROLLBACK", "NOTHING", "ROLLBACK"]
    # The refused plan stands there too: its run failed, and says why.
    assert decisions == [*story, "undecided", "REFRESH"]
    assert all(cycle.outcome for cycle in told.project.registry.history())
