"""Speech activity on real speech: silence added at both ends and in the middle, then noise of a known level.

Truth are the forced alignments in `phones.tsv`, so the figures are agreement with those: every phone but SIL is speech,
and so are the short closures within words that no rule on levels can find. Three seconds of silence are added, 60 dB
below the recording. SNRs are the power of the whole recording to that of the noise. Babble are six other speakers.

A pair of figures are misses (of the speech frames) and false alarms (of the others), in per cent. Where speech cannot
be told from silence, by the spread of its levels, all frames are kept: the last column counts such utterances. "any
threshold" is the best that a threshold on levels could do, chosen for each utterance by its truth.

The part "tuning" is what defaults were chosen on; "report" has other readers, other words and other babble.

    SPEECHGMM_DATA=DIR python tests/benchmarks/bench_activity.py [--part report]
"""

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechgmm.audio import read_audio
from speechgmm.features import FeatureConfig
from speechgmm.features.activity import speech_frames
from speechgmm.features.cepstra import CepstralAnalyser
from speechgmm.terminal import print_table

RATE, HOP = 16000, 160
LIBRISPEECH, COMMANDS = "LibriSpeech", "speech_commands_test_set_v0.02"
CONDITIONS = [("none", np.inf), *((kind, snr) for kind in ("white", "pink", "babble") for snr in (20, 10, 5))]
CONTEXT = {"activity_context": 10, "activity_share": 0.3}
RULES = {
    "energy 30": FeatureConfig(speech_activity="energy", activity_range=30.0),
    "energy 25 +": FeatureConfig(speech_activity="energy", activity_range=25.0, **CONTEXT),
    "kaldi": FeatureConfig(speech_activity="kaldi"),
    "kaldi +": FeatureConfig(speech_activity="kaldi", **CONTEXT),
    "gmm 2": FeatureConfig(speech_activity="gmm"),
    "gmm 2 +": FeatureConfig(speech_activity="gmm", **CONTEXT),
    "gmm 3 +": FeatureConfig(speech_activity="gmm", activity_components=3, **CONTEXT),
}
ANALYSER = CepstralAnalyser(FeatureConfig())


class Example(NamedTuple):
    """Levels of frames, and which of them are speech."""

    levels: np.ndarray
    truth: np.ndarray


def folder() -> Path:
    return Path(os.environ["SPEECHGMM_DATA"])


@cache
def alignments(corpus: str) -> dict[str, list[tuple[float, float, str]]]:
    """Start, end and name of the phones of each file."""
    result: dict[str, list[tuple[float, float, str]]] = {}
    with open(folder() / corpus / "phones.tsv", encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
            phone = float(row["start"]), float(row["end"]), row["phone"]
            result.setdefault(row["path"], []).append(phone)
    return result


def with_speech(corpus: str) -> list[str]:
    """Files in which the aligner found any."""
    phones = alignments(corpus)
    return sorted(path for path in phones if any(phone != "SIL" for _, _, phone in phones[path]))


def chosen(part: str) -> dict[str, list[str]]:
    """Files of each corpus."""
    books, words = with_speech(LIBRISPEECH), with_speech(COMMANDS)
    if part == "tuning":
        return {LIBRISPEECH: [path for path in books if "/26/" in path][::3], COMMANDS: words[::150]}
    return {LIBRISPEECH: [path for path in books if "/26/" not in path][::6], COMMANDS: words[75::150]}


@cache
def voices(part: str) -> list[np.ndarray]:
    """Speech of half of the speakers without alignments, of the same power."""
    paths = sorted((folder() / LIBRISPEECH).glob("train-clean-100/*/*/*.flac"))
    others = [path for path in paths if path.parts[-3] not in ("19", "26", "27")]
    return [of_power_one(read_audio(path)[0]) for path in others[0 if part == "tuning" else 1 :: 2]]


def of_power_one(samples: np.ndarray) -> np.ndarray:
    return samples / np.sqrt(np.mean(np.square(samples, dtype=np.float64)))


def noise(kind: str, n_samples: int, rng: np.random.Generator, part: str) -> np.ndarray:
    if kind == "babble":
        crowd = voices(part)
        speakers = rng.choice(len(crowd), 6, replace=False)
        starts = rng.integers(n_samples, size=6)
        parts = [
            np.roll(np.resize(crowd[i], n_samples), start) for i, start in zip(speakers, starts, strict=True)
        ]
        return of_power_one(np.sum(parts, axis=0))
    samples = rng.standard_normal(n_samples)
    if kind == "pink":  # from 20 Hz on
        spectrum = np.fft.rfft(samples)
        spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(n_samples, 1.0 / RATE), 20.0))
        samples = np.fft.irfft(spectrum, n_samples)
    return of_power_one(samples)


