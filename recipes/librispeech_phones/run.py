"""Phones of LibriSpeech: segments classified, phones recognised, transcripts aligned, baselines beside them."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from importlib.util import find_spec
from operator import add

import pocketsphinx_loop
import sklearn_segments

from speechgmm.corpora.librispeech import PHONE_DEV_SHARE, TRAIN_CLEAN_100
from speechgmm.features import Extraction, FeatureConfig, FeatureExtractor
from speechgmm.manifest import Utterance
from speechgmm.metrics.boundaries import boundary_agreement
from speechgmm.metrics.sequences import ErrorCounts
from speechgmm.parallel import one_blas_thread
from speechgmm.phones.lexicon import pocketsphinx_lexicon
from speechgmm.phones.recogniser import PhoneRecogniser
from speechgmm.phones.recogniser_training import train_recogniser
from speechgmm.phones.recognition import (
    PhoneEvaluation,
    align_utterances,
    evaluate_recognition,
)
from speechgmm.phones.vocal_tract import fitting_voice
from speechgmm.recipe import run
from speechgmm.recipe_phones import (
    PhoneRecipe,
    Wanted,
    boundary_metrics,
    every_nth,
    moved,
    normalised_by_session,
    part,
    show_errors,
    speakers_of,
)
from speechgmm.terminal import shown_progress

MANIFEST = "librispeech_phones/utterances.jsonl"
# In results.json alone.
HIDDEN = ("segment_balanced", "recognised_boundary", "per_speaker")
Metrics = dict[str, float]
Intervals = dict[str, tuple[float, float]]


def main() -> None:
    recipe = PhoneRecipe(__file__, "Phones of LibriSpeech")
    utterances = moved(recipe.utterances(TRAIN_CLEAN_100, MANIFEST), recipe.config["labels"]["offset"])
    metrics, intervals = segments(recipe, utterances)
    extraction = normalised_by_session(recipe.extract(utterances))
    evaluations = recognition(recipe, extraction)
    metrics |= figures(evaluations)
    intervals |= {name: (one.interval.low, one.interval.high) for name, one in evaluations.items()}
    metrics |= leave_one_speaker_out(recipe, extraction)
    metrics |= with_pocketsphinx(recipe, extraction, utterances)
    shown = [name for name in metrics if not name.startswith(HIDDEN)]
    recipe.finish(metrics, intervals=intervals, shown=shown)
    print("All figures are agreement with forced alignment; nobody has marked these phones by hand.")


def segments(recipe: PhoneRecipe, utterances: list[Utterance]) -> tuple[Metrics, Intervals]:
    """Segments with known boundaries on each split, by the classifier and by scikit-learn's mixtures."""
    extraction = recipe.extract(utterances, recipe.segment_features())
    marked = sklearn_segments.marked(utterances, FeatureConfig.from_dict(recipe.config["sklearn_features"]))
    metrics, intervals = {}, {}
    for name, is_tested in splits(utterances).items():
        train, test = part(extraction, lambda one: not is_tested(one)), part(extraction, is_tested)  # noqa: B023
        found = recipe.classify(train, test)
        metrics[f"segment_accuracy_{name}"] = found.accuracy
        metrics[f"segment_balanced_accuracy_{name}"] = found.balanced_accuracy
        intervals[f"segment_accuracy_{name}"] = found.interval
        with recipe.stage("segments, scikit-learn"):
            metrics[f"segment_accuracy_sklearn_{name}"] = sklearn_segments.compare(marked, is_tested)[0]
    return metrics, intervals


def splits(utterances: list[Utterance]) -> dict[str, Wanted]:
    """Short names of the splits, and which utterances each tests."""
    names = ("random", "chapters", *(f"without_{speaker}" for speaker in speakers_of(utterances)))
    return dict(zip(names, sklearn_segments.splits(utterances).values(), strict=True))


def recognition(recipe: PhoneRecipe, extraction: Extraction) -> dict[str, PhoneEvaluation]:
    """The test chapters, by a recogniser of all others whose weights are tuned on the development part."""
    test = extraction.of_split("test")
    tuned = recipe.tuned(recipe.trained(extraction.of_split("train")), extraction.of_split("dev"))
    recogniser = recipe.trained(part(extraction, lambda one: one.split != "test")).with_weights(tuned.weights)
    start = time.perf_counter()
    with recipe.stage("recognition, one core"), one_blas_thread():
        heard = normalised_by_session(FeatureExtractor(recogniser.features).extract(test.utterances))
        plain = [recogniser.recognise(frames) for frames in heard.frames]
    factor = (time.perf_counter() - start) / sum(test.seconds)
    print(f"  real-time factor {factor:.4f}, one core, from files to phones")
    with recipe.stage("recognition, fMLLR"):
        adapted = recipe.recognised_adapted(recogniser, test)
    evaluations = {
        name: evaluate_recognition(test.utterances, [one.phones for one in found], seed=recipe.options.seed)
        for name, found in (("per", plain), ("per_fmllr", adapted))
    }
    show_errors("Held-out chapters", evaluations)
    return evaluations


