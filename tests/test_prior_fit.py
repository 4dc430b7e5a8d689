import numpy as np
import pytest
from scipy.stats import norm
from small_families import make_family
from systems import assert_close

from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._prior_fit import fit_coordinate, fit_prior, simple_rotation
from mtds_sklearn.model._latent_prior import log_prior_density, standard_prior

N_MANY = 200


def quantiles(kind, n):
    """n values, one from each of n equal shares of a distribution of mean 0 and variance 1."""
    level = (np.arange(n) + 0.5) / n
    if kind == "uniform":
        return np.sqrt(12.0) * (level - 0.5)
    return norm.ppf(level) if kind == "normal" else -np.log(1.0 - level) - 1.0


def known(mean, std=0.05) -> TaskPosterior:
    """Posteriors around means (n_sequences, latent_dim), all equally sharp."""
    n, k = mean.shape
    return TaskPosterior(mean, np.tile(std * np.eye(k), (n, 1, 1)))


def axis_family(rng, latent_dim):
    """A family in which entry d of theta varies with coordinate d of z alone."""
    family = make_family(rng, (4, 0, 1), latent_dim)
    loadings = np.zeros_like(family.loadings)
    loadings[:latent_dim] = np.diag(np.arange(1.0, latent_dim + 1.0))
    return family._replace(loadings=loadings), np.any(loadings != 0.0, axis=1)


def fit(rng, mean, std=0.05):
    family, relevant = axis_family(rng, mean.shape[1])
    return fit_prior(family, known(mean, std), relevant)


def assert_standard(prior):
    for actual, expected in zip(prior, standard_prior(len(prior.rotation)), strict=True):
        np.testing.assert_array_equal(actual, expected)


def orthogonal(rng, k):
    return np.linalg.qr(rng.standard_normal((k, k)))[0]


# ------------------------------------------------------------------------------ one coordinate


def test_a_uniform_coordinate_gets_a_larger_power_and_predicts_better():
    shape, gain = fit_coordinate(quantiles("uniform", N_MANY), np.full(N_MANY, 0.05))
    assert shape[3] > 1.0
    assert abs(shape[0]) < 0.01
    assert gain > 10.0


def test_a_skewed_coordinate_gets_a_long_side():
    shape, gain = fit_coordinate(quantiles("exponential", N_MANY), np.full(N_MANY, 0.05))
    assert shape[0] < -0.5  # the mode
    assert shape[2] > shape[1] + 1.0
    assert gain > 40.0
    turned, same_gain = fit_coordinate(-quantiles("exponential", N_MANY), np.full(N_MANY, 0.05))
    np.testing.assert_allclose(turned, [-shape[0], shape[2], shape[1], shape[3]], atol=1e-3)
    assert same_gain == pytest.approx(gain, rel=1e-2)


def test_a_normal_coordinate_stays_nearly_normal():
    shape, gain = fit_coordinate(quantiles("normal", N_MANY), np.full(N_MANY, 0.05))
    assert np.abs(shape).max() < 0.05
    assert gain < 0.0


def test_what_is_fitted_is_the_distribution_of_z_not_of_its_posterior_means(rng):
    """Uncertain posteriors shrink means towards zero; the fitted scale must not follow them."""
    z, noise = quantiles("normal", 2000), 0.8
    variance = noise**2 / (1.0 + noise**2)
    mean = (z + noise * rng.standard_normal(2000)) / (1.0 + noise**2)
    shape, _ = fit_coordinate(mean, np.full(2000, np.sqrt(variance)))
    assert np.abs(shape[1:3]).max() < 0.1  # log std of the means is -0.25


# ------------------------------------------------------------------------------ all coordinates


def test_only_the_family_that_needs_it_leaves_the_normal(rng):
    normal = rng.permutation(quantiles("normal", N_MANY))[:, None]
    uniform = rng.permutation(quantiles("uniform", N_MANY))[:, None]
    assert_standard(fit(rng, normal))
    both = np.hstack([uniform, normal])
    prior = fit(rng, both)
    axis = np.argmax(np.abs(prior.rotation), axis=1)
    assert prior.shape[axis[0], 3] > 1.0
    assert np.abs(prior.shape[axis[1]]).max() < 0.1
    gain = log_prior_density(prior, both) - log_prior_density(standard_prior(2), both)
    assert gain.sum() > 10.0


@pytest.mark.parametrize("kind", ["uniform", "normal", "exponential"])
@pytest.mark.parametrize("n_sequences", [2, 5, 10])
def test_few_sequences_stay_exactly_normal(rng, kind, n_sequences):
    assert_standard(fit(rng, quantiles(kind, n_sequences)[:, None]))


def test_one_sequence_stays_exactly_normal(rng):
    assert_standard(fit(rng, np.array([[0.7, -0.2]])))


