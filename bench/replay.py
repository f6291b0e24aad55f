"""Regret of every policy on the recorded streams, against the best sequence of actions in hindsight.

    python -m bench.replay [--policy MODULE:CLASS] [--setting KEY=VALUE ...] [--streams NAME,NAME] [--tune]
    python -m bench.replay --data FOLDER [--record NAME,NAME] [--record-only] [--rates] [--work .bench/replay]

The first replays the recordings in bench/streams/recordings, which takes minutes; with --policy, a policy of your own
is scored beside the others. --tune tries each policy's settings on the streams of the split "tune".

The second records first what has no recording yet: every action is carried out once and scored (bench/recording.py).
FOLDER holds the histories that `python -m bench.streams` names; the made-up streams need none. --record records streams
again, --rates measures the seconds of each kind of work again. Two processes may record side by side, each with a
RAGTIDE_BENCH_PROCESS of its own; one that is started again goes on with the answers and adapters that it has.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bench.rates import Rates, measure
from bench.recorded_states import Recording, read_recording, write_recording
from bench.recording import Stage
from bench.regret import SIGNALS_READ, PolicyRun, clear_cut, oracle, run_policy
from bench.replay_figure import draw
from bench.streams import NAMES, Stream, missing, streams
from bench.tables import markdown_table, put_table
from ragtide.flows.environment import prepare_environment
from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.params import FreshnessParams, PolicyParams
from ragtide.pipelines.policy.registry import BUILT_IN, load_policy
from ragtide.pipelines.ports import no_progress

RESULTS = Path(__file__).parent / "results" / "replay.json"
FIGURE = RESULTS.with_suffix(".svg")
RECORDINGS = Path(__file__).parent / "streams" / "recordings"
DEFAULT, ALWAYS, DUE = PolicyParams().name, "always", "never, facts due"
MAX_LAG = "freshness.max_lag_hours"
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
class Contestant:
    """A policy with its settings, by the name that the tables have.

    `max_lag_hours` is `freshness.max_lag_hours` of its project: 0 as by default, or None, which leaves it to the policy
    when what is new goes live.
    """

    name: str
    policy: str
    max_lag_hours: float | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def with_settings(self, settings: Mapping[str, Any]) -> Contestant:
        lag = settings.get(MAX_LAG, self.max_lag_hours)
        others = {key: value for key, value in settings.items() if key != MAX_LAG}
        return Contestant(self.name, self.policy, lag, {**self.settings, **others})

    def params(self, price: float) -> PolicyParams:
        values: dict[str, Any] = {"name": self.policy, "points_per_hour": price}
        for key, value in self.settings.items():
            block, _, name = key.rpartition(".")
            (values.setdefault(block, {}) if block else values)[name or key] = value
        return PolicyParams.model_validate(values)


def contestants() -> list[Contestant]:
    """Return the built-in policies: the default with what is due, the baselines alone, and what is due alone."""
    baselines = [Contestant(name, name, None) for name in BUILT_IN if name != DEFAULT]
    return [Contestant(DEFAULT, DEFAULT, FreshnessParams().max_lag_hours), *baselines, Contestant(DUE, "never", 0.0)]


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
    """Record what is missing, replay the policies, and print or write the tables."""
    options = _parser().parse_args()
    try:
        names = options.streams.split(",") if options.streams else list(NAMES)
        if options.data or options.record or options.rates:
            _record(options, names)
        if options.record_only:
            return 0
        setup = ReplaySetup.read(options.recordings, names)
        if options.tune:
            tune(setup)
        elif options.policy:
            settings = dict(_setting(text) for text in options.setting)
            own = Contestant(options.policy, options.policy, FreshnessParams().max_lag_hours).with_settings(settings)
            score_own(setup, own)
        else:
            report(setup)
    except (UserError, ValidationError) as problem:
        sys.stderr.write(f"bench.replay: {problem if isinstance(problem, UserError) else summarize_error(problem)}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="a policy of your own, module:Class, or the name of a built-in one")
    parser.add_argument("--setting", action="append", default=[], help=f"KEY=VALUE of the block policy, or {MAX_LAG}")
    parser.add_argument("--streams", default="", help="only these streams, separated by commas")
    parser.add_argument("--recordings", type=Path, default=RECORDINGS, help="the folder of the recordings")
    parser.add_argument("--tune", action="store_true", help="try each policy's settings")
    parser.add_argument("--data", type=Path, help="the folder of the histories; what is missing is recorded")
    parser.add_argument("--record", default="", help="record these streams again, separated by commas")
    parser.add_argument("--record-only", action="store_true")
    parser.add_argument("--rates", action="store_true", help="measure the seconds of each kind of work again")
    parser.add_argument("--work", type=Path, default=Path(".bench/replay"), help="the folder to record in")
    return parser


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--setting {text}: it should be KEY=VALUE, such as gain_lasts_cycles=3")
    return key, yaml.safe_load(value)


# --- recording -----------------------------------------------------------------------------------------------------


def _record(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Record the streams that have no recording, and those that are to be recorded again."""
    if options.data and (absent := missing(options.data)):
        raise UserError(f"{options.data} has no {absent[0]}: pass the data folder with --data")
    again = options.record.split(",") if options.record else []
    built = {stream.name: stream for stream in streams(options.data)}
    if unknown := [name for name in again if name not in built]:
        raise UserError(f"there is no stream {unknown[0]} without --data, or none of that name: {', '.join(NAMES)}")
    if options.rates:
        measure(next(iter(built.values()))).write(options.recordings / "rates.json")
    for name in again or names:
        if name in built and (again or not _recording_file(options.recordings, name).is_file()):
            record(built[name], options.work, options.recordings)


