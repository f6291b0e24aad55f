"""Time by which new facts must be live, from their arrival, the freshness target and the schedule of the cycles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from cronsim import CronSim, CronSimError

from ragtide.pipelines.records.evidence import DataChange
from ragtide.pipelines.workspace import Workspace

# The file of the deployments, and the function that the deployment of the cycles runs.
SCHEDULES, FLOW = "prefect.yaml", "keep_current"


def with_due_facts(
    data: DataChange, sentences: int | None, since: datetime | None, workspace: Workspace, now: datetime
) -> DataChange:
    """`data` with whether its new `sentences` are due, the first of which arrived at `since`.

    They may wait for the next scheduled cycle where that is in time; without a schedule every cycle may be the last.
    """
    limit = workspace.params.freshness.max_lag_hours
    if not sentences or limit is None:
        return data
    if not limit:
        return data.model_copy(update={"facts_are_due": True})
    due_by, scheduled = (since or now) + timedelta(hours=limit), next_cycle(workspace.root / SCHEDULES, now)
    is_due = scheduled is None or scheduled > due_by
    return data.model_copy(update={"facts_due_by": due_by.isoformat(timespec="seconds"), "facts_are_due": is_due})


def next_cycle(prefect_yaml: Path, now: datetime) -> datetime | None:
    """When the next cycle is scheduled after `now` (UTC); None without a file or an active schedule that is understood.

    A trigger may start one earlier.
    """
    with suppress(OSError, yaml.YAMLError, AttributeError, LookupError, TypeError):
        deployments = yaml.safe_load(prefect_yaml.read_text(encoding="utf-8"))["deployments"]
        flows = [deployment for deployment in deployments if str(deployment["entrypoint"]).endswith(FLOW)]
        schedules = [schedule for flow in flows for schedule in flow.get("schedules") or ()]
        return min(_next_times(schedules, now), default=None)
    return None


def _next_times(schedules: Iterable[Mapping[str, Any]], now: datetime) -> Iterator[datetime]:
    """The next time of each schedule that is active; one that is not understood has none."""
    for schedule in schedules:
        if schedule.get("active") is False:
            continue
        with suppress(CronSimError, ValueError, KeyError, TypeError):
            if "interval" in schedule:
                yield now + timedelta(seconds=float(schedule["interval"]))
            else:
                local = now.astimezone(ZoneInfo(schedule.get("timezone") or "UTC"))
                yield next(CronSim(schedule["cron"], local)).astimezone(UTC)
