"""Which policy decides best? Every policy on nine recorded streams, beside the best that could have been done.

    python -m bench.replay --data FOLDER [--work .bench/replay] [--streams NAME,NAME] [--record-only] [--tune]

Every action is really carried out once and scored (bench/recording.py), which takes about an hour and a half on two
cores; what is recorded stays in --work, and policies are replayed on it for free. --tune tries each policy's settings
on the half of the streams that is for tuning.
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
from bench.regret import LOOKS_AT, Walk, clear_cut, oracle, walk
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
# Points of answer score at a step that an hour of compute is worth: a retrain of 100 s costs 1.4, 4, 14, 42 points.
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
class Played:
    """One policy on one stream at one price, and the oracle's utility there."""

    policy: str
    stream: str
    half: str
    price: float
    walk: Walk
    best: float

    @property
    def regret(self) -> float:
        return self.best - self.walk.utility(self.price)


def main() -> int:
    """Record what is not recorded yet, replay every policy, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/replay"))
    parser.add_argument("--streams", default="", help="only these, for recording in several processes")
    parser.add_argument("--record-only", action="store_true")
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    if absent := missing(options.data):
        sys.stderr.write(f"bench.replay: {options.data} has no {absent[0]}: name the data with --data\n")
        return 1
    chosen = [one for one in streams(options.data) if not options.streams or one.name in options.streams.split(",")]
    recordings = [recorded(stream, options.work) for stream in chosen]
    if options.record_only:
        return 0
    ground = Ground.of(recordings, measured(chosen[0], options.work))
    if options.tune:
        tune(ground)
    else:
        report(ground)
    return 0


def recorded(stream: Stream, work: Path) -> Recording:
    """A stream's recording, made now where there is none."""
    path = work / "recordings" / f"{stream.name}.json"
    if path.is_file():
        return Recording.read(path)
    # Two processes, each bound to a core and with a folder of its own, are done sooner than one on both cores.
    root = work / f"stage-{os.environ.get('RAGTIDE_BENCH_PROCESS', '0')}"
    prepare_environment(root)
    sys.stderr.write(f"recording {stream.name} …\n")
    recording = Stage(stream, root, no_progress).carry_out()
    recording.write(path)
    sys.stderr.write(f"recorded {stream.name} in {recording.seconds:.0f} s\n")
    return recording


def measured(stream: Stream, work: Path) -> Rates:
    """The rates of this machine, taken now where they were not yet."""
    path = work / "rates.json"
    if not path.is_file() or not Rates.read(path).pair_seconds:
        measure(stream).write(path)
    return Rates.read(path)


# --- replaying -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ground:
    """What every policy is played on: the streams, the rates, and the best sequence by (stream, price)."""

    recordings: Sequence[Recording]
    rates: Rates
    best: Mapping[tuple[str, float], Walk]

    @classmethod
    def of(cls, recordings: Sequence[Recording], rates: Rates) -> Ground:
        best = {(one.name, price): oracle(one, rates, price) for one, price in product(recordings, PRICES)}
        return cls(recordings, rates, best)


def play(ground: Ground, policy: str, half: str | None = None, **settings: Any) -> list[Played]:
    """A policy on every stream (of one half) at every price; it is told the price."""
    return [
        Played(
            policy,
            recording.name,
            recording.half,
            price,
            walk(recording, ground.rates, _params(policy, price, settings)),
            ground.best[recording.name, price].utility(price),
        )
        for recording, price in product(ground.recordings, PRICES)
        if half in (None, recording.half)
    ]


def _params(policy: str, price: float, settings: Mapping[str, Any]) -> PolicyParams:
    values: dict[str, Any] = {"name": policy, "points_per_hour": price}
    for key, value in settings.items():
        block, _, name = key.rpartition(".")
        (values.setdefault(block, {}) if block else values)[name or key] = value
    return PolicyParams.model_validate(values)


def mean_regret(played: Sequence[Played]) -> float:
    return sum(one.regret for one in played) / len(played)


def tune(ground: Ground) -> None:
    """Print the mean regret, on the half to tune on, of every setting of every policy that has some; the best first."""
    for policy, grid in GRIDS.items():
        tried = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        regrets = sorted((mean_regret(play(ground, policy, "tune", **one)), str(one)) for one in tried)
        sys.stdout.write(f"{policy}: " + "; ".join(f"{regret:.2f} {told}" for regret, told in regrets[:4]) + "\n")


# --- the tables ----------------------------------------------------------------------------------------------------


