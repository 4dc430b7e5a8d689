"""The house rules that a reader of single files cannot see: who may import whom, and how long."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mtds_sklearn

PACKAGE = Path(mtds_sklearn.__file__).parent

# A module may import from rooms below its own, and from its own room. A folder is a room, and so
# are the files at the top of the package that stand on one level.
FILE_LEVELS = {
    "_ahead": 2,
    "_compilation": 2,
    "_progress": 1,
    "_rows": 1,
    "_scaling": 1,
    "_sequences": 1,
    "_threads": 1,
    "_transform_fit": 1,
    "_transforms": 1,
    "_values": 1,
    "_warnings": 1,
    "_families": 6,
    "_scores": 6,
    "_tables": 6,
    "compile": 6,
    "datasets": 6,
    "model_selection": 6,
    "__init__": 8,
}
# Learning stands above inference: it finds the modes of z with the same code.
ROOM_LEVELS = {
    "kernels": 0,
    "model": 2,
    "inference": 3,
    "learning": 4,
    "estimators": 5,
    "display": 7,
}
# Users import from this room by its name; the public names of the others stand at the top.
PUBLIC_ROOMS = ("display",)

# Kernels know arrays only, and stand at the bottom: they import nothing but each other.
KERNELS = "kernels/"

# Who may import what, as path prefixes.
LIBRARIES = {
    "numba": (KERNELS, "_compilation.py", "_ahead.py"),
    "sklearn": ("estimators/", "datasets.py", "model_selection.py", "display/"),
    "scipy.optimize": ("learning/", "_transform_fit.py"),
    "matplotlib": ("display/",),
    "pandas": (),
    "polars": (),
    "statsmodels": (),
}
ONLY_INSIDE_FUNCTIONS = {"matplotlib"}

MAX_FILE_LINES = 300
MAX_SURFACE_LINES = 400  # estimators (their docstrings are the manual) and kernels
MAX_BODY_LINES = 40
MAX_ARGUMENTS = 7
# Theirs may be more: keyword arguments, each with its place in the manual.
CONSTRUCTORS = {
    "estimators": ("__init__",),
    "display": ("__init__", "from_estimator", "from_predictions"),
}


def room_of(module: str) -> tuple[str, int]:
    """Return the room and the level of a module, named below the package ('model._lds')."""
    first, _, rest = module.partition(".")
    if first in ROOM_LEVELS:
        return first, ROOM_LEVELS[first]
    if rest == "" and first in FILE_LEVELS:
        return f"files of level {FILE_LEVELS[first]}", FILE_LEVELS[first]
    raise LookupError(f"{module} has no room: add it to FILE_LEVELS or ROOM_LEVELS")


def imported_names(tree: ast.AST) -> list[tuple[ast.stmt, str]]:
    """Return each import statement with the full name of what it imports."""
    names: list[tuple[ast.stmt, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names += [(node, f"{module}.{alias.name}") for alias in node.names]
    return names


def import_faults(path: str, source: str) -> list[str]:
    """Return the imports of one file that break a rule; `path` is relative to the package."""
    tree = ast.parse(source)
    room, level = room_of(path.removesuffix(".py").replace("/", "."))
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
    }
    faults = []
    for node, name in imported_names(tree):
        where = f"{path}:{node.lineno} imports {name}"
        if name.startswith("."):
            faults.append(f"{where}: imports are absolute")
        elif name.startswith("mtds_sklearn."):
            target_room, target_level = room_of(_module_of(name.removeprefix("mtds_sklearn.")))
            if target_level >= level and target_room != room:
                faults.append(f"{where}: from level {level} up or across to {target_level}")
        for library, prefixes in LIBRARIES.items():
            if not f"{name}.".startswith(f"{library}."):
                continue
            if not path.startswith(prefixes):
                faults.append(f"{where}: {library} is for {prefixes or 'nobody'}")
            elif library in ONLY_INSIDE_FUNCTIONS and node not in inside:
                faults.append(f"{where}: {library} is imported inside functions only")
    return faults


def _module_of(name: str) -> str:
    """Cut the imported object off: 'model._lds.LDS' is 'model._lds', '_rows.show' is '_rows'."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] in ROOM_LEVELS else parts[0]


def size_faults(path: str, source: str) -> list[str]:
    """Return the file and the functions that are too long, and functions of many arguments."""
    is_kernel = path.startswith(KERNELS)
    limit = MAX_SURFACE_LINES if is_kernel or path.startswith("estimators/") else MAX_FILE_LINES
    n_lines = len(source.splitlines())
    faults = [f"{path} has {n_lines} lines, more than {limit}"] if n_lines > limit else []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        where = f"{path}:{function.lineno} {function.name}"
        n_lines = body_lines(function)
        if n_lines > MAX_BODY_LINES:
            faults.append(f"{where} has {n_lines} lines, more than {MAX_BODY_LINES}")
        n_arguments = count_arguments(function)
        is_constructor = function.name in CONSTRUCTORS.get(path.partition("/")[0], ())
        if n_arguments > MAX_ARGUMENTS and not (is_kernel or is_constructor):
            faults.append(f"{where} has {n_arguments} arguments, more than {MAX_ARGUMENTS}")
    return faults


def body_lines(function: ast.FunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def count_arguments(function: ast.FunctionDef) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in named if argument.arg not in ("self", "cls")])


