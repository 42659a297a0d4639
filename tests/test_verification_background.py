"""The background model: what it is known by, balanced groups, frames in memory and on disk, memory, doubtful input."""

import hashlib
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from speechgmm.em.fit import fit
from speechgmm.em.initialise import split
from speechgmm.em.mixture import Mixture
from speechgmm.em.sources import ArraySource
from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.features.config import FeatureConfig
from speechgmm.features.store import FeatureStore
from speechgmm.manifest import Utterance, fingerprint, read_manifest
from speechgmm.verification.background import Background, UbmSettings, train_ubm, train_ubm_on_frames
from speechgmm.version import __version__
from tests.test_trainer_memory import MEGABYTE, STATUS, mapped_utterances, most_while, write_utterances

ROOT = Path(__file__).parent.parent
FEATURES = {"n_coefficients": 5, "delta_orders": 0}
SMALL = UbmSettings(n_components=2, max_iterations=5)


def one_gaussian(mean=0.0, variance=1.0, n_features=2, weights=(1.0,), covariance_type="diag"):
    shape = (len(weights), n_features)
    return Mixture(weights, np.full(shape, mean), np.full(shape, variance), covariance_type)


def made_frames(lengths=(200, 300, 250, 150), n_features=3, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(n, n_features)) + 2.0 * (i % 2)).astype(np.float32) for i, n in enumerate(lengths)
    ]


def same(one, other):
    return (
        one.history == other.history
        and one.background.ubm == other.background.ubm
        and one.background.fingerprint == other.background.fingerprint
    )


@pytest.fixture
def voices(tmp_path, write_tone):
    """Four short files of each of three voices, at 8 kHz."""
    return [
        Utterance(
            f"{name}{take}",
            write_tone(tmp_path / "audio" / f"{name}{take}.wav", pitch + 3 * take, 0.3, 8000, seed=take),
            labels={"speaker": name, "take": str(take)},
        )
        for name, pitch in (("alto", 320.0), ("bass", 90.0), ("child", 700.0))
        for take in range(4)
    ]


# --- the value


class TestBackground:
    def test_the_fingerprint_is_of_mixture_and_features_alone(self):
        known = Background(one_gaussian()).fingerprint
        assert len(known) == 64 and set(known) <= set("0123456789abcdef")
        assert Background(one_gaussian(), record={"seed": 1}).fingerprint == known
        assert Background(one_gaussian(mean=-0.0)).fingerprint == known
        config = FeatureConfig(n_coefficients=13, delta_orders=0)
        others = [
            Background(one_gaussian(mean=np.nextafter(0.0, 1.0))),
            Background(one_gaussian(variance=2.0)),
            Background(one_gaussian(weights=(0.5, 0.5))),
            Background(one_gaussian(weights=(0.25, 0.75))),
            Background(one_gaussian(n_features=1, weights=(0.5, 0.5))),
            Background(Mixture([1.0], np.zeros((1, 2)), [1.0], "spherical")),
            Background(one_gaussian(n_features=13)),
            Background(one_gaussian(n_features=13), config),
            Background(
                one_gaussian(n_features=13), FeatureConfig(n_coefficients=13, delta_orders=0, lifter=7)
            ),
        ]
        assert len({known, *(other.fingerprint for other in others)}) == 1 + len(others)

    def test_the_fingerprint_is_the_same_in_years_to_come(self):
        # Stores and models name it: it must not change from version to version.
        ubm = Mixture([0.25, 0.75], [[0.0, 1.5], [-2.0, 3.0]], [[1.0, 2.0], [0.5, 4.0]])
        head = b'{"features":null,"shape":[2,2],"type":"diag"}'
        numbers = struct.pack("<10d", 0.25, 0.75, 0.0, 1.5, -2.0, 3.0, 1.0, 2.0, 0.5, 4.0)
        assert Background(ubm).fingerprint == hashlib.sha256(head + numbers).hexdigest()
        assert Background(ubm).fingerprint.startswith("35325da9a4b7ab93")

    def test_features_must_be_the_mixture_s(self):
        with pytest.raises(
            InputError, match="configuration gives 60 values a frame; the background frames have 2"
        ):
            Background(one_gaussian(), FeatureConfig())
        with pytest.raises(InputError, match="`ubm` is of type ndarray; it must be a Mixture"):
            Background(np.zeros(3))
        with pytest.raises(
            InputError, match="`features` is of type dict; it must be a FeatureConfig or None"
        ):
            Background(one_gaussian(), {"n_coefficients": 13})


