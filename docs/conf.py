"""Configuration of the documentation; CONTRIBUTING.md has the command that builds it."""

import re
import sys
import warnings
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for reading_order

project = "mtds-sklearn"
author = "the mtds_sklearn developers"
copyright = author
release = version_of("mtds-sklearn")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "_generated",
    "gallery/**/*.ipynb",
    "gallery/**/*.py",
    "gallery/**/*.zip",
]
templates_path = ["_templates"]

# Every reference has to lead somewhere. Types in docstrings are words, not links.
nitpicky = True
nitpick_ignore_regex = [("py:obj", "mean|cov|ess|log_evidence|n_observed|n_rows")]  # properties
numpydoc_xref_param_type = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
default_role = "literal"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "mtds-sklearn"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 4,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "doc_module": ("mtds_sklearn",),
    "backreferences_dir": "api/backreferences",
    "within_subsection_order": "reading_order.ReadingOrder",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "matplotlib_animations": False,
}
# How `show` answers where there is no screen.
warnings.filterwarnings("ignore", message=".*non-interactive.*")


def gather_benchmarks(docs: Path) -> str:
    """Tables that the programs of benchmarks/ have written, one below the other."""
    tables = sorted((docs.parent / "benchmarks" / "results").glob("*.md"))
    parts = [re.sub(r"^#", "##", table.read_text("utf-8"), flags=re.MULTILINE) for table in tables]
    return "\n\n".join(parts) or "No table has been written yet: run `benchmarks/compare.py`."


def setup(app) -> None:
    """Write what pages include."""
    docs = Path(app.srcdir)
    (docs / "_generated").mkdir(exist_ok=True)
    (docs / "_generated" / "benchmarks.md").write_text(gather_benchmarks(docs), "utf-8")
