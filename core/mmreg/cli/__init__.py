"""The command line. Nothing here imports torch but the command that needs it, when it runs."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys

from mmreg.errors import MmregError

NO_MEMORY = "there is not enough memory; lower training.batch_size, or the sizes of the model"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What an operating system says when there is no room for a file."""

LAUNCHER = "MMREG_LAUNCHER"
"""The environment variable that tells a process which one has started it, to train or predict with others."""
SPINS = "1000"
"""How often a thread of torch looks for work before it sleeps: some microseconds, where it does so for milliseconds of
itself. On a machine that has other things to do, a step on all cores then takes 3 to 4 times as long."""
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Environment variables that say so; GNU's threads, which torch has on Linux, read them when they start."""


def main() -> None:
    """Run the command line: errors become one message and an exit code, 2 for a user's mistake and 1 for a failure."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    wait_briefly()
    from mmreg.cli.app import build_app
    from mmreg.completion import typed_words

    if LAUNCHER in os.environ:
        from mmreg.cli.launch import end_with_launcher

        end_with_launcher()
    try:
        build_app(sys.argv[1:] or typed_words())(prog_name="mmreg")  # also for what shells are told to call
    except SystemExit as leaving:
        # Typer makes exit codes of Ctrl-C and of a closed pipe, and says nothing of the one.
        reason = leaving.__context__
        if reason is not None and isinstance(reason.__cause__, KeyboardInterrupt):
            _fail(reason.__cause__, 130, "stopped")
        if isinstance(reason, BrokenPipeError):
            _leave_quietly()
        _keep_exit_code()
        raise
    except MmregError as error:
        _fail(error, error.exit_code)
    except KeyboardInterrupt as error:
        _fail(error, 130, "stopped")
    except BrokenPipeError:
        _leave_quietly()
    except MemoryError as error:
        _fail(error, 1, NO_MEMORY)
    except OSError as error:
        _fail(error, 1, _file_message(error))
    except BaseException as error:  # a panic of a Rust extension is no Exception
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            _fail(error, 1, f"the device has not enough memory; lower training.batch_size ({error})")
        if "DefaultCPUAllocator" in str(error):  # torch's on a CPU, which has no name of its own
            _fail(error, 1, f"{NO_MEMORY} ({str(error).rpartition('DefaultCPUAllocator: ')[2]})")
        found = f"an error inside mmreg or a plugin: {type(error).__name__}: {error}"
        _fail(error, 1, f"{found} (--debug shows where; 'mmreg doctor' looks at the installation)")


def wait_briefly() -> None:
    """Let threads that wait leave the processor to others, unless the user says how they are to wait."""
    if not any(name in os.environ for name in WAITING):
        os.environ[WAITING[0]] = SPINS


def _file_message(error: OSError) -> str:
    """What is wrong with which file, as people say it."""
    what = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
    return f"{what}; free some space and try again" if error.errno in FULL else what


def _leave_quietly() -> None:
    """End without an error: whoever read our output has gone, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _fail(error: BaseException, code: int, message: str = "") -> None:
    """Say what went wrong, with the traceback only if it was asked for, and leave."""
    _keep_exit_code()
    if is_debug():
        import traceback

        traceback.print_exception(error)
    print(f"mmreg: {message or error}", file=sys.stderr)
    sys.exit(code)


def _keep_exit_code() -> None:
    """Let a launcher, which ends all processes as soon as one has ended, not end this one on its way out."""
    if LAUNCHER in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def is_debug() -> bool:
    """Whether tracebacks are wanted: `--debug`, or MMREG_DEBUG in the environment."""
    return os.environ.get("MMREG_DEBUG", "") not in ("", "0")