def test_the_order_of_sequences_does_not_matter(rng):
    mean = np.stack([rng.uniform(-1.7, 1.7, 60), rng.exponential(size=60) - 1.0], axis=1)
    order = rng.permutation(60)
    family, relevant = axis_family(rng, 2)
    std = rng.uniform(0.05, 0.3, (60, 1, 1))
    factor = std * np.eye(2)
    prior = fit_prior(family, TaskPosterior(mean, factor), relevant)
    shuffled = fit_prior(family, TaskPosterior(mean[order], factor[order]), relevant)
    assert np.abs(prior.shape).max() > 0.3
    assert_close(shuffled.rotation, prior.rotation, 1e-12)
    assert_close(shuffled.shape, prior.shape, 1e-3)


def test_uninformed_coordinates_stay_normal(rng):
    mean = np.stack([rng.permutation(quantiles("uniform", N_MANY)) for _ in range(2)], axis=1)
    family, relevant = axis_family(rng, 2)
    factor = np.tile(np.diag([0.05, 0.95]), (N_MANY, 1, 1))
    prior = fit_prior(family, TaskPosterior(mean, factor), relevant)
    axis = np.argmax(np.abs(prior.rotation), axis=1)
    assert prior.shape[axis[0], 3] > 1.0
    np.testing.assert_array_equal(prior.shape[axis[1]], 0.0)
    assert_standard(fit(rng, mean, std=0.95))


def test_sequences_without_observations_are_left_out(rng):
    family, relevant = axis_family(rng, 1)
    mean = quantiles("uniform", N_MANY)[:, None]
    seen = known(mean)
    with_empty = TaskPosterior(
        np.concatenate([mean, np.zeros((500, 1))]),
        np.concatenate([seen.factor, np.ones((500, 1, 1))]),
    )
    expected = fit_prior(family, seen, relevant)
    assert expected.shape[0, 3] > 1.0
    assert_close(fit_prior(family, with_empty, relevant).shape, expected.shape, 1e-12)


def test_a_turned_family_gets_the_turned_prior(rng):
    """z has no direction of its own: with W and z turned together, theta has the same prior."""
    family, relevant = axis_family(rng, 2)
    mean = np.stack([rng.uniform(-1.7, 1.7, 100), rng.exponential(size=100) - 1.0], axis=1)
    turn = orthogonal(rng, 2)
    factor = np.linalg.cholesky(turn.T @ (0.05**2 * np.eye(2)) @ turn)
    prior = fit_prior(family, known(mean), relevant)
    turned = fit_prior(
        family._replace(loadings=family.loadings @ turn),
        TaskPosterior(mean @ turn, np.tile(factor, (100, 1, 1))),
        relevant,
    )
    z = rng.standard_normal((50, 2))
    assert_close(log_prior_density(turned, z @ turn), log_prior_density(prior, z), 1e-3)


def test_nothing_to_fit_gives_the_standard_prior(rng):
    family, relevant = axis_family(rng, 2)
    mean = np.stack([quantiles("uniform", N_MANY)] * 2, axis=1)
    assert_standard(fit_prior(family, known(mean), np.zeros_like(relevant)))
    family = make_family(rng, (2, 0, 1), 0)
    none = TaskPosterior(np.zeros((9, 0)), np.zeros((9, 0, 0)))
    assert_standard(fit_prior(family, none, np.ones(len(family.bias), dtype=bool)))


# --------------------------------------------------------------------------------- the rotation


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 7])
def test_the_rotation_is_orthogonal(rng, k, n_rows):
    rotation = simple_rotation(rng.standard_normal((n_rows, k)))
    assert_close(rotation.T @ rotation, np.eye(k), 1e-10)


@pytest.mark.parametrize("n_rows", [3, 8])
def test_the_rotation_finds_axes_up_to_sign_and_order(rng, n_rows):
    """Entries of theta that each follow one coordinate, seen in any gauge of z."""
    axis_like = np.zeros((n_rows, 3))
    axis_like[np.arange(n_rows), np.arange(n_rows) % 3] = rng.uniform(0.1, 10.0, n_rows)
    found = axis_like @ orthogonal(rng, 3)
    turned = found @ simple_rotation(found)
    largest = np.max(np.abs(turned), axis=1)
    assert_close(largest, axis_like.sum(axis=1), 1e-6)
    patterns = np.argmax(np.abs(turned), axis=1)
    assert len(set(patterns[:3])) == 3
    np.testing.assert_array_equal(patterns, patterns[np.arange(n_rows) % 3])


def test_the_rotation_does_not_depend_on_the_size_of_rows(rng):
    loadings = rng.standard_normal((6, 3))
    scales = rng.uniform(0.01, 100.0, (6, 1))
    assert_close(simple_rotation(scales * loadings), simple_rotation(loadings), 1e-6)


def test_rows_may_be_too_small_to_be_squared(rng):
    """Entries of theta that the data say nothing of shrink without end: 1e-200 squared is zero."""
    loadings = rng.standard_normal((6, 3))
    scales = np.array([1.0, 1e-200, 1.0, 1.0, 1e-250, 1.0])[:, None]
    assert_close(simple_rotation(scales * loadings), simple_rotation(loadings), 1e-6)
