"""Whether processes of this machine could train together, for `mmreg doctor`: gloo, NCCL, and shared memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmreg.cli.health import Check
from mmreg.messages import byte_size, plural

SHARED = Path("/dev/shm")
LITTLE = 1 << 28
"""Bytes of shared memory below which NCCL may run out of it between GPUs; a container has 64 MB by default."""
MORE = "give the container more: docker run --shm-size=1g; in Kubernetes an emptyDir of medium Memory at /dev/shm"


def check_together(found: Iterable[dict[str, Any]]) -> Iterator[Check]:
    """What training by several processes needs.

    Args:
        found: what the probe said; nothing is told of what it did not come to.
    """
    facts = {each["name"]: each for each in found if each["kind"] == "together"}
    if "gloo" in facts:
        yield _check_gloo(facts["gloo"])
    if "nccl" not in facts:
        return
    gpus, version = int(facts["nccl"]["gpus"]), facts["nccl"]["version"]
    yield _check_nccl(gpus, version)
    if SHARED.is_dir():
        yield _check_shared(shutil.disk_usage(SHARED).total, gpus)


def _check_gloo(facts: dict[str, Any]) -> Check:
    if facts.get("absent"):
        detail = "this build of torch has none of it: --devices, and training on several machines, do not work"
        return Check("gloo", "ok", detail, "install torch from its own index, if you want them")
    if "error" in facts:
        advice = (
            "let localhost and this machine's name resolve (/etc/hosts) and local ports be free, or name an interface "
            "(GLOO_SOCKET_IFNAME=lo); what one process does works without"
        )
        return Check("gloo", "warning", f"two members do not find each other on localhost: {facts['error']}", advice)
    return Check("gloo", "ok", "two members add up over a free port of localhost")


def _check_nccl(gpus: int, version: str | None) -> Check:
    if not gpus:
        return Check("nccl", "ok", "no GPU here that would need it")
    if version is None:
        return Check(
            "nccl",
            "warning" if gpus > 1 else "ok",
            f"this build of torch has none, and there {'is' if gpus == 1 else 'are'} {plural(gpus, 'GPU')}",
            "install a torch with CUDA for Linux, to train on several: https://pytorch.org/get-started/locally",
        )
    return Check("nccl", "ok", f"{version}, for {plural(gpus, 'GPU')}")


def _check_shared(size: int, gpus: int) -> Check:
    little = size < LITTLE
    detail = f"{byte_size(size)}{', which is little where several GPUs train together' if little else ''}"
    bad = little and gpus > 1
    return Check(str(SHARED), "warning" if bad else "ok", detail, MORE if little else "")
