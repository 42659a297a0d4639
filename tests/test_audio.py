"""Audio files to samples: every format, every stretch, every way a file can be broken."""

import os
import re
import struct
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from speechgmm.audio import (
    AUDIO_SUFFIXES,
    AudioInfo,
    audio_info,
    load_audio,
    read_audio,
    read_blocks,
)
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.resampling import resample, upsampling_message

RATE = 16000

FORMAT_OF_SUFFIX = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aif": ("AIFF", "PCM_16"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aifc": ("AIFF", "ULAW"),
    ".au": ("AU", "PCM_16"),
    ".snd": ("AU", "ULAW"),
    ".w64": ("W64", "PCM_16"),
    ".rf64": ("RF64", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".sph": ("NIST", "PCM_16"),
}


def noise(n_samples=RATE, n_channels=1, seed=0):
    """Noise under a tone, within [-0.9, 0.9]; float32, mono or (n_samples, n_channels)."""
    shape = n_samples if n_channels == 1 else (n_samples, n_channels)
    wave = 0.4 * np.sin(0.05 * np.arange(n_samples))
    rough = np.random.default_rng(seed).uniform(-0.5, 0.5, shape)
    return (rough + (wave if n_channels == 1 else wave[:, None])).astype(np.float32)


def write(path, samples, file_format, subtype, sample_rate=RATE):
    """Write a file in a given format whatever its suffix; skip where libsndfile was built without it."""
    if subtype not in soundfile.available_subtypes(file_format):
        pytest.skip(
            f"libsndfile {soundfile.__libsndfile_version__} was built without {file_format} {subtype}"
        )
    soundfile.write(path, samples, sample_rate, format=file_format, subtype=subtype)
    return path


def joined(path, start=None, end=None, block=5000):
    """What `read_blocks` gives, in one array."""
    return np.concatenate([*read_blocks(path, start, end, block)])


@pytest.fixture
def wav(tmp_path):
    return write(tmp_path / "voice.wav", noise(), "WAV", "PCM_16")


# ------------------------------------------------------------------ formats


def test_suffixes_are_those_with_a_test():
    assert set(FORMAT_OF_SUFFIX) == AUDIO_SUFFIXES


@pytest.mark.parametrize("suffix", sorted(FORMAT_OF_SUFFIX))
def test_every_suffix_is_read(tmp_path, suffix):
    samples = noise()
    path = write(tmp_path / f"voice{suffix}", samples, *FORMAT_OF_SUFFIX[suffix])
    read, rate = read_audio(path)
    assert rate == RATE
    assert read.dtype == np.float32
    assert read.shape == samples.shape
    # Lossy codecs keep the tone, if not the noise: a wrong scale or alignment would break it.
    assert np.corrcoef(read, samples)[0, 1] > 0.7


# Steps at the amplitude where they are largest. A-law and mu-law: 13- and 14-bit segments whose step doubles
# up to 1/16 of the amplitude below. Rounding and the asymmetric scale (2**n - 1 upwards) give up to one step.
STEPS = {
    "PCM_U8": 2.0**-7,
    "PCM_16": 2.0**-15,
    "PCM_24": 2.0**-23,
    "PCM_32": 2.0**-23,  # float32 has no more
    "FLOAT": 0.0,
    "DOUBLE": 0.0,
    "ULAW": 2.0**-5,
    "ALAW": 2.0**-5,
}

# These predict each sample from the last ones and cannot follow noise: only a smooth wave comes back.
PREDICTIVE = ("IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32")


@pytest.mark.parametrize("subtype", sorted(STEPS))
def test_wav_subtypes_come_back_within_one_step(tmp_path, subtype):
    samples = noise()
    read, _ = read_audio(write(tmp_path / "voice.wav", samples, "WAV", subtype))
    assert np.abs(read - samples).max() <= STEPS[subtype]


