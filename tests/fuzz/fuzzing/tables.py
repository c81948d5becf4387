"""Tables as files: read by a recipe, by a run that predicts them, and by what drafts a recipe for them."""

from __future__ import annotations

from pathlib import Path

from fuzzing.actions import DamagedFiles, in_place
from fuzzing.cases import Case, Kind
from fuzzing.oracle import command
from fuzzing.texts import CSV, JSON_LINES, SQL


class Tables(DamagedFiles):
    """Tables of one format; what is done with one goes by the number of the case."""

    def act(self, case: Case, folder: Path) -> None:
        path = folder / f"damaged{Path(case.original).suffix}"
        name = f"sqlite://{path.name}#t" if path.suffix == ".db" else path.name
        with in_place(path, case.data):
            if case.number % 4 == 3:
                command(["init", name, "--target", "label", "--out", "drafted.yaml", "--overwrite"])
            elif case.number % 4 == 2:
                command(["predict", "run", name, "-q", "--out", "predicted.parquet"])
            else:
                command(["validate", "recipe.yaml", "--set", f"table={name}"])


def _kind(ending: str, share: int, *names: str, **ways: object) -> Kind:
    files = [f"{name}.{ending}" for name in names or ("plain",)]
    return Tables(f"table-{ending}", share, files, **ways)  # type: ignore[arg-type]


KINDS: list[Kind] = [
    _kind("csv", 45, texts=CSV),
    _kind("tsv", 20, texts=CSV),
    _kind("jsonl", 40, texts=JSON_LINES),
    _kind("parquet", 60, "plain", "rich"),
    _kind("arrow", 50, "plain", "rich"),
    _kind("feather", 40, "plain", "rich"),
    _kind("db", 40, texts=SQL),
]
