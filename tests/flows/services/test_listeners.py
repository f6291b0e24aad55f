"""Tests of all that `ragtide up` and `ragtide serve` listen on: foreign names, origins and callers get nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from ragtide.flows.environment import prefect_auth_file
from ragtide.flows.services.supervisor import service_processes
from ragtide.flows.triggers.webhook import token_file
from ragtide.pipelines.workspace import Workspace
from tests.listeners import (
    HEALTH,
    Listener,
    find_listeners,
    foreign_origin_answers,
    rebound_answers,
    request,
    serving,
)
from tests.servers import eventually
from tests.sites import FIRST, SECOND, Site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NAME = "zebra-handbook"
pytestmark = [pytest.mark.services, pytest.mark.long, pytest.mark.timeout(900)]


def mlflow_auth_file(root: Path) -> Path:
    return Workspace.open(root).mlflow_auth_file


@dataclass(frozen=True)
class Open:
    """A project whose services run without any setting for their safety, and what they listen on."""

    site: Site
    output: str

    @cached_property
    def listeners(self) -> list[Listener]:
        return find_listeners(self.site.workspace)

    def listener(self, service: str) -> Listener:
        return next(listener for listener in self.listeners if listener.service == service)

    @property
    def password(self) -> str:
        return prefect_auth_file(self.site.root).read_text()

    @property
    def credentials(self) -> dict[str, dict[str, str]]:
        """Valid headers of the services that need credentials."""
        secrets = {"prefect": self.password, "mlflow": mlflow_auth_file(self.site.root).read_text()}
        basic = {name: httpx.BasicAuth(*secret.split(":", 1))._auth_header for name, secret in secrets.items()}
        headers = basic | {"webhook": f"Bearer {token_file(self.site.workspace).read_text()}"}
        return {name: {"Authorization": header} for name, header in headers.items()}

    def prefect(self, method: str, path: str, body: object = None) -> Any:
        """What Prefect's API answers to its owner."""
        url = f"{self.site.url('prefect')}/api/{path}"
        answer = httpx.request(method, url, json=body, headers=self.credentials["prefect"], timeout=60)
        return answer.raise_for_status().json()

    def runs(self) -> int:
        """The runs that were requested: Prefect's scheduler adds those of the schedules at times of its own."""
        return sum(not run["auto_scheduled"] for run in self.prefect("POST", "flow_runs/filter", {}))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    root = tmp_path_factory.mktemp("listeners") / NAME
    site = Site.make(root, deletion_guard={"max_removed_documents": 0, "max_removed_share": 0})
    with site.up() as output:
        assert site.becomes_live(FIRST)
        with serving(site):
            yield Open(site, output)


def test_every_service_listens_on_this_machine_only(opened: Open) -> None:
    assert {listener.service for listener in opened.listeners} >= {"prefect", "mlflow", "webhook", "serve"}
    assert {listener.host for listener in opened.listeners} == {"127.0.0.1"}


def test_no_service_answers_under_a_foreign_name(opened: Open) -> None:
    hosts = [listener.host for listener in opened.listeners]
    assert [answer for listener in opened.listeners for answer in rebound_answers(listener, hosts)] == []


def test_no_service_answers_a_foreign_page_even_with_credentials(opened: Open) -> None:
    for listener in opened.listeners:
        assert foreign_origin_answers(listener, opened.credentials.get(listener.service)) == []


def test_without_credentials_prefect_answers_health_and_static_pages_only(opened: Open) -> None:
    listener = opened.listener("prefect")
    with httpx.Client(base_url=listener.url, timeout=60, trust_env=False) as client:
        plan = [(method, path) for path, methods in listener.paths for method in methods]
        answers = [request(client, listener, method, path, {}) for method, path in plan]
        pages = [request(client, listener, "GET", path, {}) for path in ("/", "/runs", "/ui-settings")]
    assert len(answers) > 150
    answered = [answer for answer in [*answers, *pages] if not answer.is_refusal and not answer.is_health]
    # Outside of /api: the API's description, and the pages, which are the same for every project.
    assert not [answer for answer in answered if answer.path.startswith("/api/")]
    for answer in answered:
        for private in (NAME, "keep-current", "kb.data.updated", opened.password):
            assert private not in answer.text


