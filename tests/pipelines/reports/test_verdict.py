"""Tests of the report pages: escaping, lists, decisions, verdicts, plots and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ragtide.pipelines.params import Params, PolicyParams
from ragtide.pipelines.policy.decide import make_decision
from ragtide.pipelines.records.data import ChangeSet, DataIssue, IssueKind, QuarantinedDocument, Rename
from ragtide.pipelines.records.decision import Plan
from ragtide.pipelines.records.evaluation import Check, GradedAnswer, SuiteScore, Verdict
from ragtide.pipelines.records.evidence import Evidence, Measure
from ragtide.pipelines.records.release import MaintenanceStep
from ragtide.pipelines.reports.data import issues_markdown, maintenance_markdown, quarantine_markdown
from ragtide.pipelines.reports.decision import decision_markdown
from ragtide.pipelines.reports.decision_plot import decision_plot
from ragtide.pipelines.reports.markdown import SHOWN, changes_markdown
from ragtide.pipelines.reports.page import markdown_to_html, write_page
from ragtide.pipelines.reports.signals import evidence_metrics, signal_rows
from ragtide.pipelines.reports.verdict import failed_checks, suite_metrics, verdict_markdown, verdict_plot
from ragtide.pipelines.reports.wording import counterfactual_sentences, decision_sentences, option_text
from tests.factories import evidence, graded, measure, question, scorecard

NOT_MEASURED = Measure.unmeasured("no questions")
PLAIN_TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li", "code", "strong"} | {
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
}
HOSTILE_TEXTS = [
    "<script>alert(1)</script>",
    "<SCRIPT src=//example.invalid/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "</td></tr></table><iframe src=//example.invalid></iframe>",
    "[here](javascript:alert(1))",
    "<!-- <b> -->",
]
CELL_BREAKING_TEXTS = [
    "one | two",
    "| --- | --- |",
    "two\nlines",
    "# not a heading\n\n- nor a list",
    "a\r\n|\r\nb",
    "tab\tbed",
]


class Page(HTMLParser):
    """A page as a browser parses it: its tags, attributes and text, and the cells of its tables by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.rows: list[list[str]] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data


def judged(
    before: Sequence[GradedAnswer], after: Sequence[GradedAnswer], accepted: bool = True, **fields: Measure
) -> Verdict:
    check = Check(name="answer score", passed=accepted, detail="0.50 -> 1.00")
    return Verdict(
        accepted=accepted,
        checks=(check,),
        before=scorecard(*before),
        after=scorecard(*after, **fields),
        difference=measure(0.5),
    )


def verdict_with(answer: str) -> Verdict:
    """A verdict on one question, to which the live release gives this wrong answer and the candidate a correct one."""
    wrong = GradedAnswer(question="q1", answer=answer, score=0.0, well_formed=True)
    return judged([wrong], [graded()])


def decided(**signals: object) -> Plan:
    gathered = evidence(**signals)
    return Plan(evidence=gathered, decision=make_decision(gathered, PolicyParams()), params="p1")


def signals_of(gathered: Evidence) -> dict[str, str]:
    """Signal -> its text in the table of the evidence."""
    return {row.signal: row.written for row in signal_rows(gathered)}


def is_image(figure: Figure) -> bool:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue().startswith(b"\x89PNG")


# --- escaping of documents and answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", CELL_BREAKING_TEXTS)
def test_an_answer_stays_in_its_cell(answer: str) -> None:
    page = Page(markdown_to_html("Verdict", verdict_markdown(verdict_with(answer))))
    [row] = [row for row in page.rows if row[0] == "q1"]
    assert row == ["q1", f"0: {' '.join(answer.split())}", "1: 42"]
    assert all(len(row) == 3 for row in page.rows)


@pytest.mark.parametrize("reason", CELL_BREAKING_TEXTS)
def test_a_reason_stays_in_its_cell(reason: str) -> None:
    page = Page(markdown_to_html("Decision", decision_markdown(decided(rejected_actions={"REFRESH": reason}))))
    [row] = [row for row in page.rows if row[0] == "REFRESH"]
    assert row[-1].startswith(" ".join(reason.split()))
    assert {len(row) for row in page.rows} == {4, 6}


@pytest.mark.parametrize("hostile", HOSTILE_TEXTS)
def test_html_in_an_answer_is_escaped(hostile: str) -> None:
    page = Page(markdown_to_html("Verdict", verdict_markdown(verdict_with(hostile))))
    assert page.tags <= PLAIN_TAGS
    assert page.attributes <= {"lang", "charset"}
    assert hostile in page.text


