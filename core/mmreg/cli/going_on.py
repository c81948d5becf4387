"""What commands that train say of a training that was stopped: what it has left, and what to type."""

from __future__ import annotations

import shlex
from pathlib import Path

from mmreg.console import say, typed
from mmreg.messages import to_type


def to_go_on() -> str:
    """The command that a person has typed, as it goes on with what it has begun."""
    words = [word for word in typed() if word not in ("--overwrite", "--resume")]
    at = len(words)
    if "--" in words:  # behind which an option is none; right behind the command's name it is one
        at = next(at for at, word in enumerate(words, 1) if word[:1] != "-" and words[at - 2] != "--no-plugin")
    return shlex.join(["mmreg", *words[:at], "--resume", *words[at:]])


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
    finish = f"mmreg finish {to_type(out)}"
    if fails_again:
        if kept:
            say(f"it is kept in {out} as of its last checkpoint; take the best weights so far by:\n  {finish}")
        return
    there = f"it is kept in {out} as of its last checkpoint; go on" if kept else "there is no checkpoint yet; begin"
    say(f"{there} with:\n  {to_go_on()}")
    if kept:
        say(f"or take the best weights so far:\n  {finish}")
