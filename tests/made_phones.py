"""Small corpora of made phones: each phone is a sound of its own, so that recognisers have something to find."""

import warnings

import numpy as np
import pytest
import soundfile

from speechgmm.corpora import timit
from speechgmm.errors import SpeechGMMWarning
from speechgmm.manifest import Segment, Utterance, write_manifest

SAMPLE_RATE = 16000
# Their phones sound different enough, and pocketsphinx knows how they are pronounced.
WORDS = {
    "see": ("S", "IY"),
    "two": ("T", "UW"),
    "go": ("G", "OW"),
    "me": ("M", "IY"),
    "new": ("N", "UW"),
    "show": ("SH", "OW"),
    "key": ("K", "IY"),
    "low": ("L", "OW"),
    "ray": ("R", "EY"),
    "fay": ("F", "EY"),
    "boy": ("B", "OY"),
    "zoo": ("Z", "UW"),
    "they": ("DH", "EY"),
    "thaw": ("TH", "AO"),
    "paw": ("P", "AO"),
    "jaw": ("JH", "AO"),
}
PHONES = sorted({phone for phones in WORDS.values() for phone in phones})
# TIMIT's names of the same; the closure of a stop is a segment of its own.
CLOSURES = {"t": "tcl", "g": "gcl", "k": "kcl", "b": "bcl", "p": "pcl", "jh": "dcl"}


def sound(phone, seconds, voice, rng):
    """Noise with two resonances at places of the phone's own, both a little higher with a higher voice."""
    n_samples = round(seconds * SAMPLE_RATE)
    noise = 0.003 * rng.standard_normal(n_samples)
    if phone not in PHONES:
        return noise
    number, time = PHONES.index(phone), np.arange(n_samples) / SAMPLE_RATE
    for frequency in (300 + 90 * (number % 6), 1000 + 800 * (number // 6) + 60 * number):
        wobble = np.cumsum(rng.standard_normal(n_samples)) * 0.05
        noise = noise + 0.08 * np.sin(2 * np.pi * frequency * voice * time + wobble)
    return noise


def sentence(voice, n_words, seed):
    """Samples, phones with their times, and the text of some words, with silence around."""
    rng = np.random.default_rng(seed)
    words = [list(WORDS)[number] for number in rng.integers(len(WORDS), size=n_words)]
    phones = ["SIL", *(phone for word in words for phone in WORDS[word]), "SIL"]
    lengths = 0.01 * rng.integers(7, 14, len(phones))
    samples = np.concatenate(
        [sound(phone, seconds, voice, rng) for phone, seconds in zip(phones, lengths, strict=True)]
    )
    edges = np.round([0.0, *np.cumsum(lengths)], 2).tolist()
    found = tuple(map(Segment, edges[:-1], edges[1:], phones))
    return samples, found, " ".join(words)


def make_librispeech_phones(folder):
    """3 speakers, each with 4 utterances to train on, one to tune on and one to test."""
    pytest.importorskip("pocketsphinx")  # its lexicon is a part of the recipe
    utterances = []
    for number, (speaker, voice) in enumerate({"19": 1.0, "26": 1.04, "27": 1.08}.items()):
        for take, split in enumerate(["train"] * 4 + ["dev", "test"]):
            samples, segments, text = sentence(voice, 12, seed=100 * number + take)
            name = f"{speaker}-{1 + (split == 'test')}-{take:04}"
            path = folder / f"{name}.flac"
            soundfile.write(path, samples, SAMPLE_RATE)
            labels = {"speaker": speaker, "text": text.upper()}
            utterances.append(
                Utterance(
                    name,
                    path,
                    labels=labels,
                    split=split,
                    duration=len(samples) / SAMPLE_RATE,
                    segments={"phones": segments},
                )
            )
    write_manifest(utterances, folder / "phones.jsonl")
    return folder / "phones.jsonl"


def timit_labels(segments):
    """The same phones under TIMIT's names, (start, end, name) in samples."""
    for one in segments:
        start, end = (round(time * SAMPLE_RATE) for time in (one.start, one.end))
        name = "h#" if one.label == "SIL" else one.label.lower()
        if name in CLOSURES:
            middle = (start + end) // 2
            yield start, middle, CLOSURES[name]
            start = middle
        yield start, end, name


def make_timit_tree(top):
    """Four speakers to train on and two each of the development and the core test part; SPHERE files, with SA1."""
    people = {
        "TRAIN": {"FCJF0": 5, "MDAC0": 5, "FDAW0": 5, "MCPM0": 5},
        "TEST": {"FAKS0": 2, "MMDB1": 2, "MDAB0": 2, "FELC0": 2},
    }
    for part, speakers in people.items():
        for number, (speaker, count) in enumerate(speakers.items()):
            folder = top / part / "DR1" / speaker
            folder.mkdir(parents=True)
            for take in range(count):
                samples, segments, text = sentence(
                    1 + 0.03 * number, 12, 100 * number + 10 * len(part) + take
                )
                name = f"SX{take + 10}" if take else "SA1"
                soundfile.write(folder / f"{name}.WAV", samples, SAMPLE_RATE, "PCM_16", format="NIST")
                rows = [f"{start} {end} {phone}\n" for start, end, phone in timit_labels(segments)]
                (folder / f"{name}.PHN").write_text("".join(rows))
                (folder / f"{name}.TXT").write_text(f"0 {len(samples)} {text}.\n")


def make_timit(folder):
    """A manifest of the usual parts of a small tree."""
    make_timit_tree(folder / "TIMIT")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpeechGMMWarning)  # not as many sentences as the corpus has
        found = timit.phone_split(timit.utterances(folder / "TIMIT"))
    write_manifest(found, folder / "timit.jsonl")
    return folder / "timit.jsonl"
