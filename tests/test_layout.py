"""Where things live: a file imports only from files above it, loads nothing heavy, and stays short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "speechgmm"

# From the bottom up: a file may import from those before it, and from no others. A new file gets a line here.
ORDER = (
    "errors",
    "version",
    "lazy",
    "files",
    "tensor_file",
    "parallel",
    "compiled",
    "metrics.identification",
    "metrics.trial_scores",
    "metrics.detection",
    "metrics.bootstrap",
    "metrics.sequences",
    "metrics.boundaries",
    "metrics",
    "em.coordinates",
    "em.terms",
    "em.kernels",
    "em.kernels_lloyd",
    "em.kernels_grouped",
    "em.kernels_many",
    "em.covariance",
    "em.mixture",
    "em.sources",
    "em.moments",
    "em.projection",
    "em.many",
    "em.statistics",
    "em.maximise",
    "em.adaptation",
    "em.checkpoint",
    "em.fit",
    "em.lloyd",
    "em.initialise",
    "em.restarts",
    "em.online",
    "em.selection",
    "em.candidates",
    "em.grouped",
    "em.inference",
    "em.estimator",
    "em",
    "resampling",
    "audio",
    "utterance",
    "manifest",
    "manifest_build",
    "manifest_check",
    "manifest_split",
    "features.presets",
    "features.config",
    "features.filter_bank",
    "features.lanes",
    "features.kernels",
    "features.cepstra",
    "features.kernels_dynamics",
    "features.dynamics",
    "features.kernels_normalisation",
    "features.normalisation",
    "features.activity",
    "features.store_files",
    "features.store",
    "features.reading",
    "features.extract",
    "features.imported",
    "features",
    "model_file",
    "scorer",
    "settings",
    "training_frames",
    "trainer",
    "evaluation",
    "verification.trial_lists",
    "verification.trial_making",
    "verification.logistic_regression",
    "verification.calibration",
    "verification.score_normalisation",
    "verification.background",
    "verification.enrolment",
    "verification.cohort",
    "verification.kernels_background",
    "verification.kernels_scoring",
    "verification.fast_scoring",
    "verification.dense_scoring",
    "verification.scoring",
    "verification.system",
    "verification.stored_calibration",
    "verification.speaker_store_file",
    "verification.speaker_store",
    "verification.cross_fitting",
    "verification.store_calibration",
    "verification.trial_evaluation",
    "verification.open_set",
    "verification.verifier",
    "verification.settings_file",
    "verification.store_audio",
    "verification.trial_running",
    "verification",
    "phones.phone_sets",
    "phones.labels",
    "phones.label_lines",
    "phones.label_tables",
    "phones.textgrids",
    "phones.label_files",
    "phones.lexicon",
    "phones.language_model",
    "phones.arpa",
    "phones.transforms",
    "phones.lda",
    "phones.segment_features",
    "phones.segment_evidence",
    "phones.segment_classifier",
    "phones.hmm",
    "phones.graph",
    "phones.kernels_hmm",
    "phones.passes",
    "phones.occupied_frames",
    "phones.first_paths",
    "phones.hmm_training",
    "phones.alignment",
    "phones.semi_tied",
    "phones.fmllr",
    "phones.front_end",
    "phones.front_end_training",
    "phones.network",
    "phones.kernels_decoding",
    "phones.decoder",
    "phones.kernels_confidence",
    "phones.confidence",
    "phones.transcripts",
    "phones.recogniser_file",
    "phones.recogniser",
    "phones.recogniser_training",
    "phones.tuning",
    "phones.speaker_adaptation",
    "phones.vocal_tract",
    "phones.word_classifier",
    "phones.recognition",
    "phones",
    "corpora.locate",
    "corpora.espeak_voice",
    "corpora.espeak",
    "corpora.fsdd",
    "corpora.japanese_vowels",
    "corpora.speech_commands",
    "corpora.timit",
    "corpora.librispeech",
    "corpora.voxceleb1",
    "corpora",
    "corpora.__main__",
    "terminal",
    "report.pictures",
    "report.feature_picture",
    "report.detection_picture",
    "report",
    "recipe",
    "recipe_protocol",
    "recipe_verification",
    "recipe_phones",
    "cli_shared",
    "cli_features",
    "cli_manifest",
    "cli_store",
    "cli_verification",
    "cli_speakers",
    "cli_trials",
    "cli_align",
    "cli_phones",
    "cli",
    "__main__",
    # The public face: nothing inside imports from it.
    "",
)

# Slow to load, so that loading a file of the package must not load them; functions load them when they run.
HEAVY = {
    *(
        "kaldiio",
        "librosa",
        "llvmlite",
        "matplotlib",
        "numba",
        "pandas",
        "pooch",
        "rich",
        "safetensors",
        "scipy",
    ),
    *("sklearn", "soundfile", "soxr", "typer"),
}
MAY_LOAD = {
    "compiled": {"llvmlite", "numba"},
    "features.lanes": {"llvmlite", "numba"},
    "features.kernels": {"numba"},
    "features.kernels_dynamics": {"numba"},
    "features.kernels_normalisation": {"llvmlite", "numba"},
    "em.kernels": {"numba", "scipy"},
    "em.kernels_lloyd": {"numba"},
    "em.kernels_grouped": {"numba"},
    "em.kernels_many": {"numba"},
    "em.estimator": {"sklearn"},
    "verification.kernels_background": {"numba"},
    "verification.kernels_scoring": {"numba"},
    "phones.kernels_hmm": {"numba"},
    "phones.kernels_decoding": {"numba"},
    "phones.kernels_confidence": {"numba"},
    "cli": {"typer"},
    "cli_features": {"typer"},
    "cli_manifest": {"typer"},
    "cli_align": {"typer"},
    "cli_phones": {"typer"},
    "cli_shared": {"typer"},
    "cli_store": {"typer"},
    "cli_trials": {"typer"},
    "cli_verification": {"typer"},
}
LONGEST_FILE = 450
LONGEST_BODY = 50


def files():
    """Name, such as "em.fit", to path, of every file in the package; a folder's `__init__` has its name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = files()


