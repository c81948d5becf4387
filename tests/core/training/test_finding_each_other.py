"""What a process says that was started as one of several, and does not find the others."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from mmreg.errors import OptionError, TrainingError
from mmreg.training import joining
from mmreg.training.joining import joined

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def start(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with joined("cpu") as (peers, _):
        assert peers.trains_alone


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"WORLD_SIZE": "2"}, "has WORLD_SIZE=2, .* and lacks RANK, MASTER_ADDR, MASTER_PORT: "),
        ({"RANK": "1"}, "has RANK=1, .* and lacks WORLD_SIZE, MASTER_ADDR, MASTER_PORT: "),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "has RANK=1 and WORLD_SIZE=2, .* and lacks MASTER_ADDR, MASTER_PORT: "),
        (dict(zip(NAMES, ["1", "two", "host", "1"], strict=True)), "has .* and must have a number in WORLD_SIZE: "),
        (dict(zip(NAMES, ["2", "2", "host", "1"], strict=True)), "has .* must have a number in RANK, WORLD_SIZE: "),
    ],
)
def test_half_of_what_torchrun_says_is_refused(
    given: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match=f"the environment {told}"):
        start(monkeypatch, given)


@pytest.mark.parametrize("given", [{}, {"WORLD_SIZE": "1"}])
def test_a_process_alone_needs_nobody(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, given)


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_others_are_looked_for_for_a_while_alone(rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one finds its port taken, the second one nobody there."""
    monkeypatch.setattr(joining, "ARRIVAL", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if rank == "1":
            taken.close()
        given = dict(zip(NAMES, [rank, "2", "127.0.0.1", str(port)], strict=True))
        told = rf"process {rank} of 2 has not found .* 127\.0\.0\.1:{port} .*port is free there"
        with pytest.raises(TrainingError, match=told):
            start(monkeypatch, given)


def test_a_machine_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "NAMED", timedelta(0))
    given = dict(zip(NAMES, ["1", "2", "no.such.host.invalid", "1"], strict=True))
    with pytest.raises(TrainingError, match=r"process 1 of 2 has not found .* no\.such\.host\.invalid:1 .*gaierror"):
        start(monkeypatch, given)
