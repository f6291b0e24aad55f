"""Which policies can be chosen? The built-in ones by name, a user's by entry point or as `module:Class`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from pipelines.decide.choice import Policy
from pipelines.errors import RefusalError, one_line

# A package adds its own with [project.entry-points."ragtide.policies"].
GROUP = "ragtide.policies"
BUILT_IN = {
    "evidence": "pipelines.decide.policies.evidence:EvidencePolicy",
    "always": "pipelines.decide.policies.always:Always",
    "never": "pipelines.decide.policies.never:Never",
    "periodic": "pipelines.decide.policies.periodic:Periodic",
    "amount": "pipelines.decide.policies.amount:Amount",
    "cusum": "pipelines.decide.policies.cusum:Cusum",
    "drift": "pipelines.decide.policies.drift:Drift",
    "cara": "pipelines.decide.policies.cara:Cara",
    "modyn": "pipelines.decide.policies.modyn:Modyn",
}


def known_policies() -> dict[str, str]:
    """Name -> where it is: the built-in ones first, then those of other packages; a built-in name stays what it is."""
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    return BUILT_IN | {name: where for name, where in sorted(others.items()) if name not in BUILT_IN}


@cache
def load_policy(name: str) -> Policy:
    """The policy of that name, or the class `module:Class`. Raises RefusalError where it cannot be had."""
    where = known_policies().get(name, name if ":" in name else None)
    if where is None:
        raise RefusalError(f"policy.name = {name!r}: known are {', '.join(known_policies())}, or module:Class")
    module, _, attribute = where.partition(":")
    try:
        make: Callable[[], Policy] = getattr(importlib.import_module(module), attribute)
        policy = make()
    except (ImportError, AttributeError, TypeError, ValueError) as problem:
        raise RefusalError(f"policy.name = {name!r} cannot be loaded from {where}: {one_line(problem)}") from problem
    if not callable(getattr(policy, "choose", None)):
        raise RefusalError(f"policy.name = {name!r}: {where} has no method choose(evidence, halves, params)")
    return policy


def about(name: str) -> str:
    """The first sentence of a policy's docstring; of one that cannot be loaded, why."""
    try:
        told = (type(load_policy(name)).__doc__ or "").strip().split("\n\n", maxsplit=1)[0]
    except RefusalError as problem:
        told = str(problem)
    return " ".join(told.split())
