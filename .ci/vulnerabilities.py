"""Asks what vulnerabilities are known of the versions in constraints.txt; says so where nobody answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKED = Path(__file__).resolve().parents[1] / "constraints.txt"
COMMAND = ("-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
SERVICES = ("pypi", "osv")
"""Who is asked, one after the other until one answers."""


def verdict(dependencies: list[dict[str, Any]]) -> str:
    """What is wrong with an answer; nothing if every version is known and none is vulnerable.

    A service that is not reached, or that knows none of the packages, is no clean bill.
    """
    skipped = [each for each in dependencies if "skip_reason" in each]
    found = [
        f"  {each['name']} {each['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no release'}"
        for each in dependencies
        for flaw in each.get("vulns", ())
    ]
    if not dependencies or len(skipped) == len(dependencies):
        return f"NOTHING WAS AUDITED: the service answered for none of {len(dependencies)} packages"
    if skipped:
        found += [f"  not audited: {each['name']}: {each['skip_reason']}" for each in skipped]
    return "\n".join(found)


def ask(service: str) -> tuple[list[dict[str, Any]] | None, str]:
    """The answer of a service on every package; None and the reason if it gives none."""
    command = [sys.executable, *COMMAND, "--vulnerability-service", service, "--requirement", str(LOCKED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return None, (done.stderr.strip().splitlines() or ["no answer"])[-1]


def main() -> int:
    """Ask; 0 only if all packages were audited and nothing is known."""
    problem = ""
    for service in SERVICES:
        dependencies, reason = ask(service)
        problem = f"NOTHING WAS AUDITED: {reason}" if dependencies is None else verdict(dependencies)
        if dependencies is not None and not problem:
            print(f"no vulnerability is known of {len(dependencies)} packages (asked: {service})")
            return 0
        print(f"{service}: {problem}", file=sys.stderr)
        if not problem.startswith("NOTHING"):
            break
    if problem.startswith("NOTHING"):
        print("no service answered: run `make audit` where one can be reached", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