def test_without_credentials_mlflow_answers_health_only(opened: Open) -> None:
    listener = opened.listener("mlflow")
    plan = [(method, path) for path, methods in listener.paths if path for method in methods]
    wrong = {"Authorization": httpx.BasicAuth("admin", "wrong")._auth_header}
    with httpx.Client(base_url=listener.url, timeout=60, trust_env=False) as client:
        answers = [request(client, listener, method, path, {}) for method, path in plan]
        answers += [request(client, listener, *plan[-1], wrong)]
    assert len(answers) > 400
    assert {answer.path for answer in answers if not answer.is_refusal} == {"/health"}


def test_nobody_reaches_the_assistant_of_mlflow(opened: Open) -> None:
    listener = opened.listener("mlflow")
    paths = [path for path, _ in listener.paths if "assistant" in path]
    assert paths
    with httpx.Client(base_url=listener.url, timeout=60, trust_env=False) as client:
        for path in (*paths, "/ajax-api/3.0/MLFLOW/assistant/config", "/ajax-api/3.0/mlflow/%61ssistant/config"):
            for method in ("GET", "PUT", "POST"):
                assert request(client, listener, method, path, opened.credentials["mlflow"]).status == 403


def test_without_credentials_no_event_is_taken_and_none_is_shown(opened: Open) -> None:
    event = {"event": "kb.data.updated", "resource": {"prefect.resource.id": "kb.source.x"}, "payload": {"rev": "x"}}
    listener, before = opened.listener("prefect"), opened.runs()
    assert len(listener.web_sockets) >= 5
    for path in listener.web_sockets:
        address = f"ws://{listener.host}:{listener.port}{path}"
        with pytest.raises(InvalidStatus):
            connect(address)
        for first in (event, {"type": "auth", "token": "wrong"}, {"type": "auth"}):
            with connect(address, subprotocols=[Subprotocol("prefect")]) as socket:
                socket.send(json.dumps(first))
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=60)
    assert opened.runs() == before


def test_without_its_token_the_webhook_requests_no_run(opened: Open) -> None:
    listener, before = opened.listener("webhook"), opened.runs()
    with httpx.Client(base_url=listener.url, timeout=60, trust_env=False) as client:
        statuses = {path: request(client, listener, "POST", path, {}).status for path, _ in listener.paths}
    assert statuses["/trigger"] == 401
    assert set(statuses.values()) <= {401, 404, 405}
    assert opened.runs() == before


