"""Speaker verification on real speech: the ways of scoring against each other and scikit-learn; what enrolment costs.

A hundred speakers of LibriSpeech are adapted (means, relevance factor 16) from a background of 512 components of 60
features, normalised by utterance, and all of their test utterances are tried against all of them. The background has
heard them; most are tested on the second half of the recording that enrolled them, three on other recordings. So error
rates compare methods on these trials and say nothing else.

The utterances are dealt into rounds. In each, all programs take turns on the same ones; seconds are sums over rounds,
ratios medians of those of each round. scikit-learn scores a few utterances of each round, and its seconds are scaled up
to all of the round's frames.

    SPEECHGMM_DATA=DIR python tests/benchmarks/bench_verification.py [scoring enrolment memory]
"""

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from frames import as_scikit_learn, extra_memory, in_turn, ratio, real_frames
from sklearn.mixture import GaussianMixture

from speechgmm.corpora import librispeech
from speechgmm.em import Mixture
from speechgmm.em.maximise import maximise
from speechgmm.em.moments import moments_of
from speechgmm.em.statistics import accumulate
from speechgmm.features import FeatureConfig, FeatureExtractor
from speechgmm.metrics.detection import eer
from speechgmm.parallel import one_blas_thread
from speechgmm.terminal import print_table
from speechgmm.verification.background import Background, UbmSettings, train_ubm_on_frames
from speechgmm.verification.enrolment import Enroller
from speechgmm.verification.scoring import Method, TrialScorer

N_FEATURES, N_COMPONENTS, N_SPEAKERS, N_FRAMES = 60, 512, 100, 300_000
FEATURES = FeatureConfig(sample_rate=16000, normalisation="mean_variance")
# Utterances that enrol a speaker of many, and how many of their frames: models of more speech lie farther from the
# background and score lower on everything, so all get about the same.
N_ENROL, N_ENROL_FRAMES = 3, 600
METHODS: dict[str, tuple[Method, int]] = {
    "dense": ("dense", 1),
    "top-20": ("top", 20),
    "top-10": ("top", 10),
    "linear-10": ("linear", 10),
    "linear-5": ("linear", 5),
}
PEER = "scikit-learn"
CORES = {1: "one core", 2: "two cores"}
# Of the utterances of a round, for scikit-learn.
SAMPLE = 4


class Trials(NamedTuple):
    """Every model against every test utterance; `truth` holds the number of the model that is of its speaker."""

    ubm: Mixture
    models: list[Mixture]
    tests: list[np.ndarray]
    truth: np.ndarray


@cache
def background() -> Mixture:
    """As `train_ubm` makes it."""
    frames = [real_frames(N_FRAMES, N_FEATURES, FEATURES)]
    return train_ubm_on_frames(frames, settings=UbmSettings(N_COMPONENTS), n_jobs=-1).background.ubm


@cache
def trials(n_utterances: int) -> Trials:
    """Every speaker enrols: those of many utterances with three of them, others with the first half of their one."""
    folder = Path(os.environ["SPEECHGMM_DATA"]) / "LibriSpeech"
    extraction = FeatureExtractor(FEATURES).extract(librispeech.utterances(folder), -1)
    own: dict[str, list[np.ndarray]] = {}
    for utterance, frames in zip(extraction.utterances, extraction.frames, strict=True):
        own.setdefault(utterance.label("speaker"), []).append(frames[:, :N_FEATURES])
    enrolment, tests = [], []
    # Those of many utterances first, so that none of them is among those left out.
    for number, speaker in enumerate(sorted(own, key=lambda name: (-len(own[name]), name))[:N_SPEAKERS]):
        spoken = own[speaker] if len(own[speaker]) > N_ENROL else np.array_split(own[speaker][0], 2)
        n_enrol = N_ENROL if len(own[speaker]) > N_ENROL else 1
        enrolment.append(np.concatenate(spoken[:n_enrol])[:N_ENROL_FRAMES])
        tests += [(number, frames) for frames in spoken[n_enrol:]]
    chosen = np.random.default_rng(0).permutation(len(tests))[:n_utterances]
    truth = np.array([tests[place][0] for place in chosen])
    models = enrolled(background(), enrolment, -1)
    return Trials(background(), models, [tests[place][1] for place in chosen], truth)


def enrolled(ubm: Mixture, speech: Sequence[np.ndarray], n_jobs: int) -> list[Mixture]:
    """Models of as many speakers."""
    enroller = Enroller(Background(ubm, None, {}))
    groups = {f"{number:03}": [("speech", frames, 0.0)] for number, frames in enumerate(speech)}
    return [enroller.model(one) for one in enroller.enrol_many(groups, n_jobs=n_jobs).values()]


def peer_scores(models: Sequence[GaussianMixture], tests: Sequence[np.ndarray], n_jobs: int) -> np.ndarray:
    """Mean llrs per frame, (n_models, n_utterances), of models after the background, under scikit-learn."""
    frames, ends = np.concatenate(tests), np.cumsum([len(one) for one in tests])[:-1]
    with one_blas_thread():
        rows = joblib.Parallel(n_jobs=n_jobs, prefer="threads")(
            joblib.delayed(model.score_samples)(frames) for model in models
        )
    means = np.array([[part.mean() for part in np.split(row.astype(np.float64), ends)] for row in rows])
    return means[1:] - means[0]


