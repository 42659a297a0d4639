"""Speaker verification: a background model, enrolment, trials and their scores, and decisions that follow from costs.

Names are loaded when they are first used: compiled code takes a moment.
"""

from typing import TYPE_CHECKING

from speechgmm.lazy import lazy_names

if TYPE_CHECKING:
    from speechgmm.verification.background import (
        Background,
        UbmSettings,
        UbmTraining,
        train_ubm,
        train_ubm_on_frames,
    )
    from speechgmm.verification.calibration import (
        Calibration,
        PavCalibration,
        calibration_report,
        decide,
        fit_calibration,
        fit_pav,
        posterior,
    )
    from speechgmm.verification.cohort import Cohort
    from speechgmm.verification.cross_fitting import CrossFit, cohort_of, cross_fit
    from speechgmm.verification.enrolment import Enroller, Enrolment
    from speechgmm.verification.open_set import AnomalyModel, OpenSetCurve, open_set_curve
    from speechgmm.verification.score_normalisation import normalise_scores, refuse_cohort_targets
    from speechgmm.verification.scoring import TrialScorer
    from speechgmm.verification.speaker_store import SpeakerStore
    from speechgmm.verification.store_audio import calibrate_audio, enrol_audio, identify_audio, verify_audio
    from speechgmm.verification.store_calibration import calibrate_store, speech_of
    from speechgmm.verification.stored_calibration import StoredCalibration
    from speechgmm.verification.system import CohortSpeech, System, SystemScorer
    from speechgmm.verification.trial_evaluation import TrialFigures, trial_figures
    from speechgmm.verification.trial_lists import Trial, TrialIndex, check_trials, read_trials, write_trials
    from speechgmm.verification.trial_making import make_trials
    from speechgmm.verification.trial_running import ScoredTrials, evaluate_trials, score_trials
    from speechgmm.verification.verifier import Identification, OperatingPoint, Verification, Verifier

_HOMES = {
    "background": ("Background", "UbmSettings", "UbmTraining", "train_ubm", "train_ubm_on_frames"),
    "calibration": (
        *("Calibration", "PavCalibration", "calibration_report", "decide"),
        *("fit_calibration", "fit_pav", "posterior"),
    ),
    "cohort": ("Cohort",),
    "cross_fitting": ("CrossFit", "cohort_of", "cross_fit"),
    "enrolment": ("Enroller", "Enrolment"),
    "open_set": ("AnomalyModel", "OpenSetCurve", "open_set_curve"),
    "score_normalisation": ("normalise_scores", "refuse_cohort_targets"),
    "scoring": ("TrialScorer",),
    "speaker_store": ("SpeakerStore",),
    "store_audio": ("calibrate_audio", "enrol_audio", "identify_audio", "verify_audio"),
    "store_calibration": ("calibrate_store", "speech_of"),
    "stored_calibration": ("StoredCalibration",),
    "system": ("CohortSpeech", "System", "SystemScorer"),
    "trial_evaluation": ("TrialFigures", "trial_figures"),
    "trial_lists": ("Trial", "TrialIndex", "check_trials", "read_trials", "write_trials"),
    "trial_making": ("make_trials",),
    "trial_running": ("ScoredTrials", "evaluate_trials", "score_trials"),
    "verifier": ("Identification", "OperatingPoint", "Verification", "Verifier"),
}

__all__ = [
    "AnomalyModel",
    "Background",
    "Calibration",
    "Cohort",
    "CohortSpeech",
    "CrossFit",
    "Enroller",
    "Enrolment",
    "Identification",
    "OpenSetCurve",
    "OperatingPoint",
    "PavCalibration",
    "ScoredTrials",
    "SpeakerStore",
    "StoredCalibration",
    "System",
    "SystemScorer",
    "Trial",
    "TrialFigures",
    "TrialIndex",
    "TrialScorer",
    "UbmSettings",
    "UbmTraining",
    "Verification",
    "Verifier",
    "calibrate_audio",
    "calibrate_store",
    "calibration_report",
    "check_trials",
    "cohort_of",
    "cross_fit",
    "decide",
    "enrol_audio",
    "evaluate_trials",
    "fit_calibration",
    "fit_pav",
    "identify_audio",
    "make_trials",
    "normalise_scores",
    "open_set_curve",
    "posterior",
    "read_trials",
    "refuse_cohort_targets",
    "score_trials",
    "speech_of",
    "train_ubm",
    "train_ubm_on_frames",
    "trial_figures",
    "verify_audio",
    "write_trials",
]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
