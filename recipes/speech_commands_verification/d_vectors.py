"""A neural network on this recipe's trials: the d-vectors of Resemblyzer, which was trained on thousands of speakers.

Not part of the recipe, and not needed for it. The package holds its network (17 MB, Apache 2.0) and needs torch:

    pip install torch resemblyzer
    python recipes/speech_commands_verification/d_vectors.py [--data-dir DIR]

Where its `webrtcvad` cannot be built: pip install torch librosa webrtcvad-wheels; pip install --no-deps resemblyzer.

An utterance becomes a vector of length 1, a speaker the mean of the vectors of the enrolment; a score is the cosine.
All on one core, as times are compared. The network's own preparation cuts silences, by a detector of voices that
leaves about 0.6 s of a one-second word; the whole word is tried as well.

References
----------
Wan, Wang, Papir, Moreno (2018), Generalized end-to-end loss for speaker verification, ICASSP, arXiv:1710.10467.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from speechgmm.audio import read_audio
from speechgmm.corpora.locate import corpus_folder
from speechgmm.corpora.speech_commands import CORPUS
from speechgmm.errors import InputError
from speechgmm.manifest import Utterance, read_manifest, select
from speechgmm.metrics.detection import detection_figures
from speechgmm.recipe import run
from speechgmm.terminal import print_table

MANIFEST = Path(__file__).resolve().parents[2] / "data_manifests" / "speech_commands" / "verification.jsonl"
Embed = Callable[[np.ndarray, int], np.ndarray]


def embeddings() -> dict[str, Embed]:
    """From samples and their rate to a vector, in two ways."""
    try:
        with warnings.catch_warnings(action="ignore"):  # those of the packages they import
            import torch
            from resemblyzer import VoiceEncoder, normalize_volume, preprocess_wav
            from resemblyzer.hparams import audio_norm_target_dBFS
    except ImportError as error:
        raise InputError(f"{error}; this script needs `pip install torch resemblyzer`") from error
    torch.set_num_threads(1)
    encoder = VoiceEncoder("cpu", verbose=False)

    def without_silences(samples: np.ndarray, rate: int) -> np.ndarray:
        return np.asarray(encoder.embed_utterance(preprocess_wav(samples, rate)))

    def whole(samples: np.ndarray, rate: int) -> np.ndarray:
        louder = normalize_volume(samples, audio_norm_target_dBFS, increase_only=True)
        return np.asarray(encoder.embed_utterance(louder))

    return {"d-vectors, silences cut": without_silences, "d-vectors, whole words": whole}


def vectors(utterances: Sequence[Utterance], embed: Embed) -> tuple[np.ndarray, list[float]]:
    """The vector of every utterance, and the milliseconds that each took from its file on."""
    found, times = [], []
    for utterance in utterances:
        start = time.perf_counter()
        found.append(embed(*read_audio(utterance.audio)))
        times.append(1000 * (time.perf_counter() - start))
    return np.array(found), times


def figures(utterances: Sequence[Utterance], embed: Embed) -> tuple[float, ...]:
    """EER, minimum detection cost, closed-set identification, and the median of milliseconds an utterance."""
    enrolment, tests = select(utterances, "enrol"), select(utterances, "test")
    named, truth = (np.array([one.label("speaker") for one in part]) for part in (enrolment, tests))
    speakers = np.unique(named)
    own, _ = vectors(enrolment, embed)
    models = np.array([own[named == speaker].mean(axis=0) for speaker in speakers])
    models /= np.linalg.norm(models, axis=1, keepdims=True)
    found, times = vectors(tests, embed)
    scores = models @ found.T
    is_target = speakers[:, None] == truth
    detection = detection_figures(scores[is_target], scores[~is_target])
    identified = float(np.mean(speakers[scores.argmax(axis=0)] == truth))
    return detection["eer"], detection["min_dcf_0.01"], identified, statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder that holds the corpora")
    options = parser.parse_args()
    programs = embeddings()
    utterances = read_manifest(MANIFEST, corpus_folder(CORPUS, options.data_dir, MANIFEST).parent)
    print_table(
        "Speaker verification on Speech Commands by a neural network, one core",
        ("scores", "EER", "minDCF 0.01", "identification", "ms an utterance"),
        [(name, *figures(utterances, embed)) for name, embed in programs.items()],
    )


if __name__ == "__main__":
    run(main)