@pytest.mark.parametrize("hostile", HOSTILE_TEXTS)
@pytest.mark.parametrize("kind", ["added", "edited", "removed", "renamed"])
def test_html_in_a_file_name_is_escaped(kind: str, hostile: str) -> None:
    named = Rename(before=hostile, after=hostile) if kind == "renamed" else hostile
    changes = ChangeSet.model_validate({"before": "s0", "after": "s1", kind: (named,)})
    page = Page(markdown_to_html("Changes", changes_markdown(changes)))
    assert page.tags <= PLAIN_TAGS
    assert page.attributes <= {"lang", "charset"}
    assert hostile in page.text


def test_a_page_has_a_title_and_an_encoding() -> None:
    page = markdown_to_html("Decision: NOTHING", "# Nothing\n\nGrüße, 東京")
    assert page.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in page
    assert "<title>Decision: NOTHING</title>" in page
    assert "Grüße, 東京" in page


def test_a_plot_is_part_of_its_page_and_nothing_is_fetched_for_it() -> None:
    plan = decided()
    html = markdown_to_html("Decision", decision_markdown(plan), decision_plot(plan.evidence, plan.decision, Params()))
    assert html.count("<img ") == 1
    heading, rest = html.split("</h1>", 1)
    assert rest.startswith('<img alt="plot" src="data:image/svg+xml;base64,')
    assert "Decision: REFRESH" in heading
    page = Page(html)
    assert page.tags <= PLAIN_TAGS | {"img"}
    assert page.attributes <= {"lang", "charset", "alt", "src"}
    assert "http" not in html


def test_a_decision_is_written_as_text_page_and_picture_and_nothing_else(tmp_path: Path) -> None:
    plan = decided()
    markdown, plot = decision_markdown(plan), decision_plot(plan.evidence, plan.decision, Params())
    write_page(tmp_path, "decision", markdown, plot)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decision.html", "decision.md", "decision.png"]
    assert (tmp_path / "decision.md").read_text(encoding="utf-8") == markdown
    assert "<title>Decision</title>" in (tmp_path / "decision.html").read_text(encoding="utf-8")
    assert (tmp_path / "decision.png").read_bytes().startswith(b"\x89PNG")


# --- changes -------------------------------------------------------------------------------------------------------


def paths(count: int) -> tuple[str, ...]:
    return tuple(f"page-{number:03d}.md" for number in range(count))


@pytest.mark.parametrize("kind", ["added", "edited", "removed"])
@pytest.mark.parametrize(("count", "more"), [(1, None), (SHOWN, None), (SHOWN + 1, 1), (SHOWN + 480, 480)])
def test_a_long_list_of_documents_is_cut_with_a_count(kind: str, count: int, more: int | None) -> None:
    changes = ChangeSet.model_validate({"before": "s0", "after": "s1", kind: paths(count)})
    line = changes_markdown(changes)
    assert line.startswith(f"- {count} {kind}: `page-000.md`")
    assert line.count("`page-") == min(count, SHOWN)
    assert (f"… and {more} more" in line) if more else ("more" not in line)


def test_a_rename_names_both_paths() -> None:
    changes = ChangeSet(before="s0", after="s1", renamed=(Rename(before="old.md", after="new.md"),))
    assert changes_markdown(changes) == "- 1 renamed: `old.md -> new.md`"


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (ChangeSet(before="s0", after="s0"), ["Nothing."]),
        (ChangeSet(before="s0", after="s1", examples_changed=True), ["- training examples changed"]),
        (ChangeSet(before="s0", after="s1", questions_changed=True), ["- golden questions changed"]),
        (
            ChangeSet(before="s0", after="s1", added=("a.md",), removed=("b.md",), examples_changed=True),
            ["- 1 added: `a.md`", "- 1 removed: `b.md`", "- training examples changed"],
        ),
    ],
)
def test_only_kinds_of_change_that_occurred_are_listed(changes: ChangeSet, lines: list[str]) -> None:
    assert changes_markdown(changes).split("\n") == lines


