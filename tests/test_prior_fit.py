import numpy as np
import pytest
from scipy.stats import norm
from small_families import make_family
from systems import assert_close

from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._prior_fit import fit_prior, variance_stretch
from mtds_sklearn.model._latent_prior import NODES, log_prior_density, standard_prior

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
    for actual, expected in zip(prior, standard_prior(len(prior.axes)), strict=True):
        np.testing.assert_array_equal(actual, expected)


def orthogonal(rng, k):
    return np.linalg.qr(rng.standard_normal((k, k)))[0]


# ------------------------------------------------------------------------------ all coordinates


def at(prior, d, v):
    return np.interp(v, NODES, prior.quantiles[d])


def test_each_coordinate_gets_its_own_distribution(rng):
    normal = rng.permutation(quantiles("normal", N_MANY))
    uniform = rng.permutation(quantiles("uniform", N_MANY))
    both = np.stack([uniform, normal], axis=1)
    prior = fit(rng, both)
    axis = np.argmax(np.abs(prior.axes), axis=1)
    assert abs(at(prior, axis[0], 2.0)) < 1.85
    np.testing.assert_allclose(np.abs(at(prior, axis[1], [-2.0, 2.0])), 2.0, atol=0.2)
    gain = log_prior_density(prior, both) - log_prior_density(standard_prior(2), both)
    assert gain.sum() > 10.0


@pytest.mark.parametrize("n_sequences", [2, 5, 10])
def test_few_sequences_widen_the_prior(rng, n_sequences):
    few = fit(rng, quantiles("normal", n_sequences)[:, None]).quantiles[0]
    many = fit(rng, quantiles("normal", N_MANY)[:, None]).quantiles[0]
    outside = (np.abs(NODES) > 1.0) & (np.abs(NODES) < 3.0)
    assert np.all(np.abs(few[outside]) > 1.05 * np.abs(many[outside]))


def test_the_stretch_is_that_of_student_t_in_several_coordinates():
    for n, k in ((40, 4), (10, 4), (20, 1)):
        scale = {d: (1.0 + 1.0 / n) * n / (n - d) for d in (1, k)}
        assert variance_stretch(n, k) == pytest.approx(scale[k] / scale[1])
    assert variance_stretch(5, 5) == variance_stretch(3, 8) == 2.0
    assert variance_stretch(1, 2) == 1.0


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_more_coordinates_stretch_each_unless_independent(rng, monkeypatch, share):
    monkeypatch.setattr("mtds_sklearn.learning._axes.share_of_independence", lambda *_: share)
    mean = np.stack([rng.permutation(quantiles("normal", 12)) for _ in range(4)], axis=1)
    together, alone = fit(rng, mean), fit(rng, mean[:, :1])
    stretch = np.sqrt(variance_stretch(12, 1 + 3 * (1 - share)))
    np.testing.assert_allclose(
        np.ptp(together.quantiles, axis=1), stretch * np.ptp(alone.quantiles[0]), rtol=0.02
    )


def test_one_sequence_has_a_prior(rng):
    prior = fit(rng, np.array([[0.7, -0.2]]))
    assert np.isfinite(prior.quantiles).all()


def test_the_order_of_sequences_does_not_matter(rng):
    mean = np.stack([rng.uniform(-1.7, 1.7, 60), rng.exponential(size=60) - 1.0], axis=1)
    order = rng.permutation(60)
    family, relevant = axis_family(rng, 2)
    std = rng.uniform(0.05, 0.3, (60, 1, 1))
    factor = std * np.eye(2)
    prior = fit_prior(family, TaskPosterior(mean, factor), relevant)
    shuffled = fit_prior(family, TaskPosterior(mean[order], factor[order]), relevant)
    assert_close(shuffled.axes, prior.axes, 1e-12)
    inside = np.abs(NODES) < 3.0
    np.testing.assert_allclose(shuffled.quantiles[:, inside], prior.quantiles[:, inside], atol=0.02)


def test_uninformed_coordinates_stay_normal(rng):
    mean = np.stack([rng.permutation(quantiles("uniform", N_MANY)) for _ in range(2)], axis=1)
    family, relevant = axis_family(rng, 2)
    factor = np.tile(np.diag([0.05, 0.95]), (N_MANY, 1, 1))
    prior = fit_prior(family, TaskPosterior(mean, factor), relevant)
    axis = np.argmax(np.abs(prior.axes), axis=1)
    assert abs(at(prior, axis[0], 2.0)) < 1.85
    np.testing.assert_array_equal(prior.quantiles[axis[1]], NODES)
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
    assert abs(at(expected, 0, 2.0)) < 1.85
    found = fit_prior(family, with_empty, relevant)
    assert_close(found.quantiles, expected.quantiles, 1e-12)


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
    # Up to the draws of shapes, which are not the same when a coordinate changes its sign.
    z = rng.uniform(-1.5, 1.5, (50, 2))
    np.testing.assert_allclose(
        log_prior_density(turned, z @ turn), log_prior_density(prior, z), atol=0.1
    )


def test_nothing_to_fit_gives_the_standard_prior(rng):
    family, relevant = axis_family(rng, 2)
    mean = np.stack([quantiles("uniform", N_MANY)] * 2, axis=1)
    assert_standard(fit_prior(family, known(mean), np.zeros_like(relevant)))
    family = make_family(rng, (2, 0, 1), 0)
    none = TaskPosterior(np.zeros((9, 0)), np.zeros((9, 0, 0)))
    assert_standard(fit_prior(family, none, np.ones(len(family.bias), dtype=bool)))
