"""Regret of every policy on nine recorded streams, against the best sequence of actions in hindsight.

    python -m bench.replay --data FOLDER [--work .bench/replay] [--streams NAME,NAME] [--record-only] [--tune]

FOLDER holds the histories that `python -m bench.streams` names. Every action is carried out once and scored
(bench/recording.py), which takes about three hours on one core. Recordings stay in --work, and policies are
replayed on them in minutes. --tune tries each policy's settings on the streams of the split "tune".
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bench.rates import Rates, measure
from bench.recording import Recording, Stage
from bench.regret import SIGNALS_READ, PolicyRun, clear_cut, oracle, run_policy
from bench.replay_figure import draw
from bench.streams import Stream, missing, streams
from bench.tables import markdown_table, put_table
from ragtide.flows.environment import prepare_environment
from ragtide.pipelines.params import PolicyParams
from ragtide.pipelines.policy.registry import BUILT_IN
from ragtide.pipelines.ports import no_progress

RESULTS = Path(__file__).parent / "results" / "replay.json"
FIGURE = RESULTS.with_suffix(".svg")
DEFAULT, ALWAYS = PolicyParams().name, "always"
# Points of answer score at one step that an hour of compute is worth: a retrain of 100 s costs 1.4, 4, 14, 42 points.
PRICES = (50.0, 150.0, 500.0, 1500.0)
GRIDS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "evidence": {
        "gain_lasts_cycles": (1.0, 2.0, 3.0, 5.0),
        "examples_half": (12.0, 24.0, 48.0),
        "excess_loss_full": (0.25, 0.5, 1.0),
    },
    "periodic": {"baseline.period_cycles": (1, 2, 3, 4, 6)},
    "amount": {"baseline.amount_share": (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)},
    "cusum": {"baseline.cusum_limit": (0.01, 0.02, 0.05, 0.1, 0.2), "baseline.cusum_slack": (0.0, 0.01, 0.02, 0.05)},
    "drift": {"baseline.drift_limit": (0.005, 0.01, 0.02, 0.05, 0.1)},
}


@dataclass(frozen=True)
class ReplayedRun:
    """The run of one policy on one stream at one price, with the oracle's utility."""

    policy: str
    stream: str
    split: str
    price: float
    run: PolicyRun
    best: float

    @property
    def regret(self) -> float:
        return self.best - self.run.utility(self.price)


def main() -> int:
    """Record the streams without a recording, replay every policy, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/replay"))
    parser.add_argument("--streams", default="", help="record only these streams, separated by commas")
    parser.add_argument("--record-only", action="store_true")
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    if absent := missing(options.data):
        sys.stderr.write(f"bench.replay: {options.data} has no {absent[0]}: pass the data folder with --data\n")
        return 1
    names = options.streams.split(",") if options.streams else None
    chosen = [stream for stream in streams(options.data) if names is None or stream.name in names]
    recordings = [recorded(stream, options.work) for stream in chosen]
    if options.record_only:
        return 0
    setup = ReplaySetup.of(recordings, measured(chosen[0], options.work))
    if options.tune:
        tune(setup)
    else:
        report(setup)
    return 0


def recorded(stream: Stream, work: Path) -> Recording:
    """Return a stream's recording; record it if there is none."""
    path = work / "recordings" / f"{stream.name}.json"
    if path.is_file():
        return Recording.read(path)
    # Two processes, each bound to one core and with a folder of its own, are faster than one process on both cores.
    root = work / f"stage-{os.environ.get('RAGTIDE_BENCH_PROCESS', '0')}"
    prepare_environment(root)
    sys.stderr.write(f"recording {stream.name} …\n")
    recording = Stage(stream, root, no_progress).carry_out()
    recording.write(path)
    sys.stderr.write(f"recorded {stream.name} in {recording.seconds:.0f} s\n")
    return recording


def measured(stream: Stream, work: Path) -> Rates:
    """Return this machine's rates; measure them if they are not stored yet."""
    path = work / "rates.json"
    if not path.is_file():
        measure(stream).write(path)
    return Rates.read(path)


