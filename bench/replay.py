"""Which policy decides best? Every policy on eight recorded streams, beside the best that could have been done.

    python -m bench.replay --data FOLDER [--work .bench/replay] [--streams NAME,NAME] [--record-only]

Every action is really carried out once and scored (bench/recording.py), which takes about an hour on two cores; what is
recorded stays in --work, and policies are replayed on it for free.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bench.recording import Recording, Stage
from bench.streams import Stream, missing, streams
from flows.environment import prepare
from pipelines.ports import quiet


def main() -> int:
    """Record what is not recorded yet, replay every policy, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/replay"))
    parser.add_argument("--streams", default="", help="only these, for recording in several processes")
    parser.add_argument("--record-only", action="store_true")
    options = parser.parse_args()
    if absent := missing(options.data):
        sys.stderr.write(f"bench.replay: {options.data} has no {absent[0]}: name the data with --data\n")
        return 1
    chosen = [one for one in streams(options.data) if not options.streams or one.name in options.streams.split(",")]
    recordings = [recorded(stream, options.work) for stream in chosen]
    print(f"{len(recordings)} streams recorded")
    return 0


def recorded(stream: Stream, work: Path) -> Recording:
    """A stream's recording, made now where there is none."""
    path = work / "recordings" / f"{stream.name}.json"
    if path.is_file():
        return Recording.read(path)
    root = work / f"stage-{os.environ.get('RAGTIDE_BENCH_PROCESS', '0')}"
    prepare(root)
    sys.stderr.write(f"recording {stream.name} …\n")
    recording = Stage(stream, root, quiet).carry_out()
    recording.write(path)
    sys.stderr.write(f"recorded {stream.name} in {recording.seconds:.0f} s\n")
    return recording


if __name__ == "__main__":
    sys.exit(main())
