"""Running the checks: reports, expected failures, pytest, and what the kit does where it cannot tell."""

from __future__ import annotations

import further_mutants
import mutants
import numpy as np
import pytest
import torch
from good import MATERIAL, Choice, Pool, Recurrent, Series, Weighed
from records import Records
from torch import nn

import mmreg.testing
from mmreg import Encoder, Features, Spec, registry
from mmreg.errors import SpecError, ValueLoadError
from mmreg.testing import (
    CHECKS,
    Skipped,
    check_devices,
    check_gradients,
    check_light_module,
    check_order,
    check_target,
    check_task_devices,
    check_transform_devices,
    checks_of,
    make_subject,
    parametrize_checks,
    run_checks,
)
from mmreg.testing.expectations import expect
from mmreg.testing.registration import check


def outcomes(report):
    return {result.check: result.outcome for result in report.results}


def test_a_report_counts_what_was_run_and_says_why_the_rest_was_not():
    report = run_checks(mutants.UnusedParameter, checks=["gradients", "light_module", "check_learns"])
    assert report.summary == "2 run, 1 skipped, 1 failed"
    assert not report.ok
    assert str(report).splitlines() == [
        "2 run, 1 skipped, 1 failed",
        "  failed gradients: built for TC (any, 5) float32, asked for pooled: the gradient of gate is zero everywhere: "
        "it is never trained",
        "  skipped light_module: it comes from no plugin",
    ]


def test_an_expected_failure_is_no_failure_and_one_that_passes_is():
    expected = {"gradients": "the gate is for later", "check_learns": "it should not"}
    report = run_checks(mutants.UnusedParameter, checks=expected, expected_failures=expected)
    assert outcomes(report) == {"gradients": "expected", "learns": "failed"}
    assert report.of("expected")[0].detail == "the gate is for later"
    assert report.of("failed")[0].detail == "it was expected to fail (it should not), but passed"
    assert report.summary == "2 run, 0 skipped, 1 failed, 1 failed as expected"


def test_an_expected_failure_that_is_skipped_is_a_failure():
    report = run_checks(Choice, checks=["light_module"], expected_failures={"light_module": "it is heavy"})
    message = "it was expected to fail (it is heavy), but was skipped: it comes from no plugin"
    assert [result.detail for result in report.of("failed")] == [message]
    (parameter,) = [
        parameter
        for parameter in parametrize_checks(Choice, expected_failures={"light_module": "it is heavy"}).args[1]
        if parameter.id == "task-Choice-light_module"
    ]
    with pytest.raises(pytest.fail.Exception, match="but was skipped"):
        parameter.values[0]()
    assert not issubclass(pytest.fail.Exception, AssertionError)


def test_material_is_applied_to_a_subject_too():
    subject = make_subject(Choice)
    targets = ["yes", "no", 3]
    failed = run_checks(subject, targets=targets, checks=["targets"]).of("failed")
    assert "these are no words: [3]" in failed[0].detail
    mark = parametrize_checks(subject, targets=targets, name="mine")
    (parameter,) = [parameter for parameter in mark.args[1] if parameter.id == "task-mine-targets"]
    with pytest.raises(AssertionError, match="these are no words"):
        parameter.values[0]()
    with pytest.raises(TypeError, match="no_such_material"):
        run_checks(subject, no_such_material=1)


@pytest.mark.parametrize("argument", [{"checks": ["nothing"]}, {"expected_failures": {"nothing": "why"}}])
def test_an_unknown_check_is_an_error_that_names_those_that_there_are(argument):
    with pytest.raises(ValueError, match=r"task 'Choice' has no checks nothing; it has light_module, target, .*"):
        run_checks(Choice, **argument)


def test_a_check_can_be_called_with_a_class_and_its_message_names_the_component():
    check_gradients(Recurrent)
    with pytest.raises(AssertionError, match=r"^encoder 'UnusedParameter': built for TC .*gate is zero"):
        check_gradients(mutants.UnusedParameter)


def test_a_component_that_crashes_fails_the_check_with_what_it_raised():
    class Crashes(Recurrent):
        def states(self, values):
            raise KeyError("weights")

    with pytest.raises(AssertionError, match=r"it raised KeyError: 'weights'"):
        check_gradients(Crashes)


