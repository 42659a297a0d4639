"""Feature extraction against other packages, its own floor, its memory, and one core against two.

    SPEECHGMM_DATA=DIR python tests/benchmarks/bench_features.py [hour fsdd profile cores memory] [--repeats 5]

The hour is LibriSpeech cut into utterances of five seconds at 16 kHz. All programs use one core, but for "cores".
Packages that are not installed are left out.
"""

# ruff: noqa: E402 (threads must be limited before libraries are loaded)

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy and others are loaded

import librosa
import numpy as np
import scipy.fft
import soundfile
from numba import njit

from speechgmm.audio import read_audio
from speechgmm.compiled import OPTIONS
from speechgmm.features import FeatureConfig, FeatureExtractor, FeatureStore, kernels
from speechgmm.features.cepstra import CepstralAnalyser
from speechgmm.features.dynamics import add_deltas
from speechgmm.features.lanes import LANES
from speechgmm.manifest import Utterance
from speechgmm.manifest_build import from_files
from speechgmm.terminal import print_table
from tests.benchmarks.frames import extra_memory, in_turn, ratio

RATE, SECONDS, N_UTTERANCES = 16000, 5, 720
Program = Callable[[np.ndarray, int], Any]


def hour() -> list[np.ndarray]:
    """One hour of real speech, in five-second utterances."""
    utterances, _ = from_files([Path(os.environ["SPEECHGMM_DATA"]) / "LibriSpeech"])
    speech = np.concatenate([read_audio(one.audio)[0] for one in utterances])
    size = RATE * SECONDS
    return list(np.resize(speech, size * N_UTTERANCES).reshape(-1, size))


def peers() -> dict[str, Program]:
    """MFCC-20 of 40 filters, 25 ms windows every 10 ms, with deltas and delta-deltas where the package has them."""
    programs: dict[str, Program] = {"speechgmm": _ours(), "librosa": _librosa}
    for name, make in (
        ("torchaudio", _torchaudio),
        ("kaldi-native-fbank (no deltas)", _kaldi),
        ("python_speech_features", _python_speech_features),
        ("spafe (no deltas)", _spafe),
    ):
        try:
            programs[name] = make()
        except ImportError as error:
            print(f"left out: {name} ({error})")
    return programs


def _ours() -> Program:
    extractors = {rate: FeatureExtractor(FeatureConfig(sample_rate=rate)) for rate in (8000, 16000)}
    return lambda samples, rate: extractors[rate].from_samples(samples)


