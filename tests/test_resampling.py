"""Resampling: soxr, whole or in blocks, to the same bits."""

import numpy as np
import pytest
import soxr

from speechgmm.errors import InputError
from speechgmm.resampling import resample, resample_blocks, upsampling_message


def noise(n_samples=16000, n_channels=1):
    shape = n_samples if n_channels == 1 else (n_samples, n_channels)
    return np.random.default_rng(0).uniform(-0.9, 0.9, shape).astype(np.float32)


def in_blocks(samples, size):
    return [samples[start : start + size] for start in range(0, len(samples), size)]


@pytest.mark.parametrize(("from_rate", "to_rate"), [(8000, 16000), (44100, 16000), (16000, 8000)])
def test_resampled_tone_keeps_frequency_and_amplitude(from_rate, to_rate):
    def tone(rate):
        return 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)

    resampled = resample(tone(from_rate), from_rate, to_rate)
    assert resampled.dtype == np.float32
    assert resampled.shape == (to_rate,)
    # "HQ" is 20-bit: 1e-6 of full scale; 1e-5 leaves room for float32. The filter's ends are left out.
    middle = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(resampled[middle], tone(to_rate)[middle], rtol=0, atol=1e-5)


def test_resample_is_soxr():
    samples = noise()
    np.testing.assert_array_equal(resample(samples, 16000, 11025), soxr.resample(samples, 16000, 11025, "HQ"))


def test_equal_rates_return_the_samples():
    samples = noise()
    assert resample(samples, 16000, 16000) is samples
    blocks = in_blocks(samples, 1000)
    assert all(one is other for one, other in zip(resample_blocks(blocks, 8000, 8000), blocks, strict=True))


@pytest.mark.parametrize(
    ("samples", "rates", "message"),
    [
        (noise(10), (0, 8000), "from 0 Hz to 8000 Hz: rates must be above 0"),
        (noise(10), (8000, -1), "from 8000 Hz to -1 Hz: rates must be above 0"),
        (noise(10, 2), (8000, 16000), r"`samples` has shape \(10, 2\).*not mixed down"),
        (np.arange(10, dtype=np.int16), (8000, 16000), "type int16.*not scaled"),
        (noise(1), (48000, 8000), "1 samples at 48000 Hz are too short to resample: none is left at 8000 Hz"),
    ],
)
def test_what_resample_refuses(samples, rates, message):
    with pytest.raises(InputError, match=message):
        resample(samples, *rates)


@pytest.mark.parametrize("size", [1, 7, 441, 4096, 20_000, 100_000])
@pytest.mark.parametrize(
    "rates", [(44100, 16000), (8000, 16000), (16000, 8000), (16000, 11025), (11025, 44100), (48000, 8000)]
)
def test_blocks_give_the_bits_of_the_whole(rates, size):
    samples = noise(50_000 if size > 7 else 3_000)
    blocks = list(resample_blocks(in_blocks(samples, size), *rates))
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), resample(samples, *rates))


def test_blocks_of_different_lengths_and_empty_ones():
    samples = noise(30_000)
    blocks = np.split(samples, [0, 3, 3, 10_000, 10_001, 29_999, 30_000])
    np.testing.assert_array_equal(
        np.concatenate(list(resample_blocks(blocks, 22050, 8000))), resample(samples, 22050, 8000)
    )


@pytest.mark.parametrize("n_samples", [2, 5, 100])
def test_very_short_audio_in_blocks(n_samples):
    samples = noise(n_samples)
    found = np.concatenate(list(resample_blocks([samples], 16000, 11025)))
    np.testing.assert_array_equal(found, resample(samples, 16000, 11025))


@pytest.mark.parametrize("rates", [(16000, 8000), (8000, 8000)])
def test_blocks_are_taken_as_they_are_needed(rates):
    taken = []

    def blocks():
        for block in in_blocks(noise(40_000), 4000):
            taken.append(len(block))
            yield block

    results = resample_blocks(blocks(), *rates)
    assert taken == []
    next(results)
    next(results)
    assert len(taken) == 2


def test_two_streams_at_once_do_not_mix():
    samples = [noise(8000), noise(8000)[::-1]]
    streams = [resample_blocks(in_blocks(one, 500), 16000, 11025) for one in samples]
    parts = list(zip(*streams, strict=True))
    for one, found in zip(samples, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(found), resample(one, 16000, 11025))


def test_upsampling_message_counts_files():
    assert upsampling_message(1, 8000, 16000).startswith("1 audio file at 8000 Hz brought up to 16000 Hz")
    assert upsampling_message(30, 8000, 16000).startswith("30 audio files at 8000 Hz")
    assert "4000 to 8000 Hz, is empty" in upsampling_message(30, 8000, 16000)