@pytest.mark.parametrize("subtype", PREDICTIVE)
def test_wav_predictive_subtypes_come_back_roughly(tmp_path, subtype):
    smooth = (0.3 * np.sin(0.05 * np.arange(RATE))).astype(np.float32)
    read, _ = read_audio(write(tmp_path / "voice.wav", smooth, "WAV", subtype))
    # Block codecs fill up the last block; after the first samples, in which the predictor settles, the error
    # of 16 to 32 kbit/s stays below a quarter of the wave.
    assert smooth.size <= read.size < smooth.size + 2048
    assert np.abs(read[800 : smooth.size] - smooth[800:]).max() < 0.075


def test_every_wav_subtype_is_tested():
    writable = set(soundfile.available_subtypes("WAV")) - {"MPEG_LAYER_III"}  # listed, but not built for WAV
    assert writable <= {*STEPS, *PREDICTIVE}


def test_signed_8_bit(tmp_path):
    samples = noise()
    read, _ = read_audio(write(tmp_path / "voice.aiff", samples, "AIFF", "PCM_S8"))
    assert np.abs(read - samples).max() <= 2.0**-7


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2.0**-15), ("PCM_24", 2.0**-23)])
def test_flac_is_lossless(tmp_path, subtype, step):
    samples = noise()
    read, _ = read_audio(write(tmp_path / "voice.flac", samples, "FLAC", subtype))
    assert np.abs(read - samples).max() <= step


def test_full_scale_integers_are_within_one(tmp_path):
    extremes = np.tile(np.array([-32768, 32767], dtype=np.int16), 100)
    read, _ = read_audio(write(tmp_path / "clipped.wav", extremes, "WAV", "PCM_16"))
    np.testing.assert_array_equal(read[:2], np.array([-1.0, 32767 / 32768], dtype=np.float32))


def test_float_files_keep_samples_above_one(tmp_path):
    loud = 3.5 * noise()
    read, _ = read_audio(write(tmp_path / "loud.wav", loud, "WAV", "FLOAT"))
    np.testing.assert_array_equal(read, loud)


# Two float32 samples add up exactly enough for equality; more are within a rounding of the float64 mean.
@pytest.mark.parametrize("n_channels", [2, 5])
def test_channels_are_mixed_down_to_their_mean(tmp_path, n_channels):
    samples = noise(n_channels=n_channels)
    path = write(tmp_path / "wide.wav", samples, "WAV", "FLOAT")
    read, _ = read_audio(path)
    assert read.shape == (RATE,)
    np.testing.assert_array_equal(read, samples.astype(np.float64).mean(axis=1).astype(np.float32))
    assert audio_info(path) == AudioInfo(RATE, RATE, n_channels)


def test_mean_of_huge_channels_does_not_overflow(tmp_path):
    samples = np.full((100, 2), 3e38, dtype=np.float32)
    samples[::2] *= -1
    read, _ = read_audio(write(tmp_path / "huge.wav", samples, "WAV", "FLOAT"))
    np.testing.assert_array_equal(read, samples[:, 0])


def test_info(wav):
    info = audio_info(wav)
    assert info == AudioInfo(sample_rate=RATE, n_samples=RATE, n_channels=1)
    assert info.duration == 1.0


def test_path_may_be_a_string(wav):
    np.testing.assert_array_equal(read_audio(str(wav))[0], read_audio(wav)[0])


# ------------------------------------------------------------------ stretches


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".ogg", ".mp3", ".opus"])
def test_stretch_is_slice_of_whole(tmp_path, suffix, n_channels):
    path = write(tmp_path / f"voice{suffix}", noise(3 * RATE, n_channels), *FORMAT_OF_SUFFIX[suffix])
    whole, _ = read_audio(path)
    # Exact, except that MP3 frames decoded after a seek differ in the last bit of float32.
    tolerance = 2e-7 if suffix == ".mp3" else 0.0
    for start, end in [
        (0.0, 0.5),
        (0.10005, 0.20005),
        (1.00003, 2.00003),
        (2.95, 3.0),
        (0.3, None),
        (None, 0.7),
    ]:
        first = round((start or 0.0) * RATE)
        stop = whole.size if end is None else round(end * RATE)
        read, rate = read_audio(path, start, end)
        assert rate == RATE
        assert read.shape == (stop - first,)
        np.testing.assert_allclose(read, whole[first:stop], rtol=0, atol=tolerance)


