"""The table of calibration says what it counts, and keeps what it does not measure anew."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.exists():  # as in an installed copy of the tests
    pytest.skip("benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import calibration  # noqa: E402


def scores(rng, share, n=400):
    """Sequences of unequal lengths with such shares of their values inside."""
    n_hidden = rng.integers(5, 50, n).astype(float)
    inside = rng.binomial(n_hidden[:, None].astype(int), share).astype(float)
    return calibration.Scores(inside, np.zeros(n), np.ones(n), n_hidden)


def test_coverage_is_counted_over_values_and_its_error_over_sequences_and_sets(rng):
    share = np.array([0.5, 0.9, 0.95])
    sets = [scores(rng, share) for _ in range(3)]
    by_set, errors = calibration.coverage(sets)
    np.testing.assert_allclose(by_set.mean(axis=0), 100.0 * share, atol=1.5)
    n = sum(s.n_hidden.sum() for s in sets)
    np.testing.assert_allclose(errors, 100.0 * np.sqrt(share * (1.0 - share) / n), rtol=1.0)
    apart = [scores(rng, share), scores(rng, share - 0.1)]
    _, wide = calibration.coverage(apart)
    assert np.all(wide > 4.0)


def test_more_than_three_points_off_is_bold(rng):
    cells = calibration.summary([scores(rng, np.array([0.6, 0.9, 0.95])) for _ in range(3)])
    assert cells[0].startswith("**6")
    assert cells[1].startswith(("9", "89"))


def test_rows_of_other_families_stay(tmp_path):
    args = Namespace(output=tmp_path / "table.md")

    def line(family, known, sets="3 x 40, 100", value="50.0"):
        return calibration._line([family, "multi-task", sets, known, value])

    first = [line("stores", 0), line("one oscillator", 0), line("one oscillator", 5)]
    calibration.write(first, args)
    calibration.write([line("one oscillator", 0, "9 x 40, 50", "51.0")], args)
    rows = [row for row in args.output.read_text("utf-8").splitlines() if "multi-task" in row]
    assert rows == [line("one oscillator", 0, "9 x 40, 50", "51.0"), line("stores", 0)]
