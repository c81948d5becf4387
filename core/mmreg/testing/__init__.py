"""The checks that every component has to pass, for plugin authors to run: plainly, from pytest or the command line.

Each check is public as `check_NAME`.
"""

from __future__ import annotations

# The checks of a file are entered when it is imported, and are run in that order.
# isort: off
from mmreg.testing import general, modality, modules, encoder, fusion, order, task  # noqa: F401
from mmreg.testing import metric, optimization, balance, callback  # noqa: F401

# isort: on
from mmreg.testing.expectations import Skipped
from mmreg.testing.registration import CHECKS, ComponentCheck, checks_of
from mmreg.testing.running import Report, Result, parametrize_checks, run_checks
from mmreg.testing.subject import Subject, make_subject

__all__ = [
    "CHECKS",
    "Report",
    "Result",
    "Skipped",
    "Subject",
    *sorted({check.__name__ for checks in CHECKS.values() for check in checks}),
    "checks_of",
    "make_subject",
    "parametrize_checks",
    "run_checks",
]


def __getattr__(name: str) -> ComponentCheck:
    for check in (check for checks in CHECKS.values() for check in checks):
        if check.__name__ == name:
            return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
