"""Random systems of all sizes in both charts, for the tests of the kernels and of the model."""

from typing import NamedTuple

import numpy as np
import reference
from small_families import RAGGED, each, make_rows

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.model._chart import Chart, make_chart
from mtds_sklearn.model._lds import KINDS, Shape, kind_slices
from mtds_sklearn.model._likelihood import Evaluations, evaluations

# (n_states, n_inputs, n_outputs, block): no state, one, even and odd numbers, both charts.
SHAPES = [
    Shape(0, 2, 2, 2),
    Shape(1, 1, 1, 2),
    Shape(1, 2, 2, 1),
    Shape(2, 0, 1, 2),
    Shape(2, 2, 3, 2),
    Shape(2, 1, 2, 2),
    Shape(2, 2, 1, 3),
    Shape(3, 2, 2, 2),
    Shape(3, 1, 1, 3),
    Shape(4, 1, 2, 2),
    Shape(4, 2, 3, 4),
    Shape(5, 1, 3, 2),
    Shape(5, 0, 2, 5),
]
# The sequences of RAGGED (7, 1, 12 and 5 rows) in an order of their own, some of them twice.
INDEX = np.array([2, 0, 3, 3, 1, 2])


class Systems(NamedTuple):
    """Evaluations of packed sequences, each with a natural vector of its own.

    A kernel is called with ``run`` and arrays of the types that the package passes.
    """

    chart: Chart
    psi: np.ndarray
    sequences: PackedSequences
    run: Evaluations
    noise_std: np.ndarray

    @property
    def shape(self) -> tuple:
        return tuple(self.chart.shape)

    def rows(self, e):
        """Inputs, outputs and mask of evaluation e."""
        return list(each(self.sequences))[INDEX[e]]

    def simulate(self, e):
        """Predicted outputs and last state of evaluation e, by `reference`."""
        return reference.simulate(self.psi[e], self.shape, *self.rows(e))


def name_of(shape):
    """Return the sizes of a system, as the name of a test."""
    chart = "modal" if shape.block == 2 else "cayley"
    return f"{chart}-{shape.n_states}x{shape.n_inputs}x{shape.n_outputs}"


def make_directions(rng, shape):
    """Unit output directions of the modal blocks; none for the Cayley chart."""
    n_blocks = -(-shape.n_states // 2) if shape.block == 2 or shape.n_states == 1 else 0
    directions = rng.standard_normal((n_blocks, shape.n_outputs))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def make_natural(rng, shape, count):
    """Natural vectors (count, n_natural) with no entry zero, and gains that stay stable."""
    at = kind_slices(shape)
    psi = rng.uniform(0.2, 1.0, (count, at["noise"].stop))
    psi *= rng.choice([-1.0, 1.0], psi.shape)
    psi[:, at["K"]] *= 0.2
    return psi


def make_systems(rng, shape, *, gain=False, free=KINDS, missing=0.25):
    """Systems of one shape on ragged sequences with missing outputs."""
    chart = make_chart(shape, make_directions(rng, shape), free, gain)
    psi = make_natural(rng, shape, len(INDEX))
    if not gain:
        psi[:, kind_slices(shape)["K"]] = 0.0
    sequences = make_rows(
        rng, RAGGED, n_inputs=shape.n_inputs, n_outputs=shape.n_outputs, missing=missing
    )
    run = evaluations(sequences, index=INDEX)
    return Systems(chart, psi, sequences, run, rng.uniform(0.3, 2.0, shape.n_outputs))


def all_active(shape):
    """Every natural entry as active, and where the eight kinds start among them."""
    at = kind_slices(shape)
    n_natural = at["noise"].stop
    return np.arange(n_natural), (*(at[kind].start for kind in KINDS), n_natural)


def frozen(value):
    """A copy that cannot be written to, of an array or of (named) tuples of arrays."""
    if isinstance(value, tuple):
        parts = [frozen(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.flags.writeable = False
    return value


def assert_close(actual, expected, tolerance=1e-10):
    """Fail unless every difference is small against the largest expected value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    assert np.isfinite(actual).all(), f"not finite: {actual}"
    if expected.size == 0:
        return
    worst, size = np.abs(actual - expected).max(), np.abs(expected).max()
    assert worst <= tolerance * size, f"differs by {worst:.3g}, at a size of {size:.3g}"


def assert_derivative(function, derivative, x, tolerance=1e-6):
    """Fail unless `derivative` (..., len(x)) agrees with central differences of `function` at x."""
    assert_close(derivative, reference.finite_difference(function, x), tolerance)