class TestSettings:
    def test_defaults_and_tables(self):
        assert UbmSettings.from_dict({}) == UbmSettings(256, "split", 20, 1e-3, 1e-2, 0)
        assert UbmSettings.from_dict({"n_components": 8, "start": "kmeans"}).n_components == 8
        with pytest.raises(
            InputError, match="unknown background setting 'priors'; known are n_components, start,"
        ):
            UbmSettings.from_dict({"priors": "equal"})

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"n_components": 0}, "background setting `n_components` is 0; it must be a whole number from 1"),
            ({"n_components": 2.0}, "`n_components` is 2.0; it must be a whole number from 1"),
            ({"max_iterations": True}, "`max_iterations` is True; it must be a whole number from 1"),
            ({"seed": -1}, "`seed` is -1; it must be a whole number from 0"),
            ({"tolerance": -1e-3}, "`tolerance` is -0.001; it must be a number from 0"),
            ({"variance_floor": float("nan")}, "`variance_floor` is nan; it must be a number from 0"),
            ({"start": "random"}, "background setting `start` is 'random'; it can be split, kmeans"),
        ],
    )
    def test_what_is_refused(self, settings, said):
        with pytest.raises(InputError, match=said):
            UbmSettings(**settings)


# --- training on frames


def test_it_is_the_engine_s_fit_of_all_frames():
    frames = made_frames()
    joined = np.concatenate(frames)
    start = split(joined, 4, seed=3, variance_floor=0.02)
    expected = fit(joined, start, max_iterations=6, tolerance=0.0, variance_floor=0.02)
    settings = UbmSettings(4, "split", 6, 0.0, 0.02, seed=3)
    training = train_ubm_on_frames(frames, settings=settings)
    assert training.background.ubm == expected.mixture
    assert training.history == expected.history
    assert training.problems == ()
    record = training.background.record
    assert record["version"] == __version__
    assert record["settings"]["n_components"] == record["components"] == 4
    assert (record["frames"], record["iterations"], record["converged"]) == (900, 6, False)
    assert record["log_likelihood"] == expected.history[-1]
    assert record["groups"] == []


@pytest.mark.parametrize("start", ["split", "kmeans"])
def test_the_same_seed_gives_the_same_bits_however_frames_come(tmp_path, start):
    frames, settings = made_frames(), UbmSettings(4, start, 3, seed=1)
    np.save(tmp_path / "frames.npy", np.concatenate(frames))
    mapped = np.split(np.load(tmp_path / "frames.npy", mmap_mode="r"), np.cumsum([200, 300, 250]))
    groups = ["a", "b", "b", "a"]
    expected = train_ubm_on_frames(frames, groups=groups, settings=settings)
    weights = np.repeat([450 / 350, 450 / 550, 450 / 350], [200, 550, 150])
    for given in (mapped, tuple(frames), [np.asfortranarray(part) for part in frames]):
        for n_jobs in (1, 2):
            assert same(train_ubm_on_frames(given, groups=groups, settings=settings, n_jobs=n_jobs), expected)
    assert same(
        train_ubm_on_frames(ArraySource(np.concatenate(frames), weights), settings=settings), expected
    )
    other = train_ubm_on_frames(frames, groups=groups, settings=UbmSettings(4, start, 3, seed=2))
    assert not same(other, expected)