def figures(evaluations: Mapping[str, PhoneEvaluation]) -> Metrics:
    """The plain numbers: error rates, and boundaries of the first system."""
    metrics = {name: one.counts.rate for name, one in evaluations.items()}
    first = evaluations["per"]
    metrics |= {
        "per_with_silence": first.counts_with_silence.rate,
        **{f"per_speaker_{speaker}": counts.rate for speaker, counts in first.groups.items()},
    }
    if first.boundaries is not None:
        metrics |= {f"recognised_{name}": share for name, share in boundary_metrics(first.boundaries).items()}
    return metrics


def leave_one_speaker_out(recipe: PhoneRecipe, extraction: Extraction) -> Metrics:
    """Each speaker, by a recogniser of the two others; as it is, adapted, and with the voice fitted before."""
    rates: Metrics = {}
    together: dict[str, ErrorCounts] = {}
    for speaker in speakers_of(extraction.utterances):
        test = part(extraction, lambda one: one.label("speaker") == speaker)  # noqa: B023
        others = part(extraction, lambda one: one.label("speaker") != speaker)  # noqa: B023
        counts = left_out(recipe, others, test)
        rates |= {f"per_without_{speaker}{system}": one.rate for system, one in counts.items()}
        together = {system: together.get(system, ErrorCounts()) + one for system, one in counts.items()}
    return rates | {f"per_leave_one_speaker_out{system}": one.rate for system, one in together.items()}


def left_out(recipe: PhoneRecipe, others: Extraction, test: Extraction) -> dict[str, ErrorCounts]:
    """Errors on one speaker by a recogniser of others, whose every eighth utterance tunes."""
    tuning = every_nth(others.utterances, PHONE_DEV_SHARE)
    recogniser = recipe.trained(part(others, lambda one: one.id not in tuning))
    recogniser = recipe.tuned(recogniser, part(others, lambda one: one.id in tuning))
    with recipe.stage("recognition, new speaker"):
        voice = fitting_voice(
            recogniser, test.utterances, n_jobs=recipe.jobs, normalised=normalised_by_session
        )
        found = {
            "": recipe.recognised(recogniser, test.frames),
            "_fmllr": recipe.recognised_adapted(recogniser, test),
            "_vtln_fmllr": recipe.recognised_adapted(recogniser, voice.extraction),
        }
    print(f"  filters of speaker {test.utterances[0].label('speaker')} moved by {voice.warp:g}")
    return {
        system: evaluate_recognition(test.utterances, [one.phones for one in own]).counts
        for system, own in found.items()
    }


def with_pocketsphinx(recipe: PhoneRecipe, extraction: Extraction, utterances: list[Utterance]) -> Metrics:
    """What needs pocketsphinx: its own phone loop, and its lexicon."""
    if find_spec("pocketsphinx") is None:
        print("pocketsphinx is not installed: neither its phone loop nor alignment by its lexicon")
        return {}
    return loop_of_pocketsphinx(recipe, extraction) | alignment(recipe, utterances)


def loop_of_pocketsphinx(recipe: PhoneRecipe, extraction: Extraction) -> Metrics:
    """The test chapters by pocketsphinx's phone loop, with settings chosen on the development part."""
    test = extraction.of_split("test").utterances
    with recipe.stage("recognition, pocketsphinx"):
        counts, recognised = pocketsphinx_loop.figures(test, pocketsphinx_loop.CHOSEN)
    print(f"  PER {counts.rate:.2%}, real-time factor {recognised.real_time_factor:.4f}, one core")
    return {"per_pocketsphinx": counts.rate}


def alignment(recipe: PhoneRecipe, utterances: list[Utterance]) -> Metrics:
    """Boundaries found with transcripts and a lexicon alone, compared with the labels."""
    lexicon = pocketsphinx_lexicon()
    unmarked = [replace(one, segments={}) for one in utterances]
    with recipe.stage("alignment"), one_blas_thread(), shown_progress() as progress:
        aligner: PhoneRecogniser = train_recogniser(
            unmarked,
            features=FeatureConfig.from_dict(recipe.config["alignment_features"]),
            settings=recipe.recogniser_settings("alignment"),
            hmm=recipe.hmm_settings("alignment_hmm"),
            lexicon=lexicon,
            n_jobs=recipe.jobs,
            progress=progress,
        ).recogniser
        found = align_utterances(aligner, unmarked, lexicon, n_jobs=recipe.jobs, progress=progress)
    for problem in found.problems:
        print(f"  {problem.utterance}: {problem.message}")
    known = {one.id: one.segments["phones"] for one in utterances}
    agreement = reduce(
        add, (boundary_agreement(known[one.id], one.segments["phones"]) for one in found.utterances)
    )
    print(
        f"  {len(found.utterances)} utterances, {agreement.n_reference} boundaries, "
        f"late by {1000 * agreement.mean_deviation:.1f} ms on average"
    )
    return boundary_metrics(agreement)


if __name__ == "__main__":
    run(main)