# --- replaying -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReplaySetup:
    """The recordings, the rates, and the oracle's run by (stream, price)."""

    recordings: Sequence[Recording]
    rates: Rates
    best: Mapping[tuple[str, float], PolicyRun]

    @classmethod
    def of(cls, recordings: Sequence[Recording], rates: Rates) -> ReplaySetup:
        pairs = product(recordings, PRICES)
        best = {(recording.name, price): oracle(recording, rates, price) for recording, price in pairs}
        return cls(recordings, rates, best)


def replay(setup: ReplaySetup, policy: str, split: str | None = None, **settings: Any) -> list[ReplayedRun]:
    """Run a policy, which knows the price, on every stream (of one split) at every price."""
    return [
        ReplayedRun(
            policy,
            recording.name,
            recording.split,
            price,
            run_policy(recording, setup.rates, _params(policy, price, settings)),
            setup.best[recording.name, price].utility(price),
        )
        for recording, price in product(setup.recordings, PRICES)
        if split in (None, recording.split)
    ]


def _params(policy: str, price: float, settings: Mapping[str, Any]) -> PolicyParams:
    values: dict[str, Any] = {"name": policy, "points_per_hour": price}
    for key, value in settings.items():
        block, _, name = key.rpartition(".")
        (values.setdefault(block, {}) if block else values)[name or key] = value
    return PolicyParams.model_validate(values)


def mean_regret(runs: Sequence[ReplayedRun]) -> float:
    """Return the mean regret in points."""
    return sum(run.regret for run in runs) / len(runs)


def tune(setup: ReplaySetup) -> None:
    """Print each configurable policy's settings with the lowest mean regret on the tuning split, best first."""
    for policy, grid in GRIDS.items():
        candidates = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        regrets = sorted((mean_regret(replay(setup, policy, "tune", **chosen)), str(chosen)) for chosen in candidates)
        best = "; ".join(f"{regret:.2f} {chosen}" for regret, chosen in regrets[:4])
        sys.stdout.write(f"{policy}: {best}\n")


# --- the tables ----------------------------------------------------------------------------------------------------