def test_stretch_of_a_format_that_cannot_seek(tmp_path):
    path = write(tmp_path / "voice.wav", noise(), "WAV", "G721_32")
    whole, _ = read_audio(path)
    np.testing.assert_array_equal(read_audio(path, 0.25, 0.5)[0], whole[4000:8000])


def test_stretch_reads_no_more_than_it_needs(wav, monkeypatch):
    sizes = []
    original = soundfile.SoundFile.buffer_read_into

    def spy(self, buffer, dtype):
        sizes.append(len(buffer))
        return original(self, buffer, dtype)

    monkeypatch.setattr(soundfile.SoundFile, "buffer_read_into", spy)
    read_audio(wav, 0.5, 0.6)
    assert sizes == [1600]


def test_end_may_exceed_the_file_by_a_millisecond(wav):
    np.testing.assert_array_equal(read_audio(wav, 0.5, 1.001)[0], read_audio(wav, 0.5)[0])


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (-0.1, None, r"voice\.wav: `start` is -0\.1 s, outside of the file, which lasts 1 s"),
        (1.0, None, r"`start` is 1 s, outside of the file, which lasts 1 s .*milliseconds or samples"),
        (float("nan"), None, "`start` is nan s, outside of the file"),
        (None, 1.0011, r"`end` is 1\.0011 s, outside of the file, which lasts 1 s"),
        (None, 0.0, "`end` is 0 s, outside"),
        (None, float("nan"), "`end` is nan s, outside"),
        (0.5, 0.5, r"no sample from `start` 0\.5 s to `end` 0\.5 s.*6\.3e-05 s .*swapped"),
        (0.6, 0.5, r"voice\.wav: no sample from `start` 0\.6 s to `end` 0\.5 s"),
        (0.5, 0.50002, "`end` must be later by at least one sample"),
    ],
)
def test_impossible_stretches(wav, start, end, message):
    for function in (read_audio, joined):
        with pytest.raises(InputError, match=message):
            function(wav, start, end)


# ------------------------------------------------------------------ in blocks