# --- decisions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signals",
    [
        {},
        {"model_gap": measure(0.6), "score_gold": measure(0.35)},
        {"live_release": None},
        {"refresh_gain": NOT_MEASURED, "model_gap": NOT_MEASURED},
    ],
)
def test_the_page_names_every_action_with_gain_cost_and_why(signals: dict[str, object]) -> None:
    plan = decided(**signals)
    decision, page = plan.decision, Page(markdown_to_html("Decision", decision_markdown(plan)))
    rows = {row[0]: row for row in page.rows if len(row) == 6}
    assert set(rows) == {"action", "NOTHING", "REFRESH", "RETRAIN", "REFRESH+RETRAIN"}
    for option in decision.options:
        _, gain, cost, _, worth_it, because = rows[str(option.action)]
        low, high = option.gain_points_low, option.gain_points_high
        assert gain == f"{option.gain_points:.1f} [{low:.1f}, {high:.1f}]"
        assert cost == f"{option.cost_seconds:.0f} s"
        assert worth_it == ("yes" if option.worth_it else "no")
        assert because == option_text(option)


@pytest.mark.parametrize("signals", [{}, {"model_gap": measure(0.6)}, {"stale_questions": ("q7",)}])
def test_the_page_has_the_decision_its_reasons_and_counterfactual(signals: dict[str, object]) -> None:
    plan = decided(**signals)
    decision, text = plan.decision, decision_markdown(plan)
    assert text.startswith(f"# Decision: {decision.action}\n")
    assert f"| **{decision.action}** |" in text
    _, after = text.split("## What would have changed it\n\n")
    assert after.split("\n\n")[0].split("\n") == [f"- {line}" for line in counterfactual_sentences(decision)]
    assert all(f"- {sentence}" in text for sentence in decision_sentences(decision))


def test_the_page_has_the_source_of_the_costs_and_the_changes() -> None:
    text = decision_markdown(decided())
    assert "Costs: prior." in text
    assert "## What has changed\n\n- 1 edited: `a.md`" in text


def test_an_unmeasured_signal_has_its_reason_and_no_number() -> None:
    rows = signals_of(evidence(refresh_gain=NOT_MEASURED, index_gap=NOT_MEASURED))
    assert rows["the index gap"] == rows["gain of a refresh"] == "not measured (no questions)"
    assert rows["the model gap"] == "0.00 [0.00, 0.00] (n=50)"


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ({"live_release": None}, ("live release", "none yet")),
        ({"live_release": "7"}, ("live release", "7")),
        ({"examples": 3}, ("training examples", "3")),
        ({"orphaned_examples": 2}, ("training examples", "100, 2 whose document is deleted")),
        ({"filtered": {"leak": 1}}, ("training examples", "100, 1 line filtered (1 leak)")),
        (
            {"filtered": {"duplicate": 2, "leak": 1}},
            ("training examples", "100, 3 lines filtered (2 duplicates, 1 leak)"),
        ),
        ({"adapter_is_current": True}, ("training examples", "100")),
        ({"stale_questions": ("q1", "q2")}, ("stale golden questions", "2")),
        ({}, ("chunks new / deleted / to embed", "1 / 1 / 1, of 10")),
    ],
)
def test_a_signal_is_described_in_words(signals: dict[str, object], expected: tuple[str, str]) -> None:
    assert expected in signals_of(evidence(**signals)).items()


def test_metrics_distinguish_zero_from_unmeasured() -> None:
    metrics = evidence_metrics(evidence(index_gap=NOT_MEASURED, model_gap=measure(0.0)))
    assert metrics["index_gap"] is None
    assert metrics["model_gap"] == 0.0
    assert (metrics["documents_changed"], metrics["documents_removed"], metrics["questions"]) == (1, 0, 50)


# --- verdicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accepted", "word", "result"), [(True, "accepted", "passed"), (False, "rejected", "FAILED")])
def test_a_verdict_has_its_result_and_every_check_with_its_details(accepted: bool, word: str, result: str) -> None:
    text = verdict_markdown(judged([graded()], [graded()], accepted))
    assert text.startswith(f"# Verdict: {word}\n")
    assert f"| answer score | {result} | 0.50 -> 1.00 |" in text
    assert str(measure(0.5)) in text


def answers(count: int, score: float) -> list[GradedAnswer]:
    return [graded(f"q{number:03d}", score) for number in range(count)]


def test_only_questions_whose_score_changed_are_listed() -> None:
    before, after = answers(3, 1.0), answers(3, 1.0)
    after[1] = graded("q001", 0.0)
    text = verdict_markdown(judged(before, after))
    assert "| q001 | 1: 42 | 0: 42 |" in text
    assert "q000" not in text
    assert verdict_markdown(judged(before, before)).endswith("## Questions whose score changed\n\nNone.")


