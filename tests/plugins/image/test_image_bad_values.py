"""What cannot be read is refused with its cause, in bounded memory, and without a word on stderr."""

import contextlib
import io
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from mmreg.errors import ValueLoadError
from mmreg_image import decode
from mmreg_image.modality import Image as ImageModality

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))


def encode(name, image=NOISE, **options):
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def refusal(value):
    with pytest.raises(ValueLoadError) as caught:
        ImageModality(size=8).load(value)
    return str(caught.value)


def png_of_size(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files(kind, share, capfd):
    data = encode(kind)
    message = refusal(data[: max(12, int(len(data) * share))])
    assert any(word in message for word in ("truncated", "not a picture")), message
    assert capfd.readouterr() == ("", "")


# JPEG is tested below: libjpeg prints a line on stderr for damage that it mends.
@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_damaged_files_are_read_or_refused_but_never_crash(kind, capfd):
    rng = np.random.default_rng(1)
    data = encode(kind)
    modality = ImageModality(size=8)
    for _ in range(40):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 10):
            damaged[position] = rng.integers(256)
        with contextlib.suppress(ValueLoadError):
            assert modality.load(bytes(damaged)).shape == (3, 8, 8)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_jpeg_is_read_or_refused_but_never_crashes():
    rng = np.random.default_rng(1)
    data = encode("JPEG")
    for _ in range(40):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 10):
            damaged[position] = rng.integers(256)
        with contextlib.suppress(ValueLoadError):
            ImageModality(size=8).load(bytes(damaged))


def test_a_flipped_bit_in_a_png_is_noticed():
    data = bytearray(encode("PNG"))
    data[len(data) // 2] ^= 1
    assert "the checksum of its IDAT chunk is wrong" in refusal(bytes(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty: 0 bytes"),
        (b"hello, this is my picture\n", "plain text (it begins 'hello, this is my picture"),
        ("Grüße ".encode() * 200, "plain text"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "export it as PNG"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript document"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "a WAV sound"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (bytes(1000), "nothing but 1000 zero bytes"),
        (bytes([7, 200, 13, 255, 250, 9, 1, 2]) * 50, "not a picture in any known format"),
    ],
)
def test_what_is_no_picture_is_named(data, words):
    assert words in refusal(data)


def test_a_text_file_named_png(tmp_path):
    path = tmp_path / "picture.png"
    path.write_text("to be drawn")
    assert "plain text (it begins 'to be drawn')" in refusal(path)


def test_paths_that_lead_to_no_file(tmp_path):
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    assert refusal(tmp_path / "missing.png") == "no such file"
    assert refusal(tmp_path) == "a folder, not a file"
    assert refusal(tmp_path / "empty.png") == "empty: 0 bytes"
    assert refusal(tmp_path / "pipe.png") == "a FIFO, not a file"
    assert "cannot be read" in refusal(tmp_path / "empty.png" / "below")
    assert "cannot be read" in refusal(tmp_path / "zero\0byte.png")
    assert "cannot be read" in refusal(tmp_path / ("long" * 100))


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    path.write_bytes(encode("PNG"))
    monkeypatch.setattr(decode, "MAX_BYTES", 100)
    assert "at most 100 are read" in refusal(path)


def bombs():
    size = struct.pack("<HH", 60000, 60000)
    jpeg = bytearray(encode("JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    bmp = bytearray(encode("BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    return {
        "png": png_of_size(60000, 60000),
        "png beyond Pillow's warning": png_of_size(10001, 10000),
        "jpeg": bytes(jpeg),
        "gif canvas": b"GIF89a" + size + bytes(3),
        "gif frame": b"GIF89a" + struct.pack("<HH", 4, 4) + bytes(3) + b"," + bytes(4) + size + bytes(1),
        "extended webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\x00" * 2,
        "lossless webp": b"RIFF\0\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 2**28 - 1),
        "webp": b"RIFF\0\0\0\0WEBPVP8 \x0a\0\0\0" + bytes(6) + struct.pack("<HH", 16383, 16383),
        "bmp": bytes(bmp),
        "ppm": b"P6 60000 60000 255\n" + bytes(10),
        "ppm beyond Pillow's warning": b"P6 10001 10000 255\n" + bytes(10),
    }


@pytest.mark.parametrize("name", bombs())
def test_decompression_bombs_are_refused_by_their_header(name, monkeypatch):
    monkeypatch.setattr("torchvision.io.decode_image", None)
    data = bombs()[name]
    tracemalloc.start()
    message = refusal(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "refused" in message
    assert "pixels" in message
    assert peak < 5_000_000


def test_a_picture_at_the_limit_is_not_refused_by_its_header():
    assert "refused" not in refusal(png_of_size(10000, 10000))


def test_a_long_thin_picture_needs_no_memory_to_speak_of():
    thin = np.zeros((1, 500_000), np.uint8)
    for resize in ("stretch", "crop", "pad"):
        tracemalloc.start()
        assert ImageModality(size=64, resize=resize).load(thin).shape == (3, 64, 64)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(5, np.uint8), "shape (5,)"),
        (np.zeros((5, 5, 2), np.uint8), "shape (5, 5, 2)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape (1, 4, 4, 3)"),
        (np.zeros((0, 4), np.uint8), "empty"),
        (np.full((2, 2), 1.5), "from 0 to 1"),
        (np.full((2, 2), np.nan), "from 0 to 1"),
        (np.full((2, 2), 1e308), "from 0 to 1"),
        (np.full((2, 2), 256), "from 0 to 255"),
        (np.full((2, 2), -1), "from 0 to 255"),
        (np.full((2, 2), "a"), "dtype"),
        (np.full((2, 2), 1j), "dtype"),
        (np.broadcast_to(np.uint8(0), (20000, 20000)), "refused"),
        ("picture.png", "found str"),
        (None, "found NoneType"),
    ],
)
def test_values_that_are_no_picture(array, words):
    assert words in refusal(array)


def test_thirty_two_bit_pixels_beyond_sixteen_bits_are_refused():
    array = np.array([[0, 70000]], np.int32)
    assert "from 0 to 65535" in refusal(encode("TIFF", Image.fromarray(array)))


def test_a_file_of_floating_point_pixels_is_to_be_saved_anew():
    pixels = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert decode.read_pixels(encode("TIFF", Image.fromarray(pixels))).max() == 255
    told = refusal(encode("TIFF", Image.fromarray(pixels * 900)))
    assert told == "pixels in floating point are to be from 0 to 1, found 0 to 900; save it with 8 or 16 bits a channel"