def imported(tree):
    """Names of what is imported anywhere in a file, in full: "numpy", "speechgmm.em.fit.fit"."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            names += [f"{dots}{node.module or ''}.{alias.name}" for alias in node.names]
    return names


def own_file(name, known=ORDER):
    """Which of the package's files an imported name comes from: the longest that fits; None if none."""
    if name.split(".")[0] != "speechgmm":
        return None
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in known:
        parts.pop()
    return ".".join(parts)


def out_of_order(name, tree):
    """What a file imports that is not above it in the order."""
    place = ORDER.index(name)
    wrong = [found for found in imported(tree) if found.startswith(".")]
    for found in imported(tree):
        source = own_file(found)
        if source is not None and ORDER.index(source) >= place:
            wrong.append(found)
    return wrong


def loaded(nodes):
    """Names of what a file imports as it is loaded: not in functions, and not for type checkers only."""
    names = []
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += imported(ast.Module([node], []))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            names += loaded(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            names += loaded(ast.iter_child_nodes(node))
    return names


def heavy(name, tree):
    """What a file loads that it should not."""
    refused = HEAVY - MAY_LOAD.get(name, set())
    return [found for found in loaded(tree.body) if found.split(".")[0] in refused]


def body_lines(function):
    """Lines from a function's first statement to its last, the docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def parsed(name):
    return ast.parse(FILES[name].read_text("utf-8"))


def test_the_order_names_every_file_and_no_other():
    assert len(set(ORDER)) == len(ORDER)
    unknown = sorted(set(FILES) - set(ORDER))
    assert not unknown, f"give these a place in ORDER: {unknown}"
    gone = sorted(set(ORDER) - set(FILES))
    assert not gone, f"take these out of ORDER: {gone}"


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_from_files_above_it(name):
    assert out_of_order(name, parsed(name)) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.split(".")[0] == "em"])
def test_the_engine_knows_nothing_of_speech(name):
    sources = {own_file(found) for found in imported(parsed(name))} - {None}
    assert {source.split(".")[0] for source in sources} <= {
        "errors",
        "files",
        "lazy",
        "parallel",
        "compiled",
        "em",
        "tensor_file",
    }


@pytest.mark.parametrize("name", FILES)
def test_a_file_loads_nothing_heavy(name):
    assert heavy(name, parsed(name)) == []


@pytest.mark.parametrize("name", FILES)
def test_librosa_is_for_tests_and_only_one_file_opens_audio(name):
    packages = {found.split(".")[0] for found in imported(parsed(name))}
    assert "librosa" not in packages
    assert name == "audio" or "soundfile" not in packages
    assert name == "resampling" or "soxr" not in packages


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name):
    assert len(FILES[name].read_text("utf-8").splitlines()) <= LONGEST_FILE
    long = {
        node.name: body_lines(node)
        for node in ast.walk(parsed(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > LONGEST_BODY
    }
    assert long == {}


def test_loading_the_feature_module_is_light():
    code = f"import sys, speechgmm.features; print(sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("files", "from speechgmm.errors import InputError", []),
        ("files", "from speechgmm.parallel import parallel_map", ["speechgmm.parallel.parallel_map"]),
        ("files", "def f():\n    import speechgmm.cli", ["speechgmm.cli"]),
        ("files", "from speechgmm import cli", ["speechgmm.cli"]),
        ("files", "from speechgmm import __version__", ["speechgmm.__version__"]),
        ("files", "from . import errors", ["..errors"]),
        ("em.fit", "from speechgmm.em import kernels", []),
        ("em.fit", "from speechgmm.em import Mixture", ["speechgmm.em.Mixture"]),
        ("em.fit", "from speechgmm.em.fit import fit", ["speechgmm.em.fit.fit"]),
        ("em", "from speechgmm.em.fit import fit", []),
    ],
)
def test_the_order_is_seen_in_every_form_of_import(name, source, found):
    assert out_of_order(name, ast.parse(source)) == found


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("scorer", "import scipy", ["scipy"]),
        ("scorer", "from scipy import special", ["scipy.special"]),
        ("scorer", "import scipy.fftpack", ["scipy.fftpack"]),
        ("scorer", "if True:\n    import numba", ["numba"]),
        ("scorer", "try:\n    import rich\nexcept ImportError:\n    pass", ["rich"]),
        ("scorer", "class A:\n    import librosa", ["librosa"]),
        ("scorer", "def f():\n    import librosa", []),
        ("scorer", "if TYPE_CHECKING:\n    import rich\nelse:\n    import pooch", ["pooch"]),
        ("em.kernels", "from numba import njit\nimport typer", ["typer"]),
        ("cli", "import typer", []),
    ],
)
def test_heavy_imports_are_seen_where_they_run_at_once(name, source, found):
    assert heavy(name, ast.parse(source)) == found


def test_a_body_is_counted_without_its_docstring():
    function = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n\n    return a').body[0]
    assert body_lines(function) == 3
    assert body_lines(ast.parse('def f():\n    """One."""').body[0]) == 0