@pytest.mark.parametrize(("count", "more"), [(SHOWN, None), (SHOWN + 1, 1), (SHOWN + 480, 480)])
def test_a_long_list_of_questions_is_cut_with_a_count(count: int, more: int | None) -> None:
    text = verdict_markdown(judged(answers(count, 0.0), answers(count, 1.0)))
    assert text.count("\n| q0") == min(count, SHOWN)
    assert (f"… and {more} more" in text) if more else ("more" not in text)


def test_a_question_is_named_by_its_wording_where_it_is_known() -> None:
    text = verdict_markdown(judged(answers(1, 0.0), answers(1, 1.0)), [question("q000", question="What is new?")])
    assert "| What is new? |" in text
    assert "q000" not in text


def test_failed_checks_and_the_documents_behind_them_are_named_in_one_line() -> None:
    verdict = judged(answers(2, 1.0), answers(2, 0.0)).model_copy(update={"behind": {"copy.md": ("q000", "q001")}})
    checks = tuple(Check(name=name, passed=name == "fine", detail=f"{name}!") for name in ("rows", "fine", "score"))
    failed = verdict.model_copy(update={"checks": checks})
    assert failed_checks(failed) == "rows: rows!; score: score!; 2 questions lost to `copy.md`"
    assert failed_checks(failed.model_copy(update={"checks": ()})) == ""


def test_the_documents_behind_lost_questions_have_a_table() -> None:
    verdict = judged(answers(2, 1.0), answers(2, 0.0)).model_copy(update={"behind": {"copy.md": ("q000", "q001")}})
    text = verdict_markdown(
        verdict.model_copy(update={"changed_lines": ("q001",)}), [question("q000", question="What is new?")]
    )
    assert "| copy.md | What is new? | unchanged |" in text
    assert "| copy.md | q001 | changed |" in text
    assert "| copy.md" not in verdict_markdown(judged(answers(2, 1.0), answers(2, 0.0)))


# --- plots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signals",
    [
        {},
        {"live_release": None, "score_retrieved": measure(0.0)},
        dict.fromkeys(("score_gold", "score_retrieved", "model_gap", "refresh_gain"), NOT_MEASURED),
        {"score_gold": Measure(value=0.5, n=1), "score_retrieved": NOT_MEASURED},
        {"score_retrieved": measure(0.5, 0.3, 0.7), "model_gap": measure(0.5)},
    ],
)
def test_a_decision_is_plotted_whatever_was_measured(signals: dict[str, object]) -> None:
    plan = decided(**signals)
    figure = decision_plot(plan.evidence, plan.decision, Params())
    scores, gains, hours = figure.axes
    scored = (plan.evidence.scores.score_gold, plan.evidence.scores.score_retrieved)
    measured = sum(score.value is not None for score in scored)
    assert (len(scores.patches), len(gains.containers), len(hours.patches)) == (measured, 3, 3)
    assert is_image(figure)


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("unmeasured", [[], ["retrieval_recall"], ["answer_score", "malformed_share"]])
def test_a_verdict_is_plotted_whatever_was_measured(accepted: bool, unmeasured: list[str]) -> None:
    missing = dict.fromkeys(unmeasured, NOT_MEASURED)
    verdict = judged([graded()], [graded()], accepted, **missing)
    figure = verdict_plot(verdict)
    assert [len(panel.patches) for panel in figure.axes] == [2, 2, 2]
    assert is_image(figure)


def test_bars_have_the_height_of_the_scores() -> None:
    before = scorecard(answer_score=measure(0.25, 0.2, 0.3))
    after = scorecard(answer_score=measure(0.75, 0.7, 0.8))
    verdict = Verdict(accepted=True, checks=(), before=before, after=after, difference=measure(0.5))
    assert heights(verdict_plot(verdict)) == [0.25, 0.75]


def heights(figure: Figure) -> list[float]:
    return [bar.get_height() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]


# --- pending deletions, quarantine and maintenance -----------------------------------------------------------------


def quarantined_document(name: str, reason: str = "is scanned") -> QuarantinedDocument:
    return QuarantinedDocument(
        document=name, digest="0" * 32, reason=reason, attempts=2, since="2030-01-01T00:00:00+00:00"
    )


def test_a_quarantined_document_is_listed_with_reason_attempts_and_date() -> None:
    row = quarantine_markdown([quarantined_document("b.pdf")]).splitlines()[-1]
    assert row == "| `b.pdf` | is scanned | 2 | 2030-01-01T00:00:00+00:00 |"


