"""Policy registry: built-in policies by name, others by entry point or as `module:Class`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from ragtide.pipelines.errors import UserError, summarize_error
from ragtide.pipelines.policy.interface import Policy

# A package adds its own with [project.entry-points."ragtide.policies"].
GROUP = "ragtide.policies"
BUILT_IN = {
    "evidence": "ragtide.pipelines.policy.default:EvidencePolicy",
    "always": "ragtide.pipelines.policy.baselines:Always",
    "never": "ragtide.pipelines.policy.baselines:Never",
    "periodic": "ragtide.pipelines.policy.baselines:Periodic",
    "amount": "ragtide.pipelines.policy.baselines:Amount",
    "cusum": "ragtide.pipelines.policy.baselines:Cusum",
    "drift": "ragtide.pipelines.policy.baselines:Drift",
    "cara": "ragtide.pipelines.policy.baselines:Cara",
    "modyn": "ragtide.pipelines.policy.baselines:Modyn",
}


def known_policies() -> dict[str, str]:
    """Name -> `module:Class`: the built-in ones first, then those of other packages, which cannot replace a built-in name."""
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    return BUILT_IN | {name: path for name, path in sorted(others.items()) if name not in BUILT_IN}


@cache
def load_policy(name: str) -> Policy:
    """The policy of that name, or the class `module:Class`. Raises UserError where it cannot be loaded."""
    path = known_policies().get(name, name if ":" in name else None)
    if path is None:
        raise UserError(f"policy.name = {name!r}: known are {', '.join(known_policies())}, or module:Class")
    module, _, attribute = path.partition(":")
    try:
        make: Callable[[], Policy] = getattr(importlib.import_module(module), attribute)
        policy = make()
    except (ImportError, AttributeError, TypeError, ValueError) as problem:
        raise UserError(f"policy.name = {name!r} cannot be loaded from {path}: {summarize_error(problem)}") from problem
    if not callable(getattr(policy, "choose", None)):
        raise UserError(f"policy.name = {name!r}: {path} has no method choose(evidence, options, params)")
    return policy


def describe_policy(name: str) -> str:
    """The first paragraph of a policy's docstring; why it cannot be loaded, where it cannot."""
    try:
        description = (type(load_policy(name)).__doc__ or "").strip().split("\n\n", maxsplit=1)[0]
    except UserError as problem:
        description = str(problem)
    return " ".join(description.split())
