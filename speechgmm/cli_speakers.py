"""What `speechgmm classify` and `inspect` do with a speaker store instead of a classifier model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechgmm.cli_shared import Format, finish, listed, print_rows
from speechgmm.cli_store import load_store, say_uncalibrated, spoken_point
from speechgmm.verification.speaker_store import SpeakerStore
from speechgmm.verification.verifier import Identification, OperatingPoint

COLUMNS = ("file", "label", "best", "posterior", "runner_up", "llr", "score", "p_value", "frames")
SHOWN = ("file", "label", "best", "posterior", "llr", "p_value")
FRAMES_ONLY = "Frames were made elsewhere: this store takes frames, in Python, and no audio."


def identify(path: Path, audio: Sequence[Path], point: OperatingPoint, format: Format, jobs: int) -> None:
    """Print which of the enrolled speakers each audio file is of, if any."""
    from speechgmm.manifest_build import from_files
    from speechgmm.terminal import shown_progress
    from speechgmm.verification.store_audio import identify_audio

    store = load_store(path)
    utterances, missing = from_files(audio)
    with shown_progress() as progress:
        results, unusable = identify_audio(store, utterances, point, n_jobs=jobs, progress=progress)
    problems = [*missing, *listed(unusable)]
    if not results:
        finish(problems, "; no file can be used", code=2)
    below = spoken_point(store, point, "the best is accepted")
    print_rows([_row(one) for one in results], format, COLUMNS, SHOWN, below)
    say_uncalibrated(store, "everybody gets the best speaker's name, and nobody is unknown")
    finish(problems)


def _row(one: Identification) -> dict[str, Any]:
    return {
        "file": one.utterance,
        "label": one.label,
        "best": one.best,
        "posterior": one.posterior,
        "runner_up": one.runner_up,
        "llr": one.llr,
        "score": one.score,
        "p_value": one.p_value,
        "frames": one.n_frames,
    }


def describe(path: Path, as_json: bool) -> None:
    """Print what is inside a speaker store."""
    from speechgmm.terminal import print_table

    store = load_store(path)
    facts = _facts(store)
    features = None if store.background.features is None else store.background.features.to_dict()
    calibration = _calibration(store)
    if as_json:
        whole = {
            **facts,
            "front_end": features,
            "record": dict(store.background.record),
            "calibration": calibration,
            "speakers": [row._asdict() for row in store.speakers()],
        }
        print(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    record = dict(store.background.record)
    settings = record.pop("settings", {})
    made = {**record, **(settings if isinstance(settings, dict) else {})}
    tables = {"Speaker store": facts, "Features": features, "Background": made, "Calibration": calibration}
    for title, table in tables.items():
        if table:
            print_table(title, ("what", "value"), [(name, _short(value)) for name, value in table.items()])
    if features is None:
        print(FRAMES_ONLY)
    if store.enrolments:
        print_table("Speakers", ("speaker", "utterances", "seconds", "frames"), store.speakers())
    else:
        print("Nobody is enrolled.")


def _facts(store: SpeakerStore) -> dict[str, Any]:
    cohort = store.cohort
    return {
        "background_components": store.background.ubm.n_components,
        "features": store.background.n_features,
        "adapted": ", ".join(store.adaptation.parts),
        "relevance_factor": store.adaptation.to_dict()["relevance_factor"],
        "enrolled": len(store.enrolments),
        "cohort_speakers": 0 if cohort is None else len(cohort.speakers),
        "cohort_utterances": 0 if cohort is None else len(cohort.frames),
        "calibrated": store.calibration is not None,
        "fingerprint": store.background.fingerprint,
    }


def _calibration(store: SpeakerStore) -> dict[str, Any] | None:
    stored = store.calibration
    if stored is None:
        return None
    return {
        "system": str(stored.system),
        "weight": stored.calibration.weights[0],
        "offset": stored.calibration.offset,
        "p_target": stored.calibration.p_target,
        "targets": stored.calibration.n_target,
        "nontargets": stored.calibration.n_nontarget,
        "held_out_explanations": len(stored.explanations),
        **stored.record,
    }


def _short(value: Any) -> str:
    """A value for a table; lists, which may be of a thousand speakers, by their first few."""
    from speechgmm.manifest import quoted
    from speechgmm.terminal import readable

    return (
        f"{len(value)}: {quoted(map(str, value))}" if isinstance(value, list) and value else readable(value)
    )
