"""`mmreg train`: from a recipe, or straight from a table, to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmreg.cli.output import say
from mmreg.cli.parameters import Debug, Device, OutFolder, Precision, Quiet, Seed, Set, recipe_overrides


def train(
    source: Annotated[
        Path, typer.Argument(metavar="RECIPE|TABLE", help="A recipe, or a table to write one for.", show_default=False)
    ],
    out: OutFolder = Path("run"),
    target: Annotated[
        str | None, typer.Option("--target", help="With a table: the column to predict.", metavar="COLUMN")
    ] = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the recipe and show the model, as validate does.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the model that a recipe describes; with a table, write the recipe first (as init does)."""
    recipe = source
    if is_table(source) or target is not None:
        recipe = _recipe_for(source, target, out, quiet=quiet, keep=resume)
    if dry_run:
        from mmreg.cli.inspect import validate

        validate(recipe, set_, seed, precision)
        return
    from mmreg.cli.progress import Display
    from mmreg.training.session import train as run_training

    display = Display(quiet)
    try:
        with display:
            run = run_training(
                recipe,
                out,
                overrides=recipe_overrides(set_, precision, seed),
                overwrite=overwrite,
                resume=resume,
                device=device,
                watcher=display,
            )
    except KeyboardInterrupt:
        say(f"\nstopped after {display.epochs} finished epochs")
        if display.epochs:
            say(f"they are kept in {out}; go on with: mmreg train {recipe} --out {out} --resume")
        raise typer.Exit(130) from None
    display.finish(run)


def is_table(path: Path) -> bool:
    """Whether a path names a table rather than a recipe."""
    return path.suffix.lower() not in ("", ".yaml", ".yml")


def _recipe_for(table: Path, target: str | None, out: Path, *, quiet: bool, keep: bool) -> Path:
    """Write a recipe for a table beside the run, so that it can be read and changed."""
    from mmreg.init import write_recipe

    path = out.parent / f"{out.name}.yaml"
    if not (keep and path.is_file()):
        write_recipe(table, target, path, overwrite=True)
        if not quiet:
            say(f"wrote the recipe {path}; change it and train again, or go on as it is")
    return path
