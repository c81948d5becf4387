"""Writes the original files into a folder that holds the small table, its pictures, its sounds and its recipe."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
from small import read_table, write_table

import mmreg
from fuzzing.oracle import command

TABLES = ("plain.csv", "plain.tsv", "plain.jsonl", "plain.db")
COLUMNAR = ("plain", "rich")
"""Tables of texts and numbers, and those of bytes, lists, structs and dictionaries."""
PICTURES = ("rgb", "grey", "palette")
VECTORS = ("vectors.txt", "fasttext.txt", "vectors.txt.gz")
MODELS = ("wordlevel", "bpe", "wordpiece", "unigram")
SOUNDS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
ENTRIES = ("entries/0", "entries/1", "entries/2")
"""Links to the entries of the cache, whose own names change from place to place."""
WORDS = ["a", "red", "thing", "some", "green", "stuff", "very", "blue", "item", "number"]


def write_originals(folder: Path) -> None:
    """All files beside those of `small.make_folder`."""
    rows = read_table(folder / "table.csv")
    _write_tables([*rows[:6], *rows[36:39], *rows[48:51]])
    _write_pictures()
    _write_sounds()
    _write_words()
    _train()


def _write_tables(rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.parquet as pq

    write_table(Path("plain.csv"), rows)
    plain = pa.csv.read_csv("plain.csv")
    pa.csv.write_csv(plain, "plain.tsv", pa.csv.WriteOptions(delimiter="\t"))
    Path("plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain.to_pylist()), encoding="utf-8")
    with sqlite3.connect("plain.db") as connection:
        connection.execute(f"CREATE TABLE t ({', '.join(plain.column_names)})")
        places = ", ".join("?" * plain.num_columns)
        connection.executemany(f"INSERT INTO t VALUES ({places})", [tuple(row.values()) for row in plain.to_pylist()])
    connection.close()
    files = [{"bytes": Path(row["image"]).read_bytes(), "path": None} for row in rows]
    waves = [(np.sin(np.arange(50 + 9 * n)) / 2).tolist() for n in range(len(rows))]
    rich = (
        plain.set_column(plain.column_names.index("image"), "image", pa.array(files))
        .set_column(plain.column_names.index("audio"), "audio", pa.array(waves, pa.list_(pa.float32())))
        .set_column(plain.column_names.index("label"), "label", plain["label"].dictionary_encode())
        .append_column("fixed", pa.array([[1, 2, None]] * len(rows), pa.list_(pa.int16(), 3)))
        .append_column("view", pa.array(["a rather long text of a view", "b"] * (len(rows) // 2), pa.string_view()))
    )
    for name, table in zip(COLUMNAR, (plain, rich), strict=True):
        pq.write_table(table.drop_columns(["view"] if name == "rich" else []), f"{name}.parquet", compression="zstd")
        with pa.ipc.new_file(f"{name}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
        pyarrow.feather.write_feather(table, f"{name}.feather", compression="lz4")


def _write_pictures() -> None:
    from PIL import Image

    shades = np.add.outer(np.arange(24) * 5, np.arange(20) * 6).astype(np.uint8)
    grey = Image.fromarray(shades)
    rgb = Image.fromarray(np.stack([shades, shades.clip(50), 255 - shades], 2))
    for name, picture in {"rgb": rgb, "grey": grey, "palette": rgb.convert("P")}.items():
        for ending in ("png", "gif", "tiff", "bmp"):
            picture.save(f"{name}.{ending}")
        whole = picture if name == "grey" else rgb.convert("CMYK") if name == "palette" else rgb
        whole.save(f"{name}.jpeg", progressive=name == "rgb")
        picture.convert("RGBA" if name == "palette" else "RGB").save(f"{name}.webp", lossless=name == "palette")
    rgb.save("rgb.tiff", compression="tiff_lzw")
    Image.fromarray(shades.astype(np.uint16) * 200).save("grey.png")  # 16 bits


def _write_sounds() -> None:
    import soundfile

    times = np.arange(4000) / 8000
    mono = np.sin(2 * np.pi * 440 * times) * 0.5
    for ending, subtype in SOUNDS.items():
        soundfile.write(f"mono.{ending}", mono, 8000, subtype)
        stereo = "FLOAT" if ending == "wav" else subtype
        soundfile.write(f"stereo.{ending}", np.stack([mono, -mono], 1), 11025 if ending != "mp3" else 8000, stereo)


def _write_words() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(["<pad>", "<unk>", *WORDS])}
    letters = {letter: number for number, letter in enumerate(["[UNK]", *sorted(set("".join(WORDS))), "re", "red"])}
    pieces = {**letters, **{f"##{letter}": len(letters) + n for n, letter in enumerate(sorted(set("".join(WORDS))))}}
    made = {
        "wordlevel": models.WordLevel(numbers, unk_token="<unk>"),
        "bpe": models.BPE(letters, [("r", "e"), ("re", "d")], unk_token="[UNK]"),
        "wordpiece": models.WordPiece(pieces, unk_token="[UNK]"),
        "unigram": models.Unigram([("<unk>", 0.0), *((word, -1.5) for word in letters)], unk_id=0),
    }
    for name, model in made.items():
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        if name == "wordpiece":
            tokenizer.add_special_tokens(["[CLS]"])
            tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", 1)])
        tokenizer.save(f"{name}.json")
    Path("tokenizer.json").write_bytes(Path("wordlevel.json").read_bytes())
    lines = [f"{word} {n / 7:.4f} {-n} 0.5 1e-3 {n}" for n, word in enumerate(WORDS)]
    Path("vectors.txt").write_text("\n".join(lines) + "\n")
    Path("fasttext.txt").write_text("\n".join([f"{len(lines)} 5", *lines]) + "\n")
    Path("vectors.txt.gz").write_bytes(gzip.compress(Path("vectors.txt").read_bytes(), mtime=0))


class _Stopping(mmreg.Callback):
    """Stops a training after its first epoch, as a kill would."""

    def on_epoch_end(self, run: Any, epoch: Any) -> None:
        raise KeyboardInterrupt


def _train() -> None:
    os.environ["MMREG_CACHE_DIR"] = "training"
    mmreg.train("recipe.yaml", "run", device="cpu")
    mmreg.train("recipe.yaml", "second", device="cpu", overrides=["training.seed=1", "fusion=mean"])
    try:
        mmreg.train("recipe.yaml", "stopped", device="cpu", callback=_Stopping())
    except KeyboardInterrupt:
        assert not Path("stopped/model.safetensors").exists()
    os.environ["MMREG_CACHE_DIR"] = "cache"
    command(["predict", "run", Path("plain.csv").absolute(), "--out", "predicted.csv", "-q"])
    Path("entries").mkdir()
    entries = sorted((path for path in Path("cache/prepared").iterdir() if path.is_dir()), key=_content)
    for name, entry in zip(ENTRIES, entries, strict=True):
        Path(name).symlink_to(Path("..") / entry)


def _content(folder: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
