"""Columns of a table that may be the time until an event and whether it happened, for what `mmreg init` says."""

from __future__ import annotations

import re
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from mmreg import registry
from mmreg.data.table import Table
from mmreg.recipe.yaml import yaml_text

TIMES = {"time", "times", "duration", "days", "weeks", "months", "years", "followup", "futime", "survival", "tenure"}
EVENTS = {"event", "events", "status", "died", "dead", "death", "deceased", "relapse", "failed", "failure", "churn"}
EVENTS |= {"churned", "recurrence", "fustat"}
"""Words in the names of such columns."""
TRUTH_VALUES = {"true", "false", "1", "0", "1.0", "0.0", "yes", "no"}


def survival_note(table: Table) -> str:
    """How the recipe would predict the first time and event that stand beside each other; empty if none do."""
    if "survival" not in registry.names("task"):
        return ""
    for one, other in pairwise(table.columns):
        for time, event in ((one, other), (other, one)):
            if _words(time) & TIMES and _words(event) & EVENTS and _is_time(table, time) and _is_event(table, event):
                named = f"time: {yaml_text(time, flow=True)}, event: {yaml_text(event, flow=True)}"
                return (
                    f"{time!r} and {event!r} may be the time until an event and whether it happened; to predict how "
                    f"soon it is to be expected, write target: {{columns: {{{named}}}, task: survival}}, and leave "
                    "both out of the modalities"
                )
    return ""


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", name.lower()))


def _is_time(table: Table, name: str) -> bool:
    """Whether a column holds numbers of which none is below 0."""
    if name in table.unreadable:
        return False
    column = table.column(name)
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return numeric and (pc.min(column).as_py() or 0) >= 0


def _is_event(table: Table, name: str) -> bool:
    """Whether a column holds two values that say whether something happened."""
    if name in table.unreadable or pa.types.is_nested(table.column(name).type):
        return False
    values = pc.unique(table.column(name).drop_null())
    return len(values) == 2 and {str(value).lower() for value in values.to_pylist()} <= TRUTH_VALUES
