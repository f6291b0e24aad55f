"""The `ragtide` command as `python -m ragtide`."""

from ragtide.flows.cli.main import main

main()
