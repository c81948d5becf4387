"""What each small choice in training gains, on validation rows alone, paired with the same recipe without it.

Run as a script: `python tests/benchmarks/ablations.py RECIPE TABLE FOLDER [SEEDS [VARIANT ...]]`. Finished trainings
are kept in the folder, as are their figures; without seeds it prints the table of those that are there.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
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
    started = time.perf_counter()
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
        "right": right.astype(int).tolist(),
        "own": {part: figures["accuracy"] for part, figures in parts.items()},
        "seconds": time.perf_counter() - started,
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
            own, its = (np.array([found[each][seed]["right"] for seed in seeds]) for each in (name, other))
            wins, losses = int((own > its).sum()), int((own < its).sum())
            tested.append((name, float(own.mean() - its.mean()), mcnemar(wins, losses)))
    corrected = dict(zip([name for name, *_ in tested], holm([p for *_, p in tested]), strict=True))
    gains = {name: gain for name, gain, _ in tested}
    rows = []
    for name, by_seed in found.items():
        figures = np.array([np.mean(each["right"]) for each in by_seed.values()])
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


def main() -> None:
    """Train what is asked for and not yet there, then print the table."""
    path, data, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    recipe = read_recipe(path, [f"table={Path(data).absolute()}"])
    every = variants(recipe)
    if len(sys.argv) > 4:
        first, _, last = sys.argv[4].partition("..")
        for seed in range(int(first), int(last or first) + 1):
            for name in sys.argv[5:] or every:
                file = folder / "figures" / f"{slug(name)}-{seed}.json"
                if not file.exists():
                    figures = measure(recipe, name, folder, seed)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(figures))
                    told = f"{np.mean(figures['right']):.3f} ({figures['seconds']:.0f} s)"
                    print(f"{name}, seed {seed}: {told}", flush=True)
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in every}
    for file in sorted((folder / "figures").glob("*.json")):
        figures = json.loads(file.read_text())
        found[figures["variant"]][figures["seed"]] = figures
    shown = {name: by_seed for name, by_seed in found.items() if by_seed}
    print(table(shown, {name: other for name, (other, _) in every.items() if other}))
    seeds = sorted(found["concat"])
    if len(seeds) > 1:
        print(f"concat of {len(seeds)} seeds as one run, by the mean of probabilities: {ensemble(folder, seeds):.3f}")


if __name__ == "__main__":
    main()
