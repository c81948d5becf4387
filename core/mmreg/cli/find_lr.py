"""`mmreg train --find-lr`: which learning rates a recipe can be trained with, as a table, a CSV and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmreg.cli.display import Display
from mmreg.console import print_table, say
from mmreg.files import csv_text, replacing, write_text

if TYPE_CHECKING:
    from mmreg.training.rate_range import RateRange

ROWS = 16
"""Rows of the table at most; steps between are left out evenly."""


def find_rates(recipe: Path, overrides: list[str], out: Path, device: str, *, quiet: bool) -> None:
    """Run the test, say what it shows, and write it beside where the run would be."""
    from mmreg.training.find_lr import find_lr

    display = Display(quiet)
    with display:
        found = find_lr(recipe, overrides=overrides, device=device, callback=display)
    table, picture = (out.parent / f"{out.name}-lr{ending}" for ending in (".csv", ".png"))
    out.parent.mkdir(parents=True, exist_ok=True)
    curve = zip(found.rates, found.losses, found.smoothed, strict=True)
    write_text(
        table,
        csv_text({"learning_rate": rate, "loss": loss, "smoothed": float(smooth)} for rate, loss, smooth in curve),
    )
    drawn = draw(found, picture)
    if not quiet:
        _show(found)
    if found.suggestion is None:
        print("the loss never fell: look at the data, or at the model, before the learning rate")
    else:
        print(f"suggestion: training.optimizer.lr={found.suggestion:.2g} (the loss falls fastest)")
    if not quiet:
        print(f"the steps are in {table}" + (f", the curve is in {picture}" if drawn else ""))
        if not drawn:
            say("no picture was drawn, as matplotlib is missing: pip install 'mmreg[plot]'")


def _show(found: RateRange) -> None:
    """Some of the steps as a table, up to where the loss diverged."""
    every = max(1, -(-len(found.rates) // ROWS))
    marks = {found.minimum: "least", found.suggestion: "falls fastest"}
    rows = []
    for number, (rate, loss) in enumerate(zip(found.rates, found.smoothed, strict=True)):
        if number % every == 0 or rate in marks:
            rows.append({"learning rate": f"{rate:.2g}", "loss": f"{loss:.4g}", "": marks.get(rate, "")})
    print_table(rows)
    if found.diverged:
        print(f"diverged at {found.rates[-1]:.2g}")


def draw(found: RateRange, path: Path) -> bool:
    """Draw the losses over the rates; False without matplotlib."""
    try:
        from matplotlib.figure import Figure  # by itself it needs no display and keeps no global state
    except ImportError:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, ".", color="0.7", label="loss")
    axes.plot(found.rates, found.smoothed, label="smoothed")
    if found.suggestion is not None:
        axes.axvline(found.suggestion, linestyle="--", color="0.4", label=f"falls fastest: {found.suggestion:.2g}")
    axes.set_xscale("log")
    smoothed = found.smoothed
    low, first = float(smoothed.min()), float(smoothed[0])
    fall = (abs(first) or 1) if found.suggestion is None else first - low or 1
    axes.set_ylim(low - 0.1 * fall, first + 0.5 * fall)
    axes.set_xlabel("learning rate")
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return True
