"""`mmreg train`: from a recipe, or straight from a table, to a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mmreg.cli.going_on import say_how_to_go_on, say_stopped
from mmreg.cli.grids import read_seeds
from mmreg.completion import complete_recipes_and_tables
from mmreg.console import (
    AcceptChanges,
    Debug,
    Device,
    Devices,
    Encoding,
    Jobs,
    OutFolder,
    Precision,
    Quiet,
    Seed,
    Separator,
    Set,
    note,
    print_table,
    recipe_overrides,
    say,
)
from mmreg.data.dialect import TableFile
from mmreg.errors import OptionError, PeerLostError, RecipeError, TrainingError
from mmreg.files import write_text
from mmreg.messages import to_type
from mmreg.run_files.finished import refuse_combination
from mmreg.training.signals import TRY_AGAIN, Signals
from mmreg.training.stopping import Stopped


def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|TABLE",
            help="A recipe, or a table to write one for.",
            show_default=False,
            autocompletion=complete_recipes_and_tables,
        ),
    ],
    out: OutFolder = Path("run"),
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="With a table: the column to predict; guessed by its name if not given. Repeatable, for several.",
            metavar="COLUMN",
        ),
    ] = None,
    separator: Separator = None,
    encoding: Encoding = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
    devices: Devices = None,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard",
            help="With --devices: each process keeps a share of the weights alone, for a model too large for a device.",
        ),
    ] = False,
    precision: Precision = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            min=2,
            help="Cross-validate: train once for each of so many parts of the rows, which that training has not seen.",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", help="Train with each of these seeds, such as 0..2, as one run that takes their mean."),
    ] = None,
    jobs: Jobs = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            "--max-minutes",
            min=0.01,
            help="End after so many minutes, with the best weights so far.",
            metavar="MINUTES",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with what was stopped, or longer with one training that has ended."),
    ] = False,
    accept_changes: AcceptChanges = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure where the time goes, into the run's folder profile, and show it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the recipe (written first for a table), as validate does.")
    ] = False,
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr",
            help="Train nothing: try learning rates from 1e-7 to 10 in 100 steps, and suggest one (RUN-lr.csv, .png).",
        ),
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the model that a recipe describes; with a table, write the recipe first (as init does).

    Ctrl-C, SIGTERM, SIGUSR1 and a closed terminal (but for nohup) end it after the step that is under way, with a
    checkpoint to go on from by --resume.
    The exit code is then 130 after Ctrl-C, and 75 ("try again") after the others. A second one ends it at once.

    Example: mmreg train recipe.yaml --out runs/first --set training.epochs=20
    """
    if resume and overwrite:
        raise OptionError("--resume goes on with a run and --overwrite replaces it; give one of them")
    if find_lr and (resume or dry_run):
        raise OptionError("--find-lr goes neither with --resume nor with --dry-run; give one of them")
    several = folds is not None or seeds is not None
    if several and (find_lr or profile or accept_changes or (folds is not None and seeds is not None)):
        raise OptionError("--folds and --seeds go neither together nor with --find-lr, --profile or --accept-changes")
    if seeds is not None and seed is not None:
        raise OptionError("--seeds names all seeds; leave --seed out")
    if jobs is not None and not several:
        raise OptionError("--jobs goes with --folds or --seeds")
    numbers = None if seeds is None else read_seeds(seeds)
    if accept_changes and not resume:
        raise OptionError("--accept-changes goes with --resume; give both")
    recipe = Path(source)
    if is_table(source):
        table = TableFile(source, separator, encoding)
        recipe = _recipe_for(table, target, out, quiet=quiet, overwrite=overwrite, resume=resume, several=several)
    for name, given, key in (
        ("target", target, "target.column=..."),
        ("separator", separator, "table={path: ..., separator: ...}"),
        ("encoding", encoding, "table={path: ..., encoding: ...}"),
    ):
        if given is not None and not is_table(source):
            raise OptionError(f'--{name} goes with a table, and {source} is a recipe; use --set "{key}"')
    if devices is not None and (several or find_lr or dry_run):
        raise OptionError("--devices goes neither with --folds nor with --seeds, --find-lr or --dry-run")
    if (devices is not None or several or find_lr or dry_run) and os.environ.get("WORLD_SIZE", "1") != "1":
        raise OptionError(
            "--devices, --folds, --seeds, --find-lr and --dry-run are for a command that is started once, and torchrun "
            f"has started {os.environ['WORLD_SIZE']} (WORLD_SIZE); leave torchrun out, or the option"
        )
    if shard and devices is None and "WORLD_SIZE" not in os.environ:
        raise OptionError("--shard goes with --devices, or with the processes that torchrun starts")
    settings = [*(set_ or []), *([] if max_minutes is None else [f"training.max_minutes={max_minutes}"])]
    if dry_run:
        from mmreg.cli.validate import validate

        validate(recipe, settings, seed, device, precision)
        return
    if find_lr:
        from mmreg.cli.find_lr import find_rates

        stop = Signals()
        try:
            with stop.watched():
                find_rates(recipe, recipe_overrides(settings, precision, seed), out, device, quiet=quiet)
        except KeyboardInterrupt:
            say("\nstopped; nothing is kept of it")
            raise typer.Exit(stop.exit_code) from None
        return
    if several:
        from mmreg.cli.ensemble import train_ensemble

        overrides = recipe_overrides(settings, precision, seed)
        options = {"overrides": overrides, "device": device, "jobs": jobs, "overwrite": overwrite, "resume": resume}
        train_ensemble(recipe, out, folds, numbers, quiet=quiet, **options)
        return
    if devices is not None:
        from mmreg.cli.launch import check_count, launch

        check_count(devices, device, quiet=quiet)
        overrides = recipe_overrides(settings, precision, seed)
        flags = {
            "--resume": resume,
            "--accept-changes": accept_changes,
            "--overwrite": overwrite,
            "--profile": profile,
            "--shard": shard,
            "--quiet": quiet,
            "--debug": debug,
        }
        words = [str(recipe), "--out", str(out), "--device", device, *(flag for flag, given in flags.items() if given)]
        raise typer.Exit(launch(devices, ["train", *words, *(word for each in overrides for word in ("--set", each))]))
    stop, display = Signals(), None
    if resume:
        refuse_combination(out)
    if resume and not out.exists():
        note(f"there is no run in {str(out)!r} to go on with: it begins")
    try:
        with stop.watched():
            with stop.heeding("stopped"):  # an import that is broken off leaves half a module
                from mmreg.cli.display import Display
                from mmreg.training.joining import leads
                from mmreg.training.train import train as run_training

            display = Display(quiet)
            with display:
                run = run_training(
                    recipe,
                    out,
                    overrides=recipe_overrides(settings, precision, seed),
                    overwrite=overwrite,
                    resume=resume,
                    accept_changes=accept_changes,
                    device=device,
                    shard=shard,
                    callback=display,
                    stop=stop,
                    profile=profile,
                )
        if not leads():
            return
    except KeyboardInterrupt as stopped:
        if isinstance(stopped, Stopped) and not stop.wanted:
            stop.exit_code = TRY_AGAIN  # another process was told
        if display and not leads():
            raise typer.Exit(stop.exit_code) from None
        say_stopped(out, stopped, as_it_was=overwrite and not (display and display.begun))
        raise typer.Exit(stop.exit_code) from None
    except (OSError, TrainingError) as error:
        if display and display.begun:
            again = isinstance(error, TrainingError) and not isinstance(error, PeerLostError)
            say_how_to_go_on(out, fails_again=again)
        raise
    display.finish(run)
    if profile:
        _show_profile(out)


