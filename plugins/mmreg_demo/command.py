"""`mmreg demo`: makes the data set, trains five models by the public Python API, and prints one table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

import mmreg
from mmreg.cli.output import print_table, say
from mmreg.cli.parameters import Debug, Device, Quiet
from mmreg.errors import RunError
from mmreg_demo.data import write_data
from mmreg_demo.progress import DemoProgress
from mmreg_demo.recipes import EPOCHS, MODELS, write_recipes

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

COLUMNS = ("model", "accuracy", "precision", "recall", "f1")
PARTS = ("table.csv", "images", "tones", "recipes", "runs")
"""What the demo writes into its folder."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write to.")] = Path(
        "mmreg-demo"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed of the data and of the training.")] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a demo that is there.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what fusion gains: digits that are seen, heard and described.

    Makes a table of 1,797 scanned digits (scikit-learn's), each with the tone of its telephone key and a hint in
    English, and trains each modality alone and all of them fused. Every file, recipe and run stays in the folder.
    """
    claim(out, overwrite)
    rows = run_demo(out, seed, device, quiet=quiet)
    if not quiet:
        print()
    print_table(
        [{**row, **{name: f"{row[name]:.3f}" for name in COLUMNS[1:]}} for row in rows], COLUMNS, title="test rows"
    )
    if not quiet:
        print_next(out, rows)


def claim(folder: Path, overwrite: bool) -> None:
    """Make an empty folder for the demo; of one that is there, replace only what a demo has written.

    Raises:
        RunError: something is there, and it is no demo or must not be replaced.
    """
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if folder.exists() and (not folder.is_dir() or set(there) - set(PARTS)):
        other = next((name for name in there if name not in PARTS), "it is a file")
        raise RunError(f"{str(folder)!r} holds something else than a demo ({other}); name another folder by --out")
    if there and not overwrite:
        raise RunError(
            f"there is a demo in {str(folder)!r} already; replace it by --overwrite, or name another folder by --out"
        )
    for name in there:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    folder.mkdir(parents=True, exist_ok=True)


def run_demo(
    folder: Path,
    seed: int = 0,
    device: str | None = None,
    *,
    rows: int | None = None,
    epochs: int = EPOCHS,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Write data and recipes into an empty folder and train every model.

    Args:
        folder: where to.
        seed: of the data and of the training.
        device: where to compute; the best one there is if it is not given.
        rows: how many rows of data; all of them if not given.
        epochs: passes over the training rows.
        quiet: whether to show no progress.

    Returns:
        For each model its title, name, and the figures of the test rows.
    """
    with DemoProgress(quiet) as progress:
        progress.line(f"writing pictures, tones and hints to {folder}")
        write_data(folder, seed, rows)
        recipes = write_recipes(folder, seed, epochs)
        results = []
        for name, (title, *_) in MODELS.items():
            progress.begin(title)
            run = mmreg.train(recipes[name], folder / "runs" / name, device=device, watcher=progress)
            figures = run.report["test"]
            progress.end(run.task.headline(figures["metrics"], figures["rows"]))
            results.append({"model": title, "name": name, **{key: figures["metrics"][key] for key in COLUMNS[1:]}})
    return results


def print_next(folder: Path, rows: list[dict[str, Any]]) -> None:
    """What the result says, where everything lies, and what to type next."""
    alone = max((row for row in rows if "alone" in row["model"]), key=lambda row: row["accuracy"])
    best = max(rows, key=lambda row: row["accuracy"])["name"]
    print(f"\nThe best single modality ({alone['model'].split()[0]}) tells {alone['accuracy']:.0%} of the digits.")
    say("")
