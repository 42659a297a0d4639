"""Phones by pocketsphinx's phone loop: what this recipe's own recogniser is compared with.

The package holds its acoustic model and a phone trigram (en-us, BSD licence), trained on far more speech than this
recipe: `pip install pocketsphinx`. The labels of this corpus are that acoustic model's own forced alignments, which
favours it here. Two kinds of loop are tried: one model a phone (pocketsphinx's default), and models that know their
neighbours, which are better and nearly twenty times slower.

    python recipes/librispeech_phones/pocketsphinx_loop.py [--data-dir DIR] [--manifest FILE] [--tune]

recognises the test part with the settings below; `--tune` shows the figures of all settings on the dev part, by
which these were chosen. All on one core, as times are compared.

References
----------
Huggins-Daines et al. (2006), Pocketsphinx: a free, real-time continuous speech recognition system for hand-held
devices, ICASSP.
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechgmm.audio import read_audio
from speechgmm.corpora.librispeech import TRAIN_CLEAN_100
from speechgmm.corpora.locate import corpus_folder
from speechgmm.errors import InputError
from speechgmm.manifest import Utterance, read_manifest, select
from speechgmm.metrics.sequences import ErrorCounts, error_counts
from speechgmm.recipe import run
from speechgmm.terminal import print_table

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifests" / "librispeech_phones" / "utterances.jsonl"
SAMPLE_RATE = 16000


@dataclass(frozen=True)
class LoopSettings:
    """What pocketsphinx is told.

    Attributes
    ----------
    context : bool
        Models of phones in their context, instead of one model a phone.
    language_weight : float
        Of the trigram of phones, beside the acoustic model's 1 (`lw`).
    entry_weight : float
        The factor for each further phone (`wip`): the smaller, the fewer phones.
    beam : float
        States less probable than this share of the best are dropped (`beam` and `pbeam`).
    """

    context: bool = False
    language_weight: float = 2.0
    entry_weight: float = 0.65
    beam: float = 1e-20


# Chosen on the dev part among GRID (`--tune`).
CHOSEN = LoopSettings(language_weight=1.5, entry_weight=0.3)
IN_CONTEXT = LoopSettings(context=True, language_weight=3.0, beam=1e-16)
GRID = (
    *(LoopSettings(False, lw, wip) for lw in (1.0, 1.5, 2.0, 2.5, 3.0) for wip in (0.3, 0.65, 1.0)),
    *(LoopSettings(True, lw, wip, beam) for lw, wip, beam in [(3.0, 0.65, 1e-16), (3.0, 0.2, 1e-16)]),
    *(LoopSettings(True, lw, 0.65, beam) for lw, beam in [(2.0, 1e-16), (4.0, 1e-20)]),
)


@dataclass(frozen=True)
class Recognised:
    """Phones of several utterances.

    Attributes
    ----------
    phones : tuple of tuple of str
        One of each utterance, without silence and noise.
    seconds : tuple of float
        What each took, from its samples on.
    real_time_factor : float
        All those seconds, divided by the duration of the audio.
    """

    phones: tuple[tuple[str, ...], ...]
    seconds: tuple[float, ...]
    real_time_factor: float


def recognise(utterances: Iterable[Utterance], settings: LoopSettings) -> Recognised:
    """The phones that pocketsphinx hears; the utterances are 16 kHz."""
    decoder = make_decoder(settings)
    phones, seconds, duration = [], [], 0.0
    for utterance in utterances:
        content = audio_bytes(utterance)
        start = time.perf_counter()
        decoder.start_utt()
        decoder.process_raw(content, full_utt=True)
        decoder.end_utt()
        heard = decoder.seg() or ()  # None where it heard nothing
        phones.append(tuple(one.word for one in heard if is_speech(one.word)))
        seconds.append(time.perf_counter() - start)
        duration += len(content) / 2 / SAMPLE_RATE
    return Recognised(tuple(phones), tuple(seconds), sum(seconds) / duration)


def make_decoder(settings: LoopSettings) -> Any:
    """A phone loop of pocketsphinx with its own models."""
    pocketsphinx = load()
    try:
        return pocketsphinx.Decoder(
            allphone=str(Path(pocketsphinx.get_model_path()) / "en-us" / "en-us-phone.lm.bin"),
            allphone_ci=not settings.context,
            lw=settings.language_weight,
            wip=settings.entry_weight,
            beam=settings.beam,
            pbeam=settings.beam,
            loglevel="FATAL",
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(f"pocketsphinx refuses {settings}: {error}") from error


def load() -> Any:
    """The package, or an error that says how to get it."""
    try:
        import pocketsphinx
    except ImportError as error:
        raise InputError("this needs pocketsphinx: pip install pocketsphinx") from error
    return pocketsphinx


def audio_bytes(utterance: Utterance) -> bytes:
    """The samples as 16-bit integers, which is what pocketsphinx takes."""
    samples, rate = read_audio(utterance.audio, utterance.start, utterance.end)
    if rate != SAMPLE_RATE:
        raise InputError(f"{utterance.audio} is {rate} Hz; pocketsphinx's models are for {SAMPLE_RATE} Hz")
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def is_speech(phone: str) -> bool:
    """Whether a name is that of a phone, and not of silence (SIL) or noise (+NSN+, +SPN+)."""
    return phone != "SIL" and not phone.startswith("+")


def reference(utterance: Utterance) -> tuple[str, ...]:
    """The phones that the manifest gives, without silence."""
    return tuple(segment.label for segment in utterance.segments["phones"] if is_speech(segment.label))


def figures(utterances: Sequence[Utterance], settings: LoopSettings) -> tuple[ErrorCounts, Recognised]:
    """How the loop does on utterances with known phones."""
    recognised = recognise(utterances, settings)
    return error_counts([reference(one) for one in utterances], recognised.phones), recognised


def row(utterances: Sequence[Utterance], settings: LoopSettings) -> tuple[str | float, ...]:
    """The figures of one setting, for a table."""
    counts, recognised = figures(utterances, settings)
    return (
        "in context" if settings.context else "one model a phone",
        *(settings.language_weight, settings.entry_weight, settings.beam),
        *(counts.rate, counts.insertions / counts.n_reference, counts.deletions / counts.n_reference),
        recognised.real_time_factor,
    )


def show(title: str, utterances: Sequence[Utterance], candidates: Iterable[LoopSettings]) -> None:
    """Print the figures of several settings."""
    columns = ("models", "lw", "wip", "beam", "PER", "insertions", "deletions", "real-time factor")
    print_table(title, columns, [row(utterances, settings) for settings in candidates])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder that holds the corpora")
    parser.add_argument("--manifest", type=Path, default=MANIFEST, help="another manifest")
    parser.add_argument("--tune", action="store_true", help="compare settings on the dev part instead")
    options = parser.parse_args()
    data_dir = corpus_folder(TRAIN_CLEAN_100, options.data_dir, options.manifest).parent
    utterances = read_manifest(options.manifest, data_dir)
    if options.tune:
        show("The dev part, by pocketsphinx's phone loop", select(utterances, "dev"), GRID)
    else:
        show("The test part, by pocketsphinx's phone loop", select(utterances, "test"), (CHOSEN, IN_CONTEXT))


if __name__ == "__main__":
    run(main)
