"""One model of facts, texts and pictures, trained by mmreg and by pytorch-widedeep: what it costs, and how good it is.

Run as a script, with a folder: `data` writes the table there, `mmreg` trains on it in this process, `widedeep` with
pytorch-widedeep, in an environment that has it.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

CATEGORIES = tuple(f"c{number}" for number in range(6))
NUMBERS = tuple(f"n{number}" for number in range(2))
"""The names of their columns."""
ROWS = {"train": 3000, "validation": 500, "test": 1500}
SIZE, TOKENS, WORDS = 32, 16, 400
EPOCHS, BATCH, RATE = 8, 64, 0.001
"""Trained for as long and at the same rate, by Adam."""
CHANNELS, EMBEDDING, HIDDEN, PERCEPTRON = (32, 64, 128), 32, 64, (200, 100)


def write_data(folder: Path) -> None:
    """Pictures of 32 pixels, texts of 8 to 16 words, six categories, two numbers: each tells a little of 4 classes."""
    import numpy as np
    import PIL.Image

    random = np.random.default_rng(0)
    patterns = random.normal(size=(4, SIZE, SIZE, 3))
    words = [f"w{number}" for number in range(WORDS)]
    shares = random.dirichlet(np.full(WORDS, 0.5), 4) * 0.15 + 0.85 / WORDS
    likely = random.dirichlet(np.full(5, 2.0), (len(CATEGORIES), 4))
    means = random.normal(size=(len(NUMBERS), 4))
    (folder / "files").mkdir(parents=True)
    lines = []
    for split, count in ROWS.items():
        for number in range(count):
            label = int(random.integers(4))
            pixels = 128 + 3 * patterns[label] + 40 * random.normal(size=(SIZE, SIZE, 3))
            name = f"{split}{number}.png"
            PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "files" / name)
            text = " ".join(random.choice(words, random.integers(8, TOKENS + 1), p=shares[label]))
            kinds = [f"k{random.choice(5, p=likely[column, label])}" for column in range(len(CATEGORIES))]
            numbers = [f"{random.normal(means[column, label], 1.5):.4f}" for column in range(len(NUMBERS))]
            lines.append((split, label, f"files/{name}", text, *kinds, *numbers))
    header = ("split", "label", "image", "text", *CATEGORIES, *NUMBERS)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])


def recipe(folder: Path) -> dict[str, Any]:
    """What mmreg trains: the same layers, joined by `concat` and a linear head."""
    image = {"name": "image_cnn", "channels": list(CHANNELS), "features": CHANNELS[-1]}
    text = {"name": "text_rnn", "cell": "lstm", "embedding_size": EMBEDDING, "hidden_size": HIDDEN, "num_layers": 1}
    facts = {"name": "tabular_mlp", "numbers": "linear", "hidden_size": PERCEPTRON[0], "num_layers": 1}
    return {
        "table": str(folder / "table.csv"),
        "split": "split",
        "target": {"column": "label", "task": "classification"},
        "modalities": {
            "image": {"column": "image", "size": SIZE, "augment": "none", "encoder": image},
            "text": {
                "type": "text",
                "column": "text",
                "max_tokens": TOKENS,
                "encoder": {**text, "bidirectional": False, "dropout": 0, "pooling": "last", "features": HIDDEN},
            },
            "facts": {
                "type": "tabular",
                "columns": [*CATEGORIES, *NUMBERS],
                "scaling": "standard",
                "encoder": {**facts, "dropout": 0.1, "embedding_size": 16, "features": PERCEPTRON[1]},
            },
        },
        "fusion": "concat",
        "training": {"epochs": EPOCHS, "batch_size": BATCH, "seed": 0, "optimizer": {"name": "Adam", "lr": RATE}},
    }


def with_mmreg(folder: Path) -> float:
    """The accuracy on the test rows."""
    import mmreg

    mmreg.train(recipe(folder), folder / "run", device="cpu")
    report = json.loads((folder / "run" / "report.json").read_text())
    return float(report["test"]["metrics"]["accuracy"])


def with_widedeep(folder: Path) -> float:
    """The same with pytorch-widedeep's preprocessors, components and trainer; its picture network is written out."""
    import numpy as np
    import pandas as pd
    import torch
    from pytorch_widedeep import Trainer
    from pytorch_widedeep.models import BasicRNN, TabMlp, WideDeep
    from pytorch_widedeep.preprocessing import ImagePreprocessor, TabPreprocessor, TextPreprocessor
    from torch import Tensor, nn

    class Pictures(nn.Module):
        output_dim = CHANNELS[-1]

        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for before, after in zip((3, *CHANNELS), CHANNELS, strict=False):
                layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
                layers += [nn.ReLU(), nn.MaxPool2d(2)]
            flat = CHANNELS[-1] * (SIZE // 2 ** len(CHANNELS)) ** 2
            self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(flat, self.output_dim))

        def forward(self, pictures: Tensor) -> Tensor:
            found: Tensor = self.layers(pictures)
            return found

    torch.manual_seed(0)
    rows = pd.read_csv(folder / "table.csv")
    parts = {split: rows[rows["split"] == split] for split in ROWS}
    facts = TabPreprocessor(
        cat_embed_cols=[(name, 16) for name in CATEGORIES],
        continuous_cols=list(NUMBERS),
        cols_to_scale=list(NUMBERS),
        verbose=0,
    )
    text = TextPreprocessor("text", maxlen=TOKENS, min_freq=1, n_cpus=1, verbose=0)
    image = ImagePreprocessor("image", str(folder), width=SIZE, height=SIZE, verbose=0)
    given: dict[str, dict[str, Any]] = {}
    for split, part in parts.items():
        made = {}
        for name, of in (("X_tab", facts), ("X_text", text), ("X_img", image)):
            made[name] = of.fit_transform(part) if split == "train" else of.transform(part)
        given[split] = made
    model = WideDeep(
        deeptabular=TabMlp(
            facts.column_idx,
            cat_embed_input=facts.cat_embed_input,
            continuous_cols=list(NUMBERS),
            embed_continuous=True,
            embed_continuous_method="standard",
            cont_embed_dim=16,
            mlp_hidden_dims=list(PERCEPTRON),
        ),
        deeptext=BasicRNN(
            len(text.vocab.itos), embed_dim=EMBEDDING, hidden_dim=HIDDEN, n_layers=1, head_hidden_dims=[HIDDEN]
        ),
        deepimage=Pictures(),
        pred_dim=4,
    )
    trainer = Trainer(
        model,
        objective="multiclass",
        optimizers=torch.optim.Adam(model.parameters(), lr=RATE),
        num_workers=0,
        verbose=0,
    )
    labels = {split: part["label"].to_numpy() for split, part in parts.items()}
    train = {**given["train"], "target": labels["train"]}
    validation = {**given["validation"], "target": labels["validation"]}
    trainer.fit(X_train=train, X_val=validation, n_epochs=EPOCHS, batch_size=BATCH)
    return float(np.mean(trainer.predict(**given["test"], batch_size=BATCH) == labels["test"]))


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "data":
        write_data(where)
    else:
        begun, busy = time.perf_counter(), time.process_time()
        accuracy = with_mmreg(where) if what == "mmreg" else with_widedeep(where)
        facts_of_it = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - busy}
        print(json.dumps({**facts_of_it, "accuracy": accuracy}))