def report(ground: Ground) -> None:
    """Replay every policy and write results, figure and table."""
    recordings = ground.recordings
    played = {name: play(ground, name) for name in BUILT_IN}
    spread = spreads(played)
    results = {
        "default": DEFAULT,
        "prices": list(PRICES),
        "clear_cut_accuracy": round(_accuracy(played[DEFAULT]), 4),
        "evidence_share": round(evidence_share(played), 4),
        "recording_seconds": {one.name: one.seconds for one in recordings},
        "policies": {name: _summary(some, spread) for name, some in played.items()},
        "rates": ground.rates.model_dump(exclude={"record_version"}),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    walks = {name: {(one.stream, one.price): one.walk for one in some} for name, some in played.items()}
    draw(FIGURE, recordings, ground.best, walks)
    put_table("replay", _tables(played, recordings, results))


def spreads(played: Mapping[str, Sequence[Played]]) -> dict[tuple[str, float], float]:
    """(stream, price) -> the regret of the policy that is worst there: how far the oracle is from it."""
    every = [one for some in played.values() for one in some]
    return {
        (stream, price): max(one.regret for one in every if (one.stream, one.price) == (stream, price))
        for stream, price in {(one.stream, one.price) for one in every}
    }


def regret_share(some: Sequence[Played], spread: Mapping[tuple[str, float], float]) -> float:
    """The mean regret as a share of the mean spread between the oracle and the worst policy."""
    return mean_regret(some) / (sum(spread[(one.stream, one.price)] for one in some) / len(some))


def evidence_share(played: Mapping[str, Sequence[Played]]) -> float:
    """What the default policy's evidence takes, as a share of what it decides about: doing everything."""
    looked = sum(one.walk.evidence_seconds for one in played[DEFAULT])
    return looked / sum(one.walk.seconds for one in played[ALWAYS])


def _accuracy(played: Sequence[Played]) -> float:
    right, of = clear_cut([one.walk for one in played])
    return right / of


def _summary(some: Sequence[Played], spread: Mapping[tuple[str, float], float]) -> dict[str, Any]:
    return {
        **_numbers(some, spread),
        "halves": {half: _numbers([one for one in some if one.half == half], spread) for half in ("tune", "test")},
        "streams": {
            name: _numbers([one for one in some if one.stream == name], spread)
            for name in dict.fromkeys(one.stream for one in some)
        },
        "prices": {str(price): _numbers([one for one in some if one.price == price], spread) for price in PRICES},
        "actions": {
            one.stream: [str(taken.action) for taken in one.walk.taken] for one in some if one.price == PRICES[0]
        },
    }


def _numbers(some: Sequence[Played], spread: Mapping[tuple[str, float], float]) -> dict[str, float]:
    """Means over streams and prices; seconds are those of all of a stream's steps."""
    count = len(some)
    right, of = clear_cut([one.walk for one in some])
    return {
        "regret": round(mean_regret(some), 3),
        "regret_share": round(regret_share(some, spread), 4),
        "score": round(sum(one.walk.score for one in some) / count, 4),
        "cost_seconds": round(sum(one.walk.seconds for one in some) / count, 1),
        "evidence_seconds": round(sum(one.walk.evidence_seconds for one in some) / count, 1),
        "retrains": round(sum(one.walk.retrains for one in some) / count, 2),
        "right": round(right / of, 4) if of else 1.0,
    }


def _tables(played: Mapping[str, Sequence[Played]], recordings: Sequence[Recording], results: Mapping[str, Any]) -> str:
    """All policies, then the default on every stream."""
    head = [
        "policy",
        "mean regret",
        "of the spread",
        "tune / test half",
        "score",
        "seconds",
        "retrains",
        "clear-cut right",
    ]
    rows = [
        _row(name, results["policies"][name]) for name in sorted(played, key=lambda name: mean_regret(played[name]))
    ]
    names = [
        "stream",
        "half",
        f"regret of {DEFAULT}",
        "of the spread",
        "best other policy",
        "score",
        f"score of {ALWAYS}",
    ]
    streams_rows = [_stream_row(one, played, results["policies"]) for one in recordings]
    minutes = sum(one.seconds for one in recordings) / 60
    closing = (
        f"Right at {results['clear_cut_accuracy']:.0%} of the clear-cut steps; evidence took "
        f"{results['evidence_share']:.1%} of what doing everything takes. The last pass of the recording took "
        f"{minutes:.0f} minutes of one core; answers and adapters of earlier passes are kept."
    )
    return "\n\n".join(
        [markdown_table(head, rows), markdown_table([*names, "seconds", f"seconds of {ALWAYS}"], streams_rows), closing]
    )


def _row(name: str, numbers: Mapping[str, Any]) -> list[str]:
    halves = numbers["halves"]
    return [
        f"**{name}**" if name == DEFAULT else name,
        f"{numbers['regret']:.1f}",
        f"{numbers['regret_share']:.1%}",
        f"{halves['tune']['regret']:.1f} / {halves['test']['regret']:.1f}" if halves["test"] else "",
        f"{numbers['score']:.3f}",
        f"{numbers['cost_seconds']:.0f}",
        f"{numbers['retrains']:.1f}",
        f"{numbers['right']:.0%}",
    ]


def _stream_row(recording: Recording, played: Mapping[str, Sequence[Played]], policies: Mapping[str, Any]) -> list[str]:
    numbers = {name: policies[name]["streams"][recording.name] for name in played}
    best = min((name for name in played if name != DEFAULT), key=lambda name: numbers[name]["regret"])
    mine, all_done = numbers[DEFAULT], numbers[ALWAYS]
    return [
        recording.name,
        recording.half,
        f"{mine['regret']:.1f}",
        f"{mine['regret_share']:.1%}",
        f"{best} {numbers[best]['regret']:.1f}",
        f"{mine['score']:.3f}",
        f"{all_done['score']:.3f}",
        f"{mine['cost_seconds']:.0f}",
        f"{all_done['cost_seconds']:.0f}",
    ]


assert set(LOOKS_AT) | {DEFAULT} == set(BUILT_IN)

if __name__ == "__main__":
    sys.exit(main())
