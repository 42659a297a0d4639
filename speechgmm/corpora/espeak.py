"""A made corpus for first steps and tests: espeak-ng voices that say short sentences.

espeak-ng (package `espeakng-loader`, extra `demo`) is under the GPL; speechgmm runs it as a program of its
own and ships none of it. The voices differ more plainly than people do: results on this corpus say that an
installation works, not how well it would do on real speech.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from speechgmm.corpora.locate import whole_folder
from speechgmm.errors import InputError
from speechgmm.manifest import Utterance, read_manifest, select, write_manifest
from speechgmm.manifest_check import describe

WORKER = Path(__file__).with_name("espeak_voice.py")
# The numbers of accents and variants have no common factor: counting through both gives each pair once.
ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-029",
    "en-gb-x-rp",
    "en-us-nyc",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
)
VARIANTS = ("m1", "f1", "m2", "f2", "m3", "f3", "m4", "f4", "m5", "f5", "m6", "m7", "m8")
PARAMETERS = {"rate": (140, 191), "pitch": (25, 76), "range": (30, 71)}
MOST_VOICES = len(ACCENTS) * len(VARIANTS)

TRAINING_TEXTS = (
    "The kettle is on and the tea will be ready soon.",
    "She left her bicycle against the garden wall.",
    "Every morning the baker opens his shop at six.",
    "A cold wind came down from the hills last night.",
    "We walked along the river until it grew dark.",
    "The old clock in the hall has stopped again.",
    "My brother paints small pictures of ships.",
    "Please put the yellow cups on the top shelf.",
    "They sold the farm and moved nearer to town.",
    "The children found a frog under the bridge.",
    "He reads the paper before he goes to work.",
    "Our train was late because of heavy snow.",
    "You can see three churches from this window.",
    "The doctor asked me how long I had slept.",
    "Fresh bread and butter is all that I need.",
    "Her voice was quiet but everybody heard it.",
    "The dog chased its ball across the wet grass.",
    "I would rather go by boat than by plane.",
    "Two boys carried the heavy box up the stairs.",
    "The teacher wrote a long word on the board.",
    "It rained so hard that the match was stopped.",
    "Nobody knows who built this strange tower.",
    "The soup needs more salt and a little pepper.",
    "Last summer we grew beans, peas and onions.",
)
TEST_TEXTS = (
    "The postman brought a parcel tied with string.",
    "Few people swim in the lake after September.",
    "A good map would have saved us many hours.",
    "His new boots were too tight for the journey.",
    "The moon rose slowly over the empty fields.",
    "Could you lend me your umbrella for a while?",
    "The judge listened to both sides with care.",
    "Birds were singing loudly outside my room.",
    "We had fish and potatoes for lunch on Friday.",
    "The blue door opens only with the large key.",
    "An apple fell and rolled under the cart.",
    "They play music together once every week.",
)


def make_corpus(
    folder: str | Path, n_voices: int = 12, seed: int = 0, n_train: int = 8, n_test: int = 4
) -> tuple[list[Utterance], list[Utterance]]:
    """Make a folder of speech: `<speaker>/<id>.wav`, `train.jsonl` and `test.jsonl`.

    No text of the test part is in the training part, of any voice. The same arguments give the same bytes,
    with the same espeak-ng.

    Parameters
    ----------
    folder : str or Path
        To make; must not exist, or be empty.
    n_voices : int
        1 to 104. Each has its own accent and variant of espeak-ng, and its own rate, pitch and pitch range.
    seed : int >= 0
        For the choice of rates, pitches and texts.
    n_train, n_test : int
        Sentences (2 to 3 seconds) of each voice: 1 to 24 for training, 1 to 12 for testing.

    Returns
    -------
    train, test : list of Utterance
        As in the two manifests, with labels `speaker` and `text`.

    Raises
    ------
    InputError
        If a number is out of its range, `folder` holds something already or cannot be written, or espeak-ng
        is missing or fails.
    """
    _check_whole("seed", seed, 0)
    _check_whole("n_voices", n_voices, 1, MOST_VOICES)
    _check_whole("n_train", n_train, 1, len(TRAINING_TEXTS))
    _check_whole("n_test", n_test, 1, len(TEST_TEXTS))
    folder = Path(folder).absolute()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder}: is there already; name a folder that does not exist yet, or is empty")
    library = _library()
    with whole_folder(folder) as made:
        utterances: list[Utterance] = []
        for index in range(n_voices):
            # The voice's own generator: more voices do not change those before them.
            generator = np.random.default_rng([seed, index])
            spoken = _texts(f"voice{index + 1:03d}", made, generator, {"train": n_train, "test": n_test})
            _speak(index, spoken, generator, library)
            utterances += spoken
        described, problems = describe(utterances)
        if problems:
            raise InputError(f"espeak-ng wrote audio that cannot be used: {problems[0]}")
        for split in ("train", "test"):
            write_manifest(select(described, split), made / f"{split}.jsonl")
    return read_manifest(folder / "train.jsonl"), read_manifest(folder / "test.jsonl")


def _check_whole(name: str, value: int, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most and value > most):
        limits = f"from {least} to {most}" if most else f"of {least} or more"
        raise InputError(f"`{name}` is {value!r}; it must be a whole number {limits}")


def _library() -> dict[str, str]:
    """Where espeak-ng and its data are."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError("making speech needs espeak-ng: pip install 'speechgmm[demo]'") from error
    return {"library": espeakng_loader.get_library_path(), "data": espeakng_loader.get_data_path()}


def _texts(
    speaker: str, folder: Path, generator: np.random.Generator, counts: dict[str, int]
) -> list[Utterance]:
    """What a speaker is to say, and into which files."""
    utterances = []
    for split, texts in (("train", TRAINING_TEXTS), ("test", TEST_TEXTS)):
        chosen = generator.choice(len(texts), counts[split], replace=False)
        for number, text in enumerate((texts[index] for index in chosen), 1):
            name = f"{speaker}_{split}_{number:02d}"
            labels = {"speaker": speaker, "text": text}
            utterances.append(Utterance(name, folder / speaker / f"{name}.wav", labels=labels, split=split))
    return utterances


def _speak(
    index: int, utterances: list[Utterance], generator: np.random.Generator, library: dict[str, str]
) -> None:
    """Let one voice speak its utterances into their files, in a process of its own."""
    job = {
        **library,
        "voice": f"{ACCENTS[index % len(ACCENTS)]}+{VARIANTS[index % len(VARIANTS)]}",
        "parameters": {name: int(generator.integers(*limits)) for name, limits in PARAMETERS.items()},
        "files": [(str(utterance.audio), utterance.labels["text"]) for utterance in utterances],
    }
    utterances[0].audio.parent.mkdir(parents=True)
    # Isolated and without site-packages, which the worker does not need: it starts sooner.
    command = [sys.executable, "-I", "-S", str(WORKER)]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"espeak-ng failed for voice {job['voice']}: {last}")
