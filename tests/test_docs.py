"""What is written must be true: README code runs, docstrings say what numpydoc asks for."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sklearn import config_context

ROOT = Path(__file__).parents[1]
MODULES = (
    "mtds_sklearn",
    "mtds_sklearn.datasets",
    "mtds_sklearn.display",
    "mtds_sklearn.model_selection",
)
DOCS = ROOT / "docs"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Pages of the documentation that show Python code, those left out that a build writes.
PAGES = sorted(
    page
    for page in (*DOCS.glob("*.md"), *DOCS.glob("guide/*.md"))
    if "```python" in page.read_text("utf-8")
)
GENERATED = re.compile(r"set_\w+_request")  # by scikit-learn, in every class


def python_blocks(text: str) -> list[str]:
    """Code of the fenced Python blocks, each moved down so that its line numbers are the file's."""
    return [
        "\n" * text.count("\n", 0, match.start(1)) + match[1]
        for match in PYTHON_BLOCK.finditer(text)
    ]


def documented_names() -> list[str]:
    """Full names of everything public, and of the public methods that are written here."""
    names = []
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            item = getattr(importlib.import_module(module), name)
            names.append(f"{item.__module__}.{name}")
            if inspect.isclass(item):
                names += [f"{item.__module__}.{name}.{method}" for method in own_methods(item)]
    return sorted(set(names))


def own_methods(cls: type) -> list[str]:
    """Public methods and properties of a class, those of scikit-learn left out."""
    members = {
        name: member
        for base in cls.__mro__
        if base.__module__.startswith("mtds_sklearn")
        for name, member in vars(base).items()
    }
    return [
        name
        for name, member in members.items()
        if not name.startswith("_")
        and not GENERATED.fullmatch(name)
        and (inspect.isroutine(member) or isinstance(member, property))
    ]


def wanted_checks() -> set[str]:
    """Codes that pyproject.toml asks numpydoc for."""
    from numpydoc.validate import ERROR_MSGS

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    named = set(settings["tool"]["numpydoc_validation"]["checks"])
    return set(ERROR_MSGS) - named if "all" in named else named


def docstring_errors(name: str) -> list[str]:
    """What numpydoc finds wrong, 'code: message' each."""
    from numpydoc.validate import validate

    checks = wanted_checks()
    return [f"{code}: {text}" for code, text in validate(name)["errors"] if code in checks]


def test_python_blocks_finds_code_at_its_lines():
    text = "a\n```python\nx = 1\n```\n\n```bash\nls\n```\n```python\ny = x\n```\n"
    assert python_blocks(text) == ["\n\nx = 1\n", "\n" * 9 + "y = x\n"]


def test_documented_names_reaches_methods():
    names = documented_names()
    assert "mtds_sklearn.datasets.make_oscillators" in names
    assert any(name.endswith("MTLDSRegressor.predict") for name in names)
    assert any(name.endswith("SequencePosterior.update") for name in names)
    assert not any(name.endswith((".get_params", ".set_fit_request")) for name in names)


def run_blocks(path: Path) -> int:
    """Run the Python blocks of a page, one after the other; returns how many there are."""
    blocks = python_blocks(path.read_text("utf-8"))
    shared: dict = {"__name__": path.stem}  # later blocks build on earlier ones
    with config_context():  # what a block configures ends here
        for block in blocks:
            exec(compile(block, str(path), "exec"), shared)
    return len(blocks)


def test_readme_code_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_blocks(ROOT / "README.md") > 0, "README.md shows no Python code"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_code_of_the_documentation_runs(page, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert run_blocks(page) > 0


def test_pages_with_code_are_found():
    names = {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert {"index.md", "coming_from.md", "guide/forecasts.md"} <= names
    assert not any(name.startswith(("_", "gallery")) for name in names)


def test_every_public_name_is_in_the_reference():
    listed = set(re.findall(r"^   (\w+)$", (DOCS / "api.md").read_text("utf-8"), re.MULTILINE))
    public = {name for module in MODULES for name in importlib.import_module(module).__all__}
    assert listed == public


@pytest.mark.slow
def test_documentation_builds_without_a_warning(tmp_path):
    """Also a link or a name that leads nowhere is a warning. The examples are not run here."""
    for module in ("myst_parser", "numpydoc", "pydata_sphinx_theme", "sphinx_gallery"):
        pytest.importorskip(module)
    made = shutil.ignore_patterns("_build", "_generated", "gallery", "api", "__pycache__")
    for folder in ("docs", "examples", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=made)
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    options = ["-W", "--keep-going", "-q", "-D", "plot_gallery=0"]
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", "html"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for page in ("index", "guide/model", "api/mtds_sklearn.MTLDSRegressor", "benchmarks"):
        assert (tmp_path / "html" / f"{page}.html").exists(), page


def test_readme_pictures_exist():
    pictures = re.findall(
        r"!\[[^\]]*\]\((?!https?:)([^)]+)\)", (ROOT / "README.md").read_text("utf-8")
    )
    assert pictures, "README.md shows no picture"
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 200_000, picture


def test_docstring_errors_finds_a_parameter_without_description(monkeypatch):
    pytest.importorskip("numpydoc")
    from mtds_sklearn import model_selection

    def broken(rows):
        """Do nothing.

        Parameters
        ----------
        columns : int
            Not a parameter.
        """

    monkeypatch.setattr(model_selection, "mask_future", broken)
    errors = docstring_errors("mtds_sklearn.model_selection.mask_future")
    assert any("PR01" in error for error in errors)


@pytest.mark.parametrize("name", documented_names())
def test_docstring_is_complete(name):
    pytest.importorskip("numpydoc")
    assert docstring_errors(name) == []


# Public functions that refuse nothing.
NEVER_FAIL = ("forecast_scorers", "PrefixSplit.get_n_splits")
ELSEWHERE = re.compile(r"\bAs (in|of)\b")  # a reader is sent to where the same is described


def gaps_of_docstring(name: str) -> list[str]:
    """Arrays without a shape, and functions with arguments that do not say what they raise."""
    from numpydoc.docscrape import get_doc_object
    from numpydoc.validate import Validator

    item = Validator._load_obj(name)
    doc = get_doc_object(item)
    described = [
        (f"{part.name} : {part.type}", " ".join(part.desc))
        for section in ("Parameters", "Returns", "Yields", "Attributes")
        for part in doc[section]
    ]
    gaps = [
        f"no shape: {head}"
        for head, text in described
        if re.search(r"array|ndarray", head) and "Axes" not in head
        if "shape" not in head and not ELSEWHERE.search(text)
    ]
    if doc["Parameters"] and not inspect.isclass(item) and not doc["Raises"]:
        gaps += ["no errors"] * (not name.endswith(NEVER_FAIL))
    return gaps


@pytest.mark.parametrize("name", documented_names())
def test_docstring_tells_shapes_and_errors(name):
    pytest.importorskip("numpydoc")
    assert gaps_of_docstring(name) == []


def test_gaps_of_a_docstring_are_found(monkeypatch):
    pytest.importorskip("numpydoc")
    from mtds_sklearn import model_selection

    def broken(y, groups):
        """Do nothing.

        Parameters
        ----------
        y : array-like
            Outputs.
        groups : array-like
            As in `fit`.
        """

    monkeypatch.setattr(model_selection, "mask_future", broken)
    gaps = gaps_of_docstring("mtds_sklearn.model_selection.mask_future")
    assert gaps == ["no shape: y : array-like", "no errors"]
