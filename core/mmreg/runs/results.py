"""What a run says of rows, as the plain data that it is, and as a table where a notebook shows it."""

from __future__ import annotations

from typing import Any

from mmreg.contract.metrics import by_target, figure_rows
from mmreg.messages import plural
from mmreg.notebook import harmless, html_table

MOST = 20
"""Predictions up to this number are written out in a shell."""


class Evaluation(dict[str, Any]):
    """What `Run.evaluate` gives: a dict."""

    @harmless
    def _repr_html_(self) -> str:
        rows = f"{plural(self['rows'], 'row')} ({self['split']})"
        tables = by_target(self).items()
        return "".join(html_table(figure_rows(own), f"{name}, {rows}".removeprefix(", ")) for name, own in tables)


class Predictions(list[dict[str, Any]]):
    """What `Run.predict` gives: a list of dicts, of which a shell shows the first."""

    @harmless
    def __repr__(self) -> str:
        if len(self) <= MOST:
            return super().__repr__()
        return f"{super().__getitem__(slice(MOST))!r} and {plural(len(self) - MOST, 'more row')}"

    @harmless
    def _repr_html_(self) -> str:
        return html_table(self, plural(len(self), "prediction"), len(self))
