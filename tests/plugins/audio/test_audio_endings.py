"""A sound that is cut short is told apart from a whole one, in every format that libsndfile writes and reads again."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmreg.errors import ValueLoadError
from mmreg_audio.ending import cut_short
from mmreg_audio.modality import Audio
from mmreg_audio.mp3 import frame_length

FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3")
UNREADABLE = ("DWVW_12", "DWVW_16", "DWVW_24")  # which libsndfile writes
MONO = ("GSM610", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32")
CASES = [
    (form, subtype)
    for form in FORMATS
    for subtype in soundfile.available_subtypes(form)
    if subtype not in UNREADABLE
    and soundfile.check_format(form, subtype)
    and (form == "MP3") == (subtype == "MPEG_LAYER_III")
]


def noisy_tone(samples=30_001, channels=1):
    rng = np.random.default_rng(0)
    return 0.3 * np.sin(np.arange(samples) / 9)[:, None] + 0.05 * rng.uniform(-1, 1, (samples, channels))


def encoded(form, subtype, samples=30_001, channels=1, **options):
    target = io.BytesIO()
    rate = 48_000 if subtype == "OPUS" else 44_100
    soundfile.write(target, noisy_tone(samples, channels), rate, format=form, subtype=subtype, **options)
    return target.getvalue()


def load(content, **options):
    return Audio(sample_rate=44_100, max_seconds=100, **options).load(content)


@pytest.mark.parametrize(("form", "subtype"), CASES)
def test_whole_files_are_whole(form, subtype):
    for endian in ("FILE", "BIG", "LITTLE"):
        for channels in (1, 2):
            if soundfile.check_format(form, subtype, endian) and (channels == 1 or subtype not in MONO):
                content = encoded(form, subtype, channels=channels, endian=endian)
                assert cut_short(content) == ""
                assert len(load(content)) > 27_000


@pytest.mark.parametrize(("form", "subtype"), CASES)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.99])
def test_files_that_are_cut_are_refused_or_kept_if_asked_for(form, subtype, share):
    content = encoded(form, subtype)
    whole, content = load(content), content[: int(share * len(content))]
    with pytest.raises(ValueLoadError) as caught:
        load(content)
    assert any(words in str(caught.value) for words in ("cut short", "cannot be read", "without a single sample"))
    if "cut short" in str(caught.value):
        assert "truncated: keep takes what there is" in str(caught.value)
        assert 0 < len(load(content, truncated="keep")) <= len(whole)


def test_what_a_cut_flac_file_still_holds_is_kept_if_asked_for():
    content = encoded("FLAC", "PCM_16")
    whole, kept = load(content), load(content[: len(content) // 2], truncated="keep")
    assert 8_000 < len(kept) < 16_000
    assert np.array_equal(kept, whole[: len(kept)])


def test_a_cut_beyond_max_seconds_does_no_harm(tmp_path):
    content = encoded("WAV", "PCM_16")
    path = tmp_path / "sound.wav"
    path.write_bytes(content[: len(content) // 2])
    assert len(Audio(sample_rate=44_100, max_seconds=0.25).load(path)) == 11_025
    with pytest.raises(ValueLoadError, match="its header promises 60,002 bytes of sound, and 29,979 are there"):
        Audio(sample_rate=44_100, max_seconds=0.5).load(path)


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_wav_stream_whose_size_nobody_knew_is_whole(size):
    content = bytearray(encoded("WAV", "PCM_16"))
    content[40:44] = struct.pack("<I", size)
    assert cut_short(bytes(content)) == ""


def test_an_au_or_caf_stream_whose_size_nobody_knew_is_whole():
    content = bytearray(encoded("AU", "PCM_16", endian="BIG"))
    content[8:12] = b"\xff" * 4
    assert cut_short(bytes(content)) == ""
    assert len(load(bytes(content))) == 30_001
    content = bytearray(encoded("CAF", "PCM_16"))
    place = content.index(b"data")
    content[place + 4 : place + 12] = b"\xff" * 8
    assert cut_short(bytes(content)) == ""


def test_chunks_before_and_after_the_samples_are_no_matter():
    content = encoded("WAV", "PCM_16")
    after = content + b"LIST" + struct.pack("<I", 4) + b"INFO"
    before = content[:12] + b"JUNK" + struct.pack("<I", 3) + bytes(4) + content[12:]
    for whole in (after, before):
        assert cut_short(whole) == ""
    assert cut_short(before[:-2]) == "its header promises 60,002 bytes of sound, and 60,000 are there"


TAG = b"TAG" + bytes(125)
ID3 = b"ID3\4\0\0" + bytes([0, 0, 1, 2]) + bytes(130)


@pytest.mark.parametrize("tail", [TAG, b"APETAGEX" + bytes(300), bytes(5000), b"LYRICSBEGIN", b"\xff"])
def test_what_follows_the_frames_of_an_mp3_file_is_legal(tail):
    content = encoded("MP3", "MPEG_LAYER_III")
    assert cut_short(content + tail) == ""
    assert cut_short(ID3 + content + tail) == ""
    assert cut_short(ID3 + content[:-7]) == "its last frame is incomplete"


def test_an_mp3_file_without_its_last_frames_misses_what_its_header_promises():
    content = encoded("MP3", "MPEG_LAYER_III")
    place, ends = 0, []
    while place < len(content):
        place += frame_length(content[place : place + 4])
        ends.append(place)
    assert ends[-1] == len(content)
    with pytest.raises(ValueLoadError, match=r"its header promises 30,001 samples, and .* are there"):
        load(content[: ends[len(ends) // 2]])


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ("fffb9064", 417),  # MPEG 1, 128 kbit/s, 44100 Hz
        ("fffb9264", 418),  # the same, padded
        ("fffbe444", 960),  # MPEG 1, 320 kbit/s, 48000 Hz
        ("fff364c4", 144),  # MPEG 2, 48 kbit/s, 24000 Hz
        ("ffe318c4", 72),  # MPEG 2.5, 8 kbit/s, 8000 Hz
        ("fffd9064", 0),  # layer II
        ("fffbf064", 0),
        ("00000000", 0),
    ],
)
def test_the_length_of_an_mp3_frame_is_that_of_the_standard(header, length):
    assert frame_length(bytes.fromhex(header)) == length


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_of_whole_pages_without_the_last_is_cut(subtype):
    content = encoded("OGG", subtype, samples=200_000)
    last = content.rindex(b"OggS")
    assert cut_short(content[:last]) == "its last page is not marked as the end of the stream"
    assert cut_short(content[: last + 20]) == ""  # what is left of the header is too little to tell
    assert cut_short(content + bytes(100)) == ""
    assert cut_short(content[:-1]) == "its last page is incomplete"


@pytest.mark.parametrize("start", [b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b".snd", b"OggS", b"ID3", b"\xff\xfb"])
def test_damaged_headers_are_left_to_the_decoder(start):
    rng = np.random.default_rng(0)
    for middle in (b"", b"\0\0\0\0WAVE", b"\0\0\0\0AIFF"):
        for size in (0, 1, 3, 7, 20, 300):
            assert isinstance(cut_short(start + middle + rng.bytes(size)), str)
    assert cut_short(b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\0\0" * 50_000) == ""


def test_real_sounds_are_whole(real_data):
    for path in sorted(Path(real_data).rglob("*.wav"))[:200]:
        assert cut_short(path) == ""
