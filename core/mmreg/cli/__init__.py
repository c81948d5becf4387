"""The command line. Nothing here imports torch but the command that needs it, when it runs."""

from __future__ import annotations

import logging
import os
import sys

from mmreg.errors import MmregError


def main() -> None:
    """Run the command line: errors become one message and an exit code, 2 for a user's mistake and 1 for a failure."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    from mmreg.cli.app import build_app

    try:
        build_app()()
    except MmregError as error:
        _fail(error, error.exit_code)
    except KeyboardInterrupt as error:
        _fail(error, 130, "stopped")
    except BrokenPipeError:  # whoever read our output has gone, which is no error of theirs
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError as error:
        _fail(error, 1, "there is not enough memory; lower training.batch_size")
    except OSError as error:
        _fail(error, 1)
    except Exception as error:
        _fail(error, 1, f"an error inside mmreg or a plugin: {type(error).__name__}: {error} (--debug shows where)")


def _fail(error: BaseException, code: int, message: str = "") -> None:
    """Say what went wrong, with the traceback only if it was asked for, and leave."""
    if is_debug():
        import traceback

        traceback.print_exception(error)
    print(f"mmreg: {message or error}", file=sys.stderr)
    sys.exit(code)


def is_debug() -> bool:
    """Whether tracebacks are wanted: `--debug`, or MMREG_DEBUG in the environment."""
    return os.environ.get("MMREG_DEBUG", "") not in ("", "0")
