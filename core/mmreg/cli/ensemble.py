"""`mmreg train --folds` and `--seeds`: several trainings of a recipe, combined to one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mmreg.cli.going_on import to_go_on
from mmreg.cli.grids import GridDisplay
from mmreg.console import print_table, say
from mmreg.importing import stdout_to_stderr
from mmreg.messages import plural, to_type
from mmreg.training.signals import Signals

if TYPE_CHECKING:
    from mmreg.studies.ensembles import Ensemble


def train_ensemble(
    recipe: Path, out: Path, folds: int | None, seeds: list[int] | None, *, quiet: bool, **options: Any
) -> None:
    """Cross-validate, or train with several seeds, and show what it comes to."""
    display, stop = GridDisplay(quiet), Signals()
    try:
        with stop.watched(), stdout_to_stderr, display.bar:
            from mmreg.studies.ensembles import cross_validate, train_seeds

            trained: Callable[..., Ensemble] = train_seeds if folds is None else cross_validate
            counted: dict[str, Any] = {"seeds": seeds} if folds is None else {"folds": folds}
            ensemble = trained(recipe, out, callback=display, **counted, **options)
    except KeyboardInterrupt:
        say(f"\nstopped; what is trained is kept in {out}; go on with:\n  {to_go_on()}")
        raise typer.Exit(stop.exit_code) from None
    _print(ensemble, quiet)


def _print(ensemble: Ensemble, quiet: bool) -> None:
    """A row for each training, and what they come to."""
    run, report = ensemble.run, ensemble.run.report
    together = next((split for split in ("out_of_fold", "test", "validation") if split in report), None)
    if together is not None:
        trained = report["folds"] if together == "out_of_fold" else report["seeds"][together]
        rows = [{"training": each["name"], "rows": each["rows"], **_shown(each["metrics"])} for each in trained]
        rows += [
            {"training": name, **_shown({metric: each[name] for metric, each in ensemble.metrics.items()})}
            for name in ("mean", "deviation")
        ]
        metrics = {name: report[together]["metrics"][name] for name in ensemble.metrics}
        told = "out of fold" if together == "out_of_fold" else "combined"
        rows.append({"training": told, "rows": report[together]["rows"], **_shown(metrics)})
        if together == "out_of_fold" and "test" in report:
            metrics = {name: report["test"]["metrics"][name] for name in ensemble.metrics}
            rows.append({"training": "test rows", "rows": report["test"]["rows"], **_shown(metrics)})
        print_table(rows)
        print(f"\n{run.task.headline(report[together]['metrics'], report[together]['rows'])}")
    if not quiet:
        folder = to_type(run.folder)
        print(f"\n{run.folder} predicts by the mean of the {plural(len(ensemble.trained), 'training')} in it; next:")
        print(f"  mmreg predict {folder} TABLE --out predictions.csv")


def _shown(metrics: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}" for name, value in metrics.items()}
