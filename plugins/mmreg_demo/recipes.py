"""The demo's recipes: each modality alone, feature-level and model-level fusion of all."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MODALITIES = {
    "image": "{column: image, size: 16, channels: 1, encoder: image_cnn}",
    "tone": "{type: audio, column: tone, sample_rate: 8000, encoder: audio_cnn}",
    "hint": "{type: text, column: hint, encoder: text_rnn}",
}
EPOCHS = 8

_RECIPE = """\
# {title}
table: ../table.csv
split: split
key: id
target: {{column: digit, task: classification}}
modalities:
{modalities}
{fusion}training: {{epochs: {epochs}, batch_size: 64, seed: {seed}}}
"""


class Model(NamedTuple):
    """One of the models that the demo trains."""

    title: str
    modalities: tuple[str, ...]
    fusion: str | None = None


MODELS = {
    "image": Model("image alone", ("image",)),
    "tone": Model("tone alone", ("tone",)),
    "hint": Model("hint alone", ("hint",)),
    "concat": Model("feature level: concat", tuple(MODALITIES), "concat"),
    "product": Model("model level: product", tuple(MODALITIES), "product"),
}
"""By the names of their recipes and runs."""


def write_recipes(folder: Path, seed: int, epochs: int) -> dict[str, Path]:
    """Write every recipe into `recipes/`; returns their paths by the models' names."""
    (folder / "recipes").mkdir()
    paths = {}
    for name, model in MODELS.items():
        text = _RECIPE.format(
            title=f"{model.title[0].upper()}{model.title[1:]}",
            modalities="\n".join(f"  {modality}: {MODALITIES[modality]}" for modality in model.modalities),
            fusion=f"fusion: {model.fusion}\n" if model.fusion else "",
            epochs=epochs,
            seed=seed,
        )
        paths[name] = folder / "recipes" / f"{name}.yaml"
        paths[name].write_text(text, encoding="utf-8")
    return paths
