"""Damage behind a checksum: the inner part of a file is changed, and what surrounds it fits again.

Who does that is no accident, so a result may be another; that nothing breaks is promised all the same.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from random import Random

from fuzzing.cases import CANARY
from fuzzing.mutators import damaged
from fuzzing.trees import damaged_tree


def png(random: Random, data: bytes) -> bytes:
    """One chunk damaged, with a checksum that fits."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = random.randrange(len(chunks))
    kind, content = chunks[chosen]
    if kind == b"IDAT" and random.random() < 0.5:  # the pixels behind the compression
        content = zlib.compress(damaged(random, zlib.decompress(content)))
    else:
        content = damaged(random, content)
    chunks[chosen] = (kind, content)
    random.choice((list.reverse, lambda _: None, lambda _: None, lambda _: None))(chunks)
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return data[:8] + b"".join(parts)


def safetensors(random: Random, data: bytes) -> bytes:
    """The header damaged as JSON, with a length that fits."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.dumps(damaged_tree(random, json.loads(data[8 : 8 + length]))).encode()
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


class _Harmful:
    """What a pickle runs, where pickles are run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {CANARY}",)


HARMFUL_PICKLE = pickle.dumps(_Harmful(), protocol=2)


def zipped(random: Random, data: bytes) -> bytes:
    """One member of an archive damaged, or turned into a pickle that runs a command; the archive is whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    chosen = random.choice((pickled, random.choice(sorted(members))))
    members[chosen] = HARMFUL_PICKLE if random.random() < 0.1 else damaged(random, members[chosen])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()
