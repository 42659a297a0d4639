"""Phones and words on real speech: training of monophones, recognition against real time, word HMMs against hmmlearn.

Training is of left-to-right monophones of three states with up to 16 Gaussians a state, from frames of the aligned
utterances of LibriSpeech (37 minutes, three readers) to HMMs, by Viterbi and by Baum-Welch; beside it stands how long
the matrix products of its passes alone would take. Recognition is of the utterances of every fourth reader's chapter,
from files to phones on one core. Word HMMs are of ten digits of the Free Spoken Digit Dataset, eight states of four
Gaussians each, ten iterations, on the takes of the official training part of one speaker; hmmlearn's GMMHMM gets the
same frames, states and iterations, and starts from its own k-means.

    SPEECHGMM_DATA=DIR python tests/benchmarks/bench_phones.py [training recognition words]
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from frames import in_turn, product_rate, ratio

from speechgmm.corpora import fsdd, librispeech
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.parallel import one_blas_thread
from speechgmm.phones import (
    HmmSettings,
    HmmTraining,
    LoopWeights,
    PhoneRecogniser,
    Step,
    WordClassifier,
    decode,
    log_likelihoods,
    phone_loop,
    train_hmms,
    train_ngrams,
    train_words,
)
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.passes import occupancy
from speechgmm.phones.transcripts import transcripts_of
from speechgmm.terminal import print_table

FEATURES = FeatureConfig(sample_rate=16000, n_coefficients=13, normalisation="mean_variance", dither=1e-5)
WORDS = FeatureConfig(sample_rate=8000, n_coefficients=13)
N_COMPONENTS, N_STATES = 16, 3
N_WORD_STATES, N_WORD_COMPONENTS, N_ITERATIONS = 8, 4, 10
SPEAKERS = ("george",)
REPEATS = 3


class Speech(NamedTuple):
    """Utterances with what is said in them."""

    utterances: list[Any]
    frames: list[Any]
    steps: list[Any]
    times: list[Any]
    seconds: float


@cache
def speech() -> Speech:
    """The aligned utterances of LibriSpeech."""
    listed = librispeech.phone_utterances(data() / "LibriSpeech")
    extraction = FeatureExtractor(FEATURES).extract(listed)
    said = transcripts_of(extraction.utterances, "SIL", features=FEATURES)
    return Speech(
        list(extraction.utterances),
        list(extraction.frames),
        [one.steps for one in said],
        [one.times for one in said],
        sum(extraction.seconds),
    )


def data() -> Path:
    return Path(os.environ["SPEECHGMM_DATA"])


def train(method: str = "viterbi", n_jobs: int = 1) -> HmmTraining:
    """Monophones of all utterances."""
    phones = sorted({units[0] for steps in speech().steps for (units,), _ in steps})
    settings = HmmSettings(n_components=N_COMPONENTS, frames_per_component=20.0, method=method)
    return train_hmms(
        speech().frames,
        speech().steps,
        dict.fromkeys(phones, N_STATES),
        settings,
        times=speech().times,
        n_jobs=n_jobs,
    )


def training() -> None:
    """How long training takes, and its products alone."""
    programs: dict[str, Callable[[], Any]] = {
        f"{method}, {cores}": partial(train, method, n_jobs)
        for method in ("viterbi", "baum_welch")
        for n_jobs, cores in ((1, "one core"), (2, "two cores"))
    }
    seconds = in_turn(programs, REPEATS)
    history = train().history
    n_frames = sum(map(len, speech().frames))
    flops = sum(2.0 * n_frames * one.n_components * (2 * FEATURES.n_features + 1) for one in history)
    print_table(
        f"Training on {speech().seconds / 60:.1f} minutes, {history[-1].n_components} Gaussians, {len(history)} passes",
        ("program", "seconds", "times real time"),
        [
            (name, f"{np.median(own):.1f}", f"{speech().seconds / np.median(own):.0f}")
            for name, own in seconds.items()
        ],
    )
    print(
        f"densities of all passes at {product_rate():.0f} GFLOP/s on all cores: {flops / product_rate() / 1e9:.1f} s"
    )


def recognition() -> None:
    """How much faster than speech recognition is, from files to phones, on one core."""
    hmms = train(n_jobs=2).hmms
    strings = [[units[0] for (units,), _ in steps] for steps in speech().steps]
    part = slice(None, None, 4)
    files, frames = speech().utterances[part], speech().frames[part]
    length = sum(map(len, frames)) * FEATURES.hop_length
    extractor = FeatureExtractor(FEATURES)
    rows = []
    for order in (2, 3):
        model = train_ngrams(strings, order, "kneser_ney", hmms.units)
        recogniser = PhoneRecogniser(FEATURES, FrontEnd(), hmms, model, LoopWeights(6.0, 0.0), "SIL")
        network = phone_loop(hmms, model, recogniser.weights)
        scores = [log_likelihoods(hmms, own) for own in frames]
        programs = {
            "files to phones": lambda own=recogniser: [
                own.recognise(extractor.from_utterance(one)) for one in files
            ],
            "features alone": lambda: [extractor.from_utterance(one) for one in files],
            "densities alone": lambda: [log_likelihoods(hmms, own) for own in frames],
            "search alone": lambda own=network, found=scores: [decode(hmms, own, one) for one in found],
        }
        with one_blas_thread():
            seconds = in_turn(programs, REPEATS)
        rows += [
            (f"order {order}", name, f"{np.median(own):.2f}", f"{length / np.median(own):.0f}")
            for name, own in seconds.items()
        ]
    print_table(
        f"Recognition of {length / 60:.1f} minutes, one core",
        ("language model", "what", "seconds", "times real time"),
        rows,
    )


@cache
def digits() -> dict[str, list[Any]]:
    """Frames of the training takes by digit."""
    listed = [
        one
        for one in fsdd.utterances(data() / "fsdd")
        if one.split == "train" and one.label("speaker") in SPEAKERS
    ]
    extraction = FeatureExtractor(WORDS).extract(listed)
    found: dict[str, list[Any]] = {}
    for one, frames in zip(extraction.utterances, extraction.frames, strict=True):
        if len(frames) >= N_WORD_STATES:
            found.setdefault(one.label("digit"), []).append(frames)
    return found


def our_words() -> WordClassifier:
    """One HMM a digit, by Baum-Welch: ten iterations with all components, as the other program makes."""
    labelled = [(digit, frames) for digit, own in digits().items() for frames in own]
    settings = HmmSettings(
        n_components=N_WORD_COMPONENTS,
        method="baum_welch",
        start_iterations=1,
        iterations=1,
        last_iterations=N_ITERATIONS,
        frames_per_component=5.0,
        beam=np.inf,
    )
    return train_words(
        [frames for _, frames in labelled], [digit for digit, _ in labelled], N_WORD_STATES, settings
    )


def their_words() -> dict[str, Any]:
    """The same by hmmlearn, left to right."""
    from hmmlearn.hmm import GMMHMM

    models = {}
    for digit, own in digits().items():
        model = GMMHMM(
            N_WORD_STATES,
            N_WORD_COMPONENTS,
            n_iter=N_ITERATIONS,
            tol=-np.inf,
            init_params="mcw",
            params="tmcw",
        )
        model.startprob_ = np.eye(N_WORD_STATES)[0]
        model.transmat_ = 0.7 * np.eye(N_WORD_STATES) + 0.3 * np.eye(N_WORD_STATES, k=1)
        model.transmat_[-1, -1] = 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            models[digit] = model.fit(np.concatenate(own).astype(np.float64), [len(frames) for frames in own])
        # Nothing follows the last state, and a row of zeros is refused in scoring.
        stuck = np.flatnonzero(~(model.transmat_.sum(axis=1) > 0.5))
        model.transmat_[stuck] = np.eye(N_WORD_STATES)[stuck]
    return models


def words() -> None:
    """Training of isolated words against hmmlearn, one thread each."""
    models: dict[str, Any] = {}
    with one_blas_thread():
        programs = {"speechgmm": our_words, "hmmlearn": lambda: models.update(their_words())}
        seconds = in_turn(programs, REPEATS)
    hmms = our_words().hmms
    # Without a floor, variances of hmmlearn may vanish, and its model with them.
    whole = [digit for digit, model in models.items() if np.isfinite(model.weights_).all()]
    takes = [(digit, frames) for digit in whole for frames in digits()[digit]]
    ours = [
        occupancy(hmms, _graph(hmms, digit), log_likelihoods(hmms, frames)).log_likelihood / len(frames)
        for digit, frames in takes
    ]
    theirs = [models[digit].score(frames.astype(np.float64)) / len(frames) for digit, frames in takes]
    mean = {"speechgmm": ours, "hmmlearn": theirs}
    print_table(
        f"Word HMMs: {len(digits())} digits, {sum(map(len, digits().values()))} takes, {N_WORD_STATES} states of "
        f"{N_WORD_COMPONENTS} Gaussians",
        ("program", "seconds", "times ours", "mean log-likelihood a frame"),
        [
            (
                name,
                f"{np.median(own):.2f}",
                f"{ratio(seconds, name):.1f}",
                f"{np.mean(mean[name] or np.nan):.3f}",
            )
            for name, own in seconds.items()
        ],
    )
    print(f"likelihoods are of the {len(whole)} digits whose model hmmlearn kept finite")


def _graph(hmms: Any, digit: str) -> Any:
    from speechgmm.phones import compose

    return compose(hmms, [Step(((digit,),))])


def main() -> None:
    parts = {"training": training, "recognition": recognition, "words": words}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all by default")
    for name in parser.parse_args().parts or parts:
        start = time.perf_counter()
        parts[name]()
        print(f"({name}: {time.perf_counter() - start:.0f} s)\n")


if __name__ == "__main__":
    main()
