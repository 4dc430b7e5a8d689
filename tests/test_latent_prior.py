from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid, quad
from scipy.stats import kstest, norm
from small_families import make_family
from systems import assert_close

from mtds_sklearn.model._latent_prior import (
    FLOOR,
    LatentPrior,
    coordinate_log_density,
    latents_from_normal,
    log_prior_density,
    standard_prior,
)
from mtds_sklearn.model._task_map import latent_prior

# Location, log left scale, log right scale, log power.
SHAPES = {
    "normal": [0.0, 0.0, 0.0, 0.0],
    "moved and wide": [0.7, 0.4, 0.4, 0.0],
    "skewed": [-0.5, -0.6, 0.5, 0.0],
    "nearly uniform": [0.2, 0.1, -0.1, 1.2],
    "pointed": [0.1, -0.2, 0.3, -0.5],
}
N_NUMBERS = 40_000
# One standard normal number from each of many equal shares: the tests below need no luck.
NUMBERS = norm.ppf((np.arange(N_NUMBERS) + 0.5) / N_NUMBERS)[:, None]
GRID = np.linspace(-30.0, 30.0, 200_001)


def make_prior(rng, latent_dim):
    rotation, _ = np.linalg.qr(rng.standard_normal((latent_dim, latent_dim)))
    return LatentPrior(rotation, 0.3 * rng.standard_normal((latent_dim, 4)))


def density(r, shape):
    return np.exp(coordinate_log_density(np.atleast_1d(r)[:, None], np.array([shape]))[:, 0])


def draws(shape):
    return latents_from_normal(LatentPrior(np.eye(1), np.array([shape])), NUMBERS)[:, 0]


@pytest.mark.parametrize("latent_dim", [0, 1, 3])
def test_the_standard_prior_is_standard_normal(rng, latent_dim):
    z = 2.0 * rng.standard_normal((7, 5, latent_dim))
    expected = norm.logpdf(z).sum(axis=-1)
    assert_close(log_prior_density(standard_prior(latent_dim), z), expected, 1e-12)


def test_a_family_without_a_prior_has_the_standard_one(rng):
    family = make_family(rng, (2, 0, 1), 3)
    for actual, expected in zip(latent_prior(family), standard_prior(3), strict=True):
        np.testing.assert_array_equal(actual, expected)
    own = make_prior(rng, 3)
    assert latent_prior(family._replace(prior=own)) is own


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
def test_draws_have_the_density(shape):
    r, p = draws(shape), density(GRID, shape)
    cumulative = cumulative_trapezoid(p, GRID, initial=0.0)
    distance = kstest(r, lambda value: np.interp(value, GRID, cumulative)).statistic
    assert distance < 1e-4  # random draws would be 0.004 away
    for moment in (1, 2, 3):
        expected = np.trapezoid(GRID**moment * p, GRID)
        assert np.mean(r**moment) == pytest.approx(expected, abs=5e-3)


def test_draws_turn_with_the_rotation(rng):
    prior = make_prior(rng, 3)
    upright = prior._replace(rotation=np.eye(3))
    normal = rng.standard_normal((5, 4, 3))
    r = latents_from_normal(upright, normal)
    z = latents_from_normal(prior, normal)
    assert_close(z @ prior.rotation, r, 1e-13)
    assert_close(log_prior_density(prior, z), log_prior_density(upright, r), 1e-12)


def test_the_standard_shape_is_the_same_in_every_direction(rng):
    prior = make_prior(rng, 3)._replace(shape=np.zeros((3, 4)))
    z = rng.standard_normal((20, 3))
    assert_close(log_prior_density(prior, z), log_prior_density(standard_prior(3), z), 1e-12)


def test_draws_and_densities_may_be_stacked(rng):
    prior = make_prior(rng, 2)
    normal = rng.standard_normal((3, 4, 2))
    z = latents_from_normal(prior, normal)
    log_p = log_prior_density(prior, z)
    assert log_p.shape == (3, 4)
    for i in np.ndindex(3, 4):
        assert_close(z[i], latents_from_normal(prior, normal[i]), 1e-13)
        assert log_p[i] == pytest.approx(log_prior_density(prior, z[i]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_floor_is_everywhere(shape):
    """No value is less likely than its share of N(0, 1); far out nothing else is left."""
    r = np.linspace(-20.0, 20.0, 401)
    assert (density(r, shape) >= FLOOR * norm.pdf(r) * (1.0 - 1e-12)).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("size", [1e3, 1e100])
def test_far_out_values_stay_finite(shape, size):
    log_p = coordinate_log_density(np.array([[-size], [size]]), np.array([shape]))
    assert np.isfinite(log_p).all()
    assert (log_p < -20.0).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_far_out_numbers_give_finite_draws(shape):
    prior = LatentPrior(np.eye(1), np.array([shape]))
    z = latents_from_normal(prior, np.array([[-40.0], [-9.0], [9.0], [40.0]]))
    assert np.isfinite(z).all()
    assert np.abs(z).max() < 500.0