class Contest:
    """All programs, and the scores that they give: (n_models, n_utterances) each, NaN where there is none."""

    def __init__(self, given: Trials) -> None:
        self.tests = given.tests
        self._peers = [as_scikit_learn(mixture) for mixture in (given.ubm, *given.models)]
        self._scorers = {name: TrialScorer(given.ubm, given.models, *METHODS[name]) for name in METHODS}
        shape = len(given.models), len(given.tests)
        self.scores = {name: np.full(shape, np.nan) for name in (*METHODS, PEER)}
        for scorer in self._scorers.values():  # what is made when it is first needed
            scorer.score_all(given.tests[:1])

    def ours(self, name: str, numbers: np.ndarray, n_jobs: int) -> None:
        tests = [self.tests[number] for number in numbers]
        self.scores[name][:, numbers] = self._scorers[name].score_all(tests, n_jobs)

    def theirs(self, numbers: np.ndarray, n_jobs: int) -> None:
        self.scores[PEER][:, numbers] = peer_scores(self._peers, [self.tests[n] for n in numbers], n_jobs)

    def seconds(self, numbers: np.ndarray) -> dict[str, float]:
        """Of one round: utterances of these numbers."""
        sample = numbers[:SAMPLE]
        n_frames, n_sampled = (sum(len(self.tests[n]) for n in some) for some in (numbers, sample))
        programs: dict[str, Callable[[], Any]] = {}
        for n_jobs, cores in CORES.items():
            programs |= {f"{name}, {cores}": partial(self.ours, name, numbers, n_jobs) for name in METHODS}
            programs[f"{PEER}, {cores}"] = partial(self.theirs, sample, n_jobs)
        taken = {name: seconds for name, (seconds,) in in_turn(programs, 1).items()}
        return {name: s * n_frames / n_sampled if name.startswith(PEER) else s for name, s in taken.items()}


def scoring(n_utterances: int, repeats: int) -> None:
    """All models against all utterances: seconds, errors per frame, and EER."""
    given = trials(n_utterances)
    contest = Contest(given)
    rounds = [contest.seconds(np.arange(first, len(given.tests), repeats)) for first in range(repeats)]
    seconds = {name: [one[name] for one in rounds] for name in rounds[0]}
    print_table(
        f"{sum(map(len, given.tests))} frames of {len(given.tests)} utterances x {N_FEATURES} features against "
        f"{len(given.models)} speakers, {N_COMPONENTS} components, {repeats} rounds",
        ("scoring", "seconds", "times faster than dense"),
        [
            (name, sum(times), 1 / ratio(seconds, name, f"dense, {name.rsplit(', ')[1]}"))
            for name, times in seconds.items()
        ],
    )
    dense = contest.scores["dense"]
    is_target = given.truth == np.arange(len(given.models))[:, None]
    rows = []
    for name, scores in contest.scores.items():
        errors = np.abs(scores - dense)[np.isfinite(scores)]
        rate = float("nan") if name == PEER else eer(scores[is_target], scores[~is_target])
        moved = rate - eer(dense[is_target], dense[~is_target])
        rows.append((name, float(errors.mean()), float(errors.max()), rate, moved))
    print_table(
        f"{is_target.sum()} target and {(~is_target).sum()} nontarget trials; difference from dense in nats a frame",
        ("scoring", "mean", "largest", "EER", "EER less dense's"),
        rows,
    )
    print(
        f"Targets score {dense[is_target].mean():.3f} a frame on average, nontargets {dense[~is_target].mean():.3f}.\n"
    )


def enrolment(n_utterances: int, repeats: int) -> None:
    """100 speakers of 30 s each, from frames to models, against one EM iteration of the ubm on the same frames."""
    frames = real_frames(N_FRAMES, N_FEATURES, FEATURES)
    speech, ubm = np.split(frames, N_SPEAKERS), background()
    coordinates = moments_of(ubm).coordinates("diag")

    def iteration(n_jobs: int) -> Mixture:
        return maximise(accumulate(ubm, frames, coordinates, n_jobs))

    programs: dict[str, Callable[[], Any]] = {}
    for n_jobs, cores in CORES.items():
        programs[f"enrolment, {cores}"] = partial(enrolled, ubm, speech, n_jobs)
        programs[f"EM iteration, {cores}"] = partial(iteration, n_jobs)
    seconds = in_turn(programs, repeats)
    print_table(
        f"{N_SPEAKERS} speakers of {len(speech[0])} frames x {N_FEATURES} features x {N_COMPONENTS} components, median "
        f"of {repeats}",
        ("program", "seconds", "of an EM iteration"),
        [
            (name, statistics.median(times), ratio(seconds, name, f"EM iteration, {name.rsplit(', ')[1]}"))
            for name, times in seconds.items()
        ],
    )


def _score(
    ubm: Mixture, models: Sequence[Mixture], tests: Sequence[np.ndarray], name: str, n_jobs: int
) -> None:
    TrialScorer(ubm, models, *METHODS[name]).score_all(tests, n_jobs)


def memory(n_utterances: int, repeats: int) -> None:
    """The peak while a scorer is made and scores, beyond the models and the frames; more utterances need no more."""
    ubm, models, tests, _ = trials(n_utterances)
    tests = tests[:32]
    rows = [
        (
            f"{name}, {cores}",
            extra_memory(
                _score, (ubm, models[:1], tests[:1], name, n_jobs), (ubm, models, tests, name, n_jobs)
            ),
        )
        for name in METHODS
        for n_jobs, cores in CORES.items()
    ]
    print_table(
        f"memory: {len(tests)} utterances against {len(models)} speakers", ("scoring", "extra MB"), rows
    )
    print(f"The means of {len(models)} models take {sum(one.means.nbytes for one in models) / 1e6:.0f} MB.\n")


PARTS = {part.__name__: part for part in (scoring, enrolment, memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--utterances", type=int, default=300, help="to score, at most")
    parser.add_argument("--repeats", type=int, default=4, help="rounds")
    options = parser.parse_args()
    for name in options.parts or PARTS:
        PARTS[name](options.utterances, options.repeats)


if __name__ == "__main__":
    main()
