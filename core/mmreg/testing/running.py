"""Running all checks of a component, from plain Python and from pytest, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mmreg.registry import Entry
from mmreg.testing.expectations import Skipped
from mmreg.testing.registration import ComponentCheck, checks_of
from mmreg.testing.subject import Subject, make_subject

if TYPE_CHECKING:
    import pytest

CheckOutcome = Literal["passed", "failed", "skipped", "expected"]


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        component: the component's kind and name, such as "encoder/depth_cnn".
        check: the check's name, without "check_".
        outcome: "expected" for a failure that was expected.
        detail: why it failed, was skipped, or was expected to fail.
    """

    component: str
    check: str
    outcome: CheckOutcome
    detail: str = ""


@dataclass
class Report:
    """What came of all checks of one or several components."""

    results: list[Result] = field(default_factory=list)

    def of(self, outcome: CheckOutcome) -> list[Result]:
        """The results with an outcome."""
        return [result for result in self.results if result.outcome == outcome]

    @property
    def ok(self) -> bool:
        """Whether nothing failed that was not expected to."""
        return not self.of("failed")

    @property
    def warnings(self) -> list[str]:
        """The components of whose checks more than half were skipped, each with the most common reason."""
        told = []
        for component, count in Counter(result.component for result in self.results).items():
            reasons = [each.detail for each in self.of("skipped") if each.component == component]
            if 2 * len(reasons) > count:
                ((reason, _),) = Counter(reasons).most_common(1)
                skipped = f"{component}: {len(reasons)} of {count} checks were skipped; mostly because {reason}"
                told.append(f"{skipped}; or have its class give that by a classmethod conformance_material")
        return told

    @property
    def summary(self) -> str:
        """Such as "17 run, 2 skipped, 1 failed"."""
        failed, skipped, expected = (len(self.of(outcome)) for outcome in ("failed", "skipped", "expected"))
        parts = [f"{len(self.results) - skipped} run", f"{skipped} skipped", f"{failed} failed"]
        return ", ".join([*parts, *([f"{expected} failed as expected"] if expected else [])])

    def __str__(self) -> str:
        reasons = Counter((result.outcome, result.check, result.detail) for result in self.results if result.detail)
        lines = [
            f"  {outcome} {name}: {detail}" + (f" ({count} times)" if count > 1 else "")
            for (outcome, name, detail), count in sorted(reasons.items())
        ]
        return "\n".join([self.summary, *lines])


def run_checks(
    component: type | str | Entry | Subject,
    *,
    checks: Iterable[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    **material: Any,
) -> Report:
    """Run all checks of a component.

    Args:
        component: a class, a name as the registry takes it, an entry of the registry, or a subject.
        checks: names of the checks to run; none for all.
        expected_failures: names of checks that are known to fail, each with why. One of them that passes
            or is skipped is a failure.
        material: options to build it with, and what to make its inputs of; see `Subject`.

    Returns:
        The report; `report.ok` says whether all is well, and `str(report)` what is not.

    Raises:
        ValueError: an unknown check.
        ComponentNotFoundError, ComponentImportError: there is no such component, or it cannot be imported.
    """
    subject = make_subject(component, **material)
    known, expected = checks_of(subject.kind, subject.level), _named(subject, expected_failures or {})
    report = Report()
    for name in _named(subject, dict.fromkeys(checks, "")) or known:
        report.results.append(_run(subject, name, known[name], expected.get(name)))
    return report


def _named(subject: Subject, given: Mapping[str, str]) -> dict[str, str]:
    """The given texts by the checks' short names; `ValueError` if the subject has no such check."""
    named = {name.removeprefix("check_"): text for name, text in given.items()}
    known = checks_of(subject.kind, subject.level)
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise ValueError(f"{subject} has no checks {', '.join(unknown)}; it has {', '.join(known)}")
    return named


def _run(subject: Subject, name: str, check: ComponentCheck, expected: str | None) -> Result:
    outcome: CheckOutcome = "passed"
    detail = ""
    try:
        check(subject)
    except Skipped as reason:
        outcome, detail = "skipped", str(reason)
    except AssertionError as error:
        outcome, detail = "failed", str(error).removeprefix(f"{subject}: ")
    if expected is not None and outcome == "failed":
        outcome, detail = "expected", expected
    elif expected is not None:
        outcome, detail = "failed", _no_failure(expected, detail)
    return Result(f"{subject.kind}/{subject.name}", name, outcome, detail)


def _no_failure(expected: str, reason: str) -> str:
    return f"it was expected to fail ({expected}), but {f'was skipped: {reason}' if reason else 'passed'}"


def parametrize_checks(
    *components: type | str | Entry | Subject,
    expected_failures: Mapping[str, str] | None = None,
    **material: Any,
) -> pytest.MarkDecorator:
    """A decorator that turns a pytest function `test(check)` into one test for each check of each component.

    The function calls `check()`. A check that has nothing to say is skipped with its reason, and one that is expected
    to fail is a strict `xfail`, which fails where the check is skipped, too.

    Args:
        components: classes, names, entries or subjects, all tested with the same material.
        expected_failures: as for `run_checks`.
        material: as for `run_checks`.

    Raises:
        ValueError: an unknown check.

    Example:
        >>> @parametrize_checks("encoder/image_cnn")
        ... def test_image_cnn_conforms(check):
        ...     check()
    """
    import pytest

    parameters = []
    for component in components:
        subject = make_subject(component, **material)
        expected = _named(subject, expected_failures or {})
        for name, check in checks_of(subject.kind, subject.level).items():
            reason = expected.get(name)
            marks = [] if reason is None else [pytest.mark.xfail(strict=True, reason=reason, raises=AssertionError)]
            label = f"{subject.kind}-{subject.name}-{name}"
            parameters.append(pytest.param(_for_pytest(subject, check, reason), id=label, marks=marks))
    return pytest.mark.parametrize("check", parameters)


def _for_pytest(subject: Subject, check: ComponentCheck, expected: str | None) -> Callable[[], None]:
    def run() -> None:
        import pytest

        try:
            check(subject)
        except Skipped as reason:
            if expected is not None:  # what it raises is no AssertionError, which the strict xfail would take
                pytest.fail(_no_failure(expected, str(reason)))
            pytest.skip(str(reason))

    return run
