"""The `ragtide` command, a module for each group of commands."""
