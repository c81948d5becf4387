"""Small files that would keep a decoder busy for minutes, or fill the memory, are refused or read without what does."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from mmreg.errors import ValueLoadError
from mmreg_image.decode import read_pixels
from mmreg_image.pixels import eight_bits, with_channels, without_alpha


def encode(image, name, **options):
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def refusal(data):
    with pytest.raises(ValueLoadError) as caught:
        read_pixels(data)
    return str(caught.value)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *chunks, depth=8, colour_type=2, interlaced=0):
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def inflating_to(megabytes):
    """A stream of zeros; a megabyte begins anew, so that only two are squeezed, and the second is repeated."""
    squeezer = zlib.compressobj(9)
    first, again = (squeezer.compress(bytes(1 << 20)) + squeezer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    checksum = struct.pack(">HH", (megabytes << 20) % 65521, 1)  # Adler-32 of zeros
    return first + again * (megabytes - 1) + squeezer.flush()[:-4] + checksum


def watch_decoder(monkeypatch):
    """What torchvision is given instead of decoding it."""
    seen = []
    monkeypatch.setattr("mmreg_image.decode._torchvision", lambda data, mode="": seen.append(bytes(data)) or PIXELS)
    return seen


PIXELS = np.zeros((3, 4, 5), np.uint8)
ROWS = zlib.compress((b"\0" + bytes(15)) * 4)


def test_png_pixels_that_go_on_after_the_last_one_are_refused(monkeypatch):
    seen = watch_decoder(monkeypatch)
    squeezed = inflating_to(2200)
    assert "more pixels than its header says" in refusal(png(5, 4, chunk(b"IDAT", squeezed)))
    half = len(squeezed) // 2
    assert "more pixels" in refusal(png(5, 4, chunk(b"IDAT", squeezed[:half]), chunk(b"IDAT", squeezed[half:])))
    assert not seen


def test_large_png_pixels_that_cannot_be_inflated_are_refused():
    assert "cannot be inflated" in refusal(png(5, 4, chunk(b"IDAT", bytes(3 << 20))))


@pytest.mark.parametrize("interlaced", [0, 1])
def test_noise_which_no_compression_makes_smaller_is_read(interlaced):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 800, 3), np.uint8)
    data = encode(Image.fromarray(noise), "PNG")
    assert len(data) > 2 << 20
    assert np.array_equal(read_pixels(data), noise.transpose(2, 0, 1))
    if interlaced:  # seven pictures, one after the other
        starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        passes = [noise[top::down, left::right] for top, left, down, right in starts]
        rows = b"".join(b"\0" + row.tobytes() for each in passes for row in each)
        data = png(800, 1000, chunk(b"IDAT", zlib.compress(rows)), interlaced=1)
        assert np.array_equal(read_pixels(data), noise.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"acTL", b"prVt"])
def test_png_chunks_that_no_pixel_depends_on_never_reach_the_decoder(kind, monkeypatch):
    plain = png(5, 4, chunk(b"IDAT", ROWS))
    assert np.array_equal(read_pixels(png(5, 4, chunk(kind, b"a\0\0" + inflating_to(3)), chunk(b"IDAT", ROWS))), PIXELS)
    seen = watch_decoder(monkeypatch)
    read_pixels(png(5, 4, *[chunk(kind, b"a\0\0" + inflating_to(3))] * 50, chunk(b"IDAT", ROWS)))
    assert seen == [plain]


def test_a_png_orientation_of_which_the_checksum_is_wrong_is_left_out(monkeypatch, capfd):
    data = bytearray(png(5, 4, chunk(b"eXIf", b"MM\0*" + bytes(20)), chunk(b"IDAT", ROWS)))
    data[data.index(b"eXIf") + 9] ^= 1
    assert np.array_equal(read_pixels(bytes(data)), PIXELS)
    assert capfd.readouterr() == ("", "")


def scanned(scans, size):
    """A progressive JPEG that goes over its pixels again and again."""
    data = encode(Image.new("L", size, 7), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - data[:last].count(b"\xff\xda")) + b"\xff\xd9"


def test_a_jpeg_of_many_scans_is_refused(monkeypatch):
    seen = watch_decoder(monkeypatch)
    assert "a JPEG picture of 40 x 30 pixels in 2,000 scans is refused" in refusal(scanned(2000, (40, 30)))
    told = refusal(scanned(60, (8000, 8000)))
    assert "in 60 scans is refused" in told
    assert "at most 31 are decoded" in told
    assert not seen


def test_a_jpeg_of_some_scans_is_read_whatever_its_preview_holds():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8))
    plain = encode(picture, "JPEG", progressive=True)
    assert plain.count(b"\xff\xda") > 5
    preview = b"\xff\xda\xff\xda" * 7000
    with_preview = plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(preview)) + preview + plain[2:]
    assert np.array_equal(read_pixels(with_preview), read_pixels(plain))


def gif(extensions, transparent):
    screen = b"GIF89a" + struct.pack("<HHBBB", 2, 1, 0x80, 0, 0) + bytes([0, 0, 0, 250, 100, 50])
    control = b"\x21\xf9\x04" + bytes([transparent, 0, 0, 0, 0])
    frame = b"," + struct.pack("<HHHHB", 0, 0, 2, 1, 0) + bytes([2, 2, 0b01001100, 0b00001010, 0])
    return screen + extensions + control + frame + b";"


@pytest.mark.parametrize("transparent", [0, 1])
def test_a_gif_comment_is_not_read(transparent, monkeypatch):
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * 50 + b"\0"
    assert np.array_equal(read_pixels(gif(comment, transparent)), read_pixels(gif(b"", transparent)))
    seen = watch_decoder(monkeypatch)
    monkeypatch.setattr("mmreg_image.decode.decode_with_pillow", lambda data: seen.append(data) or PIXELS)
    read_pixels(gif(comment, transparent))
    assert seen == [gif(b"", transparent)]


def tiff(entries, more=b""):
    """A little-endian TIFF of one directory; an entry is a tag, a type (3: short, 4: long) and its values."""
    place = 8 + 2 + 12 * len(entries) + 4
    directory, values = struct.pack("<H", len(entries)), b""
    for tag, kind, numbers in sorted(entries):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'L'}", *numbers)
        inside = len(packed) <= 4
        directory += struct.pack("<HHL", tag, kind, len(numbers))
        directory += packed.ljust(4, b"\0") if inside else struct.pack("<L", place + len(values))
        values += b"" if inside else packed
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + values + more


def striped(count):
    sizes = [(256, 4, [1]), (257, 4, [count]), (258, 3, [8]), (259, 3, [1]), (262, 3, [1]), (277, 3, [1])]
    return tiff([*sizes, (273, 4, [8] * count), (278, 4, [1]), (279, 4, [1] * count)])


def test_a_tiff_of_more_strips_than_any_picture_needs_is_refused():
    assert read_pixels(striped(2000)).shape == (1, 2000, 1)
    assert "lists more than 500,000 numbers about itself" in refusal(striped(300_000))


def test_a_tiff_whose_further_directory_lists_millions_is_refused():
    entries = [(256, 4, [1]), (257, 4, [1]), (258, 3, [8]), (262, 3, [1]), (273, 4, [8]), (277, 3, [1]), (279, 4, [1])]
    place = len(tiff([*entries, (34665, 4, [0])]))
    further = struct.pack("<HHHLL", 1, 40000, 3, 2_000_000, 1)
    assert "lists more than" in refusal(tiff([*entries, (34665, 4, [place])], further + bytes(4)))
    for place in (2**63, 2**64 - 1):
        assert "damaged" in refusal(b"II+\0\x08\0\0\0" + struct.pack("<Q", place) + bytes(20))
    loop = tiff([*entries, (34665, 4, [8])])
    assert read_pixels(loop).shape == (1, 1, 1)


def test_formats_that_are_decoded_in_python_have_a_lower_limit():
    def qoi(side):
        return b"qoif" + struct.pack(">LLBB", side, side, 3, 0) + bytes([0xFD]) * (side * side // 62 + 1)

    assert read_pixels(qoi(100)).shape == (3, 100, 100)
    assert "at most 10,000,000 pixels are decoded" in refusal(qoi(4000))


def test_a_picture_inside_an_icon_is_checked_as_well():
    inside = png(20_000, 20_000, chunk(b"IDAT", inflating_to(1)), colour_type=6)
    icon = b"\0\0\1\0\1\0" + struct.pack("<BBBBHHLL", 0, 0, 0, 0, 1, 32, len(inside), 22) + inside
    assert "refused for its size" in refusal(icon)


def test_a_side_longer_than_any_decoder_takes_is_refused():
    assert "1,000,000 in a row" in refusal(b"P5 2000000 1 255\n" + bytes(2_000_000))


@pytest.mark.parametrize(
    ("convert", "dtype", "channels"),
    [
        (eight_bits, np.uint16, 4),
        (eight_bits, np.float64, 3),
        (without_alpha, np.uint8, 4),
        (without_alpha, np.uint8, 2),
    ],
)
def test_conversions_take_no_more_memory_than_their_result(convert, dtype, channels):
    array = np.zeros((channels, 4000, 6000), dtype)
    tracemalloc.start()
    result = convert(array)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < result.nbytes + 120_000_000
    assert peak < 1.1 * result.nbytes + 120_000_000


def test_bands_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (4, 1700, 2900), np.uint8)
    tops = range(0, 1700, 100)
    for convert in (without_alpha, lambda part: with_channels(part[:3], 1)):
        assert np.array_equal(convert(large), np.concatenate([convert(large[:, top : top + 100]) for top in tops], 1))
    deep = rng.integers(0, 65536, (3, 1700, 2900), np.uint16)
    assert np.array_equal(eight_bits(deep), np.rint(deep / 257).astype(np.uint8))
    data = encode(Image.fromarray(large[:3].transpose(1, 2, 0)), "BMP")
    assert np.array_equal(read_pixels(data), large[:3])
