"""Whether the libraries fit together and the devices compute, for `mmreg doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mmreg.cli.probe import LIBRARIES
from mmreg.messages import byte_size, printable

OPTIONAL = {"scikit-learn": "demo", "matplotlib": "plot"}
"""Distributions that only an extra brings."""
PATIENCE = 300
"""Seconds after which importing and trying the devices counts as hanging."""
TOGETHER = "pip install --upgrade mmreg torch torchvision torchaudio"
"""Gets versions that fit mmreg and each other."""

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        check: what.
        status: how it is.
        detail: what was found.
        advice: what to do about it.
    """

    check: str
    status: Status
    detail: str
    advice: str = ""


def probe() -> tuple[list[dict[str, Any]], str]:
    """What `mmreg.cli.probe` found, and how it ended if it did not get to its end."""
    command = [sys.executable, "-P", "-m", "mmreg.cli.probe"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
        output, errors, ending = done.stdout, done.stderr, f"the process ended with {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output, errors, ending = error.stdout or b"", error.stderr or b"", f"no end after {PATIENCE} s"
    found: list[dict[str, Any]] = []
    under_way = "starting Python"
    for line in output.decode(errors="replace").splitlines():
        facts = json.loads(line)
        if "begin" in facts:
            under_way = facts["begin"]
        else:
            found.append(facts)
    if not under_way:
        return found, ""
    last = errors.decode(errors="replace").strip().splitlines()[-1:]
    return found, printable(f"{under_way}: {ending}{''.join(f' ({line})' for line in last)}")


def check_libraries(found: list[dict[str, Any]], ending: str) -> Iterator[Check]:
    """The libraries' versions and imports, then the devices, then components that cannot be imported.

    Args:
        found: what the probe said of each.
        ending: how it ended, if it did not get to its end.
    """
    libraries = {facts["name"]: facts for facts in found if facts["kind"] == "library"}
    for name in LIBRARIES:
        yield check_library(name, libraries.get(name, {}))
    for name, extra in OPTIONAL.items():
        version = _version(name)
        advice = "" if version else f"pip install 'mmreg[{extra}]' if you want it"
        yield Check(name, "ok", version or f"not installed (only the extra {extra!r} needs it)", advice)
    if ending:
        yield Check("importing", "error", ending, "install torch and its companions anew, as one set: " + TOGETHER)
    devices = [facts for facts in found if facts["kind"] == "device"]
    for facts in devices:
        yield check_device(facts)
        if missing := facts.get("without_kernel"):
            detail = f"torch has no {', '.join(missing)} here: such layers compute in float32"
            detail += " (in plugins: those that mmreg.layers.recurrent runs)"
            yield Check(f"{facts['name']} kernels", "ok", detail)
    if devices and [facts["name"] for facts in devices] == ["cpu"] and shutil.which("nvidia-smi"):
        cuda = devices[0]["cuda"]
        built = f"was built for CUDA {cuda}" if cuda else "was built without CUDA"
        advice = "look at nvidia-smi and CUDA_VISIBLE_DEVICES; the driver may be too old for this CUDA"
        yield Check(
            "gpu",
            "warning",
            f"nvidia-smi is here, but torch, which {built}, finds no GPU",
            advice if cuda else "install a torch with CUDA: https://pytorch.org/get-started/locally",
        )
    for facts in found:
        if facts["kind"] == "component":
            yield Check(facts["name"], "error", facts["error"], "install what is missing; the others work without")


def check_library(name: str, facts: dict[str, Any]) -> Check:
    """A library's version, and whether it could be imported; the facts are empty if that was not tried."""
    version = _version(name)
    if version is None:
        return Check(name, "error", "not installed", f"pip install {name}, or install mmreg anew")
    problems = list(unfit(name))
    if "error" in facts:
        problems.append(f"cannot be imported: {facts['error']}")
    if problems:
        advice = TOGETHER if name.startswith("torch") else f"pip install --upgrade mmreg {name}"
        return Check(name, "error", f"{version}; {'; '.join(problems)}", advice)
    took = f", imported in {facts['seconds']:.1f} s" if "seconds" in facts else ", not imported"
    return Check(name, "ok", f"{version}{took}")


def unfit(name: str) -> Iterator[str]:
    """What the metadata say against a library's version: what mmreg asks of it, and what it asks of the others."""
    from packaging.requirements import Requirement

    for who, concerned in (("mmreg", (name,)), (name, LIBRARIES)):
        for requirement in map(Requirement, importlib.metadata.requires(who) or ()):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            found = _version(requirement.name)
            if requirement.name not in concerned or found is None:
                continue
            if not requirement.specifier.contains(found, prereleases=True):
                yield f"{who} needs {requirement}, found {found}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_device(facts: dict[str, Any]) -> Check:
    """What a device is, and whether it computes."""
    name = facts["name"]
    if name == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        facts = {"model": f"{platform.processor() or platform.machine()}, {cores} cores", "memory": _memory()} | facts
    parts = [facts.get("model"), byte_size(facts["memory"]) if facts.get("memory") else None]
    if "error" in facts:
        detail = ", ".join(filter(None, [*parts, facts["error"]]))
        return Check(name, "error", detail, "use another one (--device cpu), or install a torch built for this one")
    return Check(name, "ok", ", ".join(filter(None, [*parts, f"computes in {facts['precision']}"])))


def _memory() -> int | None:
    """Bytes of the machine's memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
