"""Run of the demo that writes its closing table into the project's README.

    python -m bench.demo

It needs no data beside the repository and takes about 10 minutes on 2 cores.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bench.tables import put_table
from demo.__main__ import markdown, run_demo

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Run the demo in .demo and write the README's table."""
    results = run_demo(ROOT / ".demo", Console())
    total = f"Total: {sum(result.seconds for result in results):.0f} s."
    put_table("demo", f"{markdown(results)}\n\n{total}", ROOT / "README.md")


if __name__ == "__main__":
    main()