def test_every_group_counts_the_same_however_much_it_speaks():
    rng = np.random.default_rng(0)
    # Ten utterances of one, three short ones of the other, far apart.
    frames = [rng.normal(size=(500, 2)) for _ in range(10)] + [
        rng.normal(size=(30, 2)) + 20.0 for _ in range(3)
    ]
    groups = ["talkative"] * 10 + ["quiet"] * 3
    settings = UbmSettings(n_components=2, max_iterations=20)
    plain = train_ubm_on_frames(frames, settings=settings).background.ubm
    balanced = train_ubm_on_frames(frames, groups=groups, settings=settings)
    shares = {mean > 10: weight for mean, weight in zip(plain.means[:, 0], plain.weights, strict=True)}
    assert shares[True] == pytest.approx(90 / 5090, abs=1e-6)
    ubm = balanced.background.ubm
    np.testing.assert_allclose(ubm.weights, 0.5, atol=1e-6)  # posteriors are float32
    for part, group_frames in ((ubm.means[:, 0] > 10, frames[10:]), (ubm.means[:, 0] < 10, frames[:10])):
        np.testing.assert_allclose(ubm.means[part][0], np.concatenate(group_frames).mean(axis=0), atol=1e-4)
    # The likelihood is that of a frame of an average group, not of an average frame.
    means = [ubm.log_likelihoods(np.concatenate(part)).mean() for part in (frames[:10], frames[10:])]
    assert balanced.history[-1] == pytest.approx(np.mean(means), abs=1e-3)
    assert balanced.background.record["groups"] == ["quiet", "talkative"]


def test_groups_of_equal_size_change_nothing_but_the_arithmetic():
    frames = made_frames((300, 300, 300, 300))
    plain = train_ubm_on_frames(frames, settings=SMALL)
    balanced = train_ubm_on_frames(frames, groups=["a", "b", "c", "d"], settings=SMALL)
    # The start draws weighted frames in another way; both end in the same of the two clusters.
    assert balanced.history[-1] == pytest.approx(plain.history[-1], abs=1e-3)


def test_progress_tells_every_iteration():
    seen = []
    settings = UbmSettings(n_components=2, max_iterations=3, tolerance=0.0)
    train_ubm_on_frames(made_frames(), settings=settings, progress=lambda *told: seen.append(told))
    assert {*seen} == {("background", done, 3) for done in range(4)}
    assert seen == sorted(seen)
    seen.clear()
    early = UbmSettings(n_components=1, max_iterations=9)
    train_ubm_on_frames(made_frames(), settings=early, progress=lambda *told: seen.append(told))
    assert seen[0] == ("background", 0, 9) and seen[-1] == ("background", 9, 9)


# --- stores


def test_a_store_is_a_source_of_utterances_with_its_own_configuration(tmp_path):
    config = FeatureConfig(n_coefficients=3, delta_orders=0, lifter=3)
    frames = made_frames()
    store = FeatureStore(tmp_path / "store", config)
    with store.writer() as writer:
        for index in (2, 0, 3, 1):
            writer.add(f"key{index}", f"utterance{index}", frames[index], 1.0)
    groups = [entry.utterance[-1] for entry in store.entries()]
    assert groups == ["0", "1", "2", "3"]
    for given in (None, groups):
        stored = train_ubm_on_frames(store, groups=given, settings=SMALL)
        assert stored.background.features == config
        assert same(stored, train_ubm_on_frames(frames, groups=given, settings=SMALL, features=config))
    imported = FeatureStore.imported(tmp_path / "other", 3)
    with imported.writer() as writer:
        writer.add("key", "utterance", frames[0], 1.0)
    assert train_ubm_on_frames(imported, settings=SMALL).background.features is None


def train_and_measure(path):
    """Print the most memory that training takes, in bytes; to be run in a process of its own."""
    settings = UbmSettings(n_components=16, max_iterations=1, tolerance=0.0)
    small = list(np.random.default_rng(0).normal(size=(10, 2000, 64)).astype("f4"))
    train_ubm_on_frames(
        small, groups=list("ab" * 5), settings=settings, n_jobs=2
    )  # loads what training needs
    frames, groups = mapped_utterances(path)
    for given in (None, groups):
        print(
            most_while(
                lambda given=given: train_ubm_on_frames(frames, groups=given, settings=settings, n_jobs=2)
            )
        )


