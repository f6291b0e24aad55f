"""Does a reviewer find the way in MLflow's page: from the cycles to the decision, the release and the data?

The pages are opened in Debian's Chromium. `RAGTIDE_SCREENSHOTS=FOLDER` keeps what was seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo.pages import quarters, write_quarter
from ragtide.flows.keep_current import keep_current
from ragtide.pipelines.ports import no_progress
from ragtide.pipelines.project import Project
from ragtide.pipelines.release.live_evaluation import evaluate_release
from ragtide.pipelines.release.rollback import roll_back
from tests.conftest import write_project
from tests.servers import eventually, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_MILLISECONDS = 60_000
# MLflow's assistant would cover a third of the page. Empty pages and framed artifacts have no storage.
NO_ASSISTANT = """try {
  localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')
  localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')
} catch {}"""
pytestmark = [
    pytest.mark.services,
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]


@dataclass(frozen=True)
class Desk:
    """MLflow's server on a project with a first release, an empty turn, a refresh that was taken back, in a browser."""

    page: Page
    url: str
    troubles: list[str]

    def open(self, place: str) -> None:
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{place}")

    def sees(self, *texts: str) -> None:
        """Each text is on the page, or soon will be; MLflow shows what is artifact in a frame of its own."""
        for text in texts:
            self.page.get_by_text(text).first.wait_for()

    def keep(self, name: str) -> None:
        """What a reviewer sees now, where somebody wants to look at it."""
        if folder := os.environ.get("RAGTIDE_SCREENSHOTS"):
            self.page.wait_for_timeout(1500)
            self.page.screenshot(path=Path(folder, f"{name}.png"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three turns, an evaluation and a rollback, by the fakes."""
    root = write_project(tmp_path_factory.mktemp("desk") / "support", policy={"points_per_hour": 1})
    first, second = quarters()[:2]
    write_quarter(root, first)
    keep_current(project=str(root))
    keep_current(project=str(root))
    write_quarter(root, second)
    keep_current(project=str(root))
    opened = Project.open(root, no_progress)
    evaluate_release(opened, opened.registry.live())
    roll_back(opened.registry, None, "the shop's answers were worse", opened.check_servable)
    return root


@pytest.fixture(scope="module")
def mlflow(project: Path) -> Iterator[str]:
    """MLflow's server, light, as `ragtide ui` starts it."""
    port = free_port()
    store = f"sqlite:///{project}/.ragtide/mlflow.db"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    url = f"http://127.0.0.1:{port}"
    with (project / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            assert eventually(lambda: urllib.request.urlopen(f"{url}/health", timeout=5).status == 200)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.fixture
def desk(mlflow: str) -> Iterator[Desk]:
    """A browser that has never been here."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    troubles: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.add_init_script(NO_ASSISTANT)
        page.on("pageerror", lambda problem: troubles.append(str(problem)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        yield Desk(page, mlflow, troubles)
        browser.close()


def experiment(project: Path) -> str:
    return Project.open(project, no_progress).registry.experiment


def test_a_reviewer_goes_from_the_cycles_to_the_decision_the_release_and_the_data(desk: Desk, project: Path) -> None:
    page = desk.page
    desk.open(f"#/experiments/{experiment(project)}/runs")

    # The cycles: a row each, named by its decision, with what came of it.
    page.get_by_role("button", name="Views").click()
    page.get_by_text("Cycles", exact=True).click()
    desk.sees("cycle-0001 REFRESH+RETRAIN", "cycle-0002 NOTHING", "cycle-0003 REFRESH", "rollback")
    desk.sees("release 1 is live again", "nothing to do", "release 2")
    desk.keep("cycles")

    # A cycle: its steps, its data, its release, its reasons.
    page.get_by_text("cycle-0003 REFRESH", exact=True).click()
    desk.sees("prove accepted", "refresh-index", "The decision is REFRESH", "Registered models")
    desk.keep("cycle")

    # Its decision and its verdict.
    page.get_by_role("tab", name="Artifacts").click()
    for name, told in (("decision", "What would have changed it"), ("verdict", "Questions whose grade changed")):
        page.get_by_text(f"{name}.html", exact=True).click()
        page.frame_locator("iframe").get_by_text(told).first.wait_for()
        desk.keep(name)

    # The release that it made.
    page.get_by_role("tab", name="Overview").click()
    page.locator("a[href*='/models/']").first.click()
    desk.sees("Version 2", "the decision", "the verdict", "index: version", "index_tag")
    desk.keep("release")

    # Back to its run, and what its data was.
    page.get_by_text("cycle-0003 REFRESH", exact=True).click()
    page.get_by_role("tab", name="Overview").click()
    page.get_by_text("kb (").first.click()
    desk.sees("3 datasets used", "files:")
    desk.keep("data")
    assert desk.troubles == []


def test_score_gaps_and_cost_are_charted_over_the_cycles(desk: Desk, project: Path) -> None:
    place = "runs?viewStateShareKey=over-the-cycles&compareRunsMode=CHART"
    desk.open(f"#/experiments/{experiment(project)}/{place}")
    desk.sees(*(f"over the cycles/{name}" for name in ("index gap", "live score", "model gap")))
    desk.keep("over-the-cycles")
    assert desk.troubles == []


def test_a_proof_has_a_row_a_question(desk: Desk, project: Path) -> None:
    registry = Project.open(project, no_progress).registry
    [proof, *_] = [run for run in registry._runs("step") if run.info.run_name.startswith("prove")]
    desk.open(f"#/experiments/{registry.experiment}/runs/{proof.info.run_id}/artifacts/answers.json")
    desk.sees("question", "expected", "live answer", "against live", "What is the latest release of")
    desk.keep("answers")
    assert desk.troubles == []


def test_an_evaluation_has_a_row_a_question_with_what_was_expected_and_its_marks(desk: Desk, project: Path) -> None:
    registry = Project.open(project, no_progress).registry
    [run] = registry._runs("evaluation")
    desk.open(f"#/experiments/{registry.experiment}/runs/{run.info.run_id}/traces")
    desk.sees("60 of 60", "Expected output", "score", "passage found", "compare to", "What is the latest release of")
    desk.keep("evaluation")
    desk.page.get_by_text("What is the latest release of").first.click()
    desk.sees("Inputs", "Outputs", "find")
    assert desk.troubles == []


def test_the_live_release_is_the_one_with_the_alias(desk: Desk) -> None:
    desk.open("#/models/ragtide")
    desk.sees("Version 2", "Version 1", "champion")
    desk.keep("releases")
    assert desk.troubles == []
