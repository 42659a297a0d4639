"""Training of a phone recogniser: HMMs, front end and language model from utterances, weights from development data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from speechgmm.em.coordinates import Floats
from speechgmm.errors import InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.features.extract import Problem
from speechgmm.manifest import Utterance, fingerprint
from speechgmm.parallel import Progress, no_progress
from speechgmm.phones.first_paths import first_paths
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.front_end_training import discriminant, with_semi_tied
from speechgmm.phones.graph import Step
from speechgmm.phones.hmm import left_to_right
from speechgmm.phones.hmm_training import HmmSettings, HmmTrainer, HmmTraining, Iteration
from speechgmm.phones.language_model import SMOOTHINGS, checked_vocabulary, require_order, train_ngrams
from speechgmm.phones.lexicon import Lexicon
from speechgmm.phones.network import LoopWeights
from speechgmm.phones.occupied_frames import Aligned
from speechgmm.phones.passes import Path
from speechgmm.phones.recogniser import PhoneRecogniser
from speechgmm.phones.transcripts import Said, phones_of, transcripts_of
from speechgmm.settings import require_numbers, settings_from_table
from speechgmm.training_frames import checked_frames, usable_frames
from speechgmm.version import __version__

# What phones need of the feature module where nothing else is asked for.
PHONE_FEATURES: Mapping[str, Any] = {
    "n_coefficients": 13,
    "normalisation": "mean_variance",
    "dither": 1e-5,
}
# Gaussians a state of the HMMs that divide utterances for the front end.
FIRST_COMPONENTS = 8


@dataclass(frozen=True)
class RecogniserSettings:
    """How a recogniser is made, its HMMs apart.

    Parameters
    ----------
    n_states : int
        Of each phone.
    silence : str
        The phone of silence.
    silence_states : int
        Of the phone of silence, in place of `n_states`.
    order : int
        Of the language model: 2 for bigrams.
    smoothing : {"witten_bell", "kneser_ney"}
        Of the language model.
    context : int
        Frames to either side whose cepstra are joined with those of each frame, and transformed by linear discriminant
        analysis (LDA); 0 leaves frames as they are. Cepstra are joined without their deltas, which serve the first
        alignment alone.
    n_dimensions : int
        Values a frame has after that.
    semi_tied : int
        Rounds of the semi-tied covariance transform after LDA.
    language_model_weight, insertion : float
        In recognition, see `LoopWeights`, until `tune_weights` finds better ones.
    """

    n_states: int = 3
    silence: str = "SIL"
    silence_states: int = 3
    order: int = 3
    smoothing: str = "kneser_ney"
    context: int = 3
    n_dimensions: int = 40
    semi_tied: int = 2
    language_model_weight: float = 6.0
    insertion: float = -2.0

    def __post_init__(self) -> None:
        whole = {
            "n_states": 1,
            "silence_states": 1,
            "order": 1,
            "context": 0,
            "n_dimensions": 1,
            "semi_tied": 0,
        }
        require_numbers(self, "recogniser", whole, ())
        if self.smoothing not in SMOOTHINGS:
            raise InputError(
                f"recogniser setting `smoothing` is {self.smoothing!r}; it can be {', '.join(SMOOTHINGS)}"
            )
        if not isinstance(self.silence, str) or self.silence.split() != [self.silence]:
            raise InputError(
                f"recogniser setting `silence` is {self.silence!r}; it must be the name of a phone"
            )
        self.weights()

    def weights(self) -> LoopWeights:
        """Those of the language model."""
        return LoopWeights(self.language_model_weight, self.insertion)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "RecogniserSettings":
        """Settings from plain values, such as a TOML table; those not given keep their defaults."""
        return settings_from_table(cls, settings, "recogniser")


@dataclass(frozen=True, eq=False)
class RecogniserTraining:
    """A trained recogniser, how the training of its HMMs went, and the utterances that could not be used."""

    recogniser: PhoneRecogniser
    history: tuple[Iteration, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class Material:
    """What a recogniser is trained on: utterances, their frames, and what is said in them."""

    utterances: Sequence[Utterance]
    frames: Sequence[Floats]
    said: Sequence[Said]

    @property
    def steps(self) -> list[Sequence[Step]]:
        """The transcript of each utterance."""
        return [one.steps for one in self.said]

    @property
    def phones(self) -> list[str]:
        """All phones that may be said, sorted."""
        return phones_of(self.said)


def train_recogniser(
    utterances: Sequence[Utterance],
    *,
    features: FeatureConfig | Mapping[str, Any] | None = None,
    settings: RecogniserSettings | None = None,
    hmm: HmmSettings | None = None,
    lexicon: Lexicon | None = None,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> RecogniserTraining:
    """Train a phone recogniser: one HMM for each phone, the front end before them, and a language model of phones.

    Half an hour of speech is a beginning. Utterances with segments of the tier "phones" give the HMMs their first
    guess; others, with a label "phones" or "text", are divided evenly. See
    `speechgmm.phones.transcripts.transcripts_of`. The weights of the language model are those of the settings, until
    `tune_weights` finds better ones on other utterances.

    Parameters
    ----------
    utterances : sequence of Utterance
    features : FeatureConfig or mapping, optional
        A mapping gives some of the settings; the others are those of `PHONE_FEATURES`.
    settings : RecogniserSettings, optional
    hmm : HmmSettings, optional
    lexicon : Lexicon, optional
        For utterances with text alone.
    n_jobs : int
        Workers; the recogniser is the same bits for any number.
    progress : callable

    Returns
    -------
    RecogniserTraining
        Utterances that cannot be read or aligned are left out and listed in `problems`.

    Raises
    ------
    InputError
        If no utterance can be used, nothing is known of one, or words are not in the lexicon.

    Examples
    --------
    >>> training = train_recogniser(read_manifest("sentences.jsonl"), lexicon=pocketsphinx_lexicon(), n_jobs=-1)
    >>> training.recogniser.save("phones.safetensors")
    """
    settings, hmm = settings or RecogniserSettings(), hmm or HmmSettings()
    if not isinstance(features, FeatureConfig):
        features = {**PHONE_FEATURES, **(features or {})}
    transcripts_of(utterances, settings.silence, lexicon)  # what is missing shows before the long work
    features, extraction = usable_frames(utterances, None, features, None, n_jobs, progress)
    used = extraction.utterances
    material = Material(
        used, checked_frames(extraction.frames), transcripts_of(used, settings.silence, lexicon, features)
    )
    training = train_on_material(material, features, settings, hmm, n_jobs, progress)
    return RecogniserTraining(
        training.recogniser, training.history, (*extraction.problems, *training.problems)
    )


def train_on_material(
    material: Material,
    features: FeatureConfig,
    settings: RecogniserSettings,
    hmm: HmmSettings,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> RecogniserTraining:
    """Train on frames that were made before; see `train_recogniser`."""
    n_states = dict.fromkeys({*material.phones, settings.silence}, settings.n_states)
    n_states[settings.silence] = settings.silence_states
    n_states = dict(sorted(n_states.items()))
    # What the language model and the front end cannot be of shows before the long work.
    require_order(settings.order, len(checked_vocabulary(tuple(n_states))))
    _require_dimensions(settings, sum(n_states.values()), features.n_statics)
    front_end, training, strings = _train(material, features, settings, n_states, hmm, n_jobs, progress)
    language_model = train_ngrams(strings, settings.order, settings.smoothing, tuple(n_states))
    recogniser = PhoneRecogniser(
        features=features,
        front_end=front_end,
        hmms=training.hmms,
        language_model=language_model,
        weights=settings.weights(),
        silence=settings.silence,
        record={
            "version": __version__,
            "manifest": fingerprint(material.utterances),
            "settings": asdict(settings),
            # JSON has no infinity, which a beam may be.
            "hmm": {name: "inf" if value == np.inf else value for name, value in asdict(hmm).items()},
            "utterances": len(strings),
        },
    )
    problems = tuple(
        Problem(material.utterances[number].id, message) for number, message in training.failures
    )
    return RecogniserTraining(recogniser, training.history, problems)


def _require_dimensions(settings: RecogniserSettings, n_states: int, n_statics: int) -> None:
    """Refuse more dimensions than linear discriminant analysis can find."""
    most = min(n_states - 1, n_statics * (2 * settings.context + 1))
    if settings.context and settings.n_dimensions > most:
        raise InputError(
            f"recogniser setting `n_dimensions` is {settings.n_dimensions}; {n_states} states of phones and "
            f"{n_statics} values a frame give at most {most} (few phones? Choose fewer dimensions, or `context` = 0)"
        )


def _train(
    material: Material,
    features: FeatureConfig,
    settings: RecogniserSettings,
    n_states: dict[str, int],
    hmm: HmmSettings,
    n_jobs: int,
    progress: Progress,
) -> tuple[FrontEnd, HmmTraining, list[list[str]]]:
    """Front end and HMMs, and the phones of each utterance that they can align."""
    few = hmm if settings.context == 0 else replace(hmm, n_components=min(FIRST_COMPONENTS, hmm.n_components))
    trainer = HmmTrainer(material.frames, material.steps, few, n_jobs, progress)
    flat = left_to_right(n_states, trainer.one_gaussian())
    utterances = trainer.aligned(flat)
    training = trainer.train(flat, first_paths(utterances, [one.times for one in material.said]))
    front_end, paths = FrontEnd(), trainer.paths(training.hmms)
    if settings.context:
        n_joined = features.n_statics
        front_end = discriminant(
            utterances, paths, len(flat.mixtures), n_joined, settings.context, settings.n_dimensions
        )
        for _ in range(settings.semi_tied):
            front_end = with_semi_tied(
                front_end, material.frames, material.steps, flat, paths, hmm, n_jobs, progress
            )
        turned = [front_end.apply(frames) for frames in material.frames]
        trainer = HmmTrainer(turned, material.steps, hmm, n_jobs, progress)
        training = trainer.train(flat.with_mixtures([trainer.one_gaussian()] * len(flat.mixtures)), paths)
        paths = trainer.paths(training.hmms)
    strings = [
        _phones(utterance, path)
        for utterance, path in zip(utterances, paths, strict=True)
        if isinstance(path, Path)
    ]
    return front_end, training, strings


def _phones(utterance: Aligned, path: Path) -> list[str]:
    """The phones that a path goes through."""
    owners = utterance.graph.owners[path.states]
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    return [utterance.graph.occurrences[owner].unit for owner in owners[firsts]]
