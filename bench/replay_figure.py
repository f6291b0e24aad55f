"""Figure of the policies: answer score over the steps of each stream, mean regret, and score against compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from bench.recorded_states import Recording
from bench.regret import PolicyRun
from ragtide.pipelines.records.action import Component

Runs = Mapping[str, Mapping[tuple[str, float], PolicyRun]]
SHOWN = {"evidence": "#3c8c5a", "always": "#d98841", "never": "#8a94a0", "cara": "#4179a8", "modyn": "#8e5ea8"}
PRICE = 150.0
COLUMNS = 4


def draw(path: Path, recordings: Sequence[Recording], best: Mapping[tuple[str, float], PolicyRun], runs: Runs) -> None:
    """Write the figure; the same data always gives the same file."""
    rows = -(-len(recordings) // COLUMNS)
    figure = Figure(figsize=(13, 2.7 * rows + 3.4), layout="constrained")
    above, below = list(figure.subfigures(2, 1, squeeze=False, height_ratios=[2.7 * rows, 3.4]).flatten())
    panels = above.subplots(rows, COLUMNS, sharey=True, squeeze=False).flatten()
    for panel, recording in zip(panels, recordings, strict=False):
        _quality(panel, recording, best[recording.name, PRICE], runs)
    for panel in panels[len(recordings) :]:
        panel.set_axis_off()
    panels[0].set_ylabel("answer score")
    panels[0].legend(fontsize=7, loc="lower left")
    left, right = below.subplots(1, 2)
    _regret(left, recordings, best, runs)
    _costs(right, recordings, runs)
    with rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})


def _quality(panel: Any, recording: Recording, best: PolicyRun, runs: Runs) -> None:
    """Plot the score of what is live after each step, changed facts included.

    Marks show where the model or the embedder was trained.
    """
    panel.plot([step.users_score for step in best.steps], color="#222", linewidth=3, alpha=0.25, label="oracle")
    for name, colour in SHOWN.items():
        steps = runs[name][(recording.name, PRICE)].steps
        panel.plot([step.users_score for step in steps], color=colour, linewidth=1.5, label=name)
        for mark, component in (("^", Component.MODEL), ("s", Component.EMBEDDER)):
            marked = [number for number, step in enumerate(steps) if step.action.touches(component)]
            panel.plot(marked, [steps[number].users_score for number in marked], mark, color=colour, markersize=5)
    panel.set_title(f"{recording.name} ({recording.split})", fontsize=9)
    panel.set_ylim(-0.02, 1.05)
    panel.set_xticks(
        range(len(recording.steps)), [str(number + 1) for number in range(len(recording.steps))], fontsize=7
    )


def _mean(recordings: Sequence[Recording], runs: Mapping[tuple[str, float], PolicyRun], name: str) -> float:
    values = [getattr(runs[(recording.name, PRICE)], name) for recording in recordings]
    return float(sum(values) / len(values))


def _regret(
    panel: Any, recordings: Sequence[Recording], best: Mapping[tuple[str, float], PolicyRun], runs: Runs
) -> None:
    """Plot the mean regret by policy, at the price of the panels above."""
    streams = [recording.name for recording in recordings]
    regrets = {
        name: sum(best[stream, PRICE].utility(PRICE) - by_stream[stream, PRICE].utility(PRICE) for stream in streams)
        / len(streams)
        for name, by_stream in runs.items()
    }
    order = sorted(regrets, key=lambda name: -regrets[name])
    panel.barh(order, [regrets[name] for name in order], color=[SHOWN.get(name, "#b6bec6") for name in order])
    panel.margins(x=0.12)
    for position, name in enumerate(order):
        panel.text(regrets[name], position, f" {regrets[name]:.1f}", va="center", fontsize=8)
    panel.set_title(f"mean regret over the streams in points (1 hour of compute = {PRICE:g} points)", fontsize=9)


def _costs(panel: Any, recordings: Sequence[Recording], runs: Runs) -> None:
    """Plot score against compute; the best policies are at the upper left."""
    panel.margins(x=0.12, y=0.1)
    for name, by_stream in runs.items():
        seconds, score = _mean(recordings, by_stream, "seconds"), _mean(recordings, by_stream, "score")
        panel.plot(seconds, score, "o", color=SHOWN.get(name, "#b6bec6"))
        panel.annotate(name, (seconds, score), xytext=(4, 4), textcoords="offset points", fontsize=8)
    panel.set_xlabel("seconds of compute per stream")
    panel.set_ylabel("mean answer score")
    panel.set_title("score against compute", fontsize=9)
