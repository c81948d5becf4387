"""`mmreg plugins`: the plugins that are installed, and whether they load."""

from __future__ import annotations

from typing import Any

from mmreg import registry
from mmreg.console import Debug, Format, FormatOption, print_json, print_table

COLUMNS = ("distribution", "version", "entry_point", "status", "brings", "components", "seconds", "note")


def plugins(format: FormatOption = Format.TABLE, debug: Debug = False) -> None:
    """List the installed plugins: whether they load, why not, what they bring and how long they take.

    Example: mmreg plugins --format json
    """
    rows: list[dict[str, Any]] = [
        {
            "distribution": plugin.distribution,
            "version": plugin.version,
            "entry_point": plugin.entry_point,
            "status": plugin.status,
            "error": plugin.error,
            "components": [f"{component.kind}/{component.name}" for component in plugin.components],
            "hooks": list(plugin.hooks),
            "seconds": round(plugin.seconds, 4),
            "warning": plugin.warning,
            "location": plugin.location,
        }
        for plugin in registry.all_plugins()
    ]
    if format is Format.JSON:
        print_json(rows)
        return
    for row in rows:
        brings = ", ".join(hook.removeprefix("mmreg_") for hook in row["hooks"])
        row |= {"brings": brings, "components": len(row["components"]), "note": row["error"] or row["warning"]}
    print_table(rows, COLUMNS)