# The bits of the whole in any blocks. No block is a multiple of an MP3's 1152 samples but one.
@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize(
    "suffix",
    sorted(FORMAT_OF_SUFFIX),
)
def test_blocks_are_the_whole(tmp_path, suffix, n_channels):
    path = write(tmp_path / f"voice{suffix}", noise(3 * RATE, n_channels), *FORMAT_OF_SUFFIX[suffix])
    whole, _ = read_audio(path)
    for block in (997, 1152, 8000, RATE, 3 * RATE, 1 << 19):
        blocks = list(read_blocks(path, block=block))
        assert [part.size for part in blocks[:-1]] == [block] * (len(blocks) - 1)
        assert all(part.dtype == np.float32 and part.ndim == 1 for part in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_array_equal(joined(path, block=97)[:4000], whole[:4000])


def test_the_last_sample_of_an_opus_file_in_a_block_of_its_own(tmp_path):
    path = write(tmp_path / "voice.opus", noise(), "OGG", "OPUS")
    np.testing.assert_array_equal(joined(path, block=RATE - 1), read_audio(path)[0])


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize(
    "suffix",
    [".wav", ".flac", ".aiff", ".mp3", ".ogg", ".opus"],
)
def test_blocks_are_the_stretch(tmp_path, suffix, n_channels):
    path = write(tmp_path / f"voice{suffix}", noise(3 * RATE, n_channels), *FORMAT_OF_SUFFIX[suffix])
    for stretch in [
        (0.0, 0.5),
        (0.10005, 0.20005),
        (1.00003, 2.00003),
        (2.95, 3.0),
        (0.3, None),
        (None, 0.7),
    ]:
        samples, _ = read_audio(path, *stretch)
        for block in (997, 4096, 3 * RATE):
            np.testing.assert_array_equal(joined(path, *stretch, block), samples)


def test_blocks_of_a_format_that_cannot_seek(tmp_path):
    path = write(tmp_path / "voice.wav", noise(), "WAV", "G721_32")
    whole, _ = read_audio(path)
    np.testing.assert_array_equal(joined(path, block=997), whole)
    np.testing.assert_array_equal(joined(path, 0.25, 0.5, 5000), whole[4000:8000])


def test_blocks_before_a_stretch_are_left_out(tmp_path):
    path = write(tmp_path / "voice.wav", noise(), "WAV", "G721_32")
    whole, _ = read_audio(path)
    for block in (997, 2000, 4000):
        np.testing.assert_array_equal(joined(path, 0.25, 0.5, block), whole[4000:8000])


def test_a_file_in_blocks_is_never_whole_in_memory(tmp_path):
    path = write(tmp_path / "long.wav", noise(40 * RATE, 2), "WAV", "PCM_16")  # 5 MB of float32
    list(read_blocks(path, block=1000))  # imports what it needs
    tracemalloc.start()
    try:
        for block in read_blocks(path, block=1000):
            assert block.size == 1000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000


def test_blocks_are_not_read_ahead_and_the_file_is_closed(wav, monkeypatch):
    sizes, files = [], []
    original = soundfile.SoundFile.buffer_read_into

    def spy(self, buffer, dtype):
        sizes.append(len(buffer))
        files.append(self)
        return original(self, buffer, dtype)

    monkeypatch.setattr(soundfile.SoundFile, "buffer_read_into", spy)
    blocks = read_blocks(wav, 0.5, 0.9, 2000)
    assert next(blocks).size == 2000
    assert sizes == [2000]
    blocks.close()
    assert files[0].closed
    assert joined(wav, 0.5, 0.9, 2000).size == 6400
    assert sizes == [2000, 2000, 2000, 2000, 400]
    assert files[-1].closed


# ------------------------------------------------------------------ at another rate


def test_load_audio_reads_and_resamples(wav):
    samples, _ = read_audio(wav, 0.25, 0.75)
    np.testing.assert_array_equal(load_audio(wav, start=0.25, end=0.75), samples)
    np.testing.assert_array_equal(load_audio(wav, 8000, 0.25, 0.75), resample(samples, RATE, 8000))


def test_bringing_up_the_rate_warns_once(tmp_path):
    path = write(tmp_path / "phone.wav", noise(8000), "WAV", "PCM_16", 8000)
    with pytest.warns(
        SpeechGMMWarning, match="8000 Hz brought up to 16000 Hz.*upper band.* is empty"
    ) as seen:
        samples = load_audio(path, 16000)
    assert samples.shape == (16000,)
    assert [str(warning.message) for warning in seen] == [upsampling_message(1, 8000, 16000)]
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio(path, 8000)
        load_audio(path, 4000)


# ------------------------------------------------------------------ files that cannot be used


def both_refuse(path, message):
    """Neither the header nor the samples can be read, and all say the same."""
    for function in (audio_info, read_audio, load_audio, joined):
        with pytest.raises(InputError, match=message) as caught:
            function(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_missing_file(tmp_path):
    both_refuse(tmp_path / "gone.wav", r"gone\.wav: cannot be opened \(No such file.*is the path right")


def test_folder(tmp_path):
    both_refuse(tmp_path, "is a folder, not an audio file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "voice.wav")
    both_refuse(tmp_path / "voice.wav", "is a pipe or a device; audio is read from files only")


def test_zero_bytes(tmp_path):
    (tmp_path / "empty.wav").touch()
    both_refuse(tmp_path / "empty.wav", "is empty, 0 bytes long .*interrupted recording, copy or download")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("page.wav", "Format not recognised"), ("page.mp3", "no audio found in it"), ("page.raw", "headerless")],
)
def test_text_under_an_audio_name(tmp_path, name, reason):
    path = tmp_path / name
    path.write_text("<html>404: page not found</html>\n" * 50, encoding="utf-8")
    both_refuse(path, rf"cannot be read as audio \({reason}.*\): .*a text under an audio name")


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".au", ".caf"])
def test_header_only(tmp_path, suffix):
    path = write(tmp_path / f"silent{suffix}", np.zeros(0, dtype=np.float32), *FORMAT_OF_SUFFIX[suffix])
    both_refuse(path, "holds no samples, or its header says so")


