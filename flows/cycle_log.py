"""Logs of a cycle's steps: decision page, verdict page, training curves, and the work and time of each step.

A step's run holds the details; the cycle's run, which history and costs are read from, gets the numbers of all steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.figure import Figure

from ragtide.flows.prefect_server.artifacts import rename_run, show_markdown
from ragtide.flows.prefect_server.notifications import run_logger
from ragtide.pipelines.corpus import Corpus
from ragtide.pipelines.data.imports import ImportUpdate
from ragtide.pipelines.evaluation.answers import answers_table, verdict_rows
from ragtide.pipelines.history import costs
from ragtide.pipelines.history.freshness import measure_freshness, read_source_times
from ragtide.pipelines.history.history import EXPECTED_POINTS, FORECAST_SECONDS, LAG_SECONDS
from ragtide.pipelines.planning.reuse import CurrentPlan
from ragtide.pipelines.ports import TrainingResult
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.data import Snapshot
from ragtide.pipelines.records.decision import Decision, Plan
from ragtide.pipelines.records.evaluation import Verdict
from ragtide.pipelines.records.release import BuiltIndex, BuiltModel, Release
from ragtide.pipelines.registry.cycles import WORK
from ragtide.pipelines.registry.layout import verdict_page
from ragtide.pipelines.registry.runs import RunLog
from ragtide.pipelines.release.proof import Proof
from ragtide.pipelines.reports.data import issues_markdown, quarantine_markdown
from ragtide.pipelines.reports.decision import decision_markdown
from ragtide.pipelines.reports.decision_plot import decision_plot
from ragtide.pipelines.reports.markdown import markdown_table
from ragtide.pipelines.reports.page import write_page
from ragtide.pipelines.reports.signals import evidence_metrics
from ragtide.pipelines.reports.verdict import retrieval_metrics, suite_metrics, verdict_markdown, verdict_plot
from ragtide.pipelines.reports.wording import decision_sentences, headline


@dataclass(frozen=True)
class StepLogs:
    """The run of a step, and that of its cycle; `done` is the cycle's work so far, summed over its steps."""

    step: RunLog
    cycle: RunLog
    done: dict[str, float] = field(default_factory=dict)

    def work(self, work: Mapping[str, float]) -> None:
        """Log a step's amount of work and its seconds in both runs."""
        self.step.metrics(work)
        for key, value in work.items():
            self.done[key] = self.done.get(key, 0.0) + value
        self.cycle.metrics({f"{WORK}{key}": self.done[key] for key in work})

    def page(self, name: str, markdown: str, plot: Figure) -> None:
        """Log a page as Markdown, HTML and picture in both runs; it is drawn once, which takes a second."""
        with TemporaryDirectory() as folder:
            write_page(Path(folder), name, markdown, plot)
            for run in (self.step, self.cycle):
                run.folder(None, Path(folder))


def log_decision(project: Project, logs: StepLogs, plan: Plan, digest: str) -> None:
    """Log a plan, its page, its numbers and its tags, and name the runs by the decision."""
    decision, cycle = plan.decision, logs.cycle
    markdown, address = decision_markdown(plan), project.registry.address(cycle)
    logs.page("decision", markdown, decision_plot(plan.evidence, decision, project.workspace.params))
    show_markdown("decision", markdown, f"plan {digest}", address)
    logs.step.record("plan.json", plan)
    cycle.metrics(evidence_metrics(plan.evidence) | _expected(decision))
    tags = {"decision": str(decision.action), "policy": decision.policy, "reason": headline(plan), "plan": digest}
    cycle.tags(tags | ({"proposed": str(decision.proposed)} if decision.proposed else {}))
    cycle.describe("\n".join(f"- {sentence}" for sentence in decision_sentences(decision)))
    cycle.rename(f"{cycle.name} {decision.action}")
    rename_run(f"keep-current {project.workspace.root.name}: {decision.action}")


def log_inputs(cycle: RunLog, current: CurrentPlan) -> Plan:
    """Log what the evidence depends on, and the cycle whose evidence is reused, if any; returns the plan."""
    cycle.tags({"inputs": current.inputs})
    if current.measured_in:
        cycle.tags({"measured_in": current.measured_in})
        run_logger().info("nothing has changed since %s: its evidence is reused", current.measured_in)
    return current.plan


def freshness_metrics(project: Project, live: Release | None, snapshot: Snapshot) -> dict[str, float | None]:
    """How long the data has waited for this cycle."""
    now = datetime.now(UTC)
    source = read_source_times(project.workspace, snapshot, now)
    freshness = measure_freshness(source, live, project.registry.history(), now)
    return {LAG_SECONDS: freshness.lag_seconds, "source_age_seconds": freshness.source_age_seconds}


