"""What several tests share: where real speech is, and small audio files made on the spot."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """The folder that holds `fsdd/` and the other corpora; the test is skipped where there is none."""
    folder = os.environ.get("SPEECHGMM_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real speech: set SPEECHGMM_DATA to the folder that holds fsdd/ and the others")
    return Path(folder).resolve()


@pytest.fixture
def write_tone():
    """A function that writes a second or so of a noisy tone, a stand-in for a voice: quick and never silent."""

    def write(path, pitch=200.0, seconds=1.0, sample_rate=16000, seed=0, **options):
        rng = np.random.default_rng(seed)
        time = np.arange(round(seconds * sample_rate)) / sample_rate
        partials = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
        samples = 0.1 * partials + 0.01 * rng.standard_normal(time.size)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples.astype(np.float32), sample_rate, **options)
        return Path(path)

    return write
