"""`mmreg export`: a run's whole model as one file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import Debug, OnBad, Quiet, RunArgument, say
from mmreg.errors import OptionError
from mmreg.files import unwritable
from mmreg.messages import byte_size, listed, plural, to_type
from mmreg_export.decoding import RUNNER, description_of, others_runner

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

FORMATS = {"torch-export": ".pt2", "onnx": ".onnx"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@app.command()
def export(
    run: RunArgument,
    form: Annotated[str, typer.Option("--format", "-f", help="torch-export (.pt2) or onnx (.onnx).")] = "torch-export",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The file; RUN/model.pt2 or RUN-onnx/model.onnx by default."),
    ] = None,
    no_runner: Annotated[
        bool, typer.Option("--no-runner", help="Of ONNX: without runner.py, which decodes and predicts rows.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Of ONNX: also a smaller file with weights of 8 bits, and what that costs.")
    ] = False,
    on_bad: OnBad = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a run's whole model as one file, to use without mmreg.

    The file takes arrays as the modalities load them, with each modality's
    transform in it, in batches of any size and of any length; a mask says which
    row lacks which modality. It is checked against the run before it is kept,
    and FILE.json beside it says what it takes and gives. Beside an ONNX file lies
    runner.py, too, which predicts a table's rows with it, without torch and mmreg.

    Example: mmreg export runs/mine --format onnx --out mine.onnx
    """
    if form not in FORMATS:
        raise OptionError(f"--format must be {' or '.join(FORMATS)}, found {form!r}")
    missing = [package for package in ONNX_PACKAGES if form == "onnx" and find_spec(package) is None]
    if missing:
        raise OptionError(f"--format onnx needs {listed(missing)}, not installed here: pip install 'mmreg[export]'")
    if form != "onnx" and (int8 or no_runner):
        raise OptionError(f"{'--int8' if int8 else '--no-runner'} belongs to --format onnx, found --format {form}")
    if on_bad is not None and not int8:
        raise OptionError("--on-bad belongs to --int8, which alone measures rows")
    if out is None:
        # What can be run has no place in a run's folder, which is read and given to others.
        out = (run if form != "onnx" else run.with_name(f"{run.resolve().name}-onnx")) / f"model{FORMATS[form]}"
    runner = form == "onnx" and not no_runner
    if out.suffix != FORMATS[form]:
        raise OptionError(f"--out must end in {FORMATS[form]} for --format {form}, found {str(out)!r}")
    models = (out, out.with_name(f"{out.stem}.int8{out.suffix}")) if int8 else (out,)
    for file in (each for model in models for each in (model, description_of(model))):
        if file.is_dir():
            raise OptionError(f"{str(file)!r} is a folder; name a file by --out")
        if file.exists() and not overwrite:
            raise OptionError(
                f"{str(file)!r} is there already; replace it by --overwrite, or name another file by --out"
            )
    if runner and not overwrite and others_runner(out.parent):
        raise OptionError(f"{str(out.parent / RUNNER)!r} is another file than the runner; replace it by --overwrite")
    if run.is_dir() and (reason := unwritable(out)) is not None:
        raise OptionError(f"--out {str(out)!r} {reason}")

    import mmreg
    from mmreg_export.export import export as export_run

    loaded = mmreg.load(run, device="cpu", precision="float32", on_bad=on_bad)
    tell = (lambda text: None) if quiet else say
    written = export_run(loaded, form, out, tell, runner=runner, int8=int8)  # type: ignore[arg-type]
    if not quiet:
        size = byte_size(written.file.stat().st_size)
        say(
            f"{written.file} ({size}): scores at most {written.difference:.1g} off the run's; "
            f"{written.description.name} says what it takes and gives"
        )
    if written.runner is not None and not quiet:
        say(f"python {to_type(written.runner)} TABLE predicts a table's rows with it")
    if written.int8 is not None and written.measured is not None:
        figures = written.measured
        before, after = figures["float32"], figures["int8"]
        say(
            f"{written.int8} ({byte_size(after['bytes'])}, {after['bytes'] / before['bytes']:.0%} of it): "
            f"{figures['metric']} {after['value']:.4g} on {plural(figures['rows'], figures['split'] + ' row')}, "
            f"{before['value']:.4g} in float32; scores at most {after['greatest_difference']:.2g} apart"
        )
