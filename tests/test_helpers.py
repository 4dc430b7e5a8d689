"""The helpers of the tests must reject what they are there to reject."""

import numpy as np
import pytest
import reference
from scipy.stats import multivariate_normal, norm
from small_families import assert_never_falls
from systems import (
    INDEX,
    SHAPES,
    all_active,
    assert_close,
    assert_derivative,
    frozen,
    make_natural,
    make_systems,
    name_of,
)

from mtds_sklearn.model._lds import Shape, kind_slices


@pytest.mark.parametrize("values", [[-1.0, 0.0, 0.0, 2.0], [1e6, 1e6 - 1e-5, 1e6]])
def test_a_rising_run_and_rounding_pass(values):
    assert_never_falls(values)


def test_a_falling_run_is_found_at_its_worst_step():
    with pytest.raises(AssertionError, match=r"fell from 3 to 2 at step 3 of 4"):
        assert_never_falls([1.0, 3.0 + 1e-3, 3.0, 2.0, 4.0])


@pytest.mark.parametrize("values", [[1.0, np.nan, 2.0], [1.0], [], [[1.0], [2.0]], [1.0, np.inf]])
def test_a_run_that_shows_nothing_is_no_proof(values):
    with pytest.raises(AssertionError):
        assert_never_falls(values)


def test_what_is_close_passes():
    assert_close([1e-3, 5.0], [1e-3 + 4e-10, 5.0])  # small against the largest
    assert_close(np.zeros((2, 0)), np.zeros((2, 0)))
    assert_close([0.0, 0.0], [0.0, 0.0])
    assert_close([1.0, 2.0], [1.0, 2.1], tolerance=0.05)


@pytest.mark.parametrize(
    ("actual", "expected", "fault"),
    [
        ([1.0, 5.0], [1.0 + 1e-8, 5.0], r"differs by 1e-08, at a size of 5"),
        ([1.0, np.nan], [1.0, np.nan], "not finite"),
        ([1.0, np.inf], [1.0, np.inf], "not finite"),
        ([1.0], [np.nan], "at a size of nan"),
        ([1e-300], [0.0], "at a size of 0"),
        ([[1.0, 1.0]], [1.0, 1.0], r"shape \(1, 2\), expected \(2,\)"),
        (1.0, [1.0, 1.0], "shape"),
        (np.zeros((2, 0)), np.zeros((3, 0)), "shape"),
    ],
)
def test_what_is_not_close_is_found(actual, expected, fault):
    with pytest.raises(AssertionError, match=fault):
        assert_close(actual, expected)


def cubic(x):
    return np.array([x[0] ** 3 * x[1], np.sin(x[1])])


CUBIC_SLOPE = np.array([[12.0 * 0.3, 8.0], [0.0, np.cos(0.3)]])


def test_a_derivative_passes():
    assert_derivative(cubic, CUBIC_SLOPE, np.array([2.0, 0.3]))
    assert_close(reference.finite_difference(cubic, np.array([2.0, 0.3])), CUBIC_SLOPE, 1e-9)


@pytest.mark.parametrize(
    "wrong",
    [CUBIC_SLOPE.T, CUBIC_SLOPE * 1.0001, -CUBIC_SLOPE, np.zeros((2, 2)), CUBIC_SLOPE[0]],
    ids=["transposed", "scaled", "negative", "zero", "part"],
)
def test_a_wrong_derivative_is_found(wrong):
    with pytest.raises(AssertionError):
        assert_derivative(cubic, wrong, np.array([2.0, 0.3]))


def test_what_is_frozen_cannot_be_written_to(rng):
    systems = make_systems(rng, Shape(2, 1, 1, 2))
    fixed, number = frozen((systems, 3.5))
    assert number == 3.5
    assert type(fixed) is type(systems)
    for values in (fixed.psi, fixed.run.first_row, fixed.run.data[0], fixed.chart.basis):
        with pytest.raises(ValueError, match="read-only"):
            values[:] = 0
    systems.psi[:] = 0.0  # the frozen one is a copy
    assert fixed.psi.any()


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
@pytest.mark.parametrize("gain", [False, True])
def test_systems_are_as_awkward_as_promised(rng, shape, gain):
    """Nothing zero that could hide a mistake; missing values, one row alone, differing systems."""
    systems = make_systems(rng, shape, gain=gain)
    at = kind_slices(shape)
    is_zero = systems.psi == 0.0
    assert is_zero[:, at["K"]].all() != gain or shape.n_states == 0
    assert not np.delete(is_zero, at["K"], axis=1).any()
    assert len(np.unique(systems.psi[:, -1])) == len(INDEX)
    assert 1 in systems.run.n_rows
    assert len(set(INDEX)) < len(INDEX)
    inputs, outputs, weights = systems.run.data
    observed = weights > 0.0
    assert inputs.all()
    assert 0.0 < observed.mean() < 1.0
    assert outputs[observed].all()
    assert not outputs[~observed].any()
    active, bounds = all_active(shape)
    assert len(active) == bounds[-1] == systems.psi.shape[1]
    # Not all small: a kernel that forgets the gain or the states is seen.
    plain = systems.psi.copy()
    plain[:, at["K"]] = 0.0
    if gain and shape.n_states and max(systems.run.n_rows) > 1:
        e = int(np.argmax(systems.run.n_rows))
        without = reference.simulate(plain[e], systems.shape, *systems.rows(e))[0]
        assert np.abs(systems.simulate(e)[0] - without).max() > 1e-3


