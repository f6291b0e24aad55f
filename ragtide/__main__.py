"""Entry point of `python -m ragtide`."""

from ragtide.flows.cli.main import main

main()
