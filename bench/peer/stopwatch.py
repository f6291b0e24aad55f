"""What does a command take? Wall time, processor time and the peak of its resident memory, as the kernel says.

    python -I -S stopwatch.py REPORT COMMAND...

A process of its own, with nothing imported: a child's peak begins at the size of the process that started it.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> int:
    """Run the command, write seconds and MB to REPORT, and end as the command did."""
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
