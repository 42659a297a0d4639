"""A phone recogniser: features, HMMs and a language model; it recognises, aligns, and fits in one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from speechgmm.em.coordinates import Float32s, Floats, require_frames
from speechgmm.errors import FormatError, InputError
from speechgmm.features.config import FeatureConfig
from speechgmm.manifest import Segment
from speechgmm.phones.alignment import FrameAlignment, align_frames
from speechgmm.phones.confidence import confidences, unit_posteriors
from speechgmm.phones.decoder import DECODING_BEAM, Decoded, decode
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.graph import Step
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.language_model import NgramModel
from speechgmm.phones.network import LoopWeights, Network, phone_loop
from speechgmm.phones.passes import BEAM, log_likelihoods
from speechgmm.phones.recogniser_file import Stored, read_recogniser, write_recogniser


class Recognition(NamedTuple):
    """What was recognised in an utterance.

    Parameters
    ----------
    phones : tuple of Segment
        One after the other from the beginning to the end, silence included.
    confidences : tuple of float, optional
        Of each phone: its mean posterior, from 0 to 1.
    score : float
        Log-likelihood of the best path, weights of the language model included.
    """

    phones: tuple[Segment, ...]
    confidences: tuple[float, ...] | None
    score: float


class Alignment(NamedTuple):
    """When phones and words of a transcript are said.

    Parameters
    ----------
    phones : tuple of Segment
        One after the other from the beginning to the end, silence included.
    words : tuple of Segment
        Those of the transcript; empty where it was one of phones.
    phone_log_likelihoods : tuple of float
        Mean per frame of each phone.
    log_likelihood : float
        Mean per frame of the utterance.
    """

    phones: tuple[Segment, ...]
    words: tuple[Segment, ...]
    phone_log_likelihoods: tuple[float, ...]
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class PhoneRecogniser:
    """HMMs, front end and language model that turn the frames of an utterance into phones, or align it with a text.

    `train_recogniser` makes one, `load` reads one. `recognise_utterances` and `align_utterances` take audio; its own
    methods take frames.

    Parameters
    ----------
    features : FeatureConfig
        How audio becomes frames.
    front_end : FrontEnd
        What becomes of frames before the HMMs see them.
    hmms : HmmSet
    language_model : NgramModel
        Of the phones, silence among them.
    weights : LoopWeights
        Of the language model in recognition.
    silence : str
        The phone of silence.
    record : mapping
        How it was made.

    Raises
    ------
    InputError
        If the parts do not fit together.
    """

    features: FeatureConfig
    front_end: FrontEnd
    hmms: HmmSet
    language_model: NgramModel
    weights: LoopWeights
    silence: str
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.features.speech_activity != "none":
            raise InputError("phones need every frame in its place; switch `speech_activity` off")
        made = self.front_end.n_features(self.features.n_features)
        if made != self.hmms.n_features:
            raise InputError(
                f"the front end gives {made} values a frame; the HMMs need {self.hmms.n_features}"
            )
        if set(self.language_model.vocabulary) != set(self.hmms.units):
            raise InputError("the language model and the HMMs must be of the same phones")
        if self.silence not in self.hmms.units:
            raise InputError(f"there is no HMM of the silence phone {self.silence!r}")

    @property
    def phones(self) -> tuple[str, ...]:
        """The phones it tells apart, silence among them."""
        return self.hmms.units

    @cached_property
    def network(self) -> Network:
        """What recognition searches through."""
        return phone_loop(self.hmms, self.language_model, self.weights)

    def with_weights(self, weights: LoopWeights) -> "PhoneRecogniser":
        """The same recogniser with other weights of the language model."""
        return replace(self, weights=weights)

    def prepared(self, frames: Floats) -> Float32s:
        """Frames as the HMMs take them.

        Parameters
        ----------
        frames : (n_frames, n_features)
            As `features` makes them.

        Raises
        ------
        InputError
            If frames are of other features.
        """
        checked = require_frames(frames)
        if checked.shape[1] != self.features.n_features:
            raise InputError(
                f"frames have {checked.shape[1]} values; the recogniser needs {self.features.n_features}, as its "
                "`features` make them (other settings?)"
            )
        return self.front_end.apply(checked)

    def recognise(
        self, frames: Floats, *, confidence: bool = False, beam: float = DECODING_BEAM
    ) -> Recognition:
        """The most probable phones of an utterance; `recognise_utterances` does this for many, from their audio.

        Parameters
        ----------
        frames : (n_frames, n_features)
            As `FeatureExtractor(recogniser.features)` makes them.
        confidence : bool
            Whether to say how sure each phone is; that takes several times as long.
        beam : float
            States further behind the best one of their frame are given up, in nats.

        Raises
        ------
        InputError
            If the utterance is shorter than any phone, or frames are of other features.
        """
        scores = log_likelihoods(self.hmms, self.prepared(frames))
        decoded = decode(self.hmms, self.network, scores, beam)
        sure = None
        if confidence:
            scale = 1.0 / max(1.0, self.weights.language_model)
            posteriors = unit_posteriors(self.hmms, self.network, scores, scale)
            sure = confidences(decoded, posteriors, self.network.units)
        return Recognition(self._found(decoded), sure, decoded.score)

    def align(self, frames: Floats, transcript: Sequence[Step], beam: float = BEAM) -> Alignment:
        """When the phones and words of a transcript are said; `align_utterances` does this for many, from their audio.

        Parameters
        ----------
        frames : (n_frames, n_features)
            As `FeatureExtractor(recogniser.features)` makes them.
        transcript : sequence of Step
            Such as `speechgmm.phones.transcripts.transcripts_of` makes.
        beam : float
            States further behind the best one of their frame are given up, in nats.

        Raises
        ------
        AlignmentError
            If the utterance cannot be what the transcript says.
        InputError
            If a phone is unknown, or frames are of other features.
        """
        found = align_frames(self.hmms, self.prepared(frames), transcript, beam)
        return Alignment(
            phones=tuple(self._segment(one.unit, one.first, one.stop) for one in found.units),
            words=self._words(found, transcript),
            phone_log_likelihoods=tuple(one.log_likelihood for one in found.units),
            log_likelihood=found.log_likelihood / len(frames),
        )

    def save(self, path: str | Path) -> None:
        """Write the recogniser to one file, whole or not at all; raises `InputError` where that is impossible."""
        write_recogniser(path, Stored(*(getattr(self, name) for name in Stored._fields)))

    @classmethod
    def load(cls, path: str | Path) -> "PhoneRecogniser":
        """Read a recogniser; nothing in the file is ever executed.

        Raises
        ------
        InputError
            If there is no such file.
        FormatError
            If it is truncated, of another kind, of a newer version, or says something impossible.
        """
        stored = read_recogniser(path)
        try:
            return cls(*stored)
        except InputError as error:
            raise FormatError(f"{path}: {error} (edited by hand, or damaged?)") from error

    def _found(self, decoded: Decoded) -> tuple[Segment, ...]:
        return tuple(self._segment(*one) for one in decoded.units)

    def _words(self, found: FrameAlignment, transcript: Sequence[Step]) -> tuple[Segment, ...]:
        edges: dict[int, list[int]] = {}
        for one in found.units:
            if transcript[one.step].word:
                edges.setdefault(one.step, [one.first, one.stop])[1] = one.stop
        return tuple(
            self._segment(transcript[step].word, first, stop) for step, (first, stop) in edges.items()
        )

    def _segment(self, label: str, first: int, stop: int) -> Segment:
        """A stretch of frames in seconds."""
        return Segment(self.features.edge_time(first), self.features.edge_time(stop), label)
