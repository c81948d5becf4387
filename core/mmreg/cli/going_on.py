"""What commands that train say of a training that was stopped: what it has left, and what to type."""

from __future__ import annotations

import shlex
from pathlib import Path

from mmreg.console import say


def to_go_on() -> str:
    """The command that a person has typed, as it goes on with what it has begun."""
    from mmreg.cli.launch import typed

    return f"mmreg {shlex.join([word for word in typed() if word not in ('--overwrite', '--resume')])} --resume"


def say_stopped(out: Path, why: KeyboardInterrupt, *, as_it_was: bool) -> None:
    """Say what a training that was stopped has left.

    Args:
        out: its folder.
        why: what has stopped it.
        as_it_was: whether it was to replace a run, and had not begun to.
    """
    say(f"\n{why or 'stopped'}")
    if as_it_was:
        say(f"the run in {out} is as it was; the same command begins anew")
    else:
        say_how_to_go_on(out)


def say_how_to_go_on(out: Path, *, fails_again: bool = False) -> None:
    """Say what is kept of a training that has not come to its end, and the commands that go on with it.

    Args:
        out: its folder.
        fails_again: whether it would only come to the same end.
    """
    from mmreg.training.checkpoint import has_checkpoint

    kept = has_checkpoint(out)
    finish = f"mmreg finish {shlex.quote(str(out))}"
    if fails_again:
        if kept:
            say(f"it is kept in {out} as of its last checkpoint; take the best weights so far by:\n  {finish}")
        return
    there = f"it is kept in {out} as of its last checkpoint; go on" if kept else "there is no checkpoint yet; begin"
    say(f"{there} with:\n  {to_go_on()}")
    if kept:
        say(f"or take the best weights so far:\n  {finish}")