def test_a_filtered_line_is_listed_with_its_place_and_reason() -> None:
    row = issues_markdown([DataIssue(where="a|b.jsonl:3", kind=IssueKind.LEAK, why="asks it\ntwice")]).splitlines()[-1]
    assert row == "| `a\\|b.jsonl:3` | leak | asks it twice |"


def test_the_decision_page_lists_quarantined_documents_only_where_there_are_any() -> None:
    assert "## Quarantined documents" not in decision_markdown(decided())
    assert "## Quarantined documents\n\n| document | why |" in decision_markdown(decided(quarantined={"b": "is empty"}))


@pytest.mark.parametrize("hostile", ["a\n# b", "a|b", "a\r\nb", "<script>alert(1)</script>"])
def test_a_name_or_a_reason_of_a_document_stays_in_its_cell(hostile: str) -> None:
    [_, _, row] = quarantine_markdown([quarantined_document(hostile, hostile)]).splitlines()
    assert row.count("|") - row.count("\\|") == 5
    assert "<script>" not in markdown_to_html("t", quarantine_markdown([quarantined_document(hostile, hostile)]))


@pytest.mark.parametrize(
    ("signals", "row"),
    [
        ({}, ("deletions pending approval", "0")),
        ({"pending_deletions": {"a.md": "1", "b.md": "2"}}, ("deletions pending approval", "2")),
        ({}, ("quarantined documents", "0")),
        ({"quarantined": {"b.pdf": "is empty"}}, ("quarantined documents", "1")),
    ],
)
def test_pending_deletions_and_quarantined_documents_are_signals(
    signals: dict[str, object], row: tuple[str, str]
) -> None:
    assert row in signals_of(evidence(**signals)).items()


def test_pending_deletions_and_quarantined_documents_are_metrics() -> None:
    metrics = evidence_metrics(
        evidence(pending_deletions={"a.md": "1"}, quarantined={"b": "is empty", "c": "is empty"})
    )
    assert (metrics["deletions_pending"], metrics["documents_quarantined"]) == (1, 2)


def test_a_long_list_of_pending_deletions_is_cut_with_a_count() -> None:
    deletions = {f"{number:03}.md": "1" for number in range(SHOWN + 7)}
    [names] = [
        row.means
        for row in signal_rows(evidence(pending_deletions=deletions))
        if row.signal.startswith("deletions pending")
    ]
    assert "… and 7 more:" in names


def test_each_maintenance_step_has_a_row() -> None:
    steps = [
        MaintenanceStep(step="compact", done=True, why="21 fragments"),
        MaintenanceStep(step="prune", done=False, why="none is old"),
    ]
    rows = maintenance_markdown(steps).splitlines()[2:]
    assert rows == ["| compact | yes | 21 fragments |", "| prune | no | none is old |"]


# --- regression suites ---------------------------------------------------------------------------------------------


def with_suites(*names: str) -> Verdict:
    """A verdict with these regression suites, each with one answer that is no longer correct."""
    before = scorecard(graded("q1", 1.0), answer_score=measure(1.0))
    after = scorecard(graded("q1", 0.0), answer_score=measure(0.0))
    suites = tuple(SuiteScore(name=name, before=before, after=after) for name in names)
    card = scorecard()
    return Verdict(accepted=True, checks=(), before=card, after=card, difference=measure(0.0), suites=suites)


def test_each_suite_has_both_scores_and_the_answers_that_changed() -> None:
    page = verdict_markdown(with_suites("sgd"))
    assert "| sgd | 1.00 [1.00, 1.00] (n=50) | 0.00 [0.00, 0.00] (n=50) |" in page
    assert "### sgd\n\n" in page
    assert "| q1 | 1: 42 | 0: 42 |" in page


def test_without_suites_the_page_has_no_section_for_them() -> None:
    assert "suite" not in verdict_markdown(with_suites())


def test_the_scores_of_suites_are_metrics_with_names_that_mlflow_accepts() -> None:
    assert suite_metrics(with_suites("old/bash", "a|b")) == {
        "suite_old/bash_before": 1.0,
        "suite_old/bash_after": 0.0,
        "suite_a_b_before": 1.0,
        "suite_a_b_after": 0.0,
    }


def test_deleted_training_documents_are_a_signal_and_a_metric() -> None:
    gathered = evidence(deleted_training_documents=("a.md", "b.md"))
    assert signals_of(gathered)["deleted documents that the adapter was trained on"] == "2"
    assert evidence_metrics(gathered)["deleted_training_documents_count"] == 2
    assert "deleted documents that the adapter was trained on" not in signals_of(evidence())