def package_files() -> list[str]:
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", package_files())
def test_imports_point_downwards(path):
    assert import_faults(path, (PACKAGE / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", package_files())
def test_files_and_functions_are_short(path):
    assert size_faults(path, (PACKAGE / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("room", [room for room in ROOM_LEVELS if room not in PUBLIC_ROOMS])
def test_rooms_have_empty_init_files(room):
    assert (PACKAGE / room / "__init__.py").read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        ("model/_lds.py", "from mtds_sklearn.learning._em import fit_em", "up or across"),
        ("model/_lds.py", "from mtds_sklearn.learning import _em", "up or across"),
        ("model/_lds.py", "import mtds_sklearn.estimators._mtlds", "up or across"),
        ("model/_lds.py", "if True:\n    from mtds_sklearn import datasets", "up or across"),
        ("inference/_a.py", "def f():\n    import mtds_sklearn.learning._em", "up or across"),
        ("inference/_a.py", "from mtds_sklearn.estimators._base import BaseLDS", "up or across"),
        ("_sequences.py", "from mtds_sklearn.model._lds import LDS", "up or across"),
        ("estimators/_base.py", "from mtds_sklearn.display import FamilyDisplay", "up or across"),
        ("estimators/_base.py", "from mtds_sklearn.datasets import make_mtlds", "up or across"),
        ("kernels/_forward.py", "from mtds_sklearn._scaling import f", "up or across"),
        ("model/_lds.py", "from . import _likelihood", "absolute"),
        ("model/_lds.py", "from ..model import _likelihood", "absolute"),
        ("model/_lds.py", "import numba as nb", "numba is for"),
        ("model/_lds.py", "from numba import njit", "numba is for"),
        ("learning/_em.py", "import sklearn.utils", "sklearn is for"),
        ("model/_lds.py", "from scipy import optimize", "scipy.optimize is for"),
        ("model/_lds.py", "import scipy.optimize._minimize", "scipy.optimize is for"),
        ("estimators/_base.py", "def f():\n    import matplotlib.pyplot", "matplotlib is for"),
        ("display/_family.py", "import matplotlib.pyplot as plt", "inside functions"),
        ("_rows.py", "def f():\n    import pandas as pd", "pandas is for nobody"),
    ],
)
def test_a_forbidden_import_is_found(path, line, fault):
    (found,) = import_faults(path, line)
    assert fault in found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("estimators/_mtlds.py", "from mtds_sklearn.estimators._base import BaseLDS"),
        ("estimators/_mtlds.py", "from mtds_sklearn._sequences import pack_sequences"),
        ("learning/_em.py", "from mtds_sklearn.model import _lds\nimport scipy.optimize"),
        ("learning/_e_step.py", "from mtds_sklearn.inference._modes import climb"),
        ("_scaling.py", "from mtds_sklearn._sequences import PackedSequences"),
        ("display/_family.py", "def plot():\n    import matplotlib.pyplot as plt"),
        ("kernels/_forward.py", "import numba"),
        ("kernels/_forward.py", "from mtds_sklearn.kernels._lanes import load"),
        ("model/_lds.py", "from scipy import linalg\nimport numpy as np"),
        ("__init__.py", "from mtds_sklearn.estimators._mtlds import MTLDSRegressor"),
    ],
)
def test_an_allowed_import_is_no_fault(path, line):
    assert import_faults(path, line) == []


def test_a_file_without_a_room_is_found():
    with pytest.raises(LookupError, match="helpers has no room"):
        import_faults("helpers.py", "")


def make_function(name="f", n_lines=1, n_arguments=1):
    arguments = ", ".join(["self", *(f"a{i}" for i in range(n_arguments))])
    body = "\n".join(["    x = 1"] * n_lines)
    return f'def {name}({arguments}):\n    """Say\n\n    little.\n    """\n    # why\n{body}\n'


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("model/_lds.py", "x = 1\n" * 301, "301 lines, more than 300"),
        ("kernels/_poles.py", "x = 1\n" * 401, "401 lines, more than 400"),
        ("model/_lds.py", make_function(n_lines=41), "_lds.py:1 f has 41 lines, more than 40"),
        ("model/_lds.py", make_function(n_arguments=8), "f has 8 arguments, more than 7"),
        ("model/_lds.py", make_function("__init__", n_arguments=8), "8 arguments"),
        ("estimators/_mtlds.py", make_function(n_arguments=8), "f has 8 arguments"),
        ("display/_family.py", make_function("plot", n_arguments=8), "plot has 8 arguments"),
        ("model/_lds.py", "def f(*, a, b, c, d, e, f, g, h):\n    pass", "8 arguments"),
    ],
)
def test_excess_is_found(path, source, fault):
    (found,) = size_faults(path, source)
    assert fault in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/_lds.py", "x = 1\n" * 300),
        ("estimators/_mtlds.py", "x = 1\n" * 400),
        ("model/_lds.py", make_function(n_lines=40, n_arguments=7)),
        ("estimators/_mtlds.py", make_function("__init__", n_arguments=20)),
        ("display/_family.py", make_function("from_estimator", n_arguments=10)),
        ("kernels/_forward.py", make_function(n_arguments=20)),
    ],
)
def test_what_is_within_the_limits_is_no_fault(path, source):
    assert size_faults(path, source) == []


IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
for name in ("matplotlib", "pandas", "polars", "statsmodels"):
    sys.modules[name] = None  # importing it fails, as if it were not installed
import mtds_sklearn
names = [m.name for m in pkgutil.walk_packages(mtds_sklearn.__path__, "mtds_sklearn.")]
modules = [importlib.import_module(name) for name in names]
compiled = {
    f"{module.__name__}.{name}"
    for module in modules
    for name, value in vars(module).items()
    if getattr(value, "signatures", None)
}
print(json.dumps({"n_modules": len(modules), "compiled": sorted(compiled)}))
"""


def test_import_compiles_nothing_and_needs_no_optional_library():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EVERYTHING],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    # All files but the one of the package itself.
    assert json.loads(run.stdout) == {"n_modules": len(package_files()) - 1, "compiled": []}
