"""Speaker verification on VoxCeleb1: its own list of trials, where one utterance enrols a model and one tests it."""

from collections.abc import Sequence

from speechgmm.corpora.voxceleb1 import CORPUS, utterances
from speechgmm.errors import InputError
from speechgmm.files import sha256_of_text
from speechgmm.manifest import Utterance, select
from speechgmm.recipe import run
from speechgmm.recipe_protocol import Protocol, first_of_each
from speechgmm.recipe_verification import VerificationRecipe, metrics_of
from speechgmm.verification.trial_lists import check_trials, read_trials

TRIALS = "veri_test2.txt"
ADDRESS = f"https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/{TRIALS}"
PUBLISHED = [
    ("eer", 0.188, "bob.bio.spear, GMM-UBM"),
    ("eer", 0.0533, "Kaldi egs/voxceleb/v1, i-vectors and PLDA, trained on VoxCeleb2 too"),
]


def cohort_of(videos: Sequence[Utterance], n_speakers: int, n_videos: int) -> list[Utterance]:
    """A few videos of some background speakers."""
    ordered = sorted({one.label("speaker") for one in videos}, key=sha256_of_text)[:n_speakers]
    return [
        one for one in first_of_each(videos, "speaker", count=n_videos) if one.label("speaker") in ordered
    ]


def main() -> None:
    recipe = VerificationRecipe(__file__, "Speaker verification on VoxCeleb1", TRIALS)
    everything = {one.id: one for one in recipe.listed(CORPUS, utterances)}
    path = recipe.trials_file(CORPUS)
    if not path.is_file():
        raise InputError(f"{path}: no list of trials; download {ADDRESS} to there, or name one with --trials")
    # Figures on lists that hold some trials twice have always counted them twice.
    trials = read_trials(path, allow_repeats=True)
    check_trials(trials, everything, everything)
    enrolment = {name: [everything[name]] for name in sorted({trial.model for trial in trials})}
    tests = [everything[name] for name in sorted({trial.test for trial in trials})]
    # One utterance of each video: another of the same would add little that is new.
    background = first_of_each(select(everything.values(), "dev"), "speaker", "video")
    settings = recipe.config["calibration"]
    cohort = cohort_of(background, settings["speakers"], settings["videos"])
    enrolled = [one for own in enrolment.values() for one in own]
    extraction = recipe.extract_to_store([*background, *enrolled, *tests])
    protocol = Protocol.of_trials(extraction, trials, enrolment, background, cohort)
    results = recipe.verify(protocol, recipe.systems())
    recipe.show(path.name, results)
    recipe.draw_det(protocol, results)
    metrics = metrics_of(results, "top", "top_snorm")
    recipe.conclude(metrics, ["eer", "eer_snorm"], PUBLISHED)


if __name__ == "__main__":
    run(main)