@pytest.mark.parametrize("auth_file", [prefect_auth_file, mlflow_auth_file])
def test_a_generated_password_is_in_its_file_only(opened: Open, auth_file: Callable[[Path], Path]) -> None:
    file = auth_file(opened.site.root)
    secret = file.read_text().partition(":")[2]
    assert len(secret) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(file) in opened.output
    assert secret not in opened.output
    files = [path for path in opened.site.root.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == [file]
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [words for words in commands if secret in " ".join(words)]
    assert len(service_processes(opened.site.workspace)) >= 7


# --- with the generated password ------------------------------------------------------------------------------------


def test_every_command_and_a_triggered_run_work_with_the_generated_password(opened: Open) -> None:
    site = opened.site
    assert "sent: run requested" in site.ragtide("trigger")
    assert site.live_release() == FIRST
    documents = sorted(path for path in (site.root / "data/kb").rglob("*") if path.is_file())
    documents[0].unlink()
    suspended = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
    # The watcher reports the deletion, and the worker's run waits for an approval.
    [run, *_] = eventually(lambda: opened.prefect("POST", "flow_runs/filter", suspended))
    digest = next(tag.removeprefix("plan:") for tag in run["tags"] if tag.startswith("plan:"))
    assert "resumed run" in site.ragtide("approve", digest, "--why", "a test")
    assert site.becomes_live(SECOND)
    assert eventually(lambda: opened.prefect("GET", f"flow_runs/{run['id']}")["state_type"] == "COMPLETED")
    before = opened.runs()
    site.ragtide("run")
    assert opened.runs() > before
    site.ragtide("deploy")


# --- in a browser ---------------------------------------------------------------------------------------------------

# Everything that a page can try, without knowing a password; the answers are collected in `outcomes`.
FOREIGN_PAGE = """<!DOCTYPE html><title>foreign</title><script>
const outcomes = []
const note = (kind, url) => result => outcomes.push([kind, url, String(result)])
const json = {'Content-Type': 'application/json'}, text = {'Content-Type': 'text/plain'}
async function attempt(urls, sockets, bodies) {
  const work = []
  for (const url of urls) {
    for (const [kind, options] of Object.entries({
      get: {}, opaque: {mode: 'no-cors'}, json: {method: 'POST', headers: json, body: bodies[url] || '{}'},
      text: {method: 'POST', headers: text, body: bodies[url] || '{}', mode: 'no-cors'},
      delete: {method: 'DELETE'}, cookies: {credentials: 'include'}})) {
      const answered = fetch(url, options).then(answer => answer.type + answer.status)
      work.push(answered.catch(() => 'failed').then(note(kind, url)))
    }
    const frame = document.createElement('iframe')
    frame.name = 'frame' + urls.indexOf(url)
    document.body.append(frame)
    const form = Object.assign(document.createElement('form'), {method: 'POST', action: url, target: frame.name})
    form.enctype = 'text/plain'
    form.append(Object.assign(document.createElement('input'), {name: bodies[url] || '{}', value: ''}))
    document.body.append(form)
    form.submit()
    work.push(new Promise(done => { frame.onload = done }).then(() => {
      try { return frame.contentDocument ? 'readable' : 'closed' } catch { return 'closed' }
    }).then(note('form', url)))
  }
  for (const url of sockets) {
    work.push(new Promise(done => {
      const socket = new WebSocket(url, ['prefect'])
      socket.onopen = () => done('open')
      socket.onerror = () => done('failed')
    }).then(note('socket', url)))
  }
  await Promise.all(work)
  return outcomes
}
</script><body>"""


class ForeignSite(BaseHTTPRequestHandler):
    """A web server of somebody else."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(FOREIGN_PAGE.encode())

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def foreign_site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ForeignSite)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of Chromium, to which every name of evil.example is this machine."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        rules = "--host-resolver-rules=MAP *.evil.example 127.0.0.1"
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
        new_page = chromium.new_page()
        new_page.set_default_timeout(60_000)
        yield new_page
        chromium.close()


def test_a_page_of_another_origin_has_no_effect_and_reads_nothing(opened: Open, page: Any, foreign_site: str) -> None:
    [deployment] = opened.prefect("POST", "deployments/filter", {"deployments": {"name": {"any_": ["keep-current"]}}})
    create_run = f"{opened.site.url('prefect')}/api/deployments/{deployment['id']}/create_flow_run"
    paths = ("/", "/health", "/trigger", "/metrics", "/invocations", "/ajax-api/2.0/mlflow/experiments/search")
    urls = [create_run, *(listener.url + path for listener in opened.listeners for path in paths)]
    sockets = [
        f"{listener.url.replace('http', 'ws')}{path}"
        for listener in opened.listeners
        for path in [*listener.web_sockets, "/"]
    ]
    body = json.dumps({"state": {"type": "SCHEDULED"}, "job_variables": {"command": "touch /tmp/never"}})
    before = opened.runs()
    page.goto(foreign_site)
    outcomes = page.evaluate(
        "([urls, sockets, bodies]) => attempt(urls, sockets, bodies)", [urls, sockets, {create_run: body}]
    )
    assert len(outcomes) == 7 * len(urls) + len(sockets)
    # An opaque answer is one that the page can neither read nor tell from a refusal.
    assert {outcome for *_, outcome in outcomes} <= {"failed", "opaque0", "closed"}
    assert opened.runs() == before


@pytest.mark.parametrize("service", ["prefect", "mlflow", "webhook", "serve"])
def test_a_rebound_name_shows_nothing(opened: Open, page: Any, service: str) -> None:
    port = opened.listener(service).port
    for name in ("a.evil.example", "10.evil.example"):
        answer = page.goto(f"http://{name}:{port}/")
        assert answer.status == 403
        statuses = page.evaluate(
            """paths => Promise.all(paths.map(path => fetch(path, {method: 'POST'}).then(answer => answer.status)))""",
            ["/api/flow_runs/filter", "/invocations", "/trigger", *HEALTH],
        )
        assert set(statuses) == {403}


def test_the_owner_logs_in_to_prefects_page_with_the_generated_password(opened: Open, page: Any) -> None:
    page.goto(f"{opened.site.url('prefect')}/deployments")
    page.locator("input[type=password]").fill(opened.password)
    page.keyboard.press("Enter")
    page.get_by_text("keep-current").first.wait_for()
    assert Path(opened.site.root).name == NAME