@pytest.mark.skipif(
    not STATUS.is_file() or "RssAnon:" not in STATUS.read_text(),
    reason="this system does not tell memory of its own from maps of files",
)
def test_frames_on_disk_are_not_joined(tmp_path):
    path = tmp_path / "frames.f32"
    try:
        write_utterances(path)
        assert path.stat().st_size > 400 * MEGABYTE
        code = f"from tests.test_verification_background import *; train_and_measure({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        plain, balanced = map(float, done.stdout.split())
        # Shards, a sample of frames, statistics; of 1.6 million frames also weights of 8 bytes, 40 for a moment.
        assert plain < 40 * MEGABYTE
        assert balanced < (40 + 64) * MEGABYTE
    finally:
        path.unlink(missing_ok=True)  # pytest keeps its folders


# --- training on audio


def test_audio_goes_the_same_way_as_for_classes(tmp_path, voices):
    bad = Utterance("bad", tmp_path / "bad.wav", labels={"speaker": "bass"})
    bad.audio.write_bytes(b"RIFF, but not for long")
    told = []

    def trained(store=None, n_jobs=1):
        return train_ubm(
            [*voices, bad],
            features=FEATURES,
            settings=SMALL,
            balance="speaker",
            store=store,
            n_jobs=n_jobs,
            progress=lambda *progress: told.append(progress),
        )

    training = trained()
    assert {stage for stage, _, _ in told} == {"features", "background"}
    assert told.index(("features", 13, 13)) < told.index(("background", 0, 5))
    assert [problem.utterance for problem in training.problems] == ["bad"]
    background = training.background
    assert background.features.sample_rate == 8000
    assert background.n_features == background.features.n_features == 5
    record = background.record
    assert record["manifest"] == fingerprint(voices)
    assert record["speakers"] == record["groups"] == ["alto", "bass", "child"]
    assert (record["balance"], record["seconds"]) == ("speaker", 3.6)
    for n_jobs in (1, 2):
        again = trained(tmp_path / "store", n_jobs)
        assert same(again, training) and again.problems == training.problems
        assert again.background.record == record


def test_a_label_is_needed_only_to_balance_by(voices):
    unnamed = [Utterance(one.id, one.audio, labels={"take": "1"}) for one in voices]
    training = train_ubm(unnamed, features=FEATURES, settings=SMALL)
    assert training.background.record["speakers"] == []
    named = train_ubm([*unnamed[:-1], voices[-1]], features=FEATURES, settings=SMALL)
    assert named.background.record["speakers"] == [voices[-1].labels["speaker"]]
    assert training.background.record["balance"] is None
    with pytest.raises(InputError, match="'alto0' has no label 'speaker'; it has 'take'"):
        train_ubm(unnamed, features=FEATURES, settings=SMALL, balance="speaker")
    # A class may not be called that; a group of the background may.
    someone = [Utterance(one.id, one.audio, labels={"gender": "unknown"}) for one in voices]
    with pytest.warns(SpeechGMMWarning, match="there is one group only, 'unknown'"):
        train_ubm(someone, features=FEATURES, settings=SMALL, balance="gender")


