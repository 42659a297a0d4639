"""Every preset of the front end against independent implementations, on real speech, in one table.

The exit code is 1 if one disagrees. Implementations that are not installed are listed as such.

    SPEECHGMM_DATA=DIR python tests/benchmarks/preset_agreement.py [--utterances N]
"""

import argparse
import importlib.metadata
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import scipy.signal
import soundfile

from speechgmm.features.cepstra import CepstralAnalyser
from speechgmm.features.config import FeatureConfig
from speechgmm.features.dynamics import add_deltas
from speechgmm.terminal import print_table

# Files of each corpus, and how many are in between those that are chosen out of all in the order of their names.
CORPORA = {
    "LibriSpeech/train-clean-100/*/*/*.flac": 17,
    "fsdd/recordings/*.wav": 151,
    "speech_commands_test_set_v0.02/*/*.wav": 199,
}
# What 16-bit audio is multiplied by to count in its steps.
STEPS = np.float32(32768)
# What torchaudio's filters are multiplied by, so that the 1e-6 that it adds before the logarithm does not matter.
LOUDER = 2.0**38

Frames = np.ndarray


def ours(preset: str, samples: Frames, rate: int, **settings: Any) -> Frames:
    """Frames of a preset, deltas included."""
    config = FeatureConfig.preset(preset, sample_rate=rate, **settings)
    frames = CepstralAnalyser(config).analyse(lambda: [samples], samples.size).frames
    add_deltas(frames, config)
    return frames


def librosa_itself(samples: Frames, rate: int) -> Frames | None:
    """What librosa makes of samples, deltas included, left to its own settings; None if they are too short for it."""
    import librosa

    cepstra = librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=20)
    if cepstra.shape[1] < 9:
        return None
    deltas = [librosa.feature.delta(cepstra, order=order) for order in (1, 2)]
    return np.concatenate([cepstra, *deltas]).T


def librosa_like_default(samples: Frames, rate: int) -> Frames:
    """What librosa makes of samples with the settings of the default preset."""
    import librosa

    window, hop = round(0.025 * rate), round(0.010 * rate)
    emphasised = librosa.effects.preemphasis(samples, coef=0.97, zi=[-0.97 * samples[0]])
    powers = librosa.feature.melspectrogram(
        y=emphasised,
        sr=rate,
        n_fft=2 ** int(np.ceil(np.log2(window))),
        win_length=window,
        hop_length=hop,
        window="hamming",
        n_mels=40,
        htk=True,
        norm=None,
        fmin=20.0,
    )
    cepstra = librosa.feature.mfcc(S=librosa.power_to_db(powers, top_db=None), n_mfcc=20)
    deltas = librosa.feature.delta(cepstra, width=5, mode="nearest")
    return np.concatenate([cepstra, deltas, librosa.feature.delta(deltas, width=5, mode="nearest")]).T


def kaldi(samples: Frames, rate: int) -> Frames:
    """Kaldi's MFCCs and its deltas.

    Its delta-deltas look at the first and last frame repeated, ours and HTK's at the first and last delta; those of the
    first and last two frames are left out (not a number).
    """
    import kaldi_native_fbank as knf

    options = knf.MfccOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = rate
    cepstra = _drained(knf.OnlineMfcc(options), samples, rate)
    frames = knf.compute_deltas(knf.DeltaOptions(order=2, window=2), cepstra)
    frames[:2, 26:] = frames[-2:, 26:] = np.nan
    return frames


def htk(samples: Frames, rate: int) -> Frames:
    """HTK's MFCC_0_D_A with its defaults: Kaldi's filters with HTK's settings, then HTK's own formulae."""
    import kaldi_native_fbank as knf
    import python_speech_features as psf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = rate
    options.frame_opts.window_type = "hamming"
    options.frame_opts.remove_dc_offset = False
    options.use_power = False
    options.mel_opts.num_bins = 20
    options.mel_opts.low_freq = 0
    # The HTK Book: logarithms are of 1 at least; eq. 5.14.
    logarithms = np.maximum(_drained(knf.OnlineFbank(options), samples, rate), 0)
    angles = np.pi / 20 * np.arange(13)[:, None] * (np.arange(1, 21) - 0.5)
    cepstra = psf.lifter(np.sqrt(2 / 20) * logarithms @ np.cos(angles).T, 22)
    deltas = psf.delta(cepstra, 2)
    return np.concatenate([cepstra, deltas, psf.delta(deltas, 2)], axis=1)


def _drained(extractor: Any, samples: Frames, rate: int) -> Frames:
    """All frames of a Kaldi extractor."""
    extractor.accept_waveform(rate, (samples * STEPS).tolist())
    extractor.input_finished()
    return np.array([extractor.get_frame(i) for i in range(extractor.num_frames_ready)])


