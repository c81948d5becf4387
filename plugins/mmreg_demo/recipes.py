"""The demo's recipes: each modality alone, feature-level and model-level fusion of all."""

from __future__ import annotations

from pathlib import Path

MODALITIES = {
    "image": "{column: image, size: 16, channels: 1, encoder: image_cnn}",
    "tone": "{type: audio, column: tone, sample_rate: 8000, encoder: audio_cnn}",
    "hint": "{type: text, column: hint, encoder: text_rnn}",
}
EPOCHS = 10

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

MODELS = {
    "image": ("image alone", ["image"], ""),
    "tone": ("tone alone", ["tone"], ""),
    "hint": ("hint alone", ["hint"], ""),
    "concat": ("feature level: concat", list(MODALITIES), "concat"),
    "product": ("model level: product", list(MODALITIES), "product"),
}
"""By name: what the model is called, its modalities and its fusion."""


def write_recipes(folder: Path, seed: int, epochs: int = EPOCHS) -> dict[str, Path]:
    """Write every recipe into `recipes/`; returns the paths by the models' names."""
    (folder / "recipes").mkdir()
    paths = {}
    for name, (title, modalities, fusion) in MODELS.items():
        text = _RECIPE.format(
            title=title[0].upper() + title[1:],
            modalities="\n".join(f"  {modality}: {MODALITIES[modality]}" for modality in modalities),
            fusion=f"fusion: {fusion}\n" if fusion else "",
            epochs=epochs,
            seed=seed,
        )
        paths[name] = folder / "recipes" / f"{name}.yaml"
        paths[name].write_text(text, encoding="utf-8")
    return paths
