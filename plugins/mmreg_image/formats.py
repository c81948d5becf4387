"""Says what some bytes are, by their first ones: which picture format, or what else to name in an error."""

from __future__ import annotations

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBP", "WebP"),
)
"""Offset, first bytes and name of the formats that torchvision decodes."""

OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer instead of the file itself; run `git lfs pull`"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "gzip-compressed data"),
    (257, b"ustar", "a tar archive"),
    (8, b"WAVE", "a WAV sound"),
    (0, b"OggS", "an Ogg sound"),
    (0, b"fLaC", "a FLAC sound"),
    (0, b"ID3", "an MP3 sound"),
    (4, b"ftyphei", "a HEIF picture, which Pillow cannot read; convert it to JPEG"),
    (4, b"ftypmif1", "a HEIF picture, which Pillow cannot read; convert it to JPEG"),
    (4, b"ftypavi", ""),  # AVIF is a picture, if a damaged one
    (4, b"ftyp", "an MP4 film"),
    (0, b"\x93NUMPY", "a NumPy file; load it and pass the array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"\x7fELF", "a program"),
)


def picture_format(data: bytes) -> str:
    """The name of the format that torchvision decodes; empty for anything else."""
    return _match(data, SIGNATURES)


def describe(data: bytes) -> str:
    """What bytes that are no readable picture are, as a noun phrase; empty if nothing is recognised."""
    if found := _match(data, OTHERS):
        return found
    if not any(data):
        return f"nothing but {len(data)} zero bytes"
    try:
        # A multi-byte character may be cut at the end of the sample.
        text = data[:512].decode("utf-8", "strict" if len(data) <= 512 else "ignore")
    except UnicodeDecodeError:
        return ""
    if any(not (character.isprintable() or character.isspace()) for character in text) or (
        len(data) > 512 and len(text.encode()) < 508
    ):
        return ""
    start = " ".join(text.split())[:40]
    lowered = start.lower()
    if "<svg" in text or lowered.startswith("<?xml"):
        return f"an SVG or XML text, which has no pixels; export it as PNG (it begins {start!r})"
    if lowered.startswith(("<!doctype html", "<html")):
        return f"an HTML page (it begins {start!r})"
    return f"plain text (it begins {start!r})"


def _match(data: bytes, signatures: tuple[tuple[int, bytes, str], ...]) -> str:
    for offset, magic, name in signatures:
        if data.startswith(magic, offset):
            return name
    return ""
