"""`mmreg demo`: makes the data set, trains five models by the public Python API, and prints one table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

import mmreg
from mmreg.console import Debug, Device, Quiet, print_table
from mmreg.errors import RunError
from mmreg.messages import to_type
from mmreg_demo.data import load_scans, write_data
from mmreg_demo.progress import DemoProgress
from mmreg_demo.recipes import EPOCHS, MODELS, write_recipes

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

COLUMNS = ("model", "accuracy", "precision", "recall", "f1")
FOLDERS = ("images", "tones", "recipes", "runs")
"""What the demo writes into its folder, besides table.csv."""


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

    Makes a table of scikit-learn's 1,797 scanned digits, each with the tone of
    its telephone key and a hint in English, trains each modality alone and all
    of them fused, and compares them on test rows. Data, recipes and runs stay.

    Example: mmreg demo --out demo
    """
    results = run_demo(out, seed, device, overwrite=overwrite, quiet=quiet)
    rows = [{**result, **{name: f"{result[name]:.3f}" for name in COLUMNS[1:]}} for result in results]
    print_table(rows, COLUMNS, title="" if quiet else "\ntest rows")
    if not quiet:
        print_next(out)


def claim(folder: Path, overwrite: bool) -> None:
    """Make sure that there is a folder to write to; of a demo that is there, remove what a demo writes.

    Raises:
        RunError: something is there, and it is no demo or must not be replaced.
    """
    if folder.is_dir() and any(folder.iterdir()):
        if not all((folder / "recipes" / f"{name}.yaml").is_file() for name in MODELS):
            raise RunError(f"{str(folder)!r} holds something else than a demo; name another folder by --out")
        if not overwrite:
            raise RunError(
                f"there is a demo in {str(folder)!r} already; replace it by --overwrite, "
                "or name another folder by --out"
            )
        for part in FOLDERS:
            shutil.rmtree(folder / part, ignore_errors=True)
    elif folder.exists() and not folder.is_dir():
        raise RunError(f"{str(folder)!r} is a file; name a folder by --out")
    folder.mkdir(parents=True, exist_ok=True)


def run_demo(
    folder: Path,
    seed: int = 0,
    device: str | None = None,
    *,
    rows: int | None = None,
    epochs: int = EPOCHS,
    overwrite: bool = False,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Write recipes and data into a folder and train every model.

    Args:
        folder: where to.
        seed: of the data and of the training.
        device: where to compute; the best one there is if it is not given.
        rows: how many rows of data; all of them if not given.
        epochs: passes over the training rows.
        overwrite: whether to replace a demo that is there.
        quiet: whether to show no progress.

    Returns:
        For each model its title as "model", and the figures of the test rows.

    Raises:
        MissingPackageError: scikit-learn is not installed.
        RunError: the folder is not free.
    """
    scans, digits = load_scans()  # before anything is replaced
    claim(folder, overwrite)
    # The recipes come first: by them a demo that was stopped is known as one.
    recipes = write_recipes(folder, seed, epochs)
    with DemoProgress(quiet) as progress:
        progress.line(f"writing {len(digits[:rows]):,} pictures, tones and hints to {folder}")
        write_data(folder, scans[:rows], digits[:rows], seed)
        results = []
        for name, model in MODELS.items():
            progress.begin(model.title)
            run = mmreg.train(recipes[name], folder / "runs" / name, device=device, callback=progress)
            figures = run.report["test"]
            progress.end(run.task.headline(figures["metrics"], figures["rows"]))
            results.append({"model": model.title, **{key: figures["metrics"][key] for key in COLUMNS[1:]}})
    return results


def print_next(folder: Path) -> None:
    """Where everything lies, and what to type next."""
    print(f"\neverything is in {folder}: table.csv, images, tones, recipes, runs; next:")
    print(f"  mmreg evaluate {to_type(folder / 'runs' / 'product')}")
    recipe, mine = (to_type(folder / path) for path in ("recipes/concat.yaml", "runs/mine"))
    print(f"  mmreg train {recipe} --set fusion=low_rank --out {mine}")
    print("  mmreg list fusion")
    print("  mmreg train YOUR_TABLE.csv --target YOUR_COLUMN --out run")