def record(stream: Stream, work: Path, recordings: Path) -> None:
    """Record a stream, unless another process is recording it."""
    with _claimed(work / f"{stream.name}.lock") as is_free:
        if not is_free:
            sys.stderr.write(f"{stream.name} is recorded by another process\n")
            return
        # Two processes, each bound to one core and with a folder of its own, are faster than one on both cores.
        root = work / f"stage-{os.environ.get('RAGTIDE_BENCH_PROCESS', '0')}"
        prepare_environment(root)
        sys.stderr.write(f"recording {stream.name} …\n")
        recording = Stage(stream, root, no_progress).carry_out()
        size = write_recording(recording, _recording_file(recordings, stream.name))
        sys.stderr.write(f"recorded {stream.name} in {recording.seconds:.0f} s: {size / 1000:.0f} kB\n")


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Lock a file; False where another process has locked it. A killed process leaves no lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _recording_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json.gz"


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

    @classmethod
    def read(cls, folder: Path, names: Sequence[str]) -> ReplaySetup:
        """Read the recordings of the streams that have one. Raises UserError if none has."""
        files = [_recording_file(folder, name) for name in names]
        recordings = [read_recording(file) for file in files if file.is_file()]
        if not recordings:
            raise UserError(f"{folder} has no recording of {', '.join(names)}: known are {', '.join(NAMES)}")
        return cls.of(recordings, Rates.read(folder / "rates.json"))


def replay(setup: ReplaySetup, contestant: Contestant, split: str | None = None) -> list[ReplayedRun]:
    """Run a policy, which knows the price, on every stream (of one split) at every price."""
    load_policy(contestant.policy)
    return [
        ReplayedRun(
            contestant.name,
            recording.name,
            recording.split,
            price,
            run_policy(recording, setup.rates, contestant.params(price), contestant.max_lag_hours),
            setup.best[recording.name, price].utility(price),
        )
        for recording, price in product(setup.recordings, PRICES)
        if split in (None, recording.split)
    ]


def mean_regret(runs: Sequence[ReplayedRun]) -> float:
    """Return the mean regret in points."""
    return sum(run.regret for run in runs) / len(runs)


def tune(setup: ReplaySetup) -> None:
    """Print each configurable policy's settings with the lowest mean regret on the tuning split, best first."""
    for contestant in contestants():
        grid = GRIDS.get(contestant.name, {})
        candidates = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []
        regrets = sorted(
            (mean_regret(replay(setup, contestant.with_settings(chosen), "tune")), str(chosen)) for chosen in candidates
        )
        if regrets:
            best = "; ".join(f"{regret:.2f} {chosen}" for regret, chosen in regrets[:4])
            sys.stdout.write(f"{contestant.name}: {best}\n")


def score_own(setup: ReplaySetup, own: Contestant) -> None:
    """Print the tables with a policy of the user's own beside the built-in ones, and where it was not right."""
    listed = {contestant.name: contestant for contestant in contestants()} | {own.name: own}
    runs_by_policy = {name: replay(setup, contestant) for name, contestant in listed.items()}
    results = _results(setup, runs_by_policy, own.name)
    sys.stdout.write(_tables(runs_by_policy, setup.recordings, results, own.name) + "\n")
    sys.stdout.write(_wrong_table(results) + "\n")


# --- the tables ----------------------------------------------------------------------------------------------------


