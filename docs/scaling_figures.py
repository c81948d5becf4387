"""Writes the computed tables of docs/scaling.md: `python docs/scaling_figures.py`; a test fails while they differ."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).with_name("scaling.md")
BEGIN = "<!-- Written by docs/scaling_figures.py; do not edit. -->\n"
END = "<!-- The end of what is written by docs/scaling_figures.py. -->\n"

PICTURE = 224 * 224 * 3
"""Bytes of a decoded picture in the cache: a byte for each of three channels."""
TOKENS = 64 * 4
"""Bytes of a text of 64 tokens in the cache."""
JPEG = 30_000
"""Bytes of a picture as a file, which `store: encoded` keeps instead: assumed."""
PLACES = 8 + 1 + 8 + 4 + 2
"""Bytes a row that each of 8 processes holds: its place in the epoch's order and in the parts, target, weight, and
which of two modalities it has."""

ROWS_PER_SECOND = 2_000.0
"""What one device trains: assumed, of a ResNet-50 in bfloat16 on a GPU of a data centre."""
BATCH = 256
"""Rows of a step on each device."""
GRADIENTS = 25_600_000 * 4
"""Bytes of the gradients of that network."""
PER_MACHINE = 8
"""Devices of a machine."""
WITHIN = 200e9
"""Bytes a second between devices of a machine: assumed, of NVLink."""
BETWEEN = 12.5e9
"""Bytes a second between machines: assumed, 100 Gbit/s."""


def all_reduce_seconds(size: int, count: int, bandwidth: float) -> float:
    """How long a sum over a ring of so many members takes: each sends 2 (count - 1) / count of the bytes."""
    return 2 * (count - 1) / count * size / bandwidth


def efficiency(devices: int) -> float:
    """The share of its time that a device trains, if sums wait for the whole step instead of beginning within it."""
    step = BATCH / ROWS_PER_SECOND
    return step / (step + all_reduce_seconds(GRADIENTS, devices, bandwidth(devices)))


def bandwidth(devices: int) -> float:
    """Bytes a second of the slowest link of a ring."""
    return WITHIN if devices <= PER_MACHINE else BETWEEN


def byte_size(number: float) -> str:
    """Bytes in a unit, with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days."""
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} d"


def by_rows() -> list[str]:
    """What so many rows take, on the disk and in memory, and how long an epoch is."""
    lines = [
        "| rows | cache, decoded | cache, encoded | memory of a process | an epoch on 1 device | on 8 | on 64 |",
        "|---|---|---|---|---|---|---|",
    ]
    for power in range(5, 10):
        rows = 10**power
        cells = [byte_size(rows * each) for each in (PICTURE + TOKENS, JPEG + TOKENS, PLACES)]
        cells += [duration(rows / (ROWS_PER_SECOND * count * efficiency(count))) for count in (1, 8, 64)]
        lines.append(f"| 10^{power} | {' | '.join(cells)} |")
    return lines


def by_devices() -> list[str]:
    """What so many devices ask of the network and of the cache."""
    lines = [
        "| devices | machines | sum of gradients | share that trains | read from the cache, decoded | encoded |",
        "|---|---|---|---|---|---|",
    ]
    for count in (1, 2, 8, 16, 64, 512):
        seconds = all_reduce_seconds(GRADIENTS, count, bandwidth(count))
        reads = [ROWS_PER_SECOND * efficiency(count) * count * each for each in (PICTURE + TOKENS, JPEG + TOKENS)]
        cells = [
            f"{1000 * seconds:.2g} ms" if seconds else "none",
            f"{efficiency(count):.1%}",
            *(f"{byte_size(each)}/s" for each in reads),
        ]
        lines.append(f"| {count} | {-(-count // PER_MACHINE)} | {' | '.join(cells)} |")
    return lines


def render() -> str:
    """Both tables."""
    return "\n".join([*by_rows(), "", *by_devices()]) + "\n"


def renewed(text: str) -> str:
    """A page's text with the tables in the place of those that are there."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
