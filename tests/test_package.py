"""The package's public face: names that load when they are used."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import speechgmm
from speechgmm import em, features, phones, verification

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "speechgmm" / "__init__.py"


def names_for_type_checkers(source=SOURCE):
    """Public name to home, as the file tells type checkers: a second record of what it does at run time."""
    homes = {}
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                homes.update((alias.asname or alias.name, statement.module) for alias in statement.names)
    return homes


HOMES = {**names_for_type_checkers(), "__version__": "speechgmm.version"}


def fresh(code):
    """Run code in a new process; what it prints."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    return run.stdout.strip()


def test_all_lists_what_type_checkers_know_sorted_and_once():
    assert set(speechgmm.__all__) == set(HOMES)
    assert len(set(speechgmm.__all__)) == len(speechgmm.__all__)
    assert sorted(speechgmm.__all__) == speechgmm.__all__


@pytest.mark.parametrize("name", speechgmm.__all__)
def test_a_public_name_is_its_homes_object(name):
    found = getattr(speechgmm, name)
    assert found is getattr(import_module(HOMES[name]), name)
    if name != "__version__":
        # Defined there or below: a home that merely imports it would be the wrong one to name.
        assert found.__module__.startswith(HOMES[name])


@pytest.mark.parametrize("name", [name for name in speechgmm.__all__ if name != "__version__"])
def test_a_public_name_is_documented(name):
    assert getattr(speechgmm, name).__doc__


@pytest.mark.parametrize("package", [em, features, phones, verification])
def test_a_package_has_names_of_its_own(package):
    homes = names_for_type_checkers(Path(package.__file__))
    assert sorted(homes) == package.__all__ == dir(package)
    for name, home in homes.items():
        found = getattr(package, name)
        assert found is getattr(import_module(home), name)
        assert found.__module__ == home and found.__doc__
    # Importing the file would replace the name by the module.
    assert not {path.stem for path in Path(package.__file__).parent.iterdir()} & set(package.__all__)


def test_no_public_name_is_a_files_name():
    # Importing the file would replace the name by the module.
    files = {path.stem for path in SOURCE.parent.iterdir()}
    assert not files & set(speechgmm.__all__)


def test_dir_lists_the_public_names():
    assert dir(speechgmm) == sorted(speechgmm.__all__)


def test_a_name_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match=r"module 'speechgmm' has no attribute 'nonsense'"):
        speechgmm.nonsense  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from speechgmm import nonsense  # noqa: F401
    assert not hasattr(speechgmm, "__path_of_nothing__")


def test_star_import_gives_all_public_names():
    names = fresh("from speechgmm import *; print(sorted(name for name in dir() if name[0] != '_'))")
    assert ast.literal_eval(names) == sorted(name for name in speechgmm.__all__ if name[0] != "_")


def test_import_loads_nothing_else():
    loaded = fresh(
        "import sys, speechgmm; print(sorted(n for n in sys.modules if n.startswith('speechgmm')))"
    )
    assert ast.literal_eval(loaded) == ["speechgmm", "speechgmm.lazy", "speechgmm.version"]
    heavy = "{'numpy', 'scipy', 'numba', 'joblib', 'rich', 'typer', 'soundfile'}"
    assert fresh(f"import sys, speechgmm; dir(speechgmm); print({heavy} & set(sys.modules))") == "set()"


def test_errors_load_no_numpy():
    assert fresh("import sys; from speechgmm import InputError; print('numpy' in sys.modules)") == "False"


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert speechgmm.__version__ == project["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", speechgmm.__version__)


def test_the_package_says_that_it_has_types():
    assert (SOURCE.parent / "py.typed").is_file()
