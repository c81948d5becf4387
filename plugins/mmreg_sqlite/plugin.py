"""Declares the source; imports nothing heavy."""

from mmreg import SourceSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_sources() -> list[SourceSpec]:
    """`sqlite://PATH#TABLE`."""
    summary = "A table, a view or a query of an SQLite database: sqlite://PATH#TABLE or sqlite://PATH#SELECT ..."
    return [SourceSpec("sqlite", "mmreg_sqlite.reading:read", summary)]
