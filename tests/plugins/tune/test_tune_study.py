"""A search: trials, what becomes of those that fail or are stopped, several processes, and what it leaves."""

from __future__ import annotations

import csv
import threading
from pathlib import Path
from typing import Any

import pytest
from searches import RECIPE, told, tune, write_rows

import mmreg
from mmreg.errors import OptionError, RunError, TableError, TrainingError
from mmreg.recipe.recipe import read_recipe
from mmreg_tune import Tuning, trials


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """A search of three trials that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole")
    write_rows(folder / "table.csv")
    (folder / "search.yaml").write_text(RECIPE)
    return tune(folder / "search.yaml", folder / "tuned")


def test_the_best_recipe_is_an_ordinary_one_that_trains_to_the_best_figure(recipe: Path, tmp_path: Path) -> None:
    tuning = tune(recipe, tmp_path / "tuned")
    assert [trial.state for trial in tuning.trials] == ["finished"] * 3
    values = [trial.value for trial in tuning.trials]
    assert tuning.best.value == max(values) > min(values)
    (tmp_path / "elsewhere").mkdir()
    run = mmreg.train(tmp_path / "tuned" / "best.yaml", tmp_path / "elsewhere" / "run", device="cpu")
    assert run.report["best"]["value"] == tuning.best.value
    assert run.report["best"]["epoch"] == tuning.best.best_epoch
    assert run.recipe["training"]["optimizer"]["lr"] == tuning.best.values["training.optimizer.lr"]
    assert run.report["test"]["rows"] == 30
    # The run of the best trial alone is kept.
    assert [each.name for each in (tmp_path / "tuned" / "trials").iterdir()] == [f"{tuning.best.number:04}"]


def test_tables_and_a_page_say_what_was_tried(recipe: Path, tmp_path: Path) -> None:
    tuning = tune(recipe, tmp_path / "tuned", 5)
    with (tmp_path / "tuned" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation accuracy"]) for row in rows] == [trial.value for trial in tuning.trials]
    assert [float(row["training.optimizer.lr"]) for row in rows] == [
        trial.values["training.optimizer.lr"] for trial in tuning.trials
    ]
    assert tuning.importance == {"training.optimizer.lr": 1.0}
    assert (tmp_path / "tuned" / "importance.csv").read_text() == "key,importance\ntraining.optimizer.lr,1.0\n"
    page = (tmp_path / "tuned" / "tune.md").read_text()
    assert f"The best is trial {tuning.best.number}, by validation accuracy" in page
    assert page.count("| finished |") == 5


def test_no_trial_looks_at_a_test_row(recipe: Path, tmp_path: Path, whole: Tuning) -> None:
    class Follower(mmreg.Callback):
        def on_start(self, run: Any, facts: Any) -> None:
            seen.append(facts["rows"]["test"])

    seen: list[int] = []
    write_rows(tmp_path / "table.csv", other_test=True)
    tuning = tune(recipe, tmp_path / "tuned", callback=Follower())
    assert seen == [30] * 3
    run = tmp_path / "tuned" / "trials" / f"{tuning.best.number:04}"
    assert "test" not in mmreg.load(run, device="cpu").report
    assert [each.name for each in (run / "predictions").iterdir()] == ["validation.parquet"]
    assert told(tuning) == told(whole)  # whose test rows have other targets


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_search_that_is_stopped_goes_on_to_what_it_would_have_come_to(
    recipe: Path, tmp_path: Path, whole: Tuning, epochs: int
) -> None:
    class Stopping(mmreg.Callback):
        def on_epoch_end(self, run: Any, epoch: mmreg.Epoch) -> None:
            seen.append((run.folder.name, epoch.number))
            stop.wanted = run.folder.name == "0001" and epoch.number == epochs

    seen: list[tuple[str, int]] = []
    stop = mmreg.Stop()
    with pytest.raises(mmreg.Stopped):
        tune(recipe, tmp_path / "stopped", callback=Stopping(), stop=stop)
    stop = mmreg.Stop()
    epochs = 0
    assert told(tune(recipe, tmp_path / "stopped", callback=Stopping(), stop=stop)) == told(whole)
    assert sorted(seen) == [(f"{trial:04}", epoch) for trial in range(3) for epoch in (1, 2, 3)]  # and none twice


def test_a_trial_whose_process_died_is_gone_on_with(recipe: Path, tmp_path: Path, whole: Tuning) -> None:
    class Dying(mmreg.Callback):
        def on_epoch_end(self, run: Any, epoch: mmreg.Epoch) -> None:
            raise SystemExit

    with pytest.raises(SystemExit):
        tune(recipe, tmp_path / "tuned", callback=Dying())
    assert told(tune(recipe, tmp_path / "tuned")) == told(whole)


def test_more_trials_are_added_to_those_that_are_there(recipe: Path, tmp_path: Path) -> None:
    first = tune(recipe, tmp_path / "tuned", 1)
    more = tune(recipe, tmp_path / "tuned", 2)
    assert told(more)[:1] == told(first)
    assert len(more.trials) == 2
    assert told(tune(recipe, tmp_path / "tuned", 1)) == told(more)


def test_several_at_once_share_the_trials(recipe: Path, tmp_path: Path) -> None:
    begun: list[tuple[str, str]] = []
    both = threading.Barrier(2)

    class Follower(mmreg.Callback):
        def on_start(self, run: Any, facts: Any) -> None:
            if not any(who == threading.current_thread().name for _, who in begun):
                begun.append((run.folder.name, threading.current_thread().name))
                both.wait(60)  # until the other one has a trial as well
            else:
                begun.append((run.folder.name, threading.current_thread().name))

    threads = [
        threading.Thread(target=tune, args=(recipe, tmp_path / "tuned", 4), kwargs={"callback": Follower()})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(trial for trial, _ in begun) == [f"{number:04}" for number in range(4)]
    assert len({who for _, who in begun}) == 2
    tuning = tune(recipe, tmp_path / "tuned", 4)
    assert [trial.state for trial in tuning.trials] == ["finished"] * 4
    assert len({trial.values["training.optimizer.lr"] for trial in tuning.trials}) == 4


def test_trials_that_fall_behind_are_pruned(recipe: Path, tmp_path: Path) -> None:
    tuning = tune(recipe, tmp_path / "tuned", 10, pruner="hyperband", overrides=["training.epochs=4"])
    pruned = [trial for trial in tuning.trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.epochs and trial.epochs < 4 and trial.value is not None for trial in pruned)
    assert all(trial.epochs == 4 for trial in tuning.ranked)
    assert f"{len(pruned)} pruned" in tuning.summary


def test_the_median_ends_what_is_worse_than_half_of_those_before(recipe: Path, tmp_path: Path) -> None:
    tuning = tune(recipe, tmp_path / "tuned", 8, pruner="median")
    assert all(trial.state == "finished" for trial in tuning.trials[:5])  # before which there is no median
    assert {trial.state for trial in tuning.trials} == {"finished", "pruned"}


def test_a_loss_that_is_not_finite_fails_its_trial_alone(recipe: Path, tmp_path: Path) -> None:
    rates = "training.optimizer={name: SGD, lr: {choice: [0.1, 1.0e+30]}}"
    tuning = tune(recipe, tmp_path / "tuned", 5, overrides=[rates])
    failed = [trial for trial in tuning.trials if trial.state == "failed"]
    assert failed
    assert all(trial.values["training.optimizer.lr"] == "1.0e+30" for trial in failed)
    assert all("finite" in trial.reason for trial in failed)
    assert tuning.best.values["training.optimizer.lr"] == "0.1"
    assert mmreg.Recipe(tuning.recipe.data).form.training.optimizer.options["lr"] == 0.1


def test_too_little_memory_fails_its_trial_alone(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    train, calls = mmreg.train, iter(range(9))

    def scarce(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(*arguments, **options)

    monkeypatch.setattr(trials.mmreg, "train", scarce)
    tuning = tune(recipe, tmp_path / "tuned", 3)
    assert [trial.state for trial in tuning.trials] == ["finished", "failed", "finished"]
    assert tuning.trials[1].reason == "OutOfMemoryError: CUDA out of memory"


def test_a_search_whose_trials_all_fail_ends_and_says_why(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise ValueError("no such thing")

    monkeypatch.setattr(trials.mmreg, "train", broken)
    with pytest.raises(TrainingError, match=r"all 5 trials so far have failed\n  5 trials, first 0: ValueError"):
        tune(recipe, tmp_path / "tuned", 9)
    with pytest.raises(TrainingError, match=r"no trial of 2 has finished[^(]*\(see .*trials.csv\)"):
        tune(recipe, tmp_path / "other", 2)
    for name, count in (("tuned", 5), ("other", 2)):
        with (tmp_path / name / "trials.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["state"], row["reason"]) for row in rows] == [("failed", "ValueError: no such thing")] * count


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("split={validation: 0, test: 0.2}", "give the table such rows"),
        ("training.refit=true", "leave out training.refit, by which they are learned from"),
    ],
)
def test_without_validation_rows_there_is_no_search(recipe: Path, tmp_path: Path, override: str, remedy: str) -> None:
    with pytest.raises(TableError, match=f"and there are none; {remedy}"):
        tune(recipe, tmp_path / "tuned", 2, overrides=[override])


def test_what_every_trial_would_meet_ends_the_search(
    recipe: Path, tmp_path: Path, whole: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trials.mmreg, "train", full)
        with pytest.raises(OSError, match="No space left"):
            tune(recipe, tmp_path / "tuned")
    assert told(tune(recipe, tmp_path / "tuned")) == told(whole)


def test_another_recipe_in_the_same_folder_is_refused(recipe: Path, tmp_path: Path) -> None:
    tune(recipe, tmp_path / "tuned", 1)
    with pytest.raises(RunError, match=r"another recipe.*\n  training\.epochs was 3 and is 4"):
        tune(recipe, tmp_path / "tuned", 2, overrides=["training.epochs=4"])


def test_another_table_in_the_same_folder_is_refused(recipe: Path, tmp_path: Path) -> None:
    tune(recipe, tmp_path / "tuned", 1)
    write_rows(tmp_path / "table.csv", other_test=True)
    with pytest.raises(RunError, match="the rows of the table have changed"):
        tune(recipe, tmp_path / "tuned", 2)


def test_a_damaged_study_is_told_as_that(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "search" / "trials").mkdir(parents=True)
    (tmp_path / "search" / "study.db").write_text("garbage")
    with pytest.raises(RunError, match=r"study\.db cannot be read \(.*not a database"):
        tune(recipe, tmp_path / "search", 1)


def test_results_of_a_study_that_was_emptied_are_kept(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "search" / "trials").mkdir(parents=True)
    (tmp_path / "search" / "study.db").touch()
    (tmp_path / "search" / "trials.csv").write_text("what was found")
    with pytest.raises(RunError, match="search in another folder"):
        tune(recipe, tmp_path / "search", 1)
    assert (tmp_path / "search" / "trials.csv").read_text() == "what was found"


def test_a_folder_of_something_else_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="something else than a search"):
        tune(recipe, tmp_path)


def test_without_validation_rows_nothing_begins(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there are none"):
        tune(recipe, tmp_path / "tuned", overrides=["split={validation: 0, test: 0.1}"])
    with pytest.raises(OptionError, match="at least 1 trial"):
        tune(recipe, tmp_path / "tuned", 0)
    with pytest.raises(OptionError, match="pruner must be one of"):
        tune(recipe, tmp_path / "tuned", pruner="never")
    assert not (tmp_path / "tuned").exists()


def test_a_table_in_memory_is_searched_with(recipe: Path, tmp_path: Path) -> None:
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    data = read_recipe(recipe, ["training.optimizer.lr=0.1"]).data
    data["training"]["optimizer"]["lr"] = {"search": "log", "low": 1e-5, "high": 0.1}
    tuning = tune({**data, "table": rows}, tmp_path / "tuned", 2)
    run = mmreg.train(tuning.recipe, tmp_path / "run", device="cpu")
    assert run.report["best"]["value"] == tuning.best.value


def test_values_are_decoded_and_frozen_encoders_encode_once_for_all_trials(recipe: Path, tmp_path: Path) -> None:
    from PIL import Image

    lines = (tmp_path / "table.csv").read_text().splitlines()[:60]
    for number in range(1, len(lines)):
        Image.new("RGB", (8, 8), (4 * number, 0, 0)).save(tmp_path / f"{number}.png")
    pictures = [f"{line},{number}.png" for number, line in enumerate(lines) if number]
    (tmp_path / "table.csv").write_text("\n".join([f"{lines[0]},image", *pictures]))
    picture = "{size: 8, augment: none, encoder: {name: image_cnn, channels: [4], freeze: true}}"
    recipe.write_text(RECIPE.replace("training:\n", f"  image: {picture}\ntraining:\n"))
    prepared: list[tuple[str, int]] = []

    class Follower(mmreg.Callback):
        def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
            if what.startswith("preparing") and "image" in what and done == total:
                prepared.append((what, trial[-1]))

        def on_start(self, run: Any, facts: Any) -> None:
            trial.append(trial[-1] + 1)

    trial = [0]
    tune(recipe, tmp_path / "tuned", 3, callback=Follower())
    assert trial[-1] == 3
    assert prepared == [("preparing image", 0), ("preparing features of image", 0)]  # all before the first trial began