def report(setup: ReplaySetup) -> None:
    """Replay every policy; write the results file, the figure and the tables, or print them if streams are missing."""
    recordings = setup.recordings
    runs_by_policy = {contestant.name: replay(setup, contestant) for contestant in contestants()}
    results = _results(setup, runs_by_policy, DEFAULT)
    tables = _tables(runs_by_policy, recordings, results, DEFAULT)
    if {recording.name for recording in recordings} != {*NAMES}:
        sys.stdout.write(f"{tables}\n\n{_wrong_table(results)}\n\nSome streams are missing: nothing was written.\n")
        return
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    runs = {name: {(run.stream, run.price): run.run for run in runs} for name, runs in runs_by_policy.items()}
    draw(FIGURE, recordings, setup.best, runs)
    put_table("replay", tables)


def _results(setup: ReplaySetup, runs_by_policy: Mapping[str, Sequence[ReplayedRun]], examined: str) -> dict[str, Any]:
    """Return everything that is reported; `examined` is the policy whose decisions are looked at step by step."""
    spread = spreads(runs_by_policy)
    return {
        "default": DEFAULT,
        "prices": list(PRICES),
        "clear_cut_accuracy": round(_accuracy(runs_by_policy[examined]), 4),
        "evidence_share": round(evidence_share(runs_by_policy, examined), 4),
        "recording_seconds": {recording.name: recording.seconds for recording in setup.recordings},
        "simulated": {recording.name: recording.simulated for recording in setup.recordings if recording.simulated},
        "policies": {name: _summary(runs, spread) for name, runs in runs_by_policy.items()},
        "not_right": _not_right(runs_by_policy[examined], setup.recordings),
        "rates": setup.rates.model_dump(exclude={"record_version"}),
    }


def _not_right(runs: Sequence[ReplayedRun], recordings: Sequence[Recording]) -> list[dict[str, Any]]:
    """Return the clear-cut steps that were not decided right, with the prices at which they were not."""
    prices: dict[tuple[str, int, str], list[float]] = {}
    for run in runs:
        for number, step in enumerate(run.run.steps, start=1):
            if step.right is not None and not step.is_right:
                prices.setdefault((run.stream, number, str(step.action)), []).append(run.price)
    steps = {recording.name: recording.steps for recording in recordings}
    return [
        {
            "stream": stream,
            "step": number,
            "description": steps[stream][number - 1].description,
            "action": action,
            "right": [str(right) for right in steps[stream][number - 1].right or ()],
            "prices": wrong_at,
        }
        for (stream, number, action), wrong_at in prices.items()
    ]


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


def evidence_share(runs_by_policy: Mapping[str, Sequence[ReplayedRun]], policy: str) -> float:
    """Return the seconds of a policy's evidence as a share of the seconds of always doing everything."""
    evidence_seconds = sum(run.run.evidence_seconds for run in runs_by_policy[policy])
    return evidence_seconds / sum(run.run.seconds for run in runs_by_policy[ALWAYS])


def _accuracy(runs: Sequence[ReplayedRun]) -> float:
    right, total = clear_cut([run.run for run in runs])
    return right / total if total else 1.0


def _summary(runs: Sequence[ReplayedRun], spread: Mapping[tuple[str, float], float]) -> dict[str, Any]:
    return {
        **_numbers(runs, spread),
        "splits": {split: _numbers([run for run in runs if run.split == split], spread) for split in _splits(runs)},
        "streams": {
            name: _numbers([run for run in runs if run.stream == name], spread)
            for name in dict.fromkeys(run.stream for run in runs)
        },
        "prices": {str(price): _numbers([run for run in runs if run.price == price], spread) for price in PRICES},
        "actions": {run.stream: [str(step.action) for step in run.run.steps] for run in runs if run.price == PRICES[0]},
    }


def _splits(runs: Sequence[ReplayedRun]) -> list[str]:
    return sorted({run.split for run in runs}, reverse=True)


def _numbers(runs: Sequence[ReplayedRun], spread: Mapping[tuple[str, float], float]) -> dict[str, float]:
    """Return means over streams and prices; seconds are summed over a stream's steps."""
    count, changed = len(runs), [run.run.changed_score for run in runs if run.run.changed_score is not None]
    right, total = clear_cut([run.run for run in runs])
    return {
        "regret": round(mean_regret(runs), 3),
        "regret_share": round(regret_share(runs, spread), 4),
        "score": round(sum(run.run.score for run in runs) / count, 4),
        **({"changed_score": round(sum(changed) / len(changed), 4)} if changed else {}),
        "cost_seconds": round(sum(run.run.seconds for run in runs) / count, 1),
        "evidence_seconds": round(sum(run.run.evidence_seconds for run in runs) / count, 1),
        "retrains": round(sum(run.run.retrains for run in runs) / count, 2),
        "right": round(right / total, 4) if total else 1.0,
    }


