"""Layout of MLflow's pages for reviewers: the experiment's description and saved views, and each release's page."""

from __future__ import annotations

import json

from ragtide.pipelines.history.costs import EMBEDDED_CHUNKS
from ragtide.pipelines.history.history import INDEX_GAP, LAG_SECONDS, LIVE_SCORE, MODEL_GAP
from ragtide.pipelines.records.action import Action
from ragtide.pipelines.records.release import Cycle, Release

# The name of the run whose metrics have one point per cycle, and the prefix (a chart section) of those metrics.
CHARTS_RUN, CHARTS = "metrics by cycle", "by_cycle"
# The keys of the two saved views, which are part of their addresses.
CYCLES, METRICS_BY_CYCLE = "cycles", "metrics-by-cycle"
_VIEW = "mlflow.sharedViewState."
# MLflow sorts the columns by name, metrics first; the decision is part of the run's name.
_COLUMNS = (
    "metrics.`score_before`",
    "metrics.`score_after`",
    f"metrics.`{INDEX_GAP}`",
    f"metrics.`{MODEL_GAP}`",
    "tags.`accepted`",
    "tags.`outcome`",
    "tags.`outcome_detail`",
    "tags.`release`",
)


def experiment_tags(experiment: str, model: str) -> dict[str, str]:
    """Return the tags that hold an experiment's description and the saved views under Views on its page."""
    return {
        "mlflow.note.content": _experiment_description(experiment, model),
        "mlflow.experimentKind": "genai_development",
        f"{_VIEW}{CYCLES}": _view("Cycles", "cycle", selectedColumns=list(_COLUMNS)),
        f"{_VIEW}{METRICS_BY_CYCLE}": _view("Metrics by cycle", "timeline"),
    }


def cycle_chart_metrics(cycle: Cycle) -> dict[str, float]:
    """Return a cycle's points for the charts (scores and gaps 0-1); what was not measured has no point."""
    went_live = cycle.release is not None and cycle.score_after is not None
    score = cycle.score_after if went_live else cycle.score_before
    lag = cycle.signals.get(LAG_SECONDS)
    values = {
        "live_score": cycle.signals.get(LIVE_SCORE) if score is None else score,
        "index_gap": cycle.signals.get(INDEX_GAP),
        "model_gap": cycle.signals.get(MODEL_GAP),
        EMBEDDED_CHUNKS: cycle.work.get(EMBEDDED_CHUNKS, 0.0),
        "cycle_seconds": cycle.seconds,
        "data_lag_hours": None if lag is None else lag / 3600,
    }
    return {f"{CHARTS}/{name}": value for name, value in values.items() if value is not None}


def verdict_page(part: Action) -> str:
    """Return the name of the page with the verdict on one part of an action, without its extension."""
    return f"verdict-{str(part).lower()}"


def release_description(release: Release, experiment: str, run: str) -> str:
    """Return the Description on a release's page: what it consists of, and links to what it came from."""
    run_page = f"#/experiments/{experiment}/runs/{run}"
    verdict = f"{run_page}/artifacts/{verdict_page(release.decision)}.html"
    adapter = f"adapter `{release.model.adapter}`" if release.model.adapter else "no adapter"
    previous = f"release {release.previous}" if release.previous else "none, this is the first release"
    snapshot, index, answer_score = release.snapshot, release.index, release.scorecard.answer_score
    score = "not measured" if answer_score.value is None else f"{answer_score.value:.2f}"
    return "\n".join(
        [
            # The list of releases shows the first words as plain text, where an interval in brackets becomes a link.
            f"{release.decision}: answer score {score} (0 to 1) on {answer_score.n} questions, "
            f"created {release.created}.",
            "",
            f"- decision: [why it was built]({run_page}/artifacts/decision.html), in [its cycle]({run_page})",
            f"- verdict: [how it compared with the live release]({verdict})",
            f"- data: snapshot `{snapshot.id}` with documents `{snapshot.kb_id}`, training examples "
            f"`{snapshot.train_id}` and golden questions `{snapshot.golden_id}`, the datasets of its cycle",
            f"- index: version {index.version}, tag `{release.index_tag}`, {index.rows} chunks",
            f"- model: base model `{release.model.base}`, {adapter}",
            f"- previous release: {previous}",
            f"- rollback: `ragtide rollback --to {release.id}` makes this release live again",
        ]
    )


def model_description(experiment: str) -> str:
    """Return the Description on the registered model's page."""
    return (
        "Each version is a release: an index and an adapter that go live together. The alias `champion` marks the "
        "live release; `ragtide rollback` moves it back to an earlier one. "
        f"[The cycles that made the releases](#/experiments/{experiment}/runs?viewStateShareKey={CYCLES})."
    )


def _view(name: str, kind: str, **state: object) -> str:
    """Return a view as MLflow 3.17 saves one, with time 0 in place of the time at which it was saved."""
    shown = {"searchFilter": f"tags.`ragtide.kind` = '{kind}'", **state}
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(shown)})


def _experiment_description(experiment: str, model: str) -> str:
    """Return the experiment's text, links first: the page shows little more than one line until it is expanded."""
    runs = f"#/experiments/{experiment}/runs?viewStateShareKey="
    links = {
        "All cycles": f"{runs}{CYCLES}",
        "Score, gaps and cost by cycle": f"{runs}{METRICS_BY_CYCLE}&compareRunsMode=CHART",
        "Releases, the live one marked `champion`": f"#/models/{model}",
    }
    text = (
        "Each run is one cycle and is named after its decision. Among its artifacts, `decision.html` gives the reasons "
        "and `verdict-refresh.html` or `verdict-retrain.html` compares a candidate with the live release; "
        "`answers.json` of its step `prove` has one row per question. Useful tags to filter by: `decision`, "
        "`accepted`, `data_rev`, `index_version`."
    )
    return " · ".join(f"[{name}]({address})" for name, address in links.items()) + f"\n\n{text}"
