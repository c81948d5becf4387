"""Pictures of every format against Pillow's own reading of them."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional

from mmreg_image.decode import read_pixels


def waves(channels, height=20, width=30):
    """A smooth picture, (H, W, C), that lossy formats keep well."""
    y, x = np.mgrid[:height, :width]
    return np.stack([127 + 120 * np.sin(x / 7 + c) * np.cos(y / 9 + c) for c in range(channels)], -1).astype(np.uint8)


RGB = Image.fromarray(waves(3))
GREY = RGB.convert("L")
RGBA = Image.fromarray(waves(4))
CMYK = Image.fromarray(waves(4), "CMYK")
OTHER = ImageOps.invert(RGB)


def encode(image, name, **options):
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def by_pillow(data):
    """(H, W, 3) as Pillow shows it on a white page."""
    image = Image.open(io.BytesIO(data))
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        image = page
    return np.asarray(image.convert("RGB"))


def shown(data):
    """(H, W, 3) as the modality reads it."""
    pixels = read_pixels(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] in (1, 3)
    return np.repeat(pixels, 4 - pixels.shape[0], 0)[:3].transpose(1, 2, 0)


def png(width, height, depth, colour_type, rows, extra=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    extras = b"".join(chunk(kind, body) for kind, body in extra) if extra else b""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + extras + chunk(b"IDAT", content) + chunk(b"IEND", b"")


FILES = {
    "png": encode(RGB, "PNG"),
    "grey png": encode(GREY, "PNG"),
    "one-bit png": encode(GREY.convert("1"), "PNG"),
    "palette png": encode(RGB.convert("P"), "PNG"),
    "palette png with a transparent entry": encode(GREY.quantize(8), "PNG", transparency=3),
    "palette png with alpha": encode(GREY.quantize(8), "PNG", transparency=bytes(range(0, 256, 32))),
    "png with alpha": encode(RGBA, "PNG"),
    "grey png with alpha": encode(RGBA.convert("LA"), "PNG"),
    "png with a transparent colour": encode(RGB, "PNG", transparency=RGB.getpixel((3, 4))),
    "grey png with a transparent value": encode(GREY, "PNG", transparency=GREY.getpixel((3, 4))),
    "animated png": encode(RGB, "PNG", save_all=True, append_images=[OTHER]),
    "jpeg": encode(RGB, "JPEG"),
    "grey jpeg": encode(GREY, "JPEG"),
    "progressive jpeg": encode(RGB, "JPEG", progressive=True),
    "cmyk jpeg": encode(CMYK, "JPEG"),
    "gif": encode(RGB, "GIF"),
    "animated gif": encode(RGB, "GIF", save_all=True, append_images=[OTHER]),
    "gif with a transparent entry": encode(GREY.quantize(8), "GIF", transparency=3),
    "webp": encode(RGB, "WEBP"),
    "lossless webp": encode(RGB, "WEBP", lossless=True),
    "webp with alpha": encode(RGBA, "WEBP", lossless=True),
    "animated webp": encode(RGB, "WEBP", save_all=True, append_images=[OTHER], lossless=True),
    "bmp": encode(RGB, "BMP"),
    "palette bmp": encode(RGB.convert("P"), "BMP"),
    "tiff": encode(RGB, "TIFF"),
    "compressed tiff": encode(RGB, "TIFF", compression="tiff_lzw"),
    "cmyk tiff": encode(CMYK, "TIFF"),
    "tiff with alpha": encode(RGBA, "TIFF"),
    "ppm": encode(RGB, "PPM"),
    "tga": encode(RGB, "TGA"),
    "ico": encode(RGB, "ICO", sizes=[(16, 16)]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_reads_as_pillow_shows_it_on_white(name):
    difference = np.abs(shown(FILES[name]).astype(int) - by_pillow(FILES[name]))
    assert difference.max() <= 1


@pytest.mark.parametrize("name", ["palette png with a transparent entry", "png with a transparent colour",
                                  "grey png with a transparent value", "gif with a transparent entry"])  # fmt: skip
def test_transparent_pixels_of_the_samples_are_there_and_white(name):
    alpha = np.asarray(Image.open(io.BytesIO(FILES[name])).convert("RGBA"))[..., 3]
    assert 0 < (alpha == 0).mean() < 1
    assert (shown(FILES[name])[alpha == 0] == 255).all()


@pytest.mark.parametrize("name", ["grey png", "one-bit png", "grey png with alpha", "grey jpeg"])
def test_grey_stays_one_channel(name):
    assert read_pixels(FILES[name]).shape == (1, 20, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(RGB, kind, exif=exif)
    upright = by_pillow(data)
    assert upright.shape == ((20, 30, 3) if orientation < 5 else (30, 20, 3))
    assert np.abs(shown(data).astype(int) - upright).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_by_257_and_rounded(kind):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = read_pixels(encode(Image.fromarray(values), kind))
    assert np.array_equal(pixels[0], np.rint(values / 257).astype(np.uint8))


def test_sixteen_bit_rgb_and_alpha_png_are_scaled():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (5, 4, 4), np.uint16)
    rows = [row.astype(">u2").tobytes() for row in values]
    scaled = np.rint(values / 257)
    expected = np.rint((scaled[..., :3] * scaled[..., 3:] + 255 * (255 - scaled[..., 3:])) / 255)
    assert np.array_equal(shown(png(4, 5, 16, 6, rows)), expected)
    opaque = [row[:, :3].astype(">u2").tobytes() for row in values]
    assert np.array_equal(shown(png(4, 5, 16, 2, opaque)), scaled[..., :3])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_shallow_grey_png_with_a_transparent_value(depth):
    levels = np.arange(2**depth)
    bits = "".join(f"{level:0{depth}b}" for level in np.resize(levels, 16))
    row = int(bits, 2).to_bytes(len(bits) // 8, "big")
    key = 2**depth - 2
    expected = np.where(levels == key, 255, levels * 255 // (2**depth - 1))
    pixels = read_pixels(png(16, 1, depth, 0, [row], [(b"tRNS", struct.pack(">H", key))]))
    assert np.array_equal(pixels[0, 0], np.resize(expected, 16))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_png_of_every_depth(depth):
    palette = [(b"PLTE", bytes(range(3 * 2 ** min(depth, 4))))]
    data = png(32 // depth, 1, depth, 3, [bytes([0b00011011, 2, 3, 1]) if depth < 8 else bytes([0, 3, 2, 1])], palette)
    assert np.array_equal(shown(data), by_pillow(data))


def test_only_the_first_frame_of_a_gif_is_decoded(monkeypatch):
    seen = []

    def spy(encoded, *arguments, **keywords):
        seen.append(encoded)
        return torch.zeros(3, 20, 30, dtype=torch.uint8)

    monkeypatch.setattr("torchvision.io.decode_image", spy)
    read_pixels(FILES["animated gif"])
    assert len(seen) == 1
    assert Image.open(io.BytesIO(bytes(seen[0].numpy()))).n_frames == 1


def test_a_gif_frame_smaller_than_its_canvas():
    # The frame of 2 x 1 pixels lies at (1, 0) on a canvas of 4 x 2.
    screen = b"GIF89a" + struct.pack("<HHBBB", 4, 2, 0x80, 0, 0) + bytes([0, 0, 0, 250, 100, 50])
    frame = b"," + struct.pack("<HHHHB", 1, 0, 2, 1, 0) + bytes([2, 2, 0b01001100, 0b00001010, 0]) + b";"
    assert np.array_equal(shown(screen + frame), by_pillow(screen + frame))
    assert shown(screen + frame).shape == (2, 4, 3)


def test_the_content_decides_and_not_the_ending(tmp_path):
    disguised = tmp_path / "picture.png"
    disguised.write_bytes(FILES["jpeg"])
    assert np.array_equal(read_pixels(disguised), read_pixels(FILES["jpeg"]))


def test_a_path_bytes_and_an_array_read_alike(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(FILES["png"])
    array = np.asarray(RGB)
    for value in (path, FILES["png"], bytearray(FILES["png"]), memoryview(FILES["png"]), array):
        assert np.array_equal(read_pixels(value), array.transpose(2, 0, 1))


def test_floating_point_tiff_is_taken_from_zero_to_one():
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    pixels = read_pixels(encode(Image.fromarray(values), "TIFF"))
    assert np.array_equal(pixels[0], np.rint(values * 255))


def test_sixteen_bits_agree_with_torchvision_to_one_level():
    values = np.random.default_rng(0).integers(0, 65536, (8, 8), np.uint16)
    expected = functional.to_dtype(torch.from_numpy(values), torch.uint8, scale=True).numpy()
    difference = read_pixels(values)[0].astype(int) - expected
    assert np.abs(difference).max() <= 1
