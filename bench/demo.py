"""What does the table in the project's README say? The demo, run, and its closing table written there.

python -m bench.demo
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bench.tables import put_table
from demo.__main__ import markdown, walk

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Run the demo in .demo and write the README's table."""
    told = walk(ROOT / ".demo", Console())
    took = f"{sum(one.seconds for one in told):.0f} s in all."
    put_table("demo", f"{markdown(told)}\n\n{took}", ROOT / "README.md")


if __name__ == "__main__":
    main()