def test_checks_leave_torchs_random_state_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run_checks(Recurrent, checks=["same_seed_same_weights", "learns", "state_round_trip"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_parametrize_checks_makes_one_parameter_a_check_with_readable_ids():
    mark = parametrize_checks(Recurrent, Choice, name="mine")
    assert mark.name == "parametrize"
    assert mark.args[0] == "check"
    ids = [parameter.id for parameter in mark.args[1]]
    assert ids == [f"{kind}-mine-{name}" for kind in ("encoder", "task") for name in checks_of(kind)]


def test_parametrized_checks_fail_skip_and_are_expected_to_fail():
    mark = parametrize_checks(mutants.UnusedParameter, expected_failures={"gradients": "known"})
    by_name = {parameter.id.rpartition("-")[2]: parameter for parameter in mark.args[1]}
    with pytest.raises(AssertionError, match="never trained"):
        by_name["gradients"].values[0]()
    (xfail,) = by_name["gradients"].marks
    assert (xfail.name, xfail.kwargs["strict"], xfail.kwargs["reason"]) == ("xfail", True, "known")
    with pytest.raises(pytest.skip.Exception, match="it comes from no plugin"):
        by_name["light_module"].values[0]()
    assert not by_name["learns"].marks
    by_name["learns"].values[0]()


def test_every_check_has_a_mutant_or_a_test_of_its_own():
    names = {name for key in CHECKS for name in checks_of(*reversed(key.split()))}
    caught = {mutant.check for mutant in mutants.MUTANTS.values()} | set(further_mutants.MUTANTS.values())
    assert names == caught | {"light_module", "target"}


def test_a_check_is_entered_by_its_decorator_alone(monkeypatch):
    for kind, known in CHECKS.items():
        monkeypatch.setitem(CHECKS, kind, list(known))

    @check("task")
    def check_words_are_short(subject):
        """Its words have three letters at most."""
        expect(max(map(len, subject.targets)) <= 3, "the words should be short")

    assert list(checks_of("task"))[-1] == "words_are_short"
    assert "words_are_short" not in checks_of("encoder")
    assert mmreg.testing.check_words_are_short is check_words_are_short
    assert outcomes(run_checks(Choice, targets=["a", "b"], checks=["words_are_short"])) == {"words_are_short": "passed"}
    failed = run_checks(Choice, targets=["a", "long"], checks=["words_are_short"]).of("failed")
    assert failed[0].detail == "the words should be short"
    with pytest.raises(AttributeError, match="no attribute 'check_nothing'"):
        _ = mmreg.testing.check_nothing


# --- subjects


def test_a_subject_is_made_of_a_class_a_name_or_an_entry():
    entry = registry.find("encoder", "text_rnn")
    for component in (registry.load(entry), "encoder/text_rnn", entry):
        subject = make_subject(component)
        assert (subject.kind, subject.name, subject.module) == ("encoder", "text_rnn", "mmreg_text.plugin")
    assert (make_subject(Pool).kind, make_subject(Pool).level) == ("fusion", "model")


def test_what_implements_no_interface_is_no_subject():
    with pytest.raises(TypeError, match="implements none of the interfaces modality, encoder, fusion, task"):
        make_subject(dict)


@pytest.mark.parametrize("says_it", ["by modality_options", "as a modality's default"])
def test_an_encoder_with_needs_is_checked_for_what_a_modality_gives_that_meets_them(says_it, monkeypatch):
    class Fixed(Encoder):
        """Takes images of one size."""

        def __init__(self, spec: Spec) -> None:
            super().__init__()
            if reason := self.accepts(spec, {}):
                raise SpecError(reason)
            self.linear, self.out_features = nn.Linear(3 * 8 * 8, 4), 4

        @classmethod
        def accepts(cls, spec, options):
            return None if spec == Spec("CHW", (3, 8, 8)) else "it takes CHW (3, 8, 8)"

        @classmethod
        def modality_options(cls, options):
            return {"size": 8} if says_it == "by modality_options" else {}

        def forward(self, signal):
            return Features(pooled=self.linear(signal.values.flatten(1)))

    if says_it == "as a modality's default":
        image = registry.get("modality", "image")
        monkeypatch.setattr(image, "default_encoder", "Fixed")
        monkeypatch.setattr(image, "conformance_material", lambda: {"options": {"size": 8}}, raising=False)
    report = run_checks(Fixed, checks=["specs", "output_shape", "learns"])
    assert set(outcomes(report).values()) == {"passed"}, str(report)
    assert report.warnings == []


def test_a_component_with_required_options_is_skipped_until_they_are_given():
    class Needs(Recurrent):
        """Needs a size.

        Args:
            hidden: the size of its states.
        """

        def __init__(self, spec: Spec, *, hidden: int, outputs: str = "pooled") -> None:
            super().__init__(spec, hidden=hidden, outputs=outputs)

    report = run_checks(Needs, checks=["learns", "options_typed"])
    assert outcomes(report) == {"learns": "skipped", "options_typed": "passed"}
    assert report.of("skipped")[0].detail == "it needs the options hidden; pass options={...} (or --option)"
    assert run_checks(Needs, options={"hidden": 3}).ok


def test_an_encoder_that_takes_nothing_usual_is_skipped_until_specs_are_given():
    class Large(Recurrent):
        @classmethod
        def accepts(cls, spec, options):
            return None if spec == Spec("TC", (None, 50)) else "it takes 50 numbers a step"

    Large.__doc__ = Recurrent.__doc__
    assert outcomes(run_checks(Large, checks=["learns"])) == {"learns": "skipped"}
    assert run_checks(Large, specs=[Spec("TC", (None, 50))]).ok
    report = run_checks(Large, specs=[Spec("TC", (None, 5))], checks=["specs"])
    assert "it should take TC (any, 5) float32, which was given for it" in report.of("failed")[0].detail


def test_a_modality_that_loads_nothing_usual_is_skipped_until_values_are_given():
    class Doubled(Series):
        def load(self, value):
            return super().load(value["twice"])

    assert outcomes(run_checks(Doubled, checks=["load"])) == {"load": "skipped"}
    values = [{"twice": row} for row in MATERIAL[Series]["values"]]
    assert outcomes(run_checks(Doubled, checks=["load"], values=values)) == {"load": "passed"}
    few = run_checks(Doubled, checks=["load"], values=values[:2])
    assert few.of("skipped")[0].detail == "it was given 2 values; pass at least 4"


def test_arrays_are_tried_on_a_modality_without_values():
    class Waveform(Series):
        def load(self, value):
            if not isinstance(value, np.ndarray) or value.ndim != 1 or len(value) < 100:
                raise mutants.TargetError("a waveform is needed")
            return super().load(value)

    assert outcomes(run_checks(Waveform, checks=["load"])) == {"load": "passed"}


def test_a_task_that_takes_nothing_usual_is_skipped_until_targets_are_given():
    class YesOrNo(Choice):
        def checked(self, values):
            if set(values) - {"yes", "no"}:
                raise mutants.TargetError("yes or no")
            return super().checked(values)

    YesOrNo.__doc__ = Choice.__doc__
    assert outcomes(run_checks(YesOrNo, checks=["targets"])) == {"targets": "skipped"}
    assert run_checks(YesOrNo, targets=["yes", "no", "no", "yes", "no"]).ok


def test_a_reference_of_the_authors_own_is_compared_with():
    wrong = run_checks(Choice, checks=["metrics"], references={"log_loss": lambda scores, targets: 7.0})
    assert "log_loss should be 7 by its definition" in wrong.of("failed")[0].detail

    def log_loss(scores, targets):
        return float(nn.functional.nll_loss(scores, targets))

    assert run_checks(Choice, checks=["metrics"], references={"log_loss": log_loss}).ok


def test_metrics_that_nothing_was_compared_with_are_skipped_and_named():
    class Own(Choice):
        main_metric = "share"
        metrics = {"share": True}  # noqa: RUF012

        def evaluate(self, scores, targets, metrics=()):
            return {"share": super().evaluate(scores, targets, set(metrics) - {"share"})["accuracy"]}

        def headline(self, result, rows):
            return f"{result['share']:.0%} of {rows}"

    assert run_checks(Own, checks=["metrics"]).results[0].detail == (
        "no reference for share to compare with; pass references={...}"
    )

    def share(scores, targets):
        return float((scores.argmax(1) == targets).double().mean())

    assert outcomes(run_checks(Own, checks=["metrics"], references={"share": share})) == {"metrics": "passed"}


def test_nothing_is_taken_for_granted_of_a_metric_by_its_name():
    class InTheBestTwo(Choice):
        def evaluate(self, scores, targets, metrics=()):
            result = super().evaluate(scores, targets, metrics)
            best = scores.topk(2, dim=1).indices
            return {**result, "accuracy": float((best == targets[:, None]).any(1).double().mean())}

    assert outcomes(run_checks(InTheBestTwo, checks=["metrics"])) == {"metrics": "skipped"}
    report = run_checks(InTheBestTwo, checks=["metrics"], **MATERIAL[Choice])
    assert "accuracy should be" in report.of("failed")[0].detail


def test_a_reference_of_no_metric_is_a_failure():
    report = run_checks(Choice, checks=["metrics"], references={"acuracy": lambda scores, targets: 1.0})
    assert report.of("failed")[0].detail == "there are references for acuracy, which it does not have"


@pytest.mark.parametrize("undefined", [{}, None, float("nan")])
def test_a_metric_that_is_not_defined_may_be_nan_nothing_or_empty(undefined):
    class Lift(Choice):
        metrics = {**Choice.metrics, "lift": True}  # noqa: RUF012

        def evaluate(self, scores, targets, metrics=()):
            return {**super().evaluate(scores, targets, set(metrics) - {"lift"}), "lift": undefined}

    def lift(scores, targets):
        return float("nan")

    report = run_checks(Lift, checks=["metrics"], references={"lift": lift})
    assert outcomes(report) == {"metrics": "passed"}, str(report)
    wrong = run_checks(Lift, checks=["metrics"], references={"lift": lambda scores, targets: 1.0})
    assert f"lift should be 1 by its definition, found {undefined}" in wrong.of("failed")[0].detail


class Record(Series):
    """Two measurements, of which each may be missing; nothing is known of an empty record.

    Args:
        noise: the deviation of noise that training adds.
    """

    def load(self, value):
        if not isinstance(value, dict) or not all(isinstance(each, float) for each in value.values()):
            raise ValueLoadError("a record of numbers is needed")
        return np.array([[value.get(name, np.nan)] for name in ("left", "right")], np.float32)

    def fit_arrays(self, arrays):
        numbers = np.concatenate([array[:, 0] for array in arrays] or [np.zeros(1)])
        self.mean = float(np.nan_to_num(numbers).mean())

    def transform(self, signal, *, training, generator=None):
        return super().transform(signal.replace(signal.values.nan_to_num()), training=training, generator=generator)


def test_a_modality_may_mark_all_of_an_empty_mapping_as_missing():
    values = [{"left": 1.0}, {}, {"left": 2.0, "right": -1.0}, {"right": 0.5}, {}]
    report = run_checks(Record, values=values)
    assert report.ok, str(report)


def test_an_encoder_without_accepts_is_told_so_where_it_raises():
    class TakesEverything(Recurrent):
        accepts = Encoder.accepts

        def __init__(self, spec: Spec, *, hidden: int = 6, outputs: str = "pooled") -> None:
            if spec.axes != "TC":
                raise KeyError(spec.axes)
            super().__init__(spec, hidden=hidden, outputs=outputs)

    hint = "; it has no `accepts`, so it is taken to accept every spec"
    for result in run_checks(TakesEverything, checks=["learns", "specs"]).results:
        assert (result.outcome, "'CHW'" in result.detail, hint in result.detail) == ("failed", True, True)
    crash = run_checks(mutants.NeedsThreeSteps, checks=["shortest_length"]).results[0]
    assert "it raised RuntimeError" in crash.detail
    assert hint not in crash.detail


# --- general checks


def test_a_class_that_lacks_a_method_fails_the_target():
    class Unfinished(Choice):
        loss = None

    Unfinished.__abstractmethods__ = frozenset({"loss"})
    with pytest.raises(AssertionError, match="does not implement loss"):
        check_target(make_subject(Unfinished))


def test_a_class_of_another_kind_or_level_than_declared_fails_the_target():
    with pytest.raises(AssertionError, match="expected a subclass of the interface of a task"):
        check_target(make_subject(Recurrent, kind="task"))
    with pytest.raises(AssertionError, match="declared with level 'model', but its class is of 'feature'"):
        check_target(make_subject(Weighed, level="model"))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import torch", "imports torch"),
        ("import sys; print('noise'); sys.exit(3)", "cannot be imported in a process of its own"),
        ("raise ValueError('broken')", "ValueError: broken"),
        ("print('found nothing')", None),
    ],
)
def test_a_light_module_that_is_not_light_is_caught(code, problem, tmp_path, monkeypatch):
    name = f"light_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    subject = make_subject(Choice, module=name)
    if problem is None:
        check_light_module(subject)
        return
    with pytest.raises(AssertionError, match=f"task 'Choice': its light module {name} .*{problem}"):
        check_light_module(subject)


