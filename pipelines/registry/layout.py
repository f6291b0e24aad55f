"""How is MLflow laid out for a reviewer? The experiment's text, its saved views, and the page of each release."""

from __future__ import annotations

import json

from ragtide.pipelines.history.history import INDEX_GAP, LAG_SECONDS, LIVE_SCORE, MODEL_GAP
from ragtide.pipelines.records.release import Cycle, Release

# Where a run's numbers over the turns stand in charts, apart from those of the single turns.
OVER = "over the cycles"
# What a person knows a view by, and its place in its address.
CYCLES, OVER_TIME = "cycles", "over-the-cycles"
_VIEW = "mlflow.sharedViewState."
# MLflow sorts them by name, metrics first; the decision stands in the run's name.
_COLUMNS = (
    "metrics.`score_before`",
    "metrics.`score_after`",
    f"metrics.`{INDEX_GAP}`",
    f"metrics.`{MODEL_GAP}`",
    "tags.`accepted`",
    "tags.`index_version`",
    "tags.`outcome`",
    "tags.`outcome_detail`",
)


def experiment_tags(experiment: str, model: str) -> dict[str, str]:
    """What an experiment says of itself, and the views that its page offers under Views."""
    return {
        "mlflow.note.content": _experiment_text(experiment, model),
        "mlflow.experimentKind": "genai_development",
        f"{_VIEW}{CYCLES}": _view("Cycles", "cycle", selectedColumns=list(_COLUMNS)),
        f"{_VIEW}{OVER_TIME}": _view("Over the cycles", "timeline"),
    }


def cycle_chart_metrics(cycle: Cycle) -> dict[str, float]:
    """What is charted of a turn, by the names of the charts; what was not measured is left out."""
    went_live = cycle.release is not None and cycle.score_after is not None
    score = cycle.score_after if went_live else cycle.score_before
    lag = cycle.signals.get(LAG_SECONDS)
    values = {
        "live score": cycle.signals.get(LIVE_SCORE) if score is None else score,
        "index gap": cycle.signals.get(INDEX_GAP),
        "model gap": cycle.signals.get(MODEL_GAP),
        "embedded chunks": cycle.work.get("embedded_chunks", 0.0),
        "turn seconds": cycle.seconds,
        "data lag hours": None if lag is None else lag / 3600,
    }
    return {f"{OVER}/{name}": value for name, value in values.items() if value is not None}


def release_description(release: Release, experiment: str, run: str) -> str:
    """What stands under Description on a release's page: what it is made of, and where that came from."""
    at = f"#/experiments/{experiment}/runs/{run}"
    adapter = release.model.adapter or "none"
    before = f"release {release.previous}" if release.previous else "nothing"
    snapshot, index, asked = release.snapshot, release.index, release.scorecard.answer_score.n
    measured = release.scorecard.answer_score.value
    score = "not measured" if measured is None else f"{measured:.2f}"
    return "\n".join(
        [
            # The list of releases shows the first words as they are written; an interval in brackets becomes a link.
            f"{release.decision}: answer score {score} on {asked} questions, made {release.created}.",
            "",
            f"- why: [the decision]({at}/artifacts/decision.html) of [its cycle]({at})",
            f"- proven: [the verdict]({at}/artifacts/verdict.html)",
            f"- data `{snapshot.id}`: documents `{snapshot.kb_id}`, training examples `{snapshot.train_id}`, "
            f"golden questions `{snapshot.golden_id}`, as the datasets of its cycle",
            f"- index: version {index.version}, tag `{release.index_tag}`, {index.rows} chunks",
            f"- model: `{release.model.base}`, adapter `{adapter}`",
            f"- before it: {before}; `ragtide rollback --to {release.id}` makes this one live again",
        ]
    )


def model_description(experiment: str) -> str:
    """What stands under Description on the registered model's page."""
    return (
        "Each version is a release: an index and an adapter that go live together. The alias `champion` is the one "
        "pointer that says which is live; `ragtide rollback` moves it back. "
        f"[Its cycles](#/experiments/{experiment}/runs?viewStateShareKey={CYCLES})."
    )


def _view(name: str, kind: str, **state: object) -> str:
    """A view as MLflow 3.17 saves one: what it shows, under a name, without the time at which it was saved."""
    shown = {"searchFilter": f"tags.`ragtide.kind` = '{kind}'", **state}
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(shown)})


def _experiment_text(experiment: str, model: str) -> str:
    """The links first: the page shows little more than a line until it is asked for the rest."""
    runs = f"#/experiments/{experiment}/runs?viewStateShareKey="
    links = {
        "The cycles, a row each": f"{runs}{CYCLES}",
        "Score, gaps and cost over the cycles": f"{runs}{OVER_TIME}&compareRunsMode=CHART",
        "The releases, and which one is live": f"#/models/{model}",
    }
    told = (
        "A run for each turn of the loop, named by its decision: `decision.html` among its artifacts says why, "
        "`verdict.html` how the candidate did, and `answers.json` of its step prove has a row a question. "
        "Filter by the tags `decision`, `accepted`, `data_rev`, `index_version`."
    )
    return " · ".join(f"[{name}]({where})" for name, where in links.items()) + f"\n\n{told}"
