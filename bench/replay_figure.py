"""How does each policy do on each stream? Quality over the steps, one panel a stream, and regret against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from bench.recording import Recording
from bench.regret import Walk
from ragtide.pipelines.records.action import Component

Walks = Mapping[str, Mapping[tuple[str, float], Walk]]
SHOWN = {"evidence": "#3c8c5a", "always": "#d98841", "never": "#8a94a0", "cara": "#4179a8", "modyn": "#8e5ea8"}
PRICE = 150.0
COLUMNS = 4


def draw(path: Path, recordings: Sequence[Recording], best: Mapping[tuple[str, float], Walk], walks: Walks) -> None:
    """Write the figure; the same data gives the same file."""
    rows = -(-len(recordings) // COLUMNS)
    figure = Figure(figsize=(13, 2.7 * rows + 3.4), layout="constrained")
    above, below = list(figure.subfigures(2, 1, squeeze=False, height_ratios=[2.7 * rows, 3.4]).flatten())
    panels = above.subplots(rows, COLUMNS, sharey=True, squeeze=False).flatten()
    for panel, recording in zip(panels, recordings, strict=False):
        _quality(panel, recording, best[recording.name, PRICE], walks)
    for panel in panels[len(recordings) :]:
        panel.set_axis_off()
    panels[0].set_ylabel("answer score")
    panels[0].legend(fontsize=7, loc="lower left")
    left, right = below.subplots(1, 2)
    _regret(left, recordings, best, walks)
    _costs(right, recordings, walks)
    with rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})


def _quality(panel: Any, recording: Recording, best: Walk, walks: Walks) -> None:
    """The live release's score after each step; marks where the model was retrained or the retriever tuned."""
    panel.plot([one.score for one in best.taken], color="#222", linewidth=3, alpha=0.25, label="oracle")
    for name, colour in SHOWN.items():
        taken = walks[name][(recording.name, PRICE)].taken
        panel.plot([one.score for one in taken], color=colour, linewidth=1.5, label=name)
        for mark, half in (("^", Component.MODEL), ("s", Component.EMBEDDER)):
            done = [at for at, one in enumerate(taken) if one.action.touches(half)]
            panel.plot(done, [taken[at].score for at in done], mark, color=colour, markersize=5)
    panel.set_title(f"{recording.name} ({recording.half})", fontsize=9)
    panel.set_ylim(-0.02, 1.05)
    panel.set_xticks(range(len(recording.turns)), [str(step + 1) for step in range(len(recording.turns))], fontsize=7)


def _mean(recordings: Sequence[Recording], walks: Mapping[tuple[str, float], Walk], name: str) -> float:
    some = [getattr(walks[(one.name, PRICE)], name) for one in recordings]
    return float(sum(some) / len(some))


def _regret(panel: Any, recordings: Sequence[Recording], best: Mapping[tuple[str, float], Walk], walks: Walks) -> None:
    """Mean regret by policy, at the price of the panels above."""
    regrets = {
        name: sum(best[one.name, PRICE].utility(PRICE) - some[(one.name, PRICE)].utility(PRICE) for one in recordings)
        / len(recordings)
        for name, some in walks.items()
    }
    order = sorted(regrets, key=lambda name: -regrets[name])
    panel.barh(order, [regrets[name] for name in order], color=[SHOWN.get(name, "#b6bec6") for name in order])
    panel.margins(x=0.12)
    for at, name in enumerate(order):
        panel.text(regrets[name], at, f" {regrets[name]:.1f}", va="center", fontsize=8)
    panel.set_title(f"mean regret over the streams, points (an hour of compute = {PRICE:g} points)", fontsize=9)


def _costs(panel: Any, recordings: Sequence[Recording], walks: Walks) -> None:
    """Quality against compute: the upper left is where one wants to be."""
    panel.margins(x=0.12, y=0.1)
    for name, some in walks.items():
        seconds, score = _mean(recordings, some, "seconds"), _mean(recordings, some, "score")
        panel.plot(seconds, score, "o", color=SHOWN.get(name, "#b6bec6"))
        panel.annotate(name, (seconds, score), xytext=(4, 4), textcoords="offset points", fontsize=8)
    panel.set_xlabel("seconds of compute a stream")
    panel.set_ylabel("mean answer score")
    panel.set_title("quality against cost", fontsize=9)