@pytest.mark.parametrize("share", [0.5, 0.99])
@pytest.mark.parametrize("suffix", sorted(AUDIO_SUFFIXES))
def test_truncated_files(tmp_path, suffix, share):
    path = write(tmp_path / f"voice{suffix}", noise(4 * RATE), *FORMAT_OF_SUFFIX[suffix])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for function in (read_audio, joined):
        with pytest.raises(InputError, match=r"voice\.\w+: .*cut short"):
            function(path)


@pytest.mark.parametrize("subtype", [*sorted(STEPS), "IMA_ADPCM", "GSM610"])
def test_truncated_wav_names_what_is_missing(tmp_path, subtype):
    path = write(tmp_path / "voice.wav", noise(), "WAV", subtype)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    both_refuse(path, r"cut short: its header promises \d+ bytes, of which \d+ are there .*interrupted")


def test_wav_cut_by_one_byte(wav):
    wav.write_bytes(wav.read_bytes()[:-1])
    both_refuse(wav, "header promises 32000 bytes, of which 31999 are there")


def test_wav_cut_after_its_header(wav):
    wav.write_bytes(wav.read_bytes()[:44])
    both_refuse(wav, "header promises 32000 bytes, of which 0 are there")


def test_wav_cut_within_its_header(wav):
    wav.write_bytes(wav.read_bytes()[:30])
    both_refuse(wav, "cannot be read as audio .*cut short")


def test_truncated_sphere_names_what_is_missing(tmp_path):
    path = write(tmp_path / "voice.sph", noise(), "NIST", "PCM_16")
    path.write_bytes(path.read_bytes()[: 1024 + 2 * 9000])
    both_refuse(path, "cut short: its header promises 16000 samples, of which 9000 are there")


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
@pytest.mark.parametrize("at_page", [False, True])
def test_truncated_ogg(tmp_path, suffix, at_page):
    path = write(tmp_path / f"voice{suffix}", noise(8 * RATE), *FORMAT_OF_SUFFIX[suffix])
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS") if at_page else len(content) - 20])
    both_refuse(path, "cut short: the Ogg stream stops before its marked end")


def test_ogg_with_a_tag_behind_its_end_is_whole(tmp_path):
    path = write(tmp_path / "voice.ogg", noise(), "OGG", "VORBIS")
    whole, _ = read_audio(path)
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    np.testing.assert_array_equal(read_audio(path)[0], whole)


def test_truncated_flac_is_read_up_to_the_cut(tmp_path):
    path = write(tmp_path / "voice.flac", noise(4 * RATE), "FLAC", "PCM_16")
    whole, _ = read_audio(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    np.testing.assert_array_equal(read_audio(path, 0.0, 0.5)[0], whole[:8000])
    with pytest.raises(
        InputError, match=r"cannot be decoded up to sample 48000 of 64000 \(.*\): damaged, or cut"
    ):
        read_audio(path, 3.0, 3.5)
    found = []
    with pytest.raises(
        InputError, match=r"cannot be decoded up to sample \d+ of 64000 \(.*\): damaged, or cut"
    ):
        found.extend(read_blocks(path, block=1000))
    assert 20 < len(found) < 40
    np.testing.assert_array_equal(np.concatenate(found), whole[: 1000 * len(found)])


def test_damaged_flac(tmp_path):
    path = write(tmp_path / "voice.flac", noise(4 * RATE), "FLAC", "PCM_16")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"cannot be decoded up to sample 64000 of 64000 \(.*\): damaged"):
        read_audio(path)
    with pytest.raises(InputError, match=r"cannot be decoded up to sample \d+ of 64000 \(.*\): damaged"):
        joined(path)


def test_flac_without_a_length(tmp_path):
    path = write(tmp_path / "voice.flac", noise(), "FLAC", "PCM_16")
    content = bytearray(path.read_bytes())
    content[21] &= (
        0xF0  # the 36 bits of the number of samples, as an encoder leaves them that writes to a pipe
    )
    content[22:26] = bytes(4)
    path.write_bytes(bytes(content))
    both_refuse(path, "its header does not say how long it is .*write it anew")