def test_utterances_that_cannot_be_used(tmp_path, voices):
    with pytest.raises(InputError, match="there are no utterances to train on"):
        train_ubm([], settings=SMALL)
    with pytest.raises(InputError, match="utterance ids occur twice: 'alto0'"):
        train_ubm([*voices, voices[0]], settings=SMALL)
    lost = Utterance("lost", tmp_path / "lost.wav", labels={"speaker": "dodo"})
    lost.audio.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none of the 1 utterances can be used; the first: .*lost\.wav"):
        train_ubm([lost], features=FEATURES, settings=SMALL)
    with pytest.warns(
        SpeechGMMWarning, match="no utterance of speaker 'dodo' can be used; the model will not"
    ):
        train_ubm([*voices, lost], features=FEATURES, settings=SMALL, balance="speaker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(train_ubm([*voices, lost], features=FEATURES, settings=SMALL).problems) == 1


def test_real_speech_gives_the_same_bits_for_any_number_of_workers(speech_data):
    manifest = read_manifest(ROOT / "data_manifests" / "fsdd" / "utterances.jsonl", speech_data)
    chosen = [utterance for utterance in manifest if utterance.split == "train"][::53]
    settings = UbmSettings(n_components=16, max_iterations=4, tolerance=0.0)
    one, two = (train_ubm(chosen, settings=settings, balance="speaker", n_jobs=n_jobs) for n_jobs in (1, 2))
    assert same(one, two)
    assert len(one.history) == 5 and sorted(one.history) == list(one.history)
    assert len(one.background.record["speakers"]) == 6


# --- doubtful input


def test_too_few_frames_for_the_components():
    with pytest.warns(
        SpeechGMMWarning, match=r"40 frames are too few for 256 components \(8 frames each .* gets 5"
    ):
        training = train_ubm_on_frames(made_frames((40,)))
    assert training.background.ubm.n_components == training.background.record["components"] == 5
    assert training.background.record["settings"]["n_components"] == 256
    with pytest.warns(SpeechGMMWarning, match="4 frames are too few for 2 components .* gets 1"):
        train_ubm_on_frames(made_frames((4,)), settings=SMALL)


def test_one_group_and_tiny_groups():
    frames = made_frames()
    with pytest.warns(
        SpeechGMMWarning, match="one group only, 'me'; a background model of one says nothing of oth"
    ):
        train_ubm_on_frames(frames, groups=["me"] * 4, settings=SMALL)
    said = (
        "2 of 3 groups have fewer frames than the 16 .* share of 6 components needs: 'b', 'c'; each of their"
    )
    with pytest.warns(SpeechGMMWarning, match=said):
        train_ubm_on_frames(
            [frames[0], frames[1][:15], frames[2][:15]],
            groups=["a", "b", "c"],
            settings=UbmSettings(n_components=6, max_iterations=2),
        )


@pytest.mark.parametrize(
    ("frames", "options", "said"),
    [
        ([], {}, "`frames` is empty; at least 1 utterance is needed"),
        ([np.zeros((0, 2))], {}, r"`frames\[0\]` holds no frames; an utterance needs at least 1"),
        ([np.zeros((4, 2)), np.zeros((4, 3))], {}, r"`frames\[1\]` has 3 features; the mixture has 2"),
        ([np.ones((4, 2)), np.full((4, 2), np.nan)], {}, r"`frames\[1\]` has the value nan at frame 0"),
        ([np.full((4, 2), 1e38)], {}, r"`frames\[0\]` has values so large that their squares overflow"),
        ([np.ones((4, 2))], {"groups": ["a", "b"]}, "1 `frames` and 2 `groups` given"),
        (
            [np.ones((4, 2))],
            {"groups": [""]},
            r"`groups\[0\]` is ''; a group must be a text that is not empty",
        ),
        ([np.ones((4, 2))], {"groups": [3]}, r"`groups\[0\]` is 3; a group must be a text"),
        ([np.ones((4, 2))], {"n_jobs": 0}, "`n_jobs` is 0"),
        (
            ArraySource(np.ones((4, 2))),
            {"groups": ["a"]},
            "`groups` cannot be given beside frames of type ArraySource, which has no",
        ),
        (
            made_frames(),
            {"features": FeatureConfig(), "settings": SMALL},
            "configuration gives 60 values a frame; the background frames have 3",
        ),
    ],
)
def test_what_is_refused_before_any_work(frames, options, said):
    with pytest.raises(InputError, match=said):
        train_ubm_on_frames(frames, **options, progress=lambda *_: pytest.fail("began to fit"))