def asvspoof_formula(samples: Frames, rate: int) -> Frames:
    """The LFCC of the ASVspoof 2019 baseline, written anew from its description in NumPy and float64.

    Its deltas are sums over three frames without the divisor 2. Before the first sample it takes the audio to have been
    silent, ours steady, which shows in frame 0 alone: left out (not a number), with the deltas that look at it.
    """
    window, hop = round(0.020 * rate), round(0.010 * rate)
    emphasised = _emphasised(samples)
    starts = range(0, len(emphasised) - window + 1, hop)
    windows = np.array([emphasised[start : start + window] * np.hamming(window) for start in starts])
    powers = np.abs(np.fft.rfft(windows, 512)) ** 2
    bins, edges = np.linspace(0, rate / 2, 257), np.linspace(0, rate / 2, 22)
    filters = [np.interp(bins, edges[i : i + 3], [0, 1, 0], 0, 0) for i in range(20)]
    logarithms = np.log10(powers @ np.array(filters).T + np.finfo(float).eps)
    return _with_sums_as_deltas(scipy.fft.dct(logarithms, norm="ortho"))


def asvspoof_torchaudio(samples: Frames, rate: int) -> Frames:
    """The same by torchaudio, deltas included, from pre-emphasised samples; silent frames are left out."""
    import torch
    import torchaudio

    window, hop = round(0.020 * rate), round(0.010 * rate)
    transform = torchaudio.transforms.LFCC(
        rate,
        n_filter=20,
        f_min=0,
        f_max=rate / 2,
        n_lfcc=20,
        log_lf=True,
        speckwargs={
            "n_fft": 512,
            "win_length": window,
            "hop_length": hop,
            "center": False,
            "window_fn": lambda n: torch.hamming_window(n, periodic=False),
        },
    )
    # It puts a window into the middle of the transform.
    before = (512 - window) // 2
    padded = np.concatenate([np.zeros(before), _emphasised(samples), np.zeros(512)]) * np.sqrt(LOUDER)
    n_frames = 1 + (samples.size - window) // hop
    natural = transform(torch.tensor(padded.astype(np.float32)))[:, :n_frames]
    natural[:, _silent(samples, window, hop)] = torch.nan
    deltas = torchaudio.functional.compute_deltas(natural, win_length=3)
    second = torchaudio.functional.compute_deltas(deltas, win_length=3)
    frames = torch.cat([natural, deltas, second]).numpy().T / np.log(10)
    frames[:, 0] -= np.sqrt(20) * np.log10(LOUDER)
    # Sums without the divisor 2.
    frames[:, 20:40] *= 2
    frames[:, 40:] *= 4
    return _without_the_first(frames)


def asvspoof_spafe(samples: Frames, rate: int) -> Frames:
    """The same by spafe, whose powers are divided by the length of the transform; deltas as the baseline's.

    Silent frames are left out.
    """
    from spafe.features.lfcc import lfcc
    from spafe.utils.preprocessing import SlidingWindow

    natural = lfcc(
        samples.astype(np.float64),
        fs=rate,
        num_ceps=20,
        pre_emph=True,
        window=SlidingWindow(0.020, 0.010, "hamming"),
        nfilts=20,
        nfft=512,
        low_freq=0,
        high_freq=rate / 2,
    )
    cepstra = natural / np.log(10)
    cepstra[:, 0] += np.sqrt(20) * np.log10(512)
    cepstra[_silent(samples, round(0.020 * rate), round(0.010 * rate))] = np.nan
    return _with_sums_as_deltas(cepstra)


def _emphasised(samples: Frames) -> Frames:
    """Pre-emphasis from silence."""
    return np.asarray(scipy.signal.lfilter([1, -0.97], 1, samples.astype(np.float64)))


def _silent(samples: Frames, window: int, hop: int) -> Frames:
    """Which frames hold nothing at all; only the baseline says what their logarithm is."""
    return ~np.lib.stride_tricks.sliding_window_view(samples, window)[::hop].any(axis=1)


def _with_sums_as_deltas(cepstra: Frames) -> Frames:
    """Cepstra with the baseline's deltas and deltas of deltas: sums over three frames, edges repeated."""

    def sums(values: Frames) -> Frames:
        padded = np.pad(values, ((1, 1), (0, 0)), mode="edge")
        return padded[2:] - padded[:-2]

    return _without_the_first(np.concatenate([cepstra, sums(cepstra), sums(sums(cepstra))], axis=1))


def _without_the_first(frames: Frames) -> Frames:
    """Not a number where frame 0 has a say: itself, two deltas and three deltas of deltas."""
    frames = frames.copy()
    frames[:1, :20] = frames[:2, 20:40] = frames[:3, 40:] = np.nan
    return frames