def test_truncated_mp3_names_what_is_missing(tmp_path):
    path = write(tmp_path / "voice.mp3", noise(4 * RATE), "MP3", "MPEG_LAYER_III")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(
        InputError, match=r"cut short: its header promises 64000 samples, but decoding ends after \d+"
    ) as caught:
        read_audio(path)
    with pytest.raises(InputError, match=re.escape(str(caught.value))):
        joined(path)


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(248) + b"Info" + bytes(4)])
def test_mp3_without_a_length_header(tmp_path, tag):
    """As written to a pipe: the first frame, which would hold the length, is taken off."""
    if "MPEG_LAYER_III" not in soundfile.available_subtypes("MP3"):
        pytest.skip("libsndfile was built without MP3")
    path = tmp_path / "voice.mp3"
    soundfile.write(path, noise(4 * 44100), 44100, bitrate_mode="CONSTANT", compression_level=0.5)
    content = path.read_bytes()
    assert b"Info" in content[:64]
    path.write_bytes(tag + content[content.index(content[:2], 100) :])
    samples, _ = read_audio(path)
    info = audio_info(path)
    assert samples.size < info.n_samples  # the estimate is too long, and that must not count as cut short
    assert samples.size == pytest.approx(4 * 44100, abs=3 * 1152)
    for block in (1152, 44100, samples.size, 1 << 19):
        # The last bits are the business of another test.
        np.testing.assert_allclose(joined(path, block=block), samples, rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg
        (0x7FFFF024, 0x7FFFF000),  # sox
        (0x80000024, 0x80000000),  # arecord
        (8, 0),  # libsndfile, not closed
    ],
)
def test_wav_written_to_a_pipe(wav, riff_size, data_size):
    whole, _ = read_audio(wav)
    content = bytearray(wav.read_bytes())
    struct.pack_into("<I", content, 4, riff_size)
    struct.pack_into("<I", content, 40, data_size)
    wav.write_bytes(bytes(content))
    np.testing.assert_array_equal(read_audio(wav)[0], whole)
    assert audio_info(wav).n_samples == RATE


def test_au_written_to_a_pipe(tmp_path):
    path = write(tmp_path / "voice.au", noise(), "AU", "PCM_16")
    whole, _ = read_audio(path)
    content = bytearray(path.read_bytes())
    content[8:12] = b"\xff" * 4
    path.write_bytes(bytes(content))
    np.testing.assert_array_equal(read_audio(path)[0], whole)


# ------------------------------------------------------------------ samples that cannot be used


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(tmp_path, bad, n_channels):
    samples = noise(n_channels=n_channels)
    samples[8000] = bad
    if n_channels == 2:
        samples[8000, 1] = -bad  # infinities of opposite signs must not warn on their way to the mean
    path = write(tmp_path / "broken.wav", samples, "WAV", "FLOAT")
    for start in (None, 0.25):
        for function in (read_audio, joined):
            with pytest.raises(InputError, match=r"broken\.wav: the sample at 0\.5 s is NaN or infinite"):
                function(path, start)
    assert read_audio(path, end=0.5)[0].size == 8000
    assert joined(path, end=0.5).size == 8000


def test_a_late_sample_that_is_not_finite_shows_when_its_block_is_reached(tmp_path):
    samples = noise()
    samples[12_345] = np.nan
    path = write(tmp_path / "broken.wav", samples, "WAV", "FLOAT")
    found = []
    with pytest.raises(InputError, match=r"broken\.wav: the sample at 0\.77156\d s is NaN or infinite"):
        found.extend(read_blocks(path, block=1000))
    np.testing.assert_array_equal(np.concatenate(found), samples[:12_000])


def test_double_beyond_float32(tmp_path):
    samples = noise().astype(np.float64)
    samples[100] = 1e300
    path = write(tmp_path / "broken.wav", samples, "WAV", "DOUBLE")
    with pytest.raises(InputError, match=r"NaN or infinite .*beyond float32"):
        read_audio(path)


@pytest.mark.parametrize("level", [0.0, 0.25, -1.0])
def test_silence(tmp_path, level):
    path = write(tmp_path / "muted.wav", np.full(RATE, level, dtype=np.float32), "WAV", "PCM_16")
    for function in (read_audio, joined):
        with pytest.raises(InputError, match=r"muted\.wav: silent in the 1 s from 0 s: .*muted microphone"):
            function(path)


