"""`mmreg card`: a run's model card, written into its folder or elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import Debug, RunArgument, say
from mmreg.errors import RunError
from mmreg.files import write_text
from mmreg_card.card import model_card
from mmreg_card.facts import read_facts, told

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@app.command()
def card(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write; RUN/README.md by default.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the model is called; the folder's name by default.")
    ] = None,
    license: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Its licence, such as apache-2.0 or cc-by-4.0.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    debug: Debug = False,
) -> None:
    """Write a run's model card: a README.md that the Hugging Face hub understands.

    It tells what goes in and comes out, what the run was trained on and how,
    its figures beside the majority rate, and how to use it. What only a person
    knows is asked for in a section of its own, "For you to write".

    Example: mmreg card run --license apache-2.0
    """
    if license is not None and not LICENSE.fullmatch(license):
        raise typer.BadParameter(f"{license!r} is no licence identifier; write one such as apache-2.0 or cc-by-4.0")
    facts = read_facts(run)
    path = run / "README.md" if out is None else out
    if path.is_dir():
        raise RunError(f"{str(path)!r} is a folder; name a file by --out")
    if path.exists() and not overwrite:
        raise RunError(f"{str(path)!r} is there already; replace it by --overwrite, or name another file by --out")
    with told(run):
        text = model_card(facts, name or facts.name, license)
    write_text(path, text)
    say(f"wrote {path}")
