"""One latent coordinate: its shapes, and the distribution averaged over them."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, t

from mtds_sklearn.learning._shapes import (
    FLOOR,
    likely_shapes,
    predictive_quantiles,
    quantiles_of,
    shape_density,
)
from mtds_sklearn.model._latent_prior import NODES

# Location, log left scale, log right scale, log power.
SHAPES = {
    "normal": [0.0, 0.0, 0.0, 0.0],
    "moved and wide": [0.7, 0.4, 0.4, 0.0],
    "skewed": [-0.5, -0.6, 0.5, 0.0],
    "nearly uniform": [0.2, 0.1, -0.1, 1.2],
    "pointed": [0.1, -0.2, 0.3, -0.5],
}
GRID = np.linspace(-30.0, 30.0, 200_001)


def density(r, shape):
    return shape_density(np.atleast_1d(r), np.array(shape))


def sample(kind, n):
    """n values, one from each of n equal shares of a distribution of mean 0 and variance 1."""
    level = (np.arange(n) + 0.5) / n
    if kind == "uniform":
        return np.sqrt(12.0) * (level - 0.5)
    values = norm.ppf(level) if kind == "normal" else -np.log(1.0 - level) - 1.0
    return (values - values.mean()) / values.std()


def predictive(kind, n, std=0.05, stretch=1.0):
    return predictive_quantiles(sample(kind, n), np.full(n, std), stretch)


def at(table, level):
    return np.interp(norm.ppf(level), NODES, table)


# ------------------------------------------------------------------------------------ given shapes


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_density_integrates_to_one(shape):
    breaks = [-30.0, -4.0, -1.0, shape[0], 1.0, 4.0, 30.0]
    pieces = [
        quad(lambda r: density(r, shape)[0], left, right)[0] for left, right in pairwise(breaks)
    ]
    assert sum(pieces) == pytest.approx(1.0, abs=1e-7)


def test_powers_and_scales_do_what_they_say():
    """A large power is flat between the scales; the longer side has the larger share."""
    flat = [0.0, 0.0, 0.0, 2.0]
    edge = np.sqrt(2.0)
    inside = density([-0.7 * edge, 0.0, 0.7 * edge], flat)
    assert np.ptp(inside - FLOOR * norm.pdf([-0.7 * edge, 0.0, 0.7 * edge])) < 0.01
    assert density([1.5 * edge], flat) == pytest.approx(FLOOR * norm.pdf(1.5 * edge), rel=1e-6)
    skewed = [0.0, -0.5, 0.5, 0.0]
    share = np.trapezoid(np.where(GRID > 0.0, density(GRID, skewed), 0.0), GRID)
    expected = (1.0 - FLOOR) * np.exp(1.0) / (1.0 + np.exp(1.0)) + 0.5 * FLOOR
    assert share == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_floor_is_everywhere(shape):
    """No value is less likely than its share of N(0, 1); far out nothing else is left."""
    r = np.linspace(-20.0, 20.0, 401)
    assert (density(r, shape) >= FLOOR * norm.pdf(r) * (1.0 - 1e-12)).all()
    far = density([-1e100, -1e3, 1e3, 1e100], shape)
    assert (far >= 0.0).all()
    assert (far < np.exp(-20.0)).all()


# ----------------------------------------------------------------------------------- likely shapes


def test_a_uniform_coordinate_gets_large_powers():
    shapes, weights = likely_shapes(sample("uniform", 200), np.full(200, 0.05))
    assert weights @ (shapes[:, 3] > 0.7) > 0.95
    assert abs(weights @ shapes[:, 0]) < 0.15


def test_a_skewed_coordinate_gets_a_long_side():
    shapes, weights = likely_shapes(sample("exponential", 200), np.full(200, 0.05))
    mean = weights @ shapes
    assert mean[0] < -0.5  # the mode
    assert weights @ (shapes[:, 2] - shapes[:, 1] > 1.0) > 0.95
    turned, weights = likely_shapes(-sample("exponential", 200), np.full(200, 0.05))
    spread = np.sqrt(weights @ (turned - weights @ turned) ** 2)
    gap = np.abs(weights @ turned - mean[[0, 2, 1, 3]] * [-1, 1, 1, 1])
    assert np.all(gap < 4.0 * spread * np.sqrt(np.sum(weights**2)))


def test_few_sequences_leave_many_shapes_likely():
    spread = []
    for n in (5, 40, 400):
        shapes, weights = likely_shapes(sample("normal", n), np.full(n, 0.05))
        spread.append(np.sqrt(weights @ (shapes - weights @ shapes) ** 2))
    assert np.all(spread[0] > spread[1])
    assert np.all(spread[1] > 1.5 * spread[2])


def test_moments_of_the_location_are_those_of_its_posterior():
    """Against a plain grid over the four parameters."""
    mean, std = sample("exponential", 12), np.full(12, 1e-6)
    axes = [np.linspace(-2.5, 2.5, 21)] * 4
    grid = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
    log_p = norm.logpdf(grid).sum(axis=1)
    for value in mean:
        log_p += np.log(shape_density(np.array(value), grid))
    weights = np.exp(log_p - log_p.max())
    weights /= weights.sum()
    expected = weights @ grid
    spread = np.sqrt(weights @ (grid - expected) ** 2)
    shapes, weights = likely_shapes(mean, std)
    found = weights @ shapes
    error = 2.5 * np.sqrt(np.sum(weights**2))  # of a mean over weighted draws
    assert error < 0.3
    assert (np.abs(found - expected) / spread).max() < error
    np.testing.assert_allclose(np.sqrt(weights @ (shapes - found) ** 2), spread, rtol=error)


# ---------------------------------------------------------------------------- averaged over shapes


def test_a_normal_coordinate_known_from_many_sequences_stays_normal():
    table = predictive("normal", 400)
    inside = np.abs(NODES) < 2.0
    np.testing.assert_allclose(table[inside], NODES[inside], atol=0.1)


@pytest.mark.parametrize("n", [5, 10, 20])
def test_few_sequences_widen_a_normal_coordinate_like_student_t(n):
    """The exact answer for a normal with unknown location and scale; the shapes may bend more."""
    for level in (0.75, 0.95, 0.99):
        width = 0.5 * (at(predictive("normal", n), level) - at(predictive("normal", n), 1 - level))
        exact = t.ppf(level, n - 1) * np.sqrt(1.0 + 1.0 / n)
        assert norm.ppf(level) < width < 1.5 * exact
        assert width > norm.ppf(level) + 0.5 * (exact - norm.ppf(level))


def test_a_uniform_coordinate_ends_where_it_ends():
    table = predictive("uniform", 200)
    assert at(table, 0.95) < 1.645 - 0.03
    assert at(table, 0.75) > 0.674 + 0.1
    np.testing.assert_allclose(at(table, [0.25, 0.75]), [-np.sqrt(0.75), np.sqrt(0.75)], atol=0.1)


def test_what_is_fitted_is_the_distribution_of_z_not_of_its_posterior_means(rng):
    """Uncertain posteriors shrink means towards zero; the fitted scale must not follow them."""
    z, noise = sample("normal", 400), 0.8
    variance = noise**2 / (1.0 + noise**2)
    mean = (z + noise * rng.standard_normal(400)) / (1.0 + noise**2)
    table = predictive_quantiles(mean, np.full(400, np.sqrt(variance)), 1.0)
    np.testing.assert_allclose(at(table, [0.1, 0.9]), [-1.28, 1.28], atol=0.15)


def test_stretched_is_wider_by_the_factor():
    np.testing.assert_allclose(
        predictive("uniform", 20, stretch=1.5), 1.5 * predictive("uniform", 20)
    )


@pytest.mark.parametrize("n", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", ["uniform", "exponential"])
def test_tables_rise_and_are_finite(kind, n):
    mean = np.zeros(1) if n == 1 else sample(kind, n)
    table = predictive_quantiles(mean, np.full(n, 0.3), 1.0)
    assert np.isfinite(table).all()
    assert (np.diff(table) > 0.0).all()


def test_quantiles_of_a_density():
    table = quantiles_of(GRID, 3.0 * norm.pdf(GRID, 0.5, 2.0))  # not normalised
    inside = np.abs(NODES) < 7.0
    np.testing.assert_allclose(table[inside], (0.5 + 2.0 * NODES)[inside], atol=1e-4)
