"""Every example runs from start to end in a process of its own, without a screen."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
# Generous: an example takes less than 30 s on two cores, but compiles first and may have to share.
TIMEOUT_SECONDS = 600
# Without a screen, `show` would only warn: here it writes the figures down instead.
RUN = """
import matplotlib, runpy, sys
matplotlib.use("agg")
import matplotlib.pyplot as plt

def show():
    for number in plt.get_fignums():
        plt.figure(number).savefig(f"figure_{number}.png")

plt.show = show
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

pytestmark = pytest.mark.slow


def run_example(script: Path, folder: Path, *arguments: str) -> str:
    """Run a script in a folder and return what it prints; an AssertionError shows its complaint."""
    # Warnings are part of what a reader sees: an example must not show any of this package's.
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def test_run_example_notices_failures_and_warnings(tmp_path):
    script = tmp_path / "plot_broken.py"
    for line, complaint in (
        ("raise ValueError('no data')", "no data"),
        ("import warnings; warnings.warn('thin ice')", "thin ice"),
    ):
        script.write_text(line, "utf-8")
        with pytest.raises(AssertionError, match=complaint):
            run_example(script, tmp_path)


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_runs_and_shows_figures(script, tmp_path):
    for module in ("matplotlib", "pandas", "statsmodels"):
        pytest.importorskip(module)
    run_example(script, tmp_path)
    figures = sorted(tmp_path.iterdir())
    assert figures
    for figure in figures:
        assert figure.name.startswith("figure_"), figure
        assert figure.stat().st_size > 10_000, figure


def test_readme_command_writes_its_figure(tmp_path):
    for module in ("pandas", "statsmodels"):
        pytest.importorskip(module)
    command = re.search(
        r"<!-- command: main -->\n```bash\n.* && python (\S+) (\S+)\n",
        (ROOT / "README.md").read_text("utf-8"),
    )
    printed = run_example(ROOT / command[1], tmp_path, command[2])
    assert f"figure written to {command[2]}" in printed
    assert [path.name for path in tmp_path.iterdir()] == [command[2]]