def report(setup: ReplaySetup) -> None:
    """Replay every policy, and write the results file, the figure and the tables."""
    recordings = setup.recordings
    runs_by_policy = {name: replay(setup, name) for name in BUILT_IN}
    spread = spreads(runs_by_policy)
    results = {
        "default": DEFAULT,
        "prices": list(PRICES),
        "clear_cut_accuracy": round(_accuracy(runs_by_policy[DEFAULT]), 4),
        "evidence_share": round(evidence_share(runs_by_policy), 4),
        "recording_seconds": {recording.name: recording.seconds for recording in recordings},
        "policies": {name: _summary(runs, spread) for name, runs in runs_by_policy.items()},
        "rates": setup.rates.model_dump(exclude={"record_version"}),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    runs = {name: {(run.stream, run.price): run.run for run in runs} for name, runs in runs_by_policy.items()}
    draw(FIGURE, recordings, setup.best, runs)
    put_table("replay", _tables(runs_by_policy, recordings, results))


def spreads(runs_by_policy: Mapping[str, Sequence[ReplayedRun]]) -> dict[tuple[str, float], float]:
    """Return the regret of the worst policy by (stream, price)."""
    largest: dict[tuple[str, float], float] = {}
    for run in (run for runs in runs_by_policy.values() for run in runs):
        key = (run.stream, run.price)
        largest[key] = max(run.regret, largest.get(key, run.regret))
    return largest


def regret_share(runs: Sequence[ReplayedRun], spread: Mapping[tuple[str, float], float]) -> float:
    """Return the mean regret as a share of the mean regret of the worst policies."""
    return mean_regret(runs) / (sum(spread[(run.stream, run.price)] for run in runs) / len(runs))


def evidence_share(runs_by_policy: Mapping[str, Sequence[ReplayedRun]]) -> float:
    """Return the seconds of the default policy's evidence as a share of the seconds of always doing everything."""
    evidence_seconds = sum(run.run.evidence_seconds for run in runs_by_policy[DEFAULT])
    return evidence_seconds / sum(run.run.seconds for run in runs_by_policy[ALWAYS])


def _accuracy(runs: Sequence[ReplayedRun]) -> float:
    right, total = clear_cut([run.run for run in runs])
    return right / total


def _summary(runs: Sequence[ReplayedRun], spread: Mapping[tuple[str, float], float]) -> dict[str, Any]:
    return {
        **_numbers(runs, spread),
        "splits": {split: _numbers([run for run in runs if run.split == split], spread) for split in ("tune", "test")},
        "streams": {
            name: _numbers([run for run in runs if run.stream == name], spread)
            for name in dict.fromkeys(run.stream for run in runs)
        },
        "prices": {str(price): _numbers([run for run in runs if run.price == price], spread) for price in PRICES},
        "actions": {run.stream: [str(step.action) for step in run.run.steps] for run in runs if run.price == PRICES[0]},
    }


def _numbers(runs: Sequence[ReplayedRun], spread: Mapping[tuple[str, float], float]) -> dict[str, float]:
    """Return means over streams and prices; seconds are summed over a stream's steps."""
    count = len(runs)
    right, total = clear_cut([run.run for run in runs])
    return {
        "regret": round(mean_regret(runs), 3),
        "regret_share": round(regret_share(runs, spread), 4),
        "score": round(sum(run.run.score for run in runs) / count, 4),
        "cost_seconds": round(sum(run.run.seconds for run in runs) / count, 1),
        "evidence_seconds": round(sum(run.run.evidence_seconds for run in runs) / count, 1),
        "retrains": round(sum(run.run.retrains for run in runs) / count, 2),
        "right": round(right / total, 4) if total else 1.0,
    }


def _tables(
    runs_by_policy: Mapping[str, Sequence[ReplayedRun]], recordings: Sequence[Recording], results: Mapping[str, Any]
) -> str:
    """Return the table of all policies, and that of the default policy on every stream."""
    head = [
        "policy",
        "mean regret",
        "share of the worst regret",
        "tune / test split",
        "score",
        "seconds",
        "retrains",
        "clear-cut steps right",
    ]
    rows = [
        _row(name, results["policies"][name])
        for name in sorted(runs_by_policy, key=lambda name: mean_regret(runs_by_policy[name]))
    ]
    names = [
        "stream",
        "split",
        f"regret of {DEFAULT}",
        "share of the worst regret",
        "best other policy",
        "score",
        f"score of {ALWAYS}",
    ]
    streams_rows = [_stream_row(recording, results["policies"]) for recording in recordings]
    minutes = sum(recording.seconds for recording in recordings) / 60
    closing = (
        f"{DEFAULT} is right at {results['clear_cut_accuracy']:.0%} of the clear-cut steps; its evidence takes "
        f"{results['evidence_share']:.1%} of the seconds of {ALWAYS}. The last pass of the recording took "
        f"{minutes:.0f} minutes on one core; answers and adapters of earlier passes are kept."
    )
    return "\n\n".join(
        [markdown_table(head, rows), markdown_table([*names, "seconds", f"seconds of {ALWAYS}"], streams_rows), closing]
    )


def _row(name: str, numbers: Mapping[str, Any]) -> list[str]:
    splits = numbers["splits"]
    return [
        f"**{name}**" if name == DEFAULT else name,
        f"{numbers['regret']:.1f}",
        f"{numbers['regret_share']:.1%}",
        f"{splits['tune']['regret']:.1f} / {splits['test']['regret']:.1f}" if splits["test"] else "",
        f"{numbers['score']:.3f}",
        f"{numbers['cost_seconds']:.0f}",
        f"{numbers['retrains']:.1f}",
        f"{numbers['right']:.0%}",
    ]


def _stream_row(recording: Recording, policies: Mapping[str, Any]) -> list[str]:
    numbers = {name: summary["streams"][recording.name] for name, summary in policies.items()}
    best = min((name for name in policies if name != DEFAULT), key=lambda name: numbers[name]["regret"])
    default, always = numbers[DEFAULT], numbers[ALWAYS]
    return [
        recording.name,
        recording.split,
        f"{default['regret']:.1f}",
        f"{default['regret_share']:.1%}",
        f"{best} {numbers[best]['regret']:.1f}",
        f"{default['score']:.3f}",
        f"{always['score']:.3f}",
        f"{default['cost_seconds']:.0f}",
        f"{always['cost_seconds']:.0f}",
    ]


assert set(SIGNALS_READ) | {DEFAULT} == set(BUILT_IN)

if __name__ == "__main__":
    sys.exit(main())
