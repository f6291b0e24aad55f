"""How does a candidate become live, and how does one go back? Index and model together, by one pointer."""

from __future__ import annotations

from collections.abc import Callable

from ragtide.pipelines.errors import UserError
from ragtide.pipelines.records.release import ROLLBACK, Outcome, Release
from ragtide.pipelines.registry.releases import Registry


def roll_back(
    registry: Registry, release_id: str | None, why: str, serves: Callable[[Release], None] = lambda _: None
) -> Release:
    """Move the pointer back, to the release before the live one or to `release_id`. Index and model go together.

    A run may be at work: it publishes nothing over what is live then. The release that is left is marked, so that the
    same data does not bring it back. Raises RefusalError where there is nothing to go back to; `serves` raises it for
    a release that could not be served.
    """
    with registry.pointer_lock():
        return _go_back(registry, release_id, why, serves)


def _go_back(registry: Registry, release_id: str | None, why: str, serves: Callable[[Release], None]) -> Release:
    live = registry.live()
    target_id = release_id or live.previous
    if target_id is None:
        raise UserError(f"release {live.id} is the first: there is none before it")
    if target_id == live.id:
        raise UserError(f"release {live.id} is live already")
    target = registry.release(target_id)
    serves(target)
    # What is undone is written down before the pointer moves: a kill in between must not let the next turn redo it.
    with registry.manual_cycle("rollback", {"decision": ROLLBACK, "reason": why, "undone_release": live.id}) as log:
        registry.set_live(target)
        log.tags({"outcome": Outcome.ROLLED_BACK.value, "release": target.id})
        registry.tag_release(live.id, {"rolled_back": why})
    return target
