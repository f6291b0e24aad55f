"""Ragtide: keeps the retrieval index and the fine-tuned model of a question-answering assistant current."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """`__version__`, read from the installed package when it is first asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ragtide")
    except PackageNotFoundError:  # A checkout that is not installed.
        return "0+unknown"
