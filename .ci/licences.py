"""Checks the licences of what mmreg needs to run: permissive, or an exception that stands here with its reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PERMISSIVE = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "PSF-2.0",
        "Zlib",
    ),
}
OTHER_NAMES = {
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What metadata call a licence that has no identifier of its own there."""
NVIDIA = "NVIDIA's redistributable libraries, which torch's own Linux builds need; a CPU build of torch brings none"
UNCHANGED = "its copyleft is about changes to its own files, and it is used as it is"
EXCEPTIONS = {
    ("nvidia-*", "LicenseRef-NVIDIA-Proprietary"): NVIDIA,
    ("nvidia-*", "NVIDIA Proprietary Software"): NVIDIA,
    ("nvidia-*", "Other/Proprietary License"): NVIDIA,
    ("cuda-toolkit", ""): NVIDIA,
    ("certifi", "MPL-2.0"): UNCHANGED,
    ("tqdm", "MPL-2.0"): UNCHANGED,
}
"""By the distribution's name and the licence."""


def needed(name: str) -> dict[str, Distribution]:
    """What a distribution needs to run, itself included, with the extras that are asked for."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(name, "")]
    while pending:
        each = pending.pop()
        if each in seen:
            continue
        seen.add(each)
        try:
            installed = distribution(each[0])
        except PackageNotFoundError as error:
            raise SystemExit(
                f"{each[0]} is not installed, so its licence is unknown; set the environment up anew"
            ) from error
        found[canonicalize_name(each[0])] = installed
        for requirement in map(Requirement, installed.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": each[1]}):
                pending += [(requirement.name, extra) for extra in ("", *requirement.extras)]
    return found


def licence(metadata: Mapping[str, str], classifiers: list[str]) -> str:
    """What a distribution's metadata say: an expression, a name, or nothing."""
    names = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License ::")]
    text = metadata.get("License-Expression") or " AND ".join(names) or metadata.get("License", "").strip()
    return text.partition("\n")[0]


def unfit(expression: str) -> Iterator[str]:
    """The licences of an expression that are not permissive; of alternatives one has to be."""
    for part in expression.split(" AND "):
        part = part[1:-1] if part.startswith("(") else part
        choices = [OTHER_NAMES.get(choice, choice) for choice in part.split(" OR ")]
        if not set(choices) & PERMISSIVE:
            yield " OR ".join(choices)


def main() -> int:
    """Check; 0 if all licences are known and fit."""
    packages = needed("mmreg")
    problems: list[str] = []
    excepted: dict[str, list[str]] = {}
    for name, installed in sorted(packages.items()):
        for found in unfit(licence(dict(installed.metadata.items()), installed.metadata.get_all("Classifier") or [])):
            reasons = [
                why for (pattern, allowed), why in EXCEPTIONS.items() if fnmatch(name, pattern) and found == allowed
            ]
            if reasons:
                excepted.setdefault(reasons[0], []).append(name)
            else:
                problems.append(f"  {name} {installed.version}: {found or 'names no licence'}")
    print(f"{len(packages)} distributions looked at; exceptions:")
    for reason, names in excepted.items():
        print(f"  {', '.join(names)}: {reason}")
    if problems:
        print("these are neither permissive nor named as an exception in .ci/licences.py:", file=sys.stderr)
        print("\n".join(problems), file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