def _tables(
    runs_by_policy: Mapping[str, Sequence[ReplayedRun]],
    recordings: Sequence[Recording],
    results: Mapping[str, Any],
    examined: str,
) -> str:
    """Return the table of all policies, and that of the examined policy on every stream."""
    ordered = sorted(runs_by_policy, key=lambda name: mean_regret(runs_by_policy[name]))
    policies = markdown_table(POLICY_HEAD, [_row(name, results["policies"][name], examined) for name in ordered])
    head = [column.format(examined=examined, always=ALWAYS) for column in STREAM_HEAD]
    by_stream = [_stream_row(recording, results["policies"], examined) for recording in recordings]
    minutes = sum(recording.seconds for recording in recordings) / 60
    simulated = sorted({recording.simulated for recording in recordings if recording.simulated})
    closing = (
        f"{examined} is right at {results['clear_cut_accuracy']:.0%} of the clear-cut steps; its evidence takes "
        f"{results['evidence_share']:.1%} of the seconds of {ALWAYS}. The last pass of the recordings took "
        f"{minutes:.0f} minutes on one core; answers and adapters of earlier passes are kept."
    )
    closing += "".join(f" Simulated: {text}." for text in simulated)
    return "\n\n".join([policies, markdown_table(head, by_stream), closing])


POLICY_HEAD = (
    "policy",
    "mean regret",
    "share of the worst regret",
    "tune / test split",
    "share, tune / test",
    "score",
    "score on changed facts",
    "seconds",
    "retrains",
    "clear-cut steps right",
)
STREAM_HEAD = (
    "stream",
    "split",
    "simulated",
    "regret of {examined}",
    "share of the worst regret",
    "best other policy",
    "score",
    "score of {always}",
    "on changed facts",
    "of {always}",
    "seconds",
    "seconds of {always}",
)


def _row(name: str, numbers: Mapping[str, Any], examined: str) -> list[str]:
    splits = numbers["splits"].values()
    return [
        f"**{name}**" if name == examined else name,
        f"{numbers['regret']:.1f}",
        f"{numbers['regret_share']:.1%}",
        " / ".join(f"{split['regret']:.1f}" for split in splits),
        " / ".join(f"{split['regret_share']:.1%}" for split in splits),
        f"{numbers['score']:.3f}",
        _changed(numbers),
        f"{numbers['cost_seconds']:.0f}",
        f"{numbers['retrains']:.1f}",
        f"{numbers['right']:.0%}",
    ]


def _changed(numbers: Mapping[str, float]) -> str:
    return f"{numbers['changed_score']:.3f}" if "changed_score" in numbers else ""


def _stream_row(recording: Recording, policies: Mapping[str, Any], examined: str) -> list[str]:
    numbers = {name: summary["streams"][recording.name] for name, summary in policies.items()}
    best = min((name for name in policies if name != examined), key=lambda name: numbers[name]["regret"])
    own, always = numbers[examined], numbers[ALWAYS]
    return [
        recording.name,
        recording.split,
        recording.simulated.partition(":")[0],
        f"{own['regret']:.1f}",
        f"{own['regret_share']:.1%}",
        f"{best} {numbers[best]['regret']:.1f}",
        f"{own['score']:.3f}",
        f"{always['score']:.3f}",
        _changed(own),
        _changed(always),
        f"{own['cost_seconds']:.0f}",
        f"{always['cost_seconds']:.0f}",
    ]


def _wrong_table(results: Mapping[str, Any]) -> str:
    """Return the table of the clear-cut steps that were not decided right."""
    head = ("stream", "step", "description", "decided", "right", "prices")
    rows = [
        [
            wrong["stream"],
            str(wrong["step"]),
            wrong["description"],
            wrong["action"],
            " or ".join(wrong["right"]),
            ", ".join(f"{price:g}" for price in wrong["prices"]),
        ]
        for wrong in results["not_right"]
    ]
    return f"Clear-cut steps that were not decided right:\n\n{markdown_table(head, rows)}" if rows else "All right."


assert set(SIGNALS_READ) | {DEFAULT} == set(BUILT_IN)

if __name__ == "__main__":
    sys.exit(main())