def log_imports(cycle: RunLog, imports: Sequence[ImportUpdate]) -> None:
    """Log what updating the imports changed; a source that does not answer stops nothing, and is a warning."""
    unavailable = [source for source in imports if source.problem]
    for source in unavailable:
        run_logger().warning("import %s stays as it was: %s", source.name, source.problem)
    if imports:
        rows = [(source.name, source.source, str(source.changed), source.problem or "") for source in imports]
        cycle.text("imports.md", markdown_table(("import", "from", "files changed", "why not updated"), rows))
        cycle.metrics({"imports": len(imports), "imports_not_updated": len(unavailable)})
    names = ", ".join(source.name for source in unavailable)
    cycle.tags({"imports_not_updated": names} if unavailable else {})


def log_issues(cycle: RunLog, corpus: Corpus | None) -> None:
    """Log the quarantined documents and the filtered training lines of a corpus that was read, if there are any."""
    if corpus is None:
        return
    if corpus.knowledge.quarantined:
        cycle.text("quarantined.md", quarantine_markdown(corpus.knowledge.quarantined))
    if corpus.training.filtered:
        cycle.text("examples.md", issues_markdown(corpus.training.filtered))


def log_training(logs: StepLogs, built: BuiltModel, trained: TrainingResult) -> None:
    """Log a trained model, the curves of its training, and its work."""
    log = logs.step
    log.record("model.json", built)
    log.series("loss", enumerate(trained.losses))
    log.series("held_out_loss", ((point.step, point.loss) for point in trained.checks))
    log.series("held_out_score", ((point.step, point.score) for point in trained.checks))
    log.tags({"stopped": built.stopped, "resumed_at_step": trained.resumed_at} if built.stopped else {})
    log.metrics({"final_loss": built.final_loss, "replayed_examples": len(built.replayed)})
    trained_work = {costs.TRAINED_EXAMPLES: built.trained_examples, costs.TRAINED_TOKENS: built.trained_tokens}
    logs.work(trained_work | {costs.TRAIN_SECONDS: built.seconds})


def log_index(logs: StepLogs, built: BuiltIndex) -> None:
    """Log a built index and its work."""
    logs.step.record("index.json", built)
    logs.step.metrics({"rows": built.rows, "new_chunks": built.new, "index_version": built.version})
    logs.step.tags({"vector_index": built.vector_index})
    logs.work({costs.EMBEDDED_CHUNKS: built.embedded, costs.INDEX_SECONDS: built.seconds})


def log_verdict(project: Project, logs: StepLogs, part: Action, proof: Proof, seconds: float) -> None:
    """Log the verdict on a part's candidate, its page, every answer, and the scores of live release and candidate."""
    log, cycle, verdict, questions = logs.step, logs.cycle, proof.verdict, proof.questions
    is_first = costs.PROVE_SECONDS not in logs.done
    log.rename(f"{log.name} {'accepted' if verdict.accepted else 'rejected'}")
    log.tags({"accepted": verdict.accepted})
    markdown, address = verdict_markdown(verdict, questions), project.registry.address(cycle)
    logs.page(verdict_page(part), markdown, verdict_plot(verdict))
    show_markdown("verdict", markdown, cycle.name, address)
    log.table("answers.json", answers_table(verdict_rows(verdict, questions)))
    log.record("verdict.json", verdict)
    before, after = (
        {f"score_{when}": card.answer_score.value, f"recall_{when}": card.retrieval_recall.value}
        for when, card in (("before", verdict.before), ("after", verdict.after))
    )
    log.metrics({**before, **after, **retrieval_metrics(verdict.after), **suite_metrics(verdict)})
    # What a cycle changed is measured from the release that was live at its start.
    cycle.metrics({**(before if is_first else {}), **after})
    asked = project.answering
    logs.work({costs.GRADED_QUESTIONS: _graded_questions(verdict), costs.PROVE_SECONDS: seconds})
    logs.work({costs.ASKED_QUESTIONS: asked.count, costs.ANSWER_SECONDS: asked.seconds})


def _graded_questions(verdict: Verdict) -> int:
    """All answers that were graded for a verdict, those of other models and of the regression suites among them."""
    suite_cards = [card for suite in verdict.suites for card in (suite.before, suite.after)]
    others = len(verdict.alternatives) * len(verdict.after.graded)
    return others + sum(len(card.graded) for card in (verdict.before, verdict.after, *suite_cards))


def _expected(decision: Decision) -> dict[str, float | None]:
    """The expected gain and cost of the chosen action, which later decisions learn from."""
    chosen = decision.chosen
    return {EXPECTED_POINTS: chosen.gap_points, FORECAST_SECONDS: chosen.cost_seconds} if chosen else {}
