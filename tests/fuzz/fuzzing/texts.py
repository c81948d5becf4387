"""What means something in files of some formats, and what often is not expected there."""

from __future__ import annotations

from typing import Any

from fuzzing.cases import CANARY

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(f'*{a}' for _ in range(10))}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
HARMFUL = f"!!python/object/apply:os.system ['touch {CANARY}']"

_YAML = [LAUGHS, HARMFUL, "!!python/name:os.system ", "!!binary aGk= ", "!x y", "!!set {a, b}"]
_YAML += ["&a [*a]", "&a {b: *a}", "*a", "<<: *a", "<<: {a: 1}", "? [a, b]\n: c", "[" * 3000, "{a: " * 3000]
_YAML += ["- " * 3000, "&x " * 50, "9" * 5000, "1e999", "-.inf", ".nan", "0x" + "f" * 400, "\0", "\ufeff", "\x85"]
_YAML += ["%YAML 9.9\n---\n", "---\n", "...\n", "'", '"', "|\n", ">-\n", "# ", "~", "null", "true", "'': ", "100000000"]
_YAML += ["!!timestamp 2001-01-01", "\u2028", "\t", "table: ", "modalities:\n"]
_YAML += ["training: ", "name: ", "of: [", "share: title"]
YAML = [text.encode() for text in _YAML]

CSV = [b'"', b'""', b'"\n', b",", b";", b"\t", b"\r", b"\r\n", b"\n\n", b"\0", b"\xff\xfe", b"\xe9"]
CSV += [b"nan", b"inf", b"-0", b"1e999", b"9" * 400, b"007", b"../../", b"images", b"/dev/zero"]
CSV += [b"x" * 70_000, b"id", b"\xef\xbb\xbf"]

JSON_LINES = [*CSV, b"{", b"[", b"[" * 5000, b'{"a":' * 3000, b"null", b"\\ud800", b"1e400", b'{"id": 1}\n']
JSON_LINES += [b"2001-01-01", b"2001-01-01T00:00:00Z"]

SQL = [b"CREATE TABLE ", b"t", b"id", b"SELECT 1", b"sqlite_master", b"VIEW"]

VECTORS = [b" ", b"  ", b"\n", b"\0", b"nan", b"inf", b"1e400", b"0x1", b"word", b"\xff"]
VECTORS += [b"1 2 3 4 5\n", b"red 1 2 3 4 5 6\n", b"99999999999 300\n"]

TOKENIZER = [b"null", b"true", b"-1", b"99999999999999999999", b"[]", b"{}", b'"[UNK]"', b'"type"', b"\\ud800"]
TOKENIZER += [b"[" * 3000, b'"<pad>"', b"0"]

VALUES: list[Any] = [None, True, False, 0, 1, -1, 2, 255, 65536, 2**31, 2**53 + 1, 2**63, 10**30, 0.5, -0.0, 1e-320]
VALUES += [1e308, float("inf"), float("nan"), "", " ", "0", "null"]
VALUES += ["nan", "a\0b", "ü€😀", "\ud800", "../..", "/dev/zero"]
VALUES += ["concat", "image_cnn", "text_rnn", "audio", "classification"]
VALUES += ["label", "image", "run", "table.csv", "x" * 5000]
VALUES += [[], {}, [[]], [None], {"": None}, [1, "a"], {"name": None}, {"name": "concat", "of": []}, "sqlite://a#b"]
"""Values that take the place of a node of JSON or YAML."""
