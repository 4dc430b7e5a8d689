import numpy as np
import pytest
from small_families import make_posterior

from mtds_sklearn.learning._posterior import (
    TaskPosterior,
    cubature_points,
    divergence,
    prior_posterior,
    select,
)


def covariances(posterior):
    return np.einsum("nij,nkj->nik", posterior.factor, posterior.factor)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_cubature_is_exact_up_to_third_moments(rng, latent_dim):
    posterior = make_posterior(rng, 4, latent_dim)
    points = cubature_points(posterior)
    assert points.shape == (4, 2 * latent_dim, latent_dim)
    centred = points - posterior.mean[:, None]
    np.testing.assert_allclose(points.mean(axis=1), posterior.mean, atol=1e-14)
    second = np.einsum("nci,ncj->nij", centred, centred) / points.shape[1]
    np.testing.assert_allclose(second, covariances(posterior), atol=1e-14)
    third = np.einsum("nci,ncj,nch->nijh", centred, centred, centred)
    np.testing.assert_allclose(third, 0.0, atol=1e-13)


def test_cubature_means_of_a_cubic_are_those_of_quadrature(rng):
    posterior = make_posterior(rng, 3, 1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    z = posterior.mean + posterior.factor[:, :, 0] * nodes
    expected = (1.0 + 2.0 * z - z**2 + 0.5 * z**3) @ weights / weights.sum()
    z = cubature_points(posterior)[..., 0]
    found = (1.0 + 2.0 * z - z**2 + 0.5 * z**3).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_latents_there_is_one_empty_point():
    assert cubature_points(prior_posterior(3, 0)).shape == (3, 1, 0)
    np.testing.assert_array_equal(divergence(prior_posterior(3, 0)), np.zeros(3))


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_divergence_is_that_of_gaussians(rng, latent_dim):
    posterior = make_posterior(rng, 4, latent_dim)
    expected = [
        0.5 * (np.trace(S) + m @ m - latent_dim - np.linalg.slogdet(S)[1])
        for m, S in zip(posterior.mean, covariances(posterior), strict=True)
    ]
    np.testing.assert_allclose(divergence(posterior), expected, rtol=1e-12)


def test_divergence_is_the_integral_of_its_definition():
    mean, std = 0.7, 0.4
    z = np.linspace(-6.0, 6.0, 20001)
    log_q = -0.5 * ((z - mean) / std) ** 2 - np.log(std)
    log_p = -0.5 * z**2
    density = np.exp(log_q) / np.sqrt(2.0 * np.pi)
    expected = np.sum(density * (log_q - log_p)) * (z[1] - z[0])
    found = divergence(TaskPosterior(np.array([[mean]]), np.array([[[std]]])))
    np.testing.assert_allclose(found, [expected], rtol=1e-9)


def test_divergence_is_zero_at_the_prior_alone(rng):
    np.testing.assert_array_equal(divergence(prior_posterior(2, 3)), np.zeros(2))
    assert np.all(divergence(make_posterior(rng, 20, 3)) > 0.0)


def test_select_takes_whole_posteriors_from_one_side(rng):
    old, new = make_posterior(rng, 3, 2), make_posterior(rng, 3, 2)
    mixed = select(old, new, np.array([False, True, False]))
    for i, source in enumerate([old, new, old]):
        np.testing.assert_array_equal(mixed.mean[i], source.mean[i])
        np.testing.assert_array_equal(mixed.factor[i], source.factor[i])
