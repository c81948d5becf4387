"""`mmreg cache`: what is in the cache, whether it is as it was written, and making it smaller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from mmreg.console import Debug, Format, FormatOption, print_json, print_table, say
from mmreg.data.cache import CacheUse, cache_dir
from mmreg.data.fetched import clear_fetched, fetched_use
from mmreg.data.holding import is_held
from mmreg.data.upkeep import (
    LIMIT,
    CacheEntry,
    damage,
    inventory,
    parse_age,
    parse_size,
    prune,
    removed_unheld,
    size_limit,
)
from mmreg.messages import byte_size, plural

LAST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""Times that are told come before this."""

cache = typer.Typer(
    no_args_is_help=True, help="List, verify or prune the cache of prepared values.\n\nExample: mmreg cache list"
)


@cache.command("list")
def list_entries(format: FormatOption = Format.TABLE, debug: Debug = False) -> None:
    """List what is in the cache, the most recently used first, and where it is.

    Example: mmreg cache list
    """
    root, limit = cache_dir(), size_limit()
    found = inventory(root)
    total = sum(entry.bytes for entry in found)
    if format is Format.JSON:
        facts = {"folder": str(root), "bytes": total, "max_bytes": limit, "entries": _data(found)}
        print_json({**facts, "fetched": asdict(fetched_use(root))})
        return
    if found:
        print_table(map(_row, found))
        print()
    copies = fetched_use(root)
    if copies.entries:
        say(f"and {plural(copies.entries, 'copy', 'copies')} of fetched files, {byte_size(copies.bytes)}")
    most = "" if limit is None else f" of at most {byte_size(limit)} ({LIMIT})"
    print(f"{plural(len(found), 'entry', 'entries')}, {byte_size(total)}{most} in {root}")


@cache.command()
def verify(format: FormatOption = Format.TABLE, debug: Debug = False) -> None:
    """Read all of the cache and compare it with its checksums.

    What is damaged is discarded, where the cache can be written to, so that it is prepared anew when it is needed; the
    exit code is 1 if there was any.

    Example: mmreg cache verify
    """
    root = cache_dir()
    found = [entry for entry in inventory(root) if entry.state != "unfinished"]
    rows = []
    for entry in found:
        wrong = damage(root, entry)
        if wrong:
            gone = removed_unheld(root, entry.path)
            used = "left to the running job that uses it, which mends what it comes upon"
            what = "discarded" if gone else used if is_held(entry.path) else "left, as it cannot be removed"
            rows.append({"entry": entry.path.name, "input": entry.input, "damage": wrong, "done": what})
    if format is Format.JSON:
        print_json({"folder": str(root), "verified": len(found), "damaged": rows})
    else:
        if rows:
            print_table(rows)
            print()
        total = byte_size(sum(entry.bytes for entry in found))
        print(f"{plural(len(found), 'entry', 'entries')} read ({total}), {len(rows):,} damaged, in {root}")
    if rows:
        raise typer.Exit(1)


@cache.command("prune")
def prune_entries(
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Remove the least recently used down to this, such as 10GB."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Remove what was not used for so long, as 30d.")
    ] = None,
    fetched: Annotated[
        bool, typer.Option("--fetched", help="Remove the copies of fetched files as well; they are fetched anew.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Remove what is unfinished or damaged, and what is large or old; never what a running job uses.

    Example: mmreg cache prune --max-size 10GB --older-than 30d
    """
    root = cache_dir()
    before = sum(entry.bytes for entry in inventory(root))
    removed = prune(
        root,
        max_bytes=size_limit() if max_size is None else parse_size(max_size, "--max-size"),
        older_than=None if older_than is None else parse_age(older_than, "--older-than"),
        dry_run=dry_run,
    )
    freed = sum(entry.bytes for entry in removed)
    copies = (fetched_use if dry_run else clear_fetched)(root) if fetched else CacheUse(0, 0)
    if format is Format.JSON:
        kept = {"folder": str(root), "dry_run": dry_run, "bytes": freed, "removed": _data(removed)}
        print_json({**kept, "fetched": asdict(copies)} if fetched else kept)
        return
    if removed:
        print_table(map(_row, removed))
        print()
    verb = "would be removed" if dry_run else "removed"
    print(f"{plural(len(removed), 'entry', 'entries')} ({byte_size(freed)}) {verb} from {root}; ", end="")
    print(f"{byte_size(before - freed)} {'would stay' if dry_run else 'stay'}")
    if fetched:
        print(f"{plural(copies.entries, 'copy', 'copies')} of fetched files ({byte_size(copies.bytes)}) {verb}")
    if max_size is not None and before - freed > parse_size(max_size):
        say("note: what stays is larger, as running jobs use it, or as it cannot be removed")


def _row(entry: CacheEntry) -> dict[str, Any]:
    """An entry for people."""
    used = _time(entry.last_used)
    return {
        "entry": entry.path.name[:12],
        "input": entry.input,
        "modality": entry.modality,
        "store": entry.store,
        "values": None if entry.values is None else f"{entry.values:,}",
        "size": byte_size(entry.bytes),
        "last used": "unknown" if used is None else used.astimezone().strftime("%Y-%m-%d %H:%M"),
        "in use": "yes" if entry.in_use else "",
        "state": entry.state,
    }


def _data(entries: Iterable[CacheEntry]) -> list[dict[str, Any]]:
    """Entries for programs."""
    times = [(entry, _time(entry.last_used)) for entry in entries]
    return [{**asdict(entry), "last_used": None if used is None else used.isoformat()} for entry, used in times]


def _time(seconds: float) -> datetime | None:
    """A file's time; None for one that no calendar has, in all time zones, or that is not known."""
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < LAST else None