def test_silent_stretch(tmp_path):
    samples = noise()
    samples[8000:] = 0.0
    path = write(tmp_path / "half.wav", samples, "WAV", "PCM_16")
    assert read_audio(path)[0].size == joined(path, block=1000).size == RATE
    for function in (read_audio, joined):
        with pytest.raises(InputError, match=r"half\.wav: silent in the 0\.25 s from 0\.6 s"):
            function(path, 0.6, 0.85)


def test_silence_of_all_blocks_shows_at_the_end(tmp_path):
    path = write(tmp_path / "muted.wav", np.full(RATE, 0.25, dtype=np.float32), "WAV", "FLOAT")
    found = []
    with pytest.raises(InputError, match=r"muted\.wav: silent in the 1 s from 0 s"):
        found.extend(read_blocks(path, block=1000))
    assert len(found) == 16


def test_blocks_that_are_silent_each_but_differ_are_not_silence(tmp_path):
    steps = np.repeat(np.array([0.0, 2.0**-15, 0.0, 2.0**-14], np.float32), 1000)
    path = write(tmp_path / "steps.wav", steps, "WAV", "FLOAT")
    np.testing.assert_array_equal(joined(path, block=1000), steps)
    with pytest.raises(InputError, match="silent"):
        joined(path, end=0.0625, block=500)  # of the first step alone


def test_channels_that_cancel(tmp_path):
    one = noise()
    path = write(tmp_path / "opposed.wav", np.stack([one, -one], axis=1), "WAV", "FLOAT")
    for function in (read_audio, joined):
        with pytest.raises(InputError, match=r"silent .*channels that cancel one another"):
            function(path)


def test_one_step_of_16_bit_is_not_silence(tmp_path):
    samples = np.zeros(RATE, dtype=np.int16)
    samples[::2] = 1
    assert read_audio(write(tmp_path / "faint.wav", samples, "WAV", "PCM_16"))[0].max() == 2.0**-15
    half = np.where(np.arange(RATE) % 2, 0.0, 2.0**-16).astype(np.float32)
    with pytest.raises(InputError, match="silent"):
        read_audio(write(tmp_path / "fainter.wav", half, "WAV", "FLOAT"))


# ------------------------------------------------------------------ threads and real speech


def test_threads_read_what_one_reads(tmp_path):
    paths = [
        write(tmp_path / f"{index}{suffix}", noise(4000, seed=index), *FORMAT_OF_SUFFIX[suffix])
        for index, suffix in enumerate([".wav", ".flac", ".aiff", ".au"] * 5)
    ]
    paths.insert(7, tmp_path / "gone.wav")
    barrier = threading.Barrier(4)

    def read_all(_):
        barrier.wait()
        return [read_audio(path)[0] if path.exists() else refused(path) for path in paths]

    def refused(path):
        with pytest.raises(InputError, match=r"gone\.wav: cannot be opened"):
            read_audio(path)
        return np.zeros(1)

    expected = [read_audio(path)[0] if path.exists() else np.zeros(1) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        for samples in pool.map(read_all, range(4)):
            for one, other in zip(samples, expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "pattern", ["fsdd/recordings/0_*_0.wav", "LibriSpeech/train-clean-100/19/*/*-0000.flac"]
)
def test_real_speech(speech_data: Path, pattern):
    path = sorted(speech_data.glob(pattern))[0]
    expected, rate = soundfile.read(path, dtype="float32")
    samples, file_rate = read_audio(path)
    assert file_rate == rate
    np.testing.assert_array_equal(samples, expected)
    np.testing.assert_array_equal(load_audio(path, 4000), soxr.resample(expected, rate, 4000, "HQ"))
    stop = round(0.2 * rate)
    np.testing.assert_array_equal(read_audio(path, 0.1, 0.2)[0], expected[stop // 2 : stop])
    np.testing.assert_array_equal(joined(path), expected)
    np.testing.assert_array_equal(joined(path, 0.1, 0.2, 333), expected[stop // 2 : stop])
