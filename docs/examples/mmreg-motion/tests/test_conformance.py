"""The conformance checks of everything that the plugin brings."""

from collections.abc import Callable

import numpy as np

from mmreg.testing import parametrize_checks

RECORDINGS = [np.random.default_rng(size).normal(0, 9.81, (size, 6)) for size in (40, 1, 90, 16, 33, 70)]


@parametrize_checks(
    "modality/motion", options={"channels": 6, "source_rate": 100.0}, values=RECORDINGS, bad_values=["text", [[1.0]]]
)
def test_motion_conforms(check: Callable[[], None]) -> None:
    check()


@parametrize_checks("encoder/motion_tcn", options={"channels": 8, "features": 6, "blocks": 3})
def test_motion_tcn_conforms(check: Callable[[], None]) -> None:
    check()


@parametrize_checks("fusion/geometric")
def test_geometric_conforms(check: Callable[[], None]) -> None:
    check()