def with_silence(corpus: str, path: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Samples of power one with a second of silence at both ends and between two phones; which frames are speech."""
    samples, phones = of_power_one(read_audio(folder() / corpus / path)[0]), alignments(corpus)[path]
    middle = min((start for start, _, _ in phones), key=lambda start: abs(start - samples.size / RATE / 2))
    silences = 1e-3 * rng.standard_normal((3, RATE))
    pieces = np.split(samples, [round(middle * RATE)])
    whole = np.concatenate([silences[0], pieces[0], silences[1], pieces[1], silences[2]])
    truth = np.zeros(1 + whole.size // HOP, bool)
    for start, end, phone in phones:
        if phone != "SIL":
            before = 1.0 if start < middle else 2.0
            first, stop = (round((before + time) * RATE / HOP) for time in (start, end))
            truth[first:stop] = True
    return whole, truth


def examples(corpus: str, paths: list[str], part: str) -> Iterator[tuple[tuple[str, float], Example]]:
    """Each file under each condition."""
    for number, path in enumerate(paths):
        rng = np.random.default_rng(number)
        clean, truth = with_silence(corpus, path, rng)
        for kind, snr in CONDITIONS:
            samples = 0.05 * clean
            if kind != "none":
                samples = samples + 0.05 * 10.0 ** (-snr / 20) * noise(kind, clean.size, rng, part)
            samples = samples.astype(np.float32)
            yield (kind, snr), Example(levels_of(samples), truth)


def levels_of(samples: np.ndarray) -> np.ndarray:
    return ANALYSER.analyse(lambda: [samples], samples.size).levels


def by_rule(config: FeatureConfig) -> Callable[[Example], np.ndarray]:
    def decide(example: Example) -> np.ndarray:
        speech = speech_frames(example.levels, config)
        return np.ones(len(example.levels), bool) if speech is None else speech

    return decide


def by_any_threshold(example: Example) -> np.ndarray:
    """The best of fifty thresholds, with context."""
    reach, share = CONTEXT["activity_context"], CONTEXT["activity_share"]
    counts = np.convolve(np.ones(len(example.levels)), np.ones(2 * reach + 1), "same")
    candidates = []
    for threshold in np.quantile(example.levels, np.linspace(0.0, 0.98, 50)):
        loud = np.convolve(example.levels > threshold, np.ones(2 * reach + 1), "same")
        candidates.append(loud > (share - 1e-9) * counts)
    return min(candidates, key=lambda speech: sum(rates([(example.truth, speech)])))


def rates(decisions: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Misses and false alarms in per cent."""
    truth, speech = (np.concatenate(parts) for parts in zip(*decisions, strict=True))
    return 100.0 * float((~speech[truth]).mean()), 100.0 * float(speech[~truth].mean())


def compare(corpus: str, under: dict[tuple[str, float], list[Example]]) -> None:
    deciders = {name: by_rule(config) for name, config in RULES.items()}
    rows, columns = [], {**deciders, "any threshold +": by_any_threshold}
    balanced: dict[str, list[float]] = {name: [] for name in columns}
    for (kind, snr), several in under.items():
        row = ["no noise" if kind == "none" else f"{kind} {snr} dB"]
        for name, decide in columns.items():
            miss, alarm = rates([(example.truth, decide(example)) for example in several])
            balanced[name].append((miss + alarm) / 2)
            row.append(f"{miss:3.0f} / {alarm:<3.0f}")
        untold = sum(speech_frames(example.levels, RULES["gmm 2"]) is None for example in several)
        rows.append([*row, f"{untold} of {len(several)}"])
    rows.append(["half the sum", *(f"{statistics.mean(values):.1f}" for values in balanced.values()), ""])
    n_frames = sum(len(example.truth) for example in next(iter(under.values())))
    title = f"{corpus}: miss / false alarm, %; {n_frames} frames a row (+ context 10, share 0.3)"
    print_table(title, ["noise", *columns, "all kept"], rows)


def compare_with_kaldi(files: dict[str, list[str]]) -> None:
    """Frames on which "kaldi" decides as Kaldi's rule does on Kaldi's own log energy, in recordings as they are."""
    rows = []
    for corpus, paths in files.items():
        recordings = [read_audio(folder() / corpus / path)[0] for path in paths]
        for emphasis in (0.97, 0.0):
            config = FeatureConfig(framing="inside", speech_activity="kaldi", pre_emphasis=emphasis)
            share = statistics.mean(agreement_with_kaldi(samples, config) for samples in recordings)
            rows.append((corpus, emphasis, 100.0 * share))
    print_table("frames decided as by Kaldi's log energy", ["recordings", "pre-emphasis", "%"], rows)


def agreement_with_kaldi(samples: np.ndarray, config: FeatureConfig) -> float:
    import kaldi_native_fbank

    options = kaldi_native_fbank.MfccOptions()
    options.frame_opts.dither = 0.0
    mfcc = kaldi_native_fbank.OnlineMfcc(options)
    mfcc.accept_waveform(RATE, (32768.0 * samples).tolist())
    mfcc.input_finished()
    energies = np.array([mfcc.get_frame(i)[0] for i in range(mfcc.num_frames_ready)])
    levels = CepstralAnalyser(config).analyse(lambda: [samples], samples.size).levels
    speech = speech_frames(levels, config)
    return 0.0 if speech is None else float(np.mean(speech == (energies > 5.0 + 0.5 * energies.mean())))


def time_of_rules(levels: np.ndarray) -> None:
    rows = []
    for name, config in RULES.items():
        times = []
        for _ in range(9):
            start = time.process_time()
            for _ in range(20):
                speech_frames(levels, config)
            times.append((time.process_time() - start) / 20)
        rows.append((name, 1e3 * statistics.median(times)))
    print_table(f"processor time for {len(levels)} frames", ["rule", "ms"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("report", "tuning"), default="report")
    part, began = parser.parse_args().part, time.perf_counter()
    for corpus, paths in chosen(part).items():
        under: dict[tuple[str, float], list[Example]] = {condition: [] for condition in CONDITIONS}
        for condition, example in examples(corpus, paths, part):
            under[condition].append(example)
        compare(corpus, under)
        if corpus == LIBRISPEECH:
            time_of_rules(under["white", 20][0].levels[100:601])
    if find_spec("kaldi_native_fbank"):
        compare_with_kaldi(chosen(part))
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