def make_scalar_system():
    """One state, input and output: A = 0.5, B = 2, x0 = 3, K = 0.25, C = 4, D = 10, offset = 1."""
    return np.array([np.arctanh(0.5), 2.0, 3.0, 0.25, 4.0, 10.0, 1.0, np.log(3.0)])


def test_the_reference_follows_the_recursion():
    inputs, outputs = np.array([[1.0], [-1.0]]), np.array([[33.0], [5.0]])
    observed = np.array([[True], [True]])
    arguments = (make_scalar_system(), (1, 1, 1, 2), inputs, outputs, observed)
    predicted, state = reference.simulate(*arguments)
    # x_1 = 3 + 2 = 5, yhat = 20 + 10 + 1 = 31, e = 2, s_2 = 0.5 (5 + 0.5) = 2.75;
    # x_2 = 2.75 - 2 = 0.75, yhat = 3 - 10 + 1 = -6, e = 11, s_3 = 0.5 (0.75 + 2.75) = 1.75.
    assert_close(predicted, [[31.0], [-6.0]])
    assert_close(state, [1.75])
    expected = norm.logpdf([2.0, 11.0], scale=3.0 * 0.7).sum()
    assert reference.log_likelihood(*arguments, np.array([0.7])) == pytest.approx(expected)
    observed[0] = False  # no innovation in the first row: s_2 = 2.5, x_2 = 0.5, yhat = 2 - 10 + 1
    predicted, state = reference.simulate(*arguments)
    assert_close(predicted, [[31.0], [-7.0]])
    assert_close(state, [0.5 * (0.5 + 0.25 * 12.0)])
    expected = norm.logpdf(12.0, scale=3.0 * 0.7)
    assert reference.log_likelihood(*arguments, np.array([0.7])) == pytest.approx(expected)


def test_the_reference_has_the_charts_it_says():
    a, c = 0.4, -0.8
    q = np.tanh(a)
    p = np.tanh(c) * (1.0 + q)
    block = reference.modal_matrix(np.array([a, c, 0.2]))
    assert_close(np.poly(block[:2, :2]), [1.0, -p, q], 1e-14)
    assert_close(block[2], [0.0, 0.0, np.tanh(0.2)])
    cayley = reference.cayley_matrix(np.array([30.0, 30.0, np.tan(0.35)]), 2)
    # tan(angle / 2) below the diagonal of S turns by the angle, clockwise in Q = (I - S)/(I + S).
    turn = [[np.cos(0.7), np.sin(0.7)], [-np.sin(0.7), np.cos(0.7)]]
    assert_close(cayley, turn, 1e-14)


def test_the_reference_matrix_is_that_of_least_squares(rng):
    """Without a state the outputs are linear in D and offset."""
    shape = Shape(0, 2, 1, 2)
    psi = make_natural(rng, shape, 1)[0]
    inputs, outputs = rng.standard_normal((6, 2)), rng.standard_normal((6, 1))
    observed = np.array([True, True, False, True, True, True])[:, None]
    arguments = (psi, tuple(shape), inputs, outputs, observed)
    gradient, normal = reference.gauss_newton(*arguments, np.array([0.5]))
    G = np.column_stack([inputs, np.ones(6)])[observed[:, 0]]
    variance = (0.5 * np.exp(psi[-1])) ** 2
    residuals = outputs[observed] - G @ psi[:3]
    assert_close(normal[:3, :3], G.T @ G / variance, 1e-8)
    assert_close(normal[3], [0.0, 0.0, 0.0, 10.0], 1e-8)
    assert_close(gradient[:3], G.T @ residuals / variance, 1e-7)
    assert_close(gradient[3], residuals @ residuals / variance - 5.0, 1e-7)


def test_the_reference_knows_the_response_of_a_block():
    A = np.array([[0.5, 1.0], [0.0, 0.5]])
    assert_close(reference.initial_response(A, 0, 3), [1.0, 0.5, 0.25])
    assert_close(reference.initial_response(A, 1, 3), [0.0, 1.0, 1.0])
    inputs, weights = np.array([[0.0], [1.0], [0.0]]), np.array([[1.0], [0.0], [2.0]])
    normal, right = reference.block_normal_equations(
        A, np.array([[1.0], [9.0], [3.0]]), weights, inputs
    )
    X = np.array([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.25, 1.0, 0.5, 1.0, 1.0, 0.0]])  # rows 1, 3
    assert_close(normal[0], X.T @ np.diag([1.0, 2.0]) @ X)
    assert_close(right[0], X.T @ [1.0, 6.0])


@pytest.mark.parametrize("dim", [1, 2])
def test_quadrature_finds_the_moments_of_a_normal_posterior(rng, dim):
    mean = rng.standard_normal(dim)
    factor = np.tril(rng.uniform(0.3, 1.0, (dim, dim)))
    covariance = factor @ factor.T
    posterior = multivariate_normal(mean, covariance)
    found = reference.gauss_hermite_posterior(
        lambda z: posterior.logpdf(z) - 4.2, dim, mean + 0.1, 1.2 * factor
    )
    assert_close(found[0], mean, 1e-8)
    assert_close(found[1], covariance, 1e-8)
    # The rule integrates against exp(-u^2 / 2) du, without the factor of a density.
    assert found[2] == pytest.approx(-4.2, abs=1e-8)
    off = reference.gauss_hermite_posterior(
        lambda z: posterior.logpdf(z) - 4.2, dim, mean + 0.1, 0.02 * factor
    )
    assert abs(off[2] + 4.2) > 0.1  # nodes that do not cover the posterior
