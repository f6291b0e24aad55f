"""Wall time, processor time and peak resident memory of a command, as the kernel reports them.

    python -I -S stopwatch.py REPORT COMMAND...

It is a process of its own that imports nothing large: a child's peak memory starts at the size of its parent.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> int:
    """Run the command, write seconds and MB to REPORT, and return the command's exit code."""
    target, *command = sys.argv[1:]
    started = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    measured = {
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "rss_mb": round(usage.ru_maxrss / 1024, 1),
    }
    with open(target, "w", encoding="utf-8") as file:  # noqa: PTH123  (pathlib is an import)
        json.dump(measured, file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
