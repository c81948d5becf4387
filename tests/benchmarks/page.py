"""Writes the stored reference into docs/performance.md as a table; a test fails while the two differ."""

from __future__ import annotations

from pathlib import Path

import harness

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN = "<!-- Written by tests/benchmarks/page.py; do not edit. -->\n"
END = "<!-- The end of what is written by tests/benchmarks/page.py. -->\n"


def render() -> str:
    """The reference as a table, with its machine above."""
    machine, rows = harness.read(harness.REFERENCE)
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    text = f"{machine['cpu']}, {machine['cores']} cores{gpu}; {machine['system']}, "
    lines = [
        f"Measured on {text}Python {machine['python']}, torch {machine['torch']}.",
        "",
        "| measured | against | ratio (quartiles) | bound |",
        "|---|---|---|---|",
    ]
    for row in rows.values():
        missed = "" if row.is_met else " (missed)"
        lines.append(f"| {row.what} | {row.against} | {harness.spread(row)} | {harness.bound(row)}{missed} |")
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """A page's text with the table in the place of the one that is there."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


def write() -> None:
    """Renew the page."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
