"""The commands put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from mmreg.cli import (
    checking,
    comparing,
    doctor,
    evaluating,
    fusing,
    inspect,
    listing,
    plugged,
    scaffolding,
    starting,
    training,
    using,
)


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="mmreg",
        help="Assemble image, text, audio and other encoders into multimodal models, and train them.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    app.command("list")(listing.list_components)
    app.command("info")(listing.info)
    app.command("plugins")(listing.plugins)
    app.command("init")(starting.init)
    app.command("validate")(inspect.validate)
    app.command("train")(training.train)
    app.command("evaluate")(evaluating.evaluate)
    app.command("predict")(using.predict)
    app.command("fuse")(fusing.fuse)
    app.command("compare")(comparing.compare)
    app.command("schema")(inspect.schema)
    app.command("check")(checking.check)
    app.command("doctor")(doctor.doctor)
    app.command("new-plugin")(scaffolding.new_plugin_command)
    plugged.mount(app)
    return app


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"mmreg {version('mmreg')}")
        raise typer.Exit


def _globals(
    no_plugin: Annotated[
        list[str] | None,
        typer.Option("--no-plugin", metavar="NAME", help="Leave out a plugin, by its own or its distribution's name."),
    ] = None,
    version_: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    # Both options take effect while the command line is parsed; see `plugged` for the plugins to leave out.
    del no_plugin, version_
