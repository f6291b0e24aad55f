"""Consistency of a project whose commands are killed at the moments between tag, pointer and record.

    python -m bench.kills

Each round kills every moment of tests/aimed_kills.py once, by SIGKILL, in the same project: publishing, rolling back,
maintenance and repair. After each kill it looks at the live release, repairs, and releases once more. It needs no data
and takes about 10 minutes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from bench.tables import update_results
from tests.aimed_kills import MOMENTS, kill_at, make_shelter


def main() -> int:
    """Run the benchmark; the exit code is 1 where anything was lost or torn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(".bench/kills"))
    options = parser.parse_args()
    work = options.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    started, shelter = time.perf_counter(), make_shelter(work / "project")
    kills = torn = 0
    lost: list[str] = []
    for number in range(options.rounds):
        for moment in MOMENTS:
            left = kill_at(shelter, moment)
            kills, torn = kills + 1, torn + left.torn
            lost += [f"round {number + 1}, {moment}: {what}" for what in left.lost]
            print(
                f"round {number + 1}, {moment}: {'torn' if left.torn else 'whole'}, lost: {list(left.lost)}", flush=True
            )
    fields = {"aimed_kills": kills, "aimed_moments": len(MOMENTS), "lost": len(lost), "torn": torn, "lost_what": lost}
    update_results("safe", "kills", fields | {"kill_seconds": round(time.perf_counter() - started, 1)})
    return int(bool(lost or torn))


if __name__ == "__main__":
    sys.exit(main())
