"""Browser tests of the MLflow pages that a reviewer uses: cycles, decision, verdict, release, data and evaluation.

The pages are opened in Debian's Chromium. `RAGTIDE_SCREENSHOTS=FOLDER` saves screenshots of them.
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
TIMEOUT_MILLISECONDS = 60_000
# MLflow's assistant panel would cover a third of the page. Empty pages and framed artifacts have no storage.
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
class Browser:
    """A browser on MLflow's server for a project with a release, an empty cycle and a refresh that was rolled back."""

    page: Page
    url: str
    errors: list[str]

    def open(self, place: str) -> None:
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{place}")

    def sees(self, *texts: str) -> None:
        """Wait until each text is on the page; MLflow shows artifacts in a frame of their own."""
        for text in texts:
            self.page.get_by_text(text).first.wait_for()

    def screenshot(self, name: str) -> None:
        """Save a screenshot where RAGTIDE_SCREENSHOTS is set."""
        if folder := os.environ.get("RAGTIDE_SCREENSHOTS"):
            self.page.wait_for_timeout(1500)
            self.page.screenshot(path=Path(folder, f"{name}.png"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after three cycles with fake models, an evaluation and a rollback."""
    root = write_project(tmp_path_factory.mktemp("browser") / "support", policy={"points_per_hour": 1})
    first, second = quarters()[:2]
    write_quarter(root, first)
    keep_current(project=str(root))
    keep_current(project=str(root))
    write_quarter(root, second)
    keep_current(project=str(root))
    opened = Project.open(root, no_progress)
    evaluate_release(opened, opened.registry.live())
    roll_back(opened.registry, None, "the answers were worse", opened.check_servable)
    return root


@pytest.fixture(scope="module")
def mlflow(project: Path) -> Iterator[str]:
    """MLflow's server with one worker, as `ragtide ui` starts it."""
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
def browser(mlflow: str) -> Iterator[Browser]:
    """A browser without stored state."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    errors: list[str] = []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(TIMEOUT_MILLISECONDS)
        page.add_init_script(NO_ASSISTANT)
        page.on("pageerror", lambda problem: errors.append(str(problem)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        yield Browser(page, mlflow, errors)
        chromium.close()


def experiment(project: Path) -> str:
    return Project.open(project, no_progress).registry.experiment


def test_a_reviewer_goes_from_the_cycles_to_the_decision_the_release_and_the_data(
    browser: Browser, project: Path
) -> None:
    page = browser.page
    browser.open(f"#/experiments/{experiment(project)}/runs")

    # The cycles: one row each, named by the decision, with the outcome.
    page.get_by_role("button", name="Views").click()
    page.get_by_text("Cycles", exact=True).click()
    browser.sees("cycle-0001 REFRESH+RETRAIN", "cycle-0002 NOTHING", "cycle-0003 REFRESH", "rollback")
    browser.sees("rolled_back", "nothing", "released")
    browser.screenshot("cycles")

    # A cycle: its steps, data, release and reasons.
    page.get_by_text("cycle-0003 REFRESH", exact=True).click()
    browser.sees("prove accepted", "refresh-index", "The decision is REFRESH", "Registered models")
    browser.screenshot("cycle")

    # Its decision and its verdict.
    page.get_by_role("tab", name="Artifacts").click()
    pages = {"decision": "What would have changed it", "verdict-refresh": "Questions whose score changed"}
    for name, heading in pages.items():
        page.get_by_text(f"{name}.html", exact=True).click()
        page.frame_locator("iframe").get_by_text(heading).first.wait_for()
        browser.screenshot(name.partition("-")[0])

    # The release that it made.
    page.get_by_role("tab", name="Overview").click()
    page.locator("a[href*='/models/']").first.click()
    browser.sees("Version 3", "why it was built", "how it compared with", "index: version", "index_tag")
    browser.screenshot("release")

    # Back to its run and its data.
    page.get_by_text("cycle-0003 REFRESH", exact=True).click()
    page.get_by_role("tab", name="Overview").click()
    page.get_by_text("kb (").first.click()
    browser.sees("3 datasets used", "files:")
    browser.screenshot("data")
    assert browser.errors == []


def test_score_gaps_and_cost_are_charted_by_cycle(browser: Browser, project: Path) -> None:
    place = "runs?viewStateShareKey=metrics-by-cycle&compareRunsMode=CHART"
    browser.open(f"#/experiments/{experiment(project)}/{place}")
    browser.sees(*(f"by_cycle/{name}" for name in ("index_gap", "live_score", "model_gap")))
    browser.screenshot("metrics-by-cycle")
    assert browser.errors == []


def test_the_step_prove_has_a_table_with_a_row_per_question(browser: Browser, project: Path) -> None:
    registry = Project.open(project, no_progress).registry
    [prove, *_] = [run for run in registry._runs("step") if run.info.run_name.startswith("prove")]
    browser.open(f"#/experiments/{registry.experiment}/runs/{prove.info.run_id}/artifacts/answers.json")
    browser.sees("question", "expected_answer", "live_answer", "change", "What is the latest release of")
    browser.screenshot("answers")
    assert browser.errors == []


def test_an_evaluation_has_a_trace_per_question_with_its_assessments(browser: Browser, project: Path) -> None:
    registry = Project.open(project, no_progress).registry
    [run] = registry._runs("evaluation")
    browser.open(f"#/experiments/{registry.experiment}/runs/{run.info.run_id}/traces")
    browser.sees(
        "60 of 60", "Expected output", "score", "gold_retrieved", "compare to", "What is the latest release of"
    )
    browser.screenshot("evaluation")
    browser.page.get_by_text("What is the latest release of").first.click()
    browser.sees("Inputs", "Outputs", "retrieve")
    assert browser.errors == []


def test_the_live_release_is_the_one_with_the_alias(browser: Browser) -> None:
    browser.open("#/models/ragtide")
    browser.sees("Version 2", "Version 1", "champion")
    browser.screenshot("releases")
    assert browser.errors == []
