"""What each small choice in training gains, on validation rows alone, paired with the same recipe without it.

Run as a script: `python tests/benchmarks/ablations/measure.py RECIPE [TABLE FOLDER SEEDS [VARIANT ...]]`. Trainings are
kept in the folder, and their figures beside the recipe, so that hours of them can be measured bit by bit; what is there
is not measured again. With the recipe alone it prints the table of what is there.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmreg
from mmreg.files import markdown_table
from mmreg.recipe.recipe import read_recipe
from mmreg.studies.statistics import holm, mcnemar

LOST = 0.5
"""The share of rows that lack a modality where `absent` is asked: in training and on validation rows."""
VERSIONS = 8
"""Augmented versions of each row that are averaged."""
BALANCES = ("own_losses", "ogm_ge", "agm", "mmpareto", "opm", "pmr", "mla", "reconboost", "gradient_blending")


def variants(recipe: mmreg.Recipe) -> dict[str, tuple[str, dict[str, Any]]]:
    """By name: with which variant each is compared ("" for none), and the keys of the recipe that it sets."""
    inputs = list(recipe.data["modalities"])
    lost = {"training.missing_rate": LOST}
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "concat": ("", {}),
        "average of weights (0.99)": ("concat", {"training.average": 0.99}),
        "soup of three epochs": ("concat", {"training.keep": "soup"}),
        "label smoothing 0.1": ("concat", {"target.label_smoothing": 0.1}),
        "warm-up over 10 %": ("concat", {"training.schedule": {"name": "cosine", "warmup": 0.1}}),
        "gradients clipped at 1": ("concat", {"training.gradient_clip": 1.0}),
        "late_transformer": ("concat", {"fusion": "late_transformer"}),
        "8 augmented versions in use": ("concat", {}),
        "half missing": ("", lost),
        "half missing, absent: learned": ("half missing", {**lost, "fusion": {"name": "concat", "absent": "learned"}}),
    }
    for name in BALANCES:
        found[name] = ("concat", {"training.balance": name})
    for name in inputs:
        found[f"{name} alone"] = ("", {"modalities": {name: recipe.data["modalities"][name]}, "fusion": None})
    return found


def slug(name: str) -> str:
    """A variant's name as a file's."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def measure(recipe: mmreg.Recipe, name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Train a variant unless that is done, and tell which validation rows it gets right."""
    _, changes = variants(recipe)[name]
    place = folder / slug(name) / f"seed-{seed}"
    if name == "8 augmented versions in use":
        place = folder / "concat" / f"seed-{seed}"
    if not (place / "report.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        mmreg.train(recipe.replace({"fusion": "concat", **changes, "training.seed": seed}), place, device="cpu")
    run = mmreg.load(place)
    known = run.known_rows(split="validation")
    drop = None
    if name.startswith("half missing"):
        drop = lost(list(run.plan.inputs), len(known.rows))
    augmented = VERSIONS if name == "8 augmented versions in use" else 0
    predicted = run.predict_rows(known.prepared, known.rows, drop=drop, augmented=augmented)
    right = predicted.scores.argmax(1).numpy() == known.targets
    parts = run.report["validation"]["metrics"]["modalities"]
    return {
        "variant": name,
        "seed": seed,
        "right": "".join(map(str, right.astype(int))),
        "own": {part: figures["accuracy"] for part, figures in parts.items()},
    }


def lost(inputs: Sequence[str], rows: int) -> dict[str, NDArray[np.bool_]]:
    """Which rows lack which modality, never all of them; the same for all variants."""
    random = np.random.default_rng(0)
    mask = random.random((rows, len(inputs))) < LOST
    kept = random.integers(len(inputs), size=rows)
    mask[np.arange(rows), kept] &= ~mask.all(1)
    return {name: mask[:, column] for column, name in enumerate(inputs)}


def table(found: Mapping[str, Mapping[int, dict[str, Any]]], base: Mapping[str, str]) -> str:
    """As Markdown: accuracy, gain over the variant beside it, and whether that is beyond chance."""
    tested: list[tuple[str, float, float]] = []
    for name, other in base.items():
        seeds = sorted(set(found.get(name, {})) & set(found.get(other, {})))
        if seeds:
            own, its = (np.array([bits(found[each][seed]) for seed in seeds]) for each in (name, other))
            wins, losses = int((own > its).sum()), int((own < its).sum())
            tested.append((name, float(own.mean() - its.mean()), mcnemar(wins, losses)))
    corrected = dict(zip([name for name, *_ in tested], holm([p for *_, p in tested]), strict=True))
    gains = {name: gain for name, gain, _ in tested}
    rows = []
    for name, by_seed in found.items():
        figures = np.array([bits(each).mean() for each in by_seed.values()])
        spread = f" ± {figures.std(ddof=1):.3f}" if len(figures) > 1 else ""
        parts = [each["own"] for each in by_seed.values() if each["own"]]
        own = ", ".join(f"{part} {np.mean([each[part] for each in parts]):.3f}" for part in (parts[0] if parts else {}))
        row = {"variant": name, "seeds": len(figures), "accuracy on validation": f"{figures.mean():.3f}{spread}"}
        row["gain"] = f"{gains[name]:+.3f}" if name in gains else ""
        row["p (Holm)"] = f"{corrected[name]:.3f}" if name in gains else ""
        rows.append({**row, "each modality by its own head": own})
    return markdown_table(rows)


def ensemble(folder: Path, seeds: Sequence[int]) -> float:
    """The accuracy of the mean of the probabilities of `concat` trained with each seed."""
    scores, right = [], np.zeros(0)
    for seed in seeds:
        run = mmreg.load(folder / "concat" / f"seed-{seed}")
        known = run.known_rows(split="validation")
        scores.append(run.predict_rows(known.prepared, known.rows).scores.double().exp().numpy())
        right = np.mean(scores, axis=0).argmax(1) == known.targets
    return float(right.mean())


def bits(figures: Mapping[str, Any]) -> NDArray[np.int64]:
    """Which validation rows a training gets right, 0 or 1."""
    return np.array(list(figures["right"]), np.int64)


def read(file: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """What has been measured, by variant and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for figures in json.loads(file.read_text()) if file.exists() else []:
        found.setdefault(figures["variant"], {})[figures["seed"]] = figures
    return found


def write(file: Path, found: Mapping[str, Mapping[int, dict[str, Any]]]) -> None:
    """Write it, a line a training."""
    lines = [json.dumps(by_seed[seed]) for by_seed in found.values() for seed in sorted(by_seed)]
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def main() -> None:
    """Train what is asked for and not yet there, then print the table."""
    path, *asked = sys.argv[1:]
    file = Path(path).with_suffix(".json")
    found = read(file)
    every = variants(read_recipe(path))
    if asked:
        data, place, seeds, *names = asked
        recipe, folder = read_recipe(path, [f"table={Path(data).absolute()}"]), Path(place)
        first, _, last = seeds.partition("..")
        for seed in range(int(first), int(last or first) + 1):
            for name in names or every:
                if seed not in found.get(name, {}):
                    found.setdefault(name, {})[seed] = measure(recipe, name, folder, seed)
                    write(file, found)
                    print(f"{name}, seed {seed}: {bits(found[name][seed]).mean():.3f}", flush=True)
        trained = [seed for seed in sorted(found["concat"]) if (folder / "concat" / f"seed-{seed}").exists()]
        if len(trained) > 1:
            print(
                f"concat of seeds {trained} as one run, by the mean of probabilities: {ensemble(folder, trained):.3f}"
            )
    shown = {name: found[name] for name in every if name in found}
    print(table(shown, {name: other for name, (other, _) in every.items() if other}))


if __name__ == "__main__":
    main()
