"""The proposal mixtures of importance sampling, against SciPy and against their definitions."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.special import logsumexp
from scipy.stats import multivariate_t
from scipy.stats.qmc import Sobol
from systems import assert_close

from mtds_sklearn.inference import _mixture
from mtds_sklearn.inference._mixture import (
    DEGREES_OF_FREEDOM,
    Mixture,
    component_log_densities,
    draw,
    log_density,
    refit,
    select_mixture,
    systematic,
)
from mtds_sklearn.model._latent_prior import (
    LatentPrior,
    coordinate_log_density,
    log_prior_density,
    standard_prior,
)


def skewed_prior(k):
    """A prior far from normal: rotated, off centre, skewed and with other tails."""
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((k, k)))
    rows = np.array([[0.4, -0.5, 0.4, 0.3], [-0.3, 0.3, -0.6, -0.2], [0.2, 0.0, 0.5, 0.8]])
    return LatentPrior(rotation, rows[:k])


def make_mixture(rng, k, *, n=2, n_components=3):
    factors = np.tril(0.3 * rng.standard_normal((n, n_components, k, k)))
    diagonal = np.arange(k)
    factors[..., diagonal, diagonal] = rng.uniform(0.4, 1.2, (n, n_components, k))
    weights = rng.uniform(0.5, 1.5, (n, 1 + n_components))
    weights /= weights.sum(axis=1, keepdims=True)
    return Mixture(weights, 2.0 * rng.standard_normal((n, n_components, k)), factors)


def prior_moments(prior):
    """Mean and covariance of p(z), each coordinate integrated on a fine grid."""
    r = np.linspace(-15.0, 15.0, 60_001)
    density = np.exp([coordinate_log_density(r[:, None], row[None])[:, 0] for row in prior.shape])
    mean = trapezoid(density * r, r, axis=1)
    variance = trapezoid(density * r**2, r, axis=1) - mean**2
    return prior.rotation @ mean, prior.rotation @ np.diag(variance) @ prior.rotation.T


def prior_of(name, k):
    return standard_prior(k) if name == "standard" else skewed_prior(k)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_components_are_student_t(rng, k):
    mixture = make_mixture(rng, k)
    z = 2.0 * rng.standard_normal((2, 20, k))
    parts = component_log_densities(mixture, z)
    assert parts.shape == (2, 3, 20)
    for i, j in np.ndindex(2, 3):
        factor = mixture.factors[i, j]
        t = multivariate_t(mixture.means[i, j], factor @ factor.T, df=DEGREES_OF_FREEDOM)
        assert_close(parts[i, j], t.logpdf(z[i]))


@pytest.mark.parametrize("name", ["standard", "skewed"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_log_density_is_the_weighted_sum_with_the_prior_first(rng, k, name):
    mixture, prior = make_mixture(rng, k), prior_of(name, k)
    z = 2.0 * rng.standard_normal((2, 20, k))
    parts = component_log_densities(mixture, z)
    for i in range(2):
        total = mixture.weights[i, 0] * np.exp(log_prior_density(prior, z[i]))
        for j in range(3):
            total = total + mixture.weights[i, 1 + j] * np.exp(parts[i, j])
        assert_close(log_density(mixture, prior, z)[i], np.log(total))


def test_a_weight_of_zero_leaves_a_component_out(rng):
    mixture, prior = make_mixture(rng, 2), skewed_prior(2)
    z = rng.standard_normal((2, 5, 2))
    only_prior = mixture._replace(weights=np.array([[1.0, 0.0, 0.0, 0.0]] * 2))
    assert_close(log_density(only_prior, prior, z), log_prior_density(prior, z))
    no_prior = mixture._replace(weights=np.array([[0.0, 0.2, 0.5, 0.3]] * 2))
    parts = component_log_densities(mixture, z) + np.log([0.2, 0.5, 0.3])[:, None]
    assert_close(log_density(no_prior, prior, z), logsumexp(parts, axis=1))


@pytest.mark.parametrize("name", ["standard", "skewed"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_draws_have_the_moments_of_the_mixture(rng, k, name):
    mixture, prior = make_mixture(rng, k), prior_of(name, k)
    uniform = np.clip(Sobol(k + 2, rng=rng).random(2**14), 1e-9, 1.0 - 1e-9)
    z = draw(mixture, prior, uniform)
    assert z.shape == (2, 2**14, k)
    first, first_cov = prior_moments(prior)
    for i in range(2):
        means = np.vstack([first, mixture.means[i]])
        covs = (
            DEGREES_OF_FREEDOM
            / (DEGREES_OF_FREEDOM - 2.0)
            * (mixture.factors[i] @ np.swapaxes(mixture.factors[i], 1, 2))
        )
        covs = np.concatenate([first_cov[None], covs])
        mean = mixture.weights[i] @ means
        gaps = means - mean
        cov = np.einsum("j,jab->ab", mixture.weights[i], covs + gaps[:, :, None] * gaps[:, None])
        sd = np.sqrt(np.diag(cov))
        assert np.abs((z[i].mean(axis=0) - mean) / sd).max() < 0.005
        assert np.abs((np.cov(z[i].T).reshape(k, k) - cov) / np.outer(sd, sd)).max() < 0.01


def test_selection_keeps_rows_together(rng):
    mixture, prior = make_mixture(rng, 2, n=4), skewed_prior(2)
    z = rng.standard_normal((4, 6, 2))
    index = np.array([3, 1])
    assert_close(
        log_density(select_mixture(mixture, index), prior, z[index]),
        log_density(mixture, prior, z)[index],
    )


@pytest.mark.parametrize("n", [1, 7, 100])
def test_systematic_resampling_counts_are_within_one(rng, n):
    weights = rng.dirichlet(np.full(30, 0.3), size=5)
    picks = systematic(weights, n)
    assert picks.shape == (5, n)
    for row, chosen in zip(weights, picks, strict=True):
        counts = np.bincount(chosen, minlength=30)
        assert counts.sum() == n
        assert np.abs(counts - n * row).max() < 1.0 + 1e-9


def test_systematic_resampling_never_takes_a_point_of_no_weight():
    weights = np.array([[0.0, 0.5, 0.0, 0.5, 0.0]])
    np.testing.assert_array_equal(systematic(weights, 4), [[1, 1, 3, 3]])


@pytest.mark.parametrize(("steps", "tolerance"), [(3, 0.5), (30, 0.03)])
def test_refit_finds_two_weighted_clusters(rng, monkeypatch, steps, tolerance):
    # Components start as wide as the whole cloud, which the few steps of a round only half forget.
    monkeypatch.setattr(_mixture, "EM_STEPS", steps)
    centres = np.array([[-6.0, 2.0], [5.0, -3.0]])
    factors = np.array([[[0.5, 0.0], [0.3, 0.4]], [[0.8, 0.0], [-0.4, 0.6]]])
    which = np.repeat([0, 1], 3000)  # as many points of each, but not as much weight
    z = centres[which] + np.einsum("sij,sj->si", factors[which], rng.standard_normal((6000, 2)))
    weights = np.where(which == 0, 0.25, 0.75) / 3000
    mixture = select_mixture(refit(z[None], weights[None], 2, 0.1), 0)
    order = np.argsort(mixture.means[:, 0])
    np.testing.assert_allclose(mixture.weights[0], 0.1)
    shares = 0.9 * np.array([0.25, 0.75])
    np.testing.assert_allclose(mixture.weights[1:][order], shares, atol=0.1 * tolerance)
    np.testing.assert_allclose(mixture.means[order], centres, atol=tolerance)
    if steps == 3:
        return
    for j, factor in zip(order, factors, strict=True):
        cov = mixture.factors[j] @ mixture.factors[j].T
        np.testing.assert_allclose(cov, factor @ factor.T, atol=0.15)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("n_effective", [1, 2, 4])
def test_refit_to_few_points_is_positive_definite(rng, k, n_effective):
    z = rng.standard_normal((3, 50, k))
    weights = np.zeros((3, 50))
    weights[:, :n_effective] = 1.0 / n_effective
    mixture = refit(z, weights, 6, 0.05)
    assert mixture.means.shape == (3, 6, k)
    assert np.isfinite(mixture.means).all()
    assert (np.einsum("njaa->nja", mixture.factors) > 0.0).all()
    np.testing.assert_allclose(mixture.weights.sum(axis=1), 1.0)
    assert np.isfinite(log_density(mixture, standard_prior(k), z)).all()


def test_refit_treats_every_sequence_alone(rng):
    z = rng.standard_normal((3, 200, 2))
    weights = rng.dirichlet(np.ones(200), size=3)
    together = refit(z, weights, 4, 0.05)
    for i in range(3):
        alone = refit(z[i : i + 1], weights[i : i + 1], 4, 0.05)
        for part, expected in zip(alone, together, strict=True):
            assert_close(part[0], expected[i])
