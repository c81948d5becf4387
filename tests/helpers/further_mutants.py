"""Broken components of further kinds, such as optimizers; each breaks a promise, as a check in `MUTANTS` notices."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from further_good import Descent, Diary, Fading, Fair, Right
from torch.optim.lr_scheduler import LambdaLR


class SameGroupTwice(Descent):
    def build(self, groups):
        built = super().build(groups)
        built.param_groups.append(built.param_groups[0])
        return built


class MovesMatricesAlone(Descent):
    def build(self, groups):
        built = super().build(groups)
        step = built.step

        def matrices_alone() -> None:
            for group in built.param_groups:
                for parameter in group["params"]:
                    parameter.grad = parameter.grad if parameter.ndim > 1 else None
            step()

        built.step = matrices_alone
        return built


class OneRateForAll(Descent):
    def group(self, group):
        return {**super().group(group), "lr": self.lr}


class RateByNameAlone(Descent):
    def build(self, groups):
        built = super().build(groups)
        step = built.step

        def at_full_rate() -> None:
            rates = [group["lr"] for group in built.param_groups]
            for group in built.param_groups:
                group["lr"] = self.lr
            step()
            for group, rate in zip(built.param_groups, rates, strict=True):
                group["lr"] = rate

        built.step = at_full_rate
        return built


class NothingIsSpared(Descent):
    def group(self, group):
        return super().group(replace(group, decays=True))


class OneDecayForAll(Descent):
    def group(self, group):
        return {**super().group(group), "weight_decay": self.weight_decay if group.decays else 0.0}


class ForgetsItsMomentum(Descent):
    def build(self, groups):
        built = super().build(groups)
        state_dict = built.state_dict
        built.state_dict = lambda: {**state_dict(), "state": {}}
        return built


class StateHoldsAnObject(Descent):
    def build(self, groups):
        built = super().build(groups)
        built.param_groups[0]["owner"] = self
        return built


class RandomSteps(Descent):
    def group(self, group):
        return {**super().group(group), "lr": group.lr * 0.01 * float(1 + torch.rand(()))}


class Constant(Fading):
    def factor(self, done):
        return 1.0


class BelowZero(Fading):
    def factor(self, done):
        return 1 - 1.5 * done


class StopsBeforeTheEnd(Fading):
    def factor(self, done):
        return 1 / (1 - done) if done < 1 else math.inf


class NoSchedule(Fading):
    def build(self, optimizer, *, steps, epochs):
        return None


class Forgetful(LambdaLR):
    def load_state_dict(self, state_dict):
        pass


class ForgetsItsStep(Fading):
    def build(self, optimizer, *, steps, epochs):
        return Forgetful(optimizer, lambda step: self.factor(min(1.0, step / steps)))


class NoSpaces(Right):
    spaces = frozenset()


class MeanOfNothing(Right):
    def compute(self, scores, targets):
        return float(self.decided(scores, targets)[targets > 0].double().mean())


class TensorInstead(Right):
    def compute(self, scores, targets):
        return self.decided(scores, targets).double().mean()


class FirstRowsCountMore(Right):
    def compute(self, scores, targets):
        right = self.decided(scores, targets).double().flatten()
        return float((right / torch.arange(1, len(right) + 1)).sum())


class Accumulates(Right):
    def __init__(self, *, num_outputs: int, threshold: float = 0.0) -> None:
        super().__init__(num_outputs=num_outputs, threshold=threshold)
        self.seen: list[float] = []

    def compute(self, scores, targets):
        self.seen.append(super().compute(scores, targets))
        return sum(self.seen) / len(self.seen)


class ChangesScores(Right):
    def compute(self, scores, targets):
        return super().compute(scores.mul_(2), targets)


class TheWrongWayRound(Right):
    more_is_better = False


class OfTargetsAlone(Right):
    def compute(self, scores, targets):
        return float(targets.double().mean())


class UnknownSpace(Fair):
    spaces = frozenset({"probabilities"})


class OwnGradientsForNobody(Fair):
    modulates = False


class OneModalityWithoutLogits(Fair):
    def own_logits(self, vectors):
        return dict(list(super().own_logits(vectors).items())[1:])


class LogitsOfTheBatch(Fair):
    def own_logits(self, vectors):
        return super().own_logits({name: each - each.mean(0) for name, each in vectors.items()})


class LeavesRowsEmpty(Fair):
    def keep(self, present):
        return present & (torch.rand(present.shape) > 0.3)


class KeepsWhatIsNotThere(Fair):
    def keep(self, present):
        return torch.ones_like(present)


class DividesByNothing(Fair):
    def observe(self, batch):
        sums = super().observe(batch).sums
        return replace(super().observe(batch), losses={"even": 0.1 * (sums["sure"] / sums["rows"]).sum()})


class HeadsThatNobodyTrains(Fair):
    own_loss = 0.0


class RemembersAside(Fair):
    count = 0

    def observe(self, batch):
        self.count += 1
        sums = super().observe(batch).sums
        return replace(super().observe(batch), sums={**sums, "sure": sums["sure"] / self.count})


class RaisesWithoutAccuracy(Diary):
    def on_epoch_end(self, run, epoch):
        self.lines.append(f"{epoch.get('validation', 'accuracy'):.2f}")


class NeedsAStart(Diary):
    def on_start(self, run, facts):
        self.run = run

    def on_end(self, run, report):
        super().on_end(self.run, report)


class ChangesFacts(Diary):
    def on_start(self, run, facts):
        facts["device"] = "cuda"


class ChangesTheReport(Diary):
    def on_end(self, run, report):
        run.report["notes"].append("seen")


class ChangesWeights(Diary):
    def on_epoch_end(self, run, epoch):
        with torch.no_grad():
            next(run.model.parameters()).mul_(0.9)


class LeavesEvaluationMode(Diary):
    def on_evaluation(self, run, split, result):
        run.model.eval()


class DrawsAtRandom(Diary):
    def on_step(self, step):
        torch.rand(())


MUTANTS = {
    SameGroupTwice: "parameter_groups",
    MovesMatricesAlone: "weights_move",
    OneRateForAll: "learning_rates",
    RateByNameAlone: "learning_rates",
    NothingIsSpared: "weight_decay",
    OneDecayForAll: "weight_decay",
    ForgetsItsMomentum: "optimizer_state",
    StateHoldsAnObject: "optimizer_state",
    RandomSteps: "steps_repeat",
    Constant: "course",
    BelowZero: "course",
    StopsBeforeTheEnd: "course",
    NoSchedule: "course",
    ForgetsItsStep: "schedule_state",
    NoSpaces: "metric_declarations",
    MeanOfNothing: "metric_is_finite",
    TensorInstead: "metric_is_finite",
    FirstRowsCountMore: "metric_of_rows",
    Accumulates: "metric_of_rows",
    ChangesScores: "metric_of_rows",
    TheWrongWayRound: "metric_direction",
    OfTargetsAlone: "metric_direction",
    UnknownSpace: "balance_declarations",
    OwnGradientsForNobody: "balance_declarations",
    OneModalityWithoutLogits: "balance_own_logits",
    LogitsOfTheBatch: "balance_own_logits",
    LeavesRowsEmpty: "balance_keeps_rows",
    KeepsWhatIsNotThere: "balance_keeps_rows",
    DividesByNothing: "balance_step",
    HeadsThatNobodyTrains: "balance_step",
    RemembersAside: "balance_state",
    RaisesWithoutAccuracy: "events",
    ChangesFacts: "events",
    ChangesTheReport: "events",
    ChangesWeights: "events",
    LeavesEvaluationMode: "events",
    DrawsAtRandom: "events",
    NeedsAStart: "events_of_others",
}
"""Each broken component with the check that is meant for it."""
