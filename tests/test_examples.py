"""Every example runs from start to end in a process of its own, without a screen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
# Generous: an example takes less than 30 s on two cores, but compiles first and may have to share.
TIMEOUT_SECONDS = 600

pytestmark = pytest.mark.slow


def run_example(script: Path, folder: Path, *arguments: str) -> str:
    """Run a script in a folder and return what it prints; an AssertionError shows its complaint."""
    # Warnings are part of what a reader sees: an example must not show any of this package's.
    environment = os.environ | {
        "MPLBACKEND": "Agg",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
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
def test_example_runs_and_saves_its_figure(script, tmp_path):
    for module in ("matplotlib", "pandas", "statsmodels"):
        pytest.importorskip(module)
    printed = run_example(script, tmp_path, "figure.png")
    assert f"figure written to {tmp_path / 'figure.png'}" in printed
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