def _show_profile(out: Path) -> None:
    """Show where the time of a training went."""
    from mmreg.training.profiling import read_profile

    where, operators, trace = read_profile(out)
    print_table(where, title="\nWhere the time went")
    if operators:
        print_table(operators, title="\nThe operators of the traced steps that took longest")
        say(f"open {trace} in https://ui.perfetto.dev or chrome://tracing to see these steps")


def is_table(source: str) -> bool:
    """Whether a name is a table's rather than a recipe's."""
    return "://" in source or Path(source).suffix.lower() not in ("", ".yaml", ".yml")


def _recipe_for(
    table: TableFile,
    target: Sequence[str] | None,
    out: Path,
    *,
    quiet: bool,
    overwrite: bool,
    resume: bool,
    several: bool,
) -> Path:
    """Write a recipe for a table beside the run, so that it can be read and changed.

    Raises:
        RecipeError: there is one already that says something else, such as one that was changed by hand.
    """
    from mmreg.recipe.draft import draft_recipe
    from mmreg.runs import claim

    path = out.parent / f"{out.name}.yaml"
    if resume and path.is_file():
        return path
    if not several:  # whose folder is looked at later, as it holds more than a run
        claim(out, overwrite=overwrite or resume)
    if path.exists() and not path.is_file():
        raise OptionError(f"{str(path)!r} is no file, and the recipe would be written there; name another run by --out")
    text = draft_recipe(table, target, out.parent)
    if path.is_file() and not overwrite and path.read_text(encoding="utf-8", errors="replace") != text:
        raise RecipeError(
            f"there is another recipe in {path} already; train it (mmreg train {to_type(path)} --out {to_type(out)}), "
            "name another run by --out, or replace it by --overwrite"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    if not quiet:
        say(f"wrote the recipe {path}; change it and train again, or go on as it is")
    return path
