"""Speaker verification on LibriSpeech's train-clean-100: within one utterance, and from chapter to chapter.

Two lists of trials, which ask for different things. "stretches": three seconds of an utterance against six others of
it, so that all but the words stays as it is. "chapters": an utterance against one of another chapter, which was often
recorded on another day; that needs the whole of train-clean-100.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from speechgmm.corpora.librispeech import TRAIN_CLEAN_100, utterances
from speechgmm.features import FeatureConfig
from speechgmm.features.reading import duration_of
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance
from speechgmm.recipe import run
from speechgmm.recipe_protocol import Protocol, first_of_each
from speechgmm.recipe_verification import Metrics, SystemResult, VerificationRecipe, metrics_of
from speechgmm.verification.trial_lists import Trial
from speechgmm.verification.trial_making import make_trials

SECONDS, GAP = 3.0, 0.1  # of a stretch, and between two of them
FEWEST_STRETCHES = 3
N_ENROL = 2  # stretches
N_TESTS = 10  # utterances of a speaker's other chapters, at most
FEWEST_SPEAKERS = 9  # three for each fold of the calibration


@dataclass(frozen=True)
class TrialList:
    """Trials, the utterances in them, and those of background speakers that come as near as can be to such trials."""

    enrolment: Mapping[str, Sequence[Utterance]]
    trials: Sequence[Trial]
    tests: Sequence[Utterance]
    cohort: Sequence[Utterance]


def divided(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """The utterances of background speakers and those of the others: every second in the order of their sha256."""
    ordered = sorted({one.label("speaker") for one in utterances}, key=sha256_of_text)
    background = set(ordered[::2])
    return (
        [one for one in utterances if one.label("speaker") in background],
        [one for one in utterances if one.label("speaker") not in background],
    )


def stretches(utterances: Sequence[Utterance]) -> list[Utterance]:
    """One utterance of each speaker, of those long enough for three stretches, cut into stretches."""
    lengths = {one.id: one.duration or duration_of(one) for one in utterances}
    counts = {name: int((seconds + GAP) / (SECONDS + GAP)) for name, seconds in lengths.items()}
    long = [one for one in utterances if counts[one.id] >= FEWEST_STRETCHES]
    return [
        replace(one, id=f"{one.id}:{start}", start=start, end=start + SECONDS, duration=SECONDS)
        for one in first_of_each(long, "speaker")
        for start in (round(number * (SECONDS + GAP), 1) for number in range(counts[one.id]))
    ]


def of_several_chapters(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The utterances of speakers who read more than one chapter."""
    counts = Counter(
        speaker for speaker, _ in {(one.label("speaker"), one.label("chapter")) for one in utterances}
    )
    return [one for one in utterances if counts[one.label("speaker")] > 1]


def lists_of(background: Sequence[Utterance], others: Sequence[Utterance]) -> dict[str, TrialList]:
    """The two lists; without that of chapters where too few speakers read several."""
    tests = stretches(others)
    lists = {
        "stretches": TrialList(
            *make_trials(tests, n_enrol=N_ENROL, background=background), tests, stretches(background)
        )
    }
    cohort = first_of_each(of_several_chapters(background), "speaker", "chapter")
    tests = of_several_chapters(others)
    few = min(len({one.label("speaker") for one in side}) for side in (cohort, tests))
    if few < FEWEST_SPEAKERS:
        print(
            f"No trials between chapters: {FEWEST_SPEAKERS} speakers of a side must read several; {few} do."
        )
    else:
        made = make_trials(tests, n_enrol=1, per_speaker=N_TESTS, apart="chapter", background=background)
        lists["chapters"] = TrialList(*made, tests, cohort)
    return lists


def results_of(
    recipe: VerificationRecipe,
    background: Sequence[Utterance],
    trial_list: TrialList,
    features: FeatureConfig,
) -> dict[str, SystemResult]:
    """All systems on a list of trials; only utterances that are in it are read."""
    named = {trial.test for trial in trial_list.trials}
    tests = [one for one in trial_list.tests if one.id in named]
    enrolled = [one for own in trial_list.enrolment.values() for one in own]
    extraction = recipe.extract_to_store([*background, *trial_list.cohort, *enrolled, *tests], features)
    protocol = Protocol.of_trials(
        extraction, trial_list.trials, trial_list.enrolment, background, trial_list.cohort
    )
    return recipe.verify(protocol, recipe.systems())


def main() -> None:
    recipe = VerificationRecipe(__file__, "Speaker verification on LibriSpeech")
    everything = recipe.listed(TRAIN_CLEAN_100, lambda folder: utterances(folder, ["train-clean-100"]))
    background, others = divided(everything)
    # One utterance of each chapter is plenty: all of a chapter were recorded alike.
    sessions = first_of_each(background, "speaker", "chapter")
    values, intervals = {}, {}
    for name, trial_list in lists_of(background, others).items():
        for normalisation, suffix in (("none", name), ("mean", f"{name}_mean_normalised")):
            features = replace(recipe.features(), normalisation=normalisation)
            results = results_of(recipe, sessions, trial_list, features)
            recipe.show(suffix.replace("_", ", ", 1).replace("_", " "), results)
            metrics = metrics_of(results, "top", "top_snorm", f"_{suffix}")
            values |= metrics.values
            intervals |= metrics.intervals
    shown = [name for name in values if name.startswith(("eer_stretches", "eer_chapters", "eer_snorm"))]
    recipe.conclude(Metrics(values, intervals), shown)
    print("Stretches of one utterance share its microphone and room, which is part of their scores.")


if __name__ == "__main__":
    run(main)