@dataclass(frozen=True)
class Peer:
    """An independent implementation that a preset is compared with.

    Parameters
    ----------
    preset, name : str
    packages : tuple of str
        Its own, as they are imported and installed; the version of the first is printed.
    frames : callable
        From samples and their rate; not a number where it is known to differ; None if it cannot.
    absolute, relative : float
        Tolerance, of each value.
    factors : tuple of float
        Its statics, deltas and delta-deltas are so much larger than ours.
    """

    preset: str
    name: str
    packages: tuple[str, ...]
    frames: Callable[[Frames, int], Frames | None]
    absolute: float = 1e-3
    relative: float = 0.0
    factors: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.packages[0])


SUMS = (1.0, 2.0, 4.0)
PEERS = (
    Peer("default", "librosa, same settings", ("librosa",), librosa_like_default),
    Peer("librosa", "librosa", ("librosa",), librosa_itself),
    Peer("kaldi", "kaldi_native_fbank", ("kaldi_native_fbank",), kaldi, relative=1e-3),
    Peer(
        "htk",
        "kaldi_native_fbank, python_speech_features",
        ("kaldi_native_fbank", "python_speech_features"),
        htk,
        relative=1e-3,
    ),
    Peer("asvspoof", "the baseline's formula in NumPy", ("numpy",), asvspoof_formula, factors=SUMS),
    Peer("asvspoof", "torchaudio", ("torchaudio", "torch"), asvspoof_torchaudio, factors=SUMS),
    Peer("asvspoof", "spafe", ("spafe",), asvspoof_spafe, factors=SUMS),
)


@dataclass
class Agreement:
    """How far a preset and a peer are apart over some utterances."""

    utterances: int = 0
    frames: int = 0
    largest: float = 0.0
    agreed: bool = True

    def add(self, peer: Peer, samples: Frames, rate: int, **settings: Any) -> None:
        """Compare one more utterance; `settings` replace the preset's."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's
            theirs = peer.frames(samples, rate)
        if theirs is None:
            return
        frames = ours(peer.preset, samples, rate, **settings)
        self.utterances += 1
        self.frames += len(frames)
        if frames.shape != theirs.shape:
            self.largest, self.agreed = np.inf, False
            return
        scaled = theirs / np.repeat(peer.factors, theirs.shape[1] // 3)
        difference = np.where(np.isnan(scaled), 0.0, np.abs(frames - scaled))
        self.largest = max(self.largest, float(difference.max()))
        self.agreed &= bool((np.isnan(scaled) | (difference <= _limit(peer, scaled))).all())


def _limit(peer: Peer, expected: Frames) -> Frames:
    """The tolerance of each value."""
    return np.asarray(peer.absolute + peer.relative * np.abs(expected))


def speech(folder: Path, count: int) -> Iterator[tuple[str, Frames, int]]:
    """Name, samples and rate of up to `count` utterances of each corpus in a folder."""
    for pattern, step in CORPORA.items():
        for path in sorted(folder.glob(pattern))[::step][:count]:
            samples, rate = soundfile.read(path, dtype="float32")
            yield path.name, samples, rate


def table(utterances: Iterable[tuple[str, Frames, int]]) -> tuple[list[tuple[Any, ...]], bool]:
    """Rows of the table, and whether all that could be compared agreed."""
    chosen, rows, agreed = list(utterances), [], True
    for peer in PEERS:
        if peer.missing:
            rows.append(
                (peer.preset, peer.name, "not installed: " + ", ".join(peer.missing), "", "", "", "", "")
            )
            continue
        result = Agreement()
        for _, samples, rate in chosen:
            result.add(peer, samples, rate)
        tolerance = f"{peer.absolute:g}" + (f" + {peer.relative:g} of the value" if peer.relative else "")
        counts = (str(result.utterances), str(result.frames), f"{result.largest:.1e}")
        yes = "yes" if result.agreed else "NO"
        rows.append((peer.preset, peer.name, peer.version, *counts, tolerance, yes))
        agreed &= result.agreed
    return rows, agreed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=20, help="of each corpus")
    options = parser.parse_args()
    folder = os.environ.get("SPEECHGMM_DATA")
    if not folder or not Path(folder).is_dir():
        sys.exit("set SPEECHGMM_DATA to the folder that holds LibriSpeech/, fsdd/ and the others")
    rows, agreed = table(speech(Path(folder), options.utterances))
    columns = ("preset", "independent implementation", "version", "utterances", "frames")
    print_table("Presets", (*columns, "largest difference", "tolerance", "agreed"), rows)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