def _librosa(samples: np.ndarray, rate: int) -> Any:
    window = rate // 40
    mfcc = librosa.feature.mfcc(
        y=samples,
        sr=rate,
        n_mfcc=20,
        n_mels=40,
        n_fft=1 << (window - 1).bit_length(),
        win_length=window,
        hop_length=rate // 100,
    )
    # librosa refuses a delta over more frames than there are.
    width = min(9, (mfcc.shape[1] - 1) // 2 * 2 + 1)
    return np.concatenate([mfcc, *(librosa.feature.delta(mfcc, width=width, order=k) for k in (1, 2))])


def _torchaudio() -> Program:
    import torch
    import torchaudio

    torch.set_num_threads(1)
    transforms = {
        rate: torchaudio.transforms.MFCC(
            rate,
            20,
            melkwargs={
                "n_fft": 2 * rate // 40,
                "win_length": rate // 40,
                "hop_length": rate // 100,
                "n_mels": 40,
            },
        )
        for rate in (8000, 16000)
    }

    def program(samples: np.ndarray, rate: int) -> Any:
        mfcc = transforms[rate](torch.from_numpy(samples))
        delta = torchaudio.functional.compute_deltas(mfcc)
        return torch.cat([mfcc, delta, torchaudio.functional.compute_deltas(delta)]).numpy()

    return program


def _kaldi() -> Program:
    import kaldi_native_fbank as knf

    def program(samples: np.ndarray, rate: int) -> Any:
        options = knf.MfccOptions()
        options.frame_opts.samp_freq, options.frame_opts.dither = rate, 0.0
        options.mel_opts.num_bins, options.num_ceps = 40, 20
        mfcc = knf.OnlineMfcc(options)
        mfcc.accept_waveform(rate, samples.tolist())
        mfcc.input_finished()
        return np.array([mfcc.get_frame(i) for i in range(mfcc.num_frames_ready)])

    return program


def _python_speech_features() -> Program:
    from python_speech_features import delta, mfcc

    def program(samples: np.ndarray, rate: int) -> Any:
        nfft = 1 << (rate // 40 - 1).bit_length()
        cepstra = mfcc(samples, rate, numcep=20, nfilt=40, nfft=nfft)
        first = delta(cepstra, 2)
        return np.concatenate([cepstra, first, delta(first, 2)], axis=1)

    return program


def _spafe() -> Program:
    from spafe.features.mfcc import mfcc
    from spafe.utils.preprocessing import SlidingWindow

    def program(samples: np.ndarray, rate: int) -> Any:
        nfft = 1 << (rate // 40 - 1).bit_length()
        window = SlidingWindow(0.025, 0.010, "hamming")
        return mfcc(samples, rate, num_ceps=20, nfilts=40, nfft=nfft, window=window)

    return program


def bare_ffts() -> Callable[[], None]:
    """The float32 FFTs of one hour's frames by SciPy, in blocks that stay in cache, and nothing else."""
    block = np.random.default_rng(0).standard_normal((256, 512)).astype(np.float32)

    def program() -> None:
        for _ in range(N_UTTERANCES * SECONDS * 100 // 256):
            scipy.fft.rfft(block, axis=1)

    return program


def compare_hour(repeats: int) -> None:
    utterances = hour()
    programs = {name: partial(_all, program, utterances, RATE) for name, program in peers().items()}
    programs["bare float32 FFTs (SciPy)"] = bare_ffts()
    _table("One hour of 16 kHz speech in 5-second utterances, in memory", programs, repeats, 3600.0)


def _all(program: Program, utterances: list[np.ndarray], rate: int) -> None:
    for samples in utterances:
        program(samples, rate)


def compare_fsdd(repeats: int) -> None:
    utterances, _ = from_files([Path(os.environ["SPEECHGMM_DATA"]) / "fsdd"])
    paths = [str(one.audio) for one in utterances]
    programs: dict[str, Callable[[], Any]] = {
        name: partial(_from_disk, program, paths) for name, program in peers().items()
    }
    extractor = FeatureExtractor(FeatureConfig(sample_rate=8000))
    programs["speechgmm"] = partial(extractor.extract, utterances)
    seconds = sum(soundfile.info(path).duration for path in paths)
    _table(f"FSDD's {len(paths)} files from disk, reading included", programs, repeats, seconds)


def _from_disk(program: Program, paths: list[str]) -> None:
    for path in paths:
        program(*soundfile.read(path, dtype="float32"))


def _table(title: str, programs: dict[str, Callable[[], Any]], repeats: int, audio: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for program in programs.values():
            program()
        seconds = in_turn(programs, repeats)
    rows = []
    for name, times in seconds.items():
        middle = statistics.median(times)
        label = f"{name} {_version(name)}".strip()
        rows.append((label, f"{middle:.3f}", f"{ratio(seconds, name):.2f}", f"{audio / middle:,.0f}"))
    print_table(title, ("program", "seconds", "ratio", "x real time"), rows)


def _version(name: str) -> str:
    try:
        return version(name.split()[0])
    except (ValueError, ModuleNotFoundError):  # the bare FFTs
        return ""


def profile(repeats: int) -> None:
    """Where the time of an hour goes: each step of the compiled pass by itself, and what is around it."""
    utterances = hour()
    analyser = CepstralAnalyser(FeatureConfig())
    steps = _steps(analyser, utterances[0])
    for step in steps.values():
        step(1)
    n_blocks = N_UTTERANCES * -(-SECONDS * 100 // LANES)
    programs = {name: partial(step, n_blocks) for name, step in steps.items()}
    data = analyser.analyse(lambda: [utterances[0]], utterances[0].size)
    extractor = FeatureExtractor()
    programs["deltas and delta-deltas"] = lambda: [
        add_deltas(data.frames, extractor.config) for _ in utterances
    ]
    programs["whole, samples in memory"] = partial(
        _all, lambda x, _: extractor.from_samples(x), utterances, RATE
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = _written(utterances, Path(folder))
        programs["reading 720 WAV files"] = lambda: [read_audio(path) for path in paths]
        seconds = in_turn(programs, repeats)
    rows = [(name, f"{1000 * statistics.median(times):.0f}") for name, times in seconds.items()]
    print_table("One hour, step by step", ("step", "ms"), rows)


def _steps(analyser: CepstralAnalyser, samples: np.ndarray) -> dict[str, Callable[[int], None]]:
    """Each step of `kernels.analyse` on one block of frames, again and again."""
    config = analyser.config
    n = config.fft_samples // 2
    both = np.zeros((2 * n + 5, LANES), np.float32)
    real, imaginary = both[:n], both[n + 5 :]
    piece, means = np.zeros((LANES, LANES), np.float32), np.zeros((1, LANES), np.float32)
    powers, bands = np.ones((n + 1, LANES), np.float32), np.ones((config.n_filters, LANES), np.float32)
    rows, result = np.zeros((2, LANES), np.float32), np.zeros((config.n_coefficients, LANES), np.float32)
    turns, order, half_turns = analyser._tables
    hop, factor, floor = config.hop_samples, np.float32(config.pre_emphasis), np.float32(config.floor)
    windowed = (samples, 1, hop, factor, False, means, analyser._window, piece, real, imaginary)
    calls = {
        "pre-emphasis and window": (kernels.emphasise, windowed),
        "FFT": (kernels.transform, (real, imaginary, turns)),
        "power": (kernels.to_powers, (real, imaginary, order, half_turns, powers)),
        "filter bank": (kernels.to_bands, (powers, *analyser._bank, bands, rows)),
        "log": (kernels.to_logarithms, (bands, floor)),
        "DCT": (kernels.to_cepstra, (bands, *analyser._matrix, result)),
    }
    return {name: _repeated(function, arguments) for name, (function, arguments) in calls.items()}


def _repeated(function: Any, arguments: tuple[Any, ...]) -> Callable[[int], None]:
    @njit(**OPTIONS)
    def again(n: int, arguments: Any) -> None:
        for _ in range(n):
            function(*arguments)

    return lambda n: again(n, arguments)


def _written(utterances: list[np.ndarray], folder: Path) -> list[Path]:
    paths = [folder / f"{number:04}.wav" for number in range(len(utterances))]
    for path, samples in zip(paths, utterances, strict=True):
        soundfile.write(path, samples, RATE, subtype="PCM_16")
    return paths


def cores(repeats: int) -> None:
    """One worker against two, from files."""
    with tempfile.TemporaryDirectory() as folder:
        utterances = hour()
        short = [Utterance(path.stem, path) for path in _written(utterances, Path(folder))]
        minutes = [np.concatenate(utterances[start : start + 12]) for start in range(0, len(utterances), 12)]
        (Path(folder) / "minutes").mkdir()
        long = [Utterance(path.stem, path) for path in _written(minutes, Path(folder) / "minutes")]
        extractor = FeatureExtractor()
        rows = []
        for name, listed in (("720 files of 5 s", short), ("60 files of 1 minute", long)):
            programs = {str(n): partial(extractor.extract, listed, n_jobs=n) for n in (1, 2)}
            seconds = in_turn(programs, repeats)
            one, two = (statistics.median(seconds[n]) for n in ("1", "2"))
            rows.append((name, f"{one:.3f}", f"{two:.3f}", f"{ratio(seconds, '1', '2'):.2f}"))
    print_table("One hour of WAV files, reading included", ("files", "1 worker", "2 workers", "ratio"), rows)


def memory(repeats: int) -> None:
    """Peak of anonymous memory: a file of three hours, and corpora of one and three hours, into a store."""
    rows = []
    utterances = hour()
    with tempfile.TemporaryDirectory() as folder:
        three_hours = Path(folder) / "three.wav"
        with soundfile.SoundFile(three_hours, "w", RATE, 1, "PCM_16") as file:
            for samples in [*utterances, *utterances, *utterances]:
                file.write(samples)
        hour_paths = _written(utterances, Path(folder))
        for name, paths in (
            ("one file of 3 hours", [three_hours]),
            ("720 files of 5 s", hour_paths),
            ("2160 files of 5 s", hour_paths * 3),
        ):
            listed = [
                Utterance(f"u{i}", path, start=0.001 * (i // 720) or None) for i, path in enumerate(paths)
            ]
            start = time.perf_counter()
            extra = extra_memory(
                _store, (listed[:1] if len(listed) > 1 else [], folder, "warm"), (listed, folder, name)
            )
            rows.append((name, f"{extra:.0f}", f"{time.perf_counter() - start:.1f}"))
    print_table(
        "Into a feature store, one worker", ("audio", "extra MB", "s, start of Python included"), rows
    )


def _store(utterances: list[Utterance], folder: str, name: str) -> None:
    config = FeatureConfig()
    FeatureExtractor(config).extract(utterances, store=FeatureStore(Path(folder) / "stores" / name, config))


def main() -> None:
    parts: dict[str, Callable[[int], None]] = {
        "hour": compare_hour,
        "fsdd": compare_fsdd,
        "profile": profile,
        "cores": cores,
        "memory": memory,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[[], *parts], default=[])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for part in options.parts or parts:
        parts[part](options.repeats)


if __name__ == "__main__":
    main()
