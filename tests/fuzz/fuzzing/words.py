"""Tokenizers and word vectors from files: checked by a recipe, and used on texts."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random

from fuzzing.actions import DamagedFiles, in_place, json_damage
from fuzzing.cases import Case, Failed, Kind
from fuzzing.mutators import damaged
from fuzzing.oracle import command
from fuzzing.originals import MODELS, VECTORS, WORDS
from fuzzing.texts import TOKENIZER
from fuzzing.texts import VECTORS as LINES

SAMPLES = ["a red thing", "", "ünknown 😀 <pad> [CLS]", "x" * 2000, "\0"]


class Tokenizers(DamagedFiles):
    """Definitions of the `tokenizers` library."""

    def act(self, case: Case, folder: Path) -> None:
        path = folder / "damaged.json"
        with in_place(path, case.data):
            if case.number % 3 == 0:
                command(["validate", "recipe.yaml", "--set", f"modalities.title.tokenizer_file={path.name}"])
            else:
                _use({"tokenizer_file": str(path)})


class Vectors(DamagedFiles):
    """Word vectors in the formats of GloVe and fastText."""

    def act(self, case: Case, folder: Path) -> None:
        path = folder / ("damaged.txt.gz" if case.original.endswith(".gz") else "damaged.txt")
        with in_place(path, case.data):
            if case.number % 3 == 0:
                title = f"{{type: text, column: title, vectors: {path.name}}}"
                command(["validate", "recipe.yaml", "--set", f"modalities.title={title}"])
            else:
                _use({"vectors": str(path)})


def _use(options: dict[str, str]) -> None:
    """Fit the text modality with such a file, and load texts with it."""
    from mmreg.errors import ValueLoadError
    from mmreg_text.modality import Text

    text = Text(**options)  # type: ignore[arg-type]
    text.fit_values(iter([" ".join(WORDS), "red red"]))
    for sample in SAMPLES:
        try:
            array = text.load(sample)
        except ValueLoadError:
            continue
        if array.ndim != len(text.stored.shape):
            raise Failed(f"loaded {array.dtype} {array.shape}, where {text.stored} is promised")
    restored = Text(**options)  # type: ignore[arg-type]
    restored.load_state(text.state())


def _compressed(random: Random, data: bytes) -> bytes:
    """Vectors damaged behind the compression, where there is one."""
    plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    changed = damaged(random, plain, texts=LINES)
    return gzip.compress(changed) if plain is not data else changed


KINDS: list[Kind] = [
    Tokenizers("tokenizer", 45, [f"{name}.json" for name in MODELS], TOKENIZER, [json_damage, json_damage]),
    Vectors("vectors", 25, VECTORS, LINES, [_compressed]),
]
