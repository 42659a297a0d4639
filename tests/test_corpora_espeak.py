"""corpora.espeak: the made corpus is whole, the same bytes every time, and its voices differ."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechgmm.audio import read_audio
from speechgmm.corpora import espeak
from speechgmm.corpora.espeak import ACCENTS, TEST_TEXTS, TRAINING_TEXTS, VARIANTS, make_corpus
from speechgmm.errors import InputError
from speechgmm.manifest import read_manifest
from speechgmm.manifest_check import check


@pytest.fixture(scope="session")
def loader():
    return pytest.importorskip("espeakng_loader", reason="needs espeak-ng: pip install 'speechgmm[demo]'")


@pytest.fixture(scope="session")
def corpus(loader, tmp_path_factory):
    """The default corpus: its folder, training and test utterances."""
    folder = tmp_path_factory.mktemp("espeak") / "corpus"
    return folder, *make_corpus(folder)


def checksums(utterances):
    return {utterance.id: utterance.sha256 for utterance in utterances}


def test_default_corpus_is_whole(corpus):
    folder, train, test = corpus
    assert (len(train), len(test)) == (12 * 8, 12 * 4)
    assert check([*train, *test], label="speaker") == []
    assert train == read_manifest(folder / "train.jsonl")
    assert test == read_manifest(folder / "test.jsonl")
    assert {u.labels["speaker"] for u in train} == {u.labels["speaker"] for u in test}
    assert train[0].audio == folder / "voice001" / "voice001_train_01.wav"
    assert {u.split for u in train} == {"train"}
    assert all(1.0 < u.duration < 6.0 for u in [*train, *test])


def test_no_test_text_is_trained_on(corpus):
    _, train, test = corpus
    assert not {u.labels["text"] for u in train} & {u.labels["text"] for u in test}
    assert not set(TRAINING_TEXTS) & set(TEST_TEXTS)
    for speaker in {u.labels["speaker"] for u in train}:
        own = [u.labels["text"] for u in [*train, *test] if u.labels["speaker"] == speaker]
        assert len(own) == len(set(own)) == 12


def test_same_seed_same_bytes_whatever_the_folder_and_the_number_of_voices(corpus, tmp_path):
    _, train, test = corpus
    # Breathy voices (f2, f3, f5) make noise of espeak-ng's own: they are among the first ten.
    again = make_corpus(tmp_path / ("long name " * 20) / "again", n_voices=10)
    for first, second in zip((train, test), again, strict=True):
        wanted = checksums(first)
        assert len(second) < len(first)
        assert {name: wanted[name] for name in checksums(second)} == checksums(second)


def test_another_seed_gives_other_audio(corpus, tmp_path):
    train, _ = make_corpus(tmp_path / "other", n_voices=1, seed=1, n_train=1, n_test=1)
    assert train[0].sha256 != corpus[1][0].sha256


def test_every_voice_is_another(corpus, monkeypatch, tmp_path):
    pairs = {(ACCENTS[k % len(ACCENTS)], VARIANTS[k % len(VARIANTS)]) for k in range(espeak.MOST_VOICES)}
    assert len(pairs) == espeak.MOST_VOICES == 104
    # With the same sentence, rate and pitch for all, accent and variant alone must tell them apart.
    monkeypatch.setattr(espeak, "TRAINING_TEXTS", TRAINING_TEXTS[:1])
    monkeypatch.setattr(espeak, "PARAMETERS", {"rate": (170, 171), "pitch": (50, 51), "range": (50, 51)})
    train, _ = make_corpus(tmp_path / "same", n_voices=26, n_train=1, n_test=1)
    assert len(set(checksums(train).values())) == 26


def test_every_accent_and_variant_is_there(loader):
    voices = Path(loader.get_data_path()) / "voices" / "!v"
    # espeak-ng falls back to the plain voice, without a word, where a variant is missing.
    assert all((voices / variant).is_file() for variant in VARIANTS)


def test_espeak_starts_where_its_path_is_too_long_for_it(loader, tmp_path, monkeypatch):
    data = tmp_path / ("a" * 200) / "espeak-ng-data"
    data.parent.mkdir()
    data.symlink_to(loader.get_data_path())
    monkeypatch.setattr(loader, "get_data_path", lambda: str(data))
    train, _ = make_corpus(tmp_path / "corpus", n_voices=1, n_train=1, n_test=1)
    assert len(train) == 1


def test_audio_is_speech_at_a_sensible_level(corpus):
    for utterance in corpus[1][::8]:
        samples, rate = read_audio(utterance.audio)
        assert rate == 22050
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5
        assert np.abs(samples).max() < 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_voices": 0}, "`n_voices` is 0; it must be a whole number from 1 to 104"),
        ({"n_voices": 105}, "`n_voices` is 105"),
        ({"n_train": 25}, "`n_train` is 25; it must be a whole number from 1 to 24"),
        ({"n_test": 1.5}, "`n_test` is 1.5; it must be a whole number from 1 to 12"),
        ({"seed": -1}, "`seed` is -1; it must be a whole number of 0 or more"),
    ],
)
def test_numbers_out_of_range(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        make_corpus(tmp_path / "corpus", **options)


def test_a_folder_with_content_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already; name a folder that does not exist yet"):
        make_corpus(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_espeak_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r"pip install 'speechgmm\[demo\]'"):
        make_corpus(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "ACCENTS",
            ("no-such-accent",),
            "failed for voice no-such-accent.m1: espeak-ng has no voice 'no-such",
        ),
        ("PARAMETERS", {"pitch": (50, 51), "loudness": (1, 2)}, "failed for voice en-us.m1: .*loudness"),
    ],
)
def test_what_espeak_refuses_is_told_and_leaves_nothing_behind(
    loader, tmp_path, monkeypatch, name, value, message
):
    monkeypatch.setattr(espeak, name, value)
    with pytest.raises(InputError, match=message):
        make_corpus(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(loader, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        make_corpus(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []
