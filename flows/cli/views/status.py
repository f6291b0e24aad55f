"""Terminal view of a project's status: the live release, its freshness, and what changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from rich.console import RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from ragtide.flows.cli.console import pending_approval
from ragtide.pipelines.data.diff import diff_snapshots
from ragtide.pipelines.data.documents import DocumentReader
from ragtide.pipelines.history.freshness import Freshness, format_duration
from ragtide.pipelines.history.history import FILTERED_EXAMPLES, last_validated_cycle, live_since
from ragtide.pipelines.history.withheld import withheld_now
from ragtide.pipelines.planning.status import ProjectStatus, project_status
from ragtide.pipelines.project import Project
from ragtide.pipelines.records.data import ChangeSet, QuarantinedDocument, WithheldDocument
from ragtide.pipelines.records.release import Cycle, Release
from ragtide.pipelines.release.lineage import deleted_seen_documents
from ragtide.pipelines.reports.data import quarantine_markdown, withheld_markdown
from ragtide.pipelines.reports.markdown import changes_markdown, list_some
from ragtide.pipelines.reports.signals import agree, count_of
from ragtide.pipelines.safe_text import escape_controls


@dataclass(frozen=True)
class StatusReport:
    """A project's status with what only the command shows, each part read when it is printed."""

    project: Project
    status: ProjectStatus

    @cached_property
    def alarms(self) -> tuple[str, ...]:
        """The limits of `freshness` that are exceeded."""
        return tuple(self.status.freshness.alarms(self.project.workspace.params.freshness))

    @cached_property
    def quarantined(self) -> tuple[QuarantinedDocument, ...]:
        return tuple(DocumentReader(self.project.workspace, self.status.snapshot).quarantined)

    @cached_property
    def withheld(self) -> tuple[WithheldDocument, ...]:
        """The documents that took answers from today's golden questions at the gate."""
        return withheld_now(self.project.workspace, self.status.snapshot)

    @cached_property
    def changes(self) -> ChangeSet | None:
        """What changed since the live release was built; None if nothing is live."""
        live = self.status.live
        return diff_snapshots(live.snapshot, self.status.snapshot) if live else None

    @cached_property
    def deleted_seen(self) -> tuple[str, ...]:
        """Documents that the live adapter has seen and that were deleted since."""
        live = self.status.live
        return deleted_seen_documents(self.project, live.model, self.status.snapshot) if live else ()

    @cached_property
    def validated(self) -> Cycle | None:
        """The last cycle that validated the training examples."""
        return last_validated_cycle(self.status.history)

    @property
    def other_base(self) -> str | None:
        """The base model of the live release if params.yaml names another."""
        base = self.status.live.model.base.rpartition("@")[0] if self.status.live else ""
        return base if base not in ("", self.project.workspace.params.generate.model) else None

    @property
    def filtered_examples(self) -> int | None:
        """Training examples that the last validation filtered out; None if there was none."""
        return int(self.validated.signals[FILTERED_EXAMPLES]) if self.validated else None


def read_status(project: Project) -> StatusReport:
    """The status of a project now. Loads no model and reads no document."""
    return StatusReport(project, project_status(project, datetime.now(UTC)))


def status_document(report: StatusReport) -> Mapping[str, object]:
    """The content of `ragtide status --json`."""
    status = report.status
    freshness = status.freshness
    return {
        "release": status.live,
        "live_since": live_since(status.live, status.history) if status.live else None,
        "snapshot": status.snapshot.id,
        "freshness": {
            "stale_since": freshness.stale_since,
            "lag_seconds": freshness.lag_seconds,
            "source_changed": freshness.source_changed,
            "source_age_seconds": freshness.source_age_seconds,
            "reason": freshness.why,
        },
        "alarms": report.alarms,
        "changes": report.changes,
        "quarantined": report.quarantined,
        "withheld": report.withheld,
        "filtered_examples": report.filtered_examples,
        "deleted_documents_seen": report.deleted_seen,
        "pending_approval": pending_approval(status.pending) if status.pending else None,
    }


def status_renderables(report: StatusReport) -> Iterable[RenderableType]:
    """The parts of `ragtide status`, top to bottom."""
    status = report.status
    if report.quarantined:
        yield _plain(f"Quarantined documents, which cannot be read: {len(report.quarantined)}")
        yield Markdown(quarantine_markdown(report.quarantined))
    if report.withheld:
        yield _plain(f"Withheld documents, which took answers from golden questions: {len(report.withheld)}")
        yield Markdown(withheld_markdown(report.withheld))
    if report.validated and report.filtered_examples:
        yield _plain(
            f"training examples filtered out in {report.validated.name}: {report.filtered_examples}; "
            "`ragtide examples` lists those of the current data"
        )
    if status.live is None:
        yield _plain("no release is live yet: `ragtide plan` shows what a first cycle would do, `ragtide run` runs it")
        return
    yield _release_table(status.live, status)
    if report.other_base:
        yield _plain(
            f"params.yaml names another base model; the live release keeps {report.other_base} until a retrain"
        )
    yield from deleted_seen_renderables(report.deleted_seen)
    yield ""
    if report.changes is None or report.changes.is_empty:
        yield _plain("The data has not changed since the live release was built.")
    else:
        yield _plain("The data has changed since the live release was built:")
        yield Markdown(changes_markdown(report.changes))


def deleted_seen_renderables(documents: tuple[str, ...]) -> Iterable[RenderableType]:
    """A line about deleted documents that a release's adapter has seen; nothing if there are none."""
    if documents:
        seen, were = count_of(len(documents), "document"), agree(len(documents), "was", "were")
        yield _plain(
            f"its adapter has seen {seen} that {were} deleted since: {list_some(documents)}; "
            "`ragtide lineage` lists all that it was trained on"
        )


def freshness_line(freshness: Freshness) -> str:
    """How far the live release is behind the data, and how old the newest change of the data is."""
    age = freshness.source_age_seconds
    source = "" if age is None else f"; the newest change in the data folders is {format_duration(age)} old"
    if freshness.stale_since is None:
        return f"current: {freshness.why}{source}"
    return f"{format_duration(freshness.lag_seconds)} behind the data: {freshness.why}{source}"


def _release_table(live: Release, status: ProjectStatus) -> Table:
    tuned = live.index.tuned_embedder
    table = Table(show_header=False, box=None)
    for name, value in (
        ("live release", f"{live.id}, since {live_since(live, status.history)}, by {live.decision}"),
        ("data", live.snapshot.id),
        ("index", f"version {live.index.version} (tag {live.index_tag}), {count_of(live.index.rows, 'chunk')}"),
        ("embedder", f"fine-tuned {tuned.digest} from {tuned.base}" if tuned else "not fine-tuned"),
        ("model", f"{live.model.base} + {live.model.adapter or 'no adapter'}"),
        ("answer score", str(live.scorecard.answer_score)),
        ("previous", f"release {live.previous}" if live.previous else "none"),
        ("freshness", freshness_line(status.freshness)),
    ):
        table.add_row(Text(name, "bold"), _plain(value))
    return table


def _plain(text: str) -> Text:
    return Text(escape_controls(text))
