"""Tables of tar shards: samples as WebDataset reads them, and nothing that a shard says does harm."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from web_server import serving

from mmreg.data.sources import open_table
from mmreg.errors import TableError
from mmreg_remote.braces import expand


def write(path: Path, members: dict[str, bytes], *special: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in special:
            tar.addfile(member)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def rows(name: Any) -> dict[str, list[Any]]:
    table = open_table(name)
    return {column: list(table.iter_values(column)) for column in table.columns}


def sample(number: int) -> dict[str, bytes]:
    facts = {"label": "ab"[number % 2], "score": number / 2, "n": number, "box": [1, 2], "none": None}
    return {
        f"{number:06}.jpg": bytes([number]) * number,
        f"{number:06}.cls": str(number % 3).encode(),
        f"{number:06}.seg.PNG": b"png",
        f"{number:06}.txt": f"text {number} é".encode(),
        f"{number:06}.json": json.dumps(facts).encode(),
    }


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / "cache"))
    for shard in range(3):
        members = [sample(4 * shard + number) for number in range(4)]
        write(tmp_path / f"train-{shard:03}.tar", {name: data for each in members for name, data in each.items()})
    return tmp_path


def test_samples_are_rows_and_endings_columns(shards: Path) -> None:
    read = rows(shards / "train-{000..002}.tar")
    assert read["__key__"] == [f"{number:06}" for number in range(12)]
    assert read["jpg"] == [bytes([number]) * number for number in range(12)]
    assert read["cls"] == [number % 3 for number in range(12)]
    assert read["seg.png"] == [b"png"] * 12
    assert read["txt"] == [f"text {number} é" for number in range(12)]
    assert read["json.label"] == ["ab"[number % 2] for number in range(12)]
    assert read["json.score"] == [number / 2 for number in range(12)]
    assert json.loads(read["json"][3])["box"] == [1, 2]
    assert "json.box" not in read
    assert rows(shards / "train-{001,000}.tar")["__key__"][:5] == ["000004", "000005", "000006", "000007", "000000"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves shards open
def test_samples_are_those_that_webdataset_reads(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = [str(shards / f"train-{number:03}.tar") for number in range(3)]
    there = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    read = rows(shards / "train-{000..002}.tar")
    for column in ("__key__", "jpg", "seg.png"):
        assert read[column] == [each[column] for each in there]
    assert read["txt"] == [each["txt"].decode() for each in there]
    assert read["cls"] == [int(each["cls"]) for each in there]


def test_shards_are_read_once_as_long_as_they_do_not_change(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(shards / "train-000.tar")
    with monkeypatch.context() as patch:
        patch.setattr("mmreg_remote.shards.read_samples", None)
        assert len(rows(shards / "train-000.tar")["jpg"]) == 4
    write(shards / "train-000.tar", sample(9) | sample(10))
    assert rows(shards / "train-000.tar")["__key__"] == ["000009", "000010"]


def test_samples_are_written_a_few_at_a_time(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmreg_remote.shards.BATCH", 1)
    table = open_table(shards / "train-{000..002}.tar")
    assert table.arrow.column("jpg").num_chunks >= 12
    assert list(table.iter_values("cls")) == [number % 3 for number in range(12)]


def test_what_a_sample_lacks_is_empty_and_types_have_room_for_all(shards: Path) -> None:
    members = {
        "a.cls": b"1",
        "a.json": b'{"x": 1, "y": 1}',
        "b.txt": b"b",
        "b.json": b'{"x": 0.5, "y": "t"}',
        "c.cls": b"c",
    }
    read = rows(write(shards / "t.tar", members))
    assert read["cls"] == ["1", None, "c"]
    assert read["txt"] == [None, "b", None]
    assert read["json.x"] == [1.0, 0.5, None]
    assert read["json.y"] == ["1", "t", None]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_hostile_members_write_nothing_and_are_not_followed(shards: Path) -> None:
    outside = shards / "outside.txt"
    outside.write_text("secret")
    links = [
        special("link.txt", tarfile.SYMTYPE, str(outside)),
        special("hard.txt", tarfile.LNKTYPE, str(outside)),
        special("device.bin", tarfile.CHRTYPE),
        special("pipe.bin", tarfile.FIFOTYPE),
        special("folder.d", tarfile.DIRTYPE),
    ]
    before = sorted(path.name for path in shards.iterdir())
    members = {
        "../../up.txt": b"up",
        "/etc/absolute.txt": b"absolute",
        "._mac.txt": b"",
        "__meta__.json": b"x",
        "no": b"",
    }
    read = rows(write(shards / "hostile.tar", members, *links))
    assert read == {"__key__": ["../../up", "/etc/absolute"], "txt": ["up", "absolute"]}
    assert sorted(path.name for path in shards.iterdir()) == sorted({*before, "cache", "hostile.tar"})
    assert not (shards.parent.parent / "up.txt").exists()


def with_size(path: Path, size: int) -> Path:
    """A shard whose first member claims another size."""
    info = tarfile.TarInfo("a.bin")
    info.size = size
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
    return path


@pytest.mark.parametrize("size", [513, 2**33, 2**62])
def test_a_size_that_is_a_lie_is_told_and_takes_no_memory(size: int, shards: Path) -> None:
    with pytest.raises(TableError, match=r"is cut: its member a\.bin does not end within it"):
        open_table(with_size(shards / "lie.tar", size))


def test_a_shard_that_is_cut_within_a_header_is_told(shards: Path) -> None:
    whole = with_size(shards / "cut.tar", 512).read_bytes()
    (shards / "cut.tar").write_bytes(whole + whole[:300])
    with pytest.raises(TableError, match=r"cut\.tar is cut: nothing marks its end behind byte 1,024"):
        open_table(shards / "cut.tar")


def test_a_sparse_member_that_claims_a_size_is_left_out(shards: Path) -> None:
    info = tarfile.TarInfo("a.bin")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50)}
    content = b"1\n0\n0\n".ljust(512, b"\0")
    info.size = len(content)
    path = shards / "sparse.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(TableError, match="there are no samples"):
        open_table(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.json": b"{"}, r"a\.json is no JSON"),
        ({"a.json": b"[" * 100_000}, r"a\.json is no JSON"),
        ({"a.txt": b"\xff"}, r"a\.txt is not UTF-8"),
        ({"no ending": b"x"}, "there are no samples in"),
        ({f"a.{number}": b"" for number in range(1001)}, "more than 1,000 endings"),
    ],
)
def test_what_is_wrong_with_a_member_is_told(members: dict[str, bytes], message: str, shards: Path) -> None:
    with pytest.raises(TableError, match=message):
        open_table(write(shards / "wrong.tar", members))


def test_a_member_that_comes_twice_is_told(shards: Path) -> None:
    path = shards / "twice.tar"
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    with pytest.raises(TableError, match=r"holds a\.txt twice"):
        open_table(path)


def test_shards_that_are_missing_or_no_tar_files_are_told(shards: Path) -> None:
    with pytest.raises(TableError, match=r"there is no shard .*train-003\.tar; did you mean"):
        open_table(shards / "train-{000..003}.tar")
    (shards / "text.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(TableError, match=r"text\.tar cannot be read as tar"):
        open_table(shards / "text.tar")
    os.mkfifo(shards / "pipe.tar")
    with pytest.raises(TableError, match="is a FIFO, where a shard is needed"):
        open_table(shards / "pipe.tar")


def test_a_shard_that_ends_early_is_refused_and_loses_no_sample_in_silence(shards: Path) -> None:
    whole = (shards / "train-000.tar").read_bytes()
    with tarfile.open(shards / "train-000.tar") as tar:
        begins = [member.offset for member in tar]
    for begin in begins:
        (shards / "cut.tar").write_bytes(whole[:begin])
        with pytest.raises(TableError, match=r"cut\.tar (is cut: nothing marks its end|cannot be read as tar)"):
            open_table(shards / "cut.tar")
    damaged = bytearray(whole)
    damaged[begins[7]] ^= 1  # in a member's name, so that the checksum of what names it is wrong
    (shards / "damaged.tar").write_bytes(damaged)
    with pytest.raises(TableError, match=f"is damaged: what begins at byte {begins[7]:,} names no member"):
        open_table(shards / "damaged.tar")
    (shards / "two.tar").write_bytes(whole + (shards / "train-001.tar").read_bytes())
    with pytest.raises(TableError, match="goes on behind its end"):
        open_table(shards / "two.tar")
    (shards / "padded.tar").write_bytes(whole + b"what a tape held before" * 100)
    assert rows(shards / "padded.tar") == rows(shards / "train-000.tar")


def test_a_shard_that_is_cut_within_what_an_old_sparse_member_says_of_its_pieces_is_told(shards: Path) -> None:
    info = tarfile.TarInfo("a.bin")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1  # more pieces follow in a block of their own
    head[483:495] = b"00000001000\0"
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    first = (shards / "train-000.tar").read_bytes()[:512]  # which is empty
    (shards / "sparse.tar").write_bytes(first + head)
    with pytest.raises(TableError, match=r"sparse\.tar cannot be read as tar"):
        open_table(shards / "sparse.tar")


def test_damage_anywhere_gives_rows_or_an_error_of_ours(shards: Path) -> None:
    original = (shards / "train-000.tar").read_bytes()
    drawn = np.random.default_rng(0)
    for number in range(60):
        damaged = bytearray(original[: int(drawn.integers(len(original))) if number % 3 == 0 else None])
        for place in drawn.integers(max(len(damaged), 1), size=8).tolist():
            if damaged:
                damaged[place] = int(drawn.integers(256))
        path = shards / f"damaged{number}.tar"
        path.write_bytes(damaged)
        with contextlib.suppress(TableError):
            open_table(path)


def test_braces_name_shards() -> None:
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{a,b}{1..2}") == ["a1", "a2", "b1", "b2"]
    assert expand("plain") == ["plain"]
    with pytest.raises(TableError, match="more than 100,000 shards"):
        expand("{0..999999}{0..999999}")


def test_a_recipe_leaves_out_the_record_that_holds_the_target(tmp_path: Path) -> None:
    from mmreg.data.dialect import TableFile
    from mmreg.recipe.draft import draft_recipe

    members = {
        f"{number:02}.{ending}": content
        for number in range(30)
        for ending, content in {
            "json": json.dumps({"size": number * 7 % 13 + 0.5, "y": "ab"[number % 2]}).encode(),
            "txt": f"a text of {number} words and no more".encode(),
        }.items()
    }
    path = write(tmp_path / "t.tar", members)
    recipe = draft_recipe(TableFile(str(path)), "json.y", tmp_path)
    assert "json: left out; the target is a part of it" in recipe
    assert "column: json," not in recipe
    assert "key: __key__" in recipe


def test_half_of_a_surrogate_pair_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tar", {"a.json": b'{"x": "\\ud800"}'})
    with pytest.raises(TableError, match=r"a\.json is no JSON"):
        open_table(str(path))
    with pytest.raises(TableError, match="has a member called __key__"):
        open_table(str(write(tmp_path / "k.tar", {"a.__key__": b"b"})))


def test_shards_of_a_web_server_are_named_together(shards: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra remote")
    with serving() as server:
        for shard in range(3):
            name = f"train-{shard:03}.tar"
            server.files[f"/d/{name}"] = (shards / name).read_bytes()
        name = f"{server.address}/d/train-{{000..002}}.tar"
        for _ in range(2):
            assert rows(name) == rows(shards / "train-{000..002}.tar")
        assert server.gets() == 3
        assert open_table(name).name == name

        server.files["/d/train-001.tar"] = (shards / "train-000.tar").read_bytes()
        assert rows(name)["__key__"][4] == "000000"
        assert server.gets() == 4

        server.files["/d/train-001.tar"] = (shards / "train-001.tar").read_bytes()[:700]
        with pytest.raises(TableError) as caught:
            open_table(name)
        assert f"{server.address}/d/train-001.tar cannot be read as tar" in str(caught.value)
        assert "fetched" not in str(caught.value)

        del server.files["/d/train-002.tar"]
        with pytest.raises(TableError, match=rf"there is no {server.address}/d/train-002\.tar$"):
            open_table(name)
