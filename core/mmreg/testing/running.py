"""Running all checks of a component, from plain Python and from pytest, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mmreg.registry import Entry
from mmreg.testing import encoder, fusion, general, modality, modules, task
from mmreg.testing.devices import check_devices, check_task_devices, check_transform_devices
from mmreg.testing.order import check_order
from mmreg.testing.subject import Check, Skipped, Subject, make_subject

if TYPE_CHECKING:
    import pytest

_GENERAL = (
    general.check_light_module,
    general.check_target,
    general.check_options_documented,
    general.check_options_typed,
    general.check_unknown_option_refused,
)
_MODULES = (
    modules.check_output_shape,
    modules.check_same_seed_same_weights,
    modules.check_state_round_trip,
    modules.check_weights_are_parameters,
    modules.check_float64,
    modules.check_reduced_precision,
    check_devices,
    modules.check_gradients,
    modules.check_eval_is_deterministic,
    modules.check_batch_of_one,
    modules.check_rows_are_independent,
    modules.check_padding,
    modules.check_learns,
)
_FUSION = (
    fusion.check_number_of_inputs,
    check_order,
    fusion.check_absence,
    fusion.check_extreme_values,
)
CHECKS: Mapping[str, Sequence[Check]] = {
    "modality": (
        *_GENERAL,
        modality.check_declarations,
        modality.check_load,
        modality.check_bad_values,
        modality.check_same_fit_same_state,
        modality.check_fits_see_training_rows_only,
        modality.check_modality_state,
        modality.check_absent_values,
        modality.check_promised_spec,
        modality.check_transform_rows,
        modality.check_transform_randomness,
        check_transform_devices,
    ),
    "encoder": (
        *_GENERAL,
        *_MODULES,
        encoder.check_specs,
        encoder.check_shortest_length,
        encoder.check_absent_rows,
    ),
    "feature fusion": (*_GENERAL, *_MODULES, *_FUSION),
    "model fusion": (
        *_GENERAL,
        *(check for check in _MODULES if check is not modules.check_padding),
        *_FUSION,
        fusion.check_distributions,
        fusion.check_fit,
    ),
    "task": (
        *_GENERAL,
        task.check_targets,
        task.check_labels_round_trip,
        task.check_bad_targets,
        task.check_scores,
        task.check_loss,
        check_task_devices,
        task.check_metrics,
        task.check_task_state,
    ),
    **dict.fromkeys(("metric", "optimizer", "schedule", "callback"), _GENERAL),
}
"""The checks of each kind (and level), in the order in which they are run."""

Outcome = Literal["passed", "failed", "skipped", "expected"]


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
    outcome: Outcome
    detail: str = ""


@dataclass
class Report:
    """What came of all checks of one or several components."""

    results: list[Result] = field(default_factory=list)

    def of(self, outcome: Outcome) -> list[Result]:
        """The results with an outcome."""
        return [result for result in self.results if result.outcome == outcome]

    @property
    def ok(self) -> bool:
        """Whether nothing failed that was not expected to."""
        return not self.of("failed")

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


def checks_of(kind: str, level: str = "") -> dict[str, Check]:
    """The checks of a kind (and, of fusions, a level) by their names, without "check_"."""
    return {check_name(check): check for check in CHECKS[f"{level} {kind}".strip()]}


def check_name(check: Check) -> str:
    """A check's name without "check_"."""
    return str(getattr(check, "__name__", check)).removeprefix("check_")


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
    """The given texts by the checks' short names.

    Raises:
        ValueError: there is no such check for the subject.
    """
    named = {name.removeprefix("check_"): text for name, text in given.items()}
    known = checks_of(subject.kind, subject.level)
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise ValueError(f"{subject} has no checks {', '.join(unknown)}; it has {', '.join(known)}")
    return named


def _run(subject: Subject, name: str, check: Check, expected: str | None) -> Result:
    component = f"{subject.kind}/{subject.name}"
    try:
        check(subject)
    except Skipped as reason:
        if expected is not None:
            return Result(component, name, "failed", _skipped_instead(expected, reason))
        return Result(component, name, "skipped", str(reason))
    except AssertionError as error:
        if expected is not None:
            return Result(component, name, "expected", expected)
        return Result(component, name, "failed", str(error).removeprefix(f"{subject}: "))
    if expected is not None:
        return Result(component, name, "failed", f"it was expected to fail ({expected}), but passed")
    return Result(component, name, "passed")


def _skipped_instead(expected: str, reason: Skipped) -> str:
    return f"it was expected to fail ({expected}), but was skipped: {reason}"


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
            marks = []
            if name in expected:
                marks.append(pytest.mark.xfail(strict=True, reason=expected[name], raises=AssertionError))
            label = f"{subject.kind}-{subject.name}-{name}"
            parameters.append(pytest.param(_for_pytest(subject, check, expected.get(name)), id=label, marks=marks))
    return pytest.mark.parametrize("check", parameters)


def _for_pytest(subject: Subject, check: Check, expected: str | None) -> Callable[[], None]:
    def run() -> None:
        import pytest

        try:
            check(subject)
        except Skipped as reason:
            if expected is not None:  # what it raises is no AssertionError, which the strict xfail would take
                pytest.fail(_skipped_instead(expected, reason))
            pytest.skip(str(reason))

    return run