# --- order


class Interleaved(Weighed):
    """Scales each modality's projection by weights of its own, which are kept in one vector, turn by turn.

    Args:
        features: the size of the result.
    """

    def __init__(self, inputs: dict[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        self.scales = nn.Parameter(torch.randn(2 * features * len(inputs) + 1))

    def projected(self, vectors):
        scales = self.scales[:-1:2].view(self.out_features, -1)
        return super().projected(vectors) * scales.T + 0 * self.scales.sum()


class AxisForEach(Weighed):
    """A multilinear map of all modalities' vectors, with a weight that has an axis for each of them.

    Args:
        features: the size of the result.
    """

    def __init__(self, inputs: dict[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        del self.maps, self.score
        self.core = nn.Parameter(torch.randn(features, *inputs.values()))

    def forward(self, features, present):
        rest = self.core.expand(len(present), *self.core.shape)
        for vector in self.vectors(features, present):
            rest = torch.einsum("bfd...,bd->bf...", rest, vector)
        return Features(pooled=rest)


class FromATable(Weighed):
    """Adds a row of a table of a fixed size for each place.

    Args:
        features: the size of the result.
    """

    def __init__(self, inputs: dict[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        self.table = nn.Parameter(torch.randn(16, features))

    def projected(self, vectors):
        return super().projected(vectors) + self.table[: len(vectors)]


def moved(state, order):
    new = dict(state)
    for place, old in enumerate(order):
        for part in ("weight", "bias"):
            new[f"maps.{place}.{part}"] = state[f"maps.{old}.{part}"]
    if "table" in state:
        new["table"] = torch.cat([state["table"][list(order)], state["table"][len(order) :]])
    return new


@pytest.mark.parametrize("cls", [Interleaved, AxisForEach])
def test_weights_of_several_modalities_may_be_kept_in_any_way_that_grows_with_them(cls):
    check_order(cls)


def test_where_neither_names_nor_shapes_show_what_belongs_to_a_modality_the_author_says_how_it_moves():
    with pytest.raises(
        AssertionError, match=r"in the order text, image, audio: .*; declare it ordered, .*permute_state="
    ):
        check_order(FromATable)
    check_order(make_subject(FromATable, permute_state=moved))
    for cls, state in ((mutants.OrderMatters, moved), (FromATable, lambda state, order: state)):
        with pytest.raises(AssertionError, match="in the order text, image, audio: pooled should be the same"):
            check_order(make_subject(cls, permute_state=state))


def test_an_operator_that_is_declared_ordered_may_depend_on_order():
    class Ordered(mutants.OrderMatters):
        ordered = True

    with pytest.raises(Skipped, match="it is declared ordered"):
        check_order(Ordered)


def test_weights_that_go_by_name_stay_where_they_are():
    class Named(Weighed):
        def __init__(self, inputs: dict[str, int], *, features: int = 8) -> None:
            super().__init__(inputs, features=features)
            self.scales = nn.ParameterDict(
                {f"of {name}": nn.Parameter(torch.randn(size)) for name, size in inputs.items()}
            )
            self.names = list(inputs)

        def forward(self, features, present):
            vectors = self.vectors(features, present)
            pairs = zip(vectors, self.names, strict=True)
            sums = [vector @ self.scales[f"of {name}"] for vector, name in pairs]
            return Features(pooled=torch.stack(sums, 1).sum(1, keepdim=True).expand(-1, self.out_features))

    class OnlyNamed(Named):
        def __init__(self, inputs: dict[str, int], *, features: int = 8) -> None:
            super().__init__(inputs, features=features)
            del self.maps, self.score

    check_order(OnlyNamed)


# --- devices


def test_without_a_gpu_the_devices_are_skipped_with_what_was_tried(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Skipped, match="there is no CUDA device here; tried without one, no tensor stays behind"):
        check_devices(Weighed)


@pytest.mark.gpu
def test_with_a_gpu_a_component_moves_there_and_back():
    for cls in (Recurrent, Weighed, Pool):
        check_devices(cls)


@pytest.mark.gpu
def test_with_a_gpu_transforms_and_tasks_compute_there():
    check_transform_devices(make_subject(Series, **MATERIAL[Series]))
    check_task_devices(Choice)
    with pytest.raises(AssertionError):
        check_transform_devices(make_subject(mutants.MeanStaysOnTheHost, **MATERIAL[Series]))
    with pytest.raises(AssertionError):
        check_task_devices(mutants.WeightsStayOnTheHost)
    with pytest.raises(AssertionError, match="scores should be on the GPU"):
        check_task_devices(mutants.ScoresMoveToTheHost)


@pytest.mark.gpu
def test_with_a_gpu_a_constant_that_stays_behind_is_caught():
    with pytest.raises(AssertionError):
        check_devices(mutants.ConstantStaysBehind)


def test_a_modality_of_several_columns_asks_for_rows_of_them() -> None:
    report = run_checks(Records)
    skipped = {result.check: result.detail for result in report.of("skipped")}
    assert "it reads several columns; pass values=[{column: value, ...}, ...]" in skipped["load"]
    assert report.ok, str(report)
