"""What does the index, the disk and the databases need, apart from any decision? Upkeep on a schedule."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.settings import PREFECT_HOME

from flows.progress import bars
from flows.report import show
from flows.runs import named
from flows.tasks import step
from pipelines.publish.project import Project
from pipelines.publish.report import upkeep_markdown
from pipelines.publish.upkeep import maintain as keep_up
from pipelines.publish.upkeep import sizes, sizes_markdown
from pipelines.records import Upkeep

# As long as a long run may take: upkeep is a week old by then, an hour more is no matter.
WAIT_SECONDS = 3600.0


@flow(name="maintain", flow_run_name=named("maintain"), persist_result=False)
def maintain(project: str = ".") -> list[Upkeep]:
    """Compact the index, take away what no release needs, and tell how large everything has become."""
    return look_after(Project.open(Path(project), bars))


@step("look-after")
def look_after(project: Project) -> list[Upkeep]:
    """Every step of upkeep, done or not and why, on Prefect's page; with what is on the disk of this machine."""
    with project.workspace.writing(WAIT_SECONDS, "maintain"):
        steps = keep_up(project)
    weighed = sizes(project.workspace, PREFECT_HOME.value() / "prefect.db")
    markdown = f"{upkeep_markdown(steps)}\n\n{sizes_markdown(weighed)}"
    show("maintenance", markdown, "what was done, and what lies on this machine")
    return steps
