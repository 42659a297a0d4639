"""Phonemes: labels and lexicons, classification of segments, recognition and forced alignment with GMM-HMMs.

Names are loaded when they are first used: compiled code takes a moment.
"""

from typing import TYPE_CHECKING

from speechgmm.lazy import lazy_names

if TYPE_CHECKING:
    from speechgmm.phones.alignment import AlignedUnit, FrameAlignment, align_frames
    from speechgmm.phones.arpa import read_arpa, write_arpa
    from speechgmm.phones.decoder import Decoded, Found, decode
    from speechgmm.phones.fmllr import estimate_fmllr, fmllr_prior, fmllr_statistics
    from speechgmm.phones.front_end import FrontEnd
    from speechgmm.phones.graph import Step, compose, transcript_of
    from speechgmm.phones.hmm import HmmSet, left_to_right
    from speechgmm.phones.hmm_training import HmmSettings, HmmTraining, train_hmms
    from speechgmm.phones.label_files import read_labels, write_labels
    from speechgmm.phones.labels import attach, filled, mapped, phone_string
    from speechgmm.phones.language_model import NgramModel, train_ngrams
    from speechgmm.phones.lda import class_statistics, estimate_lda
    from speechgmm.phones.lexicon import (
        Lexicon,
        cmudict_lexicon,
        pocketsphinx_lexicon,
        read_lexicon,
        transcript_words,
        write_lexicon,
    )
    from speechgmm.phones.network import LoopWeights, phone_loop
    from speechgmm.phones.passes import AlignmentError, best_path, log_likelihoods, occupancy
    from speechgmm.phones.phone_sets import PhoneSet, map_phones, phone_map, phone_set
    from speechgmm.phones.recogniser import Alignment, PhoneRecogniser, Recognition
    from speechgmm.phones.recogniser_training import RecogniserSettings, RecogniserTraining, train_recogniser
    from speechgmm.phones.recognition import (
        AlignmentRun,
        PhoneEvaluation,
        RecognitionRun,
        align_utterances,
        evaluate_recognition,
        recognise_utterances,
    )
    from speechgmm.phones.segment_classifier import (
        SegmentClassifier,
        evaluate_segments,
        train_segment_classifier,
    )
    from speechgmm.phones.segment_evidence import SegmentSettings
    from speechgmm.phones.semi_tied import estimate_mllt, mllt_statistics
    from speechgmm.phones.speaker_adaptation import adapted_to
    from speechgmm.phones.transcripts import transcripts_of, word_steps
    from speechgmm.phones.transforms import LinearTransform, splice
    from speechgmm.phones.tuning import Tuning, tune_weights
    from speechgmm.phones.vocal_tract import Voice, fitting_voice, warped
    from speechgmm.phones.word_classifier import WordClassifier, train_words

_HOMES = {
    "alignment": ("AlignedUnit", "FrameAlignment", "align_frames"),
    "arpa": ("read_arpa", "write_arpa"),
    "decoder": ("Decoded", "Found", "decode"),
    "fmllr": ("estimate_fmllr", "fmllr_prior", "fmllr_statistics"),
    "front_end": ("FrontEnd",),
    "graph": ("Step", "compose", "transcript_of"),
    "hmm": ("HmmSet", "left_to_right"),
    "hmm_training": ("HmmSettings", "HmmTraining", "train_hmms"),
    "label_files": ("read_labels", "write_labels"),
    "labels": ("attach", "filled", "mapped", "phone_string"),
    "language_model": ("NgramModel", "train_ngrams"),
    "lda": ("class_statistics", "estimate_lda"),
    "lexicon": (
        "Lexicon",
        "cmudict_lexicon",
        "pocketsphinx_lexicon",
        "read_lexicon",
        "transcript_words",
        "write_lexicon",
    ),
    "network": ("LoopWeights", "phone_loop"),
    "passes": ("AlignmentError", "best_path", "log_likelihoods", "occupancy"),
    "phone_sets": ("PhoneSet", "map_phones", "phone_map", "phone_set"),
    "recogniser": ("Alignment", "PhoneRecogniser", "Recognition"),
    "recogniser_training": ("RecogniserSettings", "RecogniserTraining", "train_recogniser"),
    "recognition": (
        "AlignmentRun",
        "PhoneEvaluation",
        "RecognitionRun",
        "align_utterances",
        "evaluate_recognition",
        "recognise_utterances",
    ),
    "segment_classifier": ("SegmentClassifier", "evaluate_segments", "train_segment_classifier"),
    "segment_evidence": ("SegmentSettings",),
    "semi_tied": ("estimate_mllt", "mllt_statistics"),
    "speaker_adaptation": ("adapted_to",),
    "transcripts": ("transcripts_of", "word_steps"),
    "transforms": ("LinearTransform", "splice"),
    "tuning": ("Tuning", "tune_weights"),
    "vocal_tract": ("Voice", "fitting_voice", "warped"),
    "word_classifier": ("WordClassifier", "train_words"),
}

__all__ = [
    "AlignedUnit",
    "Alignment",
    "AlignmentError",
    "AlignmentRun",
    "Decoded",
    "Found",
    "FrameAlignment",
    "FrontEnd",
    "HmmSet",
    "HmmSettings",
    "HmmTraining",
    "Lexicon",
    "LinearTransform",
    "LoopWeights",
    "NgramModel",
    "PhoneEvaluation",
    "PhoneRecogniser",
    "PhoneSet",
    "RecogniserSettings",
    "RecogniserTraining",
    "Recognition",
    "RecognitionRun",
    "SegmentClassifier",
    "SegmentSettings",
    "Step",
    "Tuning",
    "Voice",
    "WordClassifier",
    "adapted_to",
    "align_frames",
    "align_utterances",
    "attach",
    "best_path",
    "class_statistics",
    "cmudict_lexicon",
    "compose",
    "decode",
    "estimate_fmllr",
    "estimate_lda",
    "estimate_mllt",
    "evaluate_recognition",
    "evaluate_segments",
    "filled",
    "fitting_voice",
    "fmllr_prior",
    "fmllr_statistics",
    "left_to_right",
    "log_likelihoods",
    "map_phones",
    "mapped",
    "mllt_statistics",
    "occupancy",
    "phone_loop",
    "phone_map",
    "phone_set",
    "phone_string",
    "pocketsphinx_lexicon",
    "read_arpa",
    "read_labels",
    "read_lexicon",
    "recognise_utterances",
    "splice",
    "train_hmms",
    "train_ngrams",
    "train_recogniser",
    "train_segment_classifier",
    "train_words",
    "transcript_of",
    "transcript_words",
    "transcripts_of",
    "tune_weights",
    "warped",
    "word_steps",
    "write_arpa",
    "write_labels",
    "write_lexicon",
]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
