"""The proposal mixtures of importance sampling, against SciPy and against their definitions."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import chi2, multivariate_normal, multivariate_t
from scipy.stats.qmc import Sobol
from systems import assert_close

from mtds_sklearn.inference import _mixture
from mtds_sklearn.inference._mixture import (
    DEGREES_OF_FREEDOM,
    Mixture,
    blend,
    density,
    draw,
    effective_sample_size,
    fit_mixture,
    make_mixture,
    select_mixture,
    systematic,
    tempered,
)


def random_mixture(rng, k, *, n=2, n_components=3):
    factors = np.tril(0.3 * rng.standard_normal((n, n_components, k, k)))
    diagonal = np.arange(k)
    factors[..., diagonal, diagonal] = rng.uniform(0.4, 1.2, (n, n_components, k))
    weights = rng.uniform(0.5, 1.5, (n, 1 + n_components))
    weights /= weights.sum(axis=1, keepdims=True)
    return Mixture(weights, 2.0 * rng.standard_normal((n, n_components, k)), factors)


def component_densities(mixture, v):
    """Densities (n, n_components, n_points) of the components, one at a time."""
    n, n_components, _ = mixture.means.shape
    alone = mixture.weights.copy()
    parts = []
    for j in range(n_components):
        alone[:] = np.eye(1 + n_components)[1 + j]
        parts.append(density(mixture._replace(weights=alone), v, np.ones((n, v.shape[2]))))
    return np.stack(parts, axis=1)


def normal_density(v):
    return np.exp(-0.5 * np.sum(v**2, axis=1)) / (2.0 * np.pi) ** (v.shape[1] / 2)


def uniform_numbers(rng, k, n):
    """What `draw` takes: evenly spaced, normal, and what makes normal numbers Student t."""
    u = np.clip(Sobol(k + 1, rng=rng).random(n).T, 1e-9, 1.0 - 1e-9)
    scale = np.sqrt(DEGREES_OF_FREEDOM / chi2.ppf(u[0], DEGREES_OF_FREEDOM))
    return (np.arange(n) + 0.5) / n, ndtri(u[1:]), scale


# 70 points: more than one bunch of lanes, and a bunch that is not full.
@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_components_are_student_t(rng, k):
    mixture = random_mixture(rng, k)
    v = 2.0 * rng.standard_normal((2, k, 70))
    parts = component_densities(mixture, v)
    assert parts.shape == (2, 3, 70)
    for i, j in np.ndindex(2, 3):
        factor = mixture.factors[i, j]
        t = multivariate_t(mixture.means[i, j], factor @ factor.T, df=DEGREES_OF_FREEDOM)
        assert_close(parts[i, j], t.pdf(v[i].T))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_density_is_the_weighted_sum_with_the_prior_first(rng, k):
    mixture = random_mixture(rng, k)
    v = 2.0 * rng.standard_normal((2, k, 20))
    found = density(mixture, v, normal_density(v))
    for i in range(2):
        total = mixture.weights[i, 0] * multivariate_normal(np.zeros(k)).pdf(v[i].T)
        for j in range(3):
            factor = mixture.factors[i, j]
            t = multivariate_t(mixture.means[i, j], factor @ factor.T, df=DEGREES_OF_FREEDOM)
            total = total + mixture.weights[i, 1 + j] * t.pdf(v[i].T)
        assert_close(found[i], total)


@pytest.mark.parametrize("k", [1, 2])
def test_the_density_integrates_to_one(rng, k):
    mixture = random_mixture(rng, k)
    axes = [np.linspace(-60.0, 60.0, 1601)] * k
    v = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")])[None].repeat(2, axis=0)
    cell = (axes[0][1] - axes[0][0]) ** k
    total = density(mixture, v, normal_density(v)).sum(axis=1) * cell
    np.testing.assert_allclose(total, 1.0, rtol=1e-4)


def test_a_weight_of_zero_leaves_a_component_out(rng):
    mixture = random_mixture(rng, 2)
    v = rng.standard_normal((2, 2, 5))
    only_prior = mixture._replace(weights=np.array([[1.0, 0.0, 0.0, 0.0]] * 2))
    assert_close(density(only_prior, v, normal_density(v)), normal_density(v))
    no_prior = mixture._replace(weights=np.array([[0.0, 0.2, 0.5, 0.3]] * 2))
    parts = np.einsum("njs,j->ns", component_densities(mixture, v), [0.2, 0.5, 0.3])
    assert_close(density(no_prior, v, normal_density(v)), parts)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_draws_have_the_moments_of_the_mixture(rng, k):
    mixture = random_mixture(rng, k)
    v = draw(mixture, *uniform_numbers(rng, k, 2**14))
    assert v.shape == (2, k, 2**14)
    for i in range(2):
        means = np.vstack([np.zeros(k), mixture.means[i]])
        covs = mixture.factors[i] @ np.swapaxes(mixture.factors[i], 1, 2)
        covs = DEGREES_OF_FREEDOM / (DEGREES_OF_FREEDOM - 2.0) * covs
        covs = np.concatenate([np.eye(k)[None], covs])
        mean = mixture.weights[i] @ means
        gaps = means - mean
        cov = np.einsum("j,jab->ab", mixture.weights[i], covs + gaps[:, :, None] * gaps[:, None])
        sd = np.sqrt(np.diag(cov))
        assert np.abs((v[i].mean(axis=1) - mean) / sd).max() < 0.005
        assert np.abs((np.cov(v[i]).reshape(k, k) - cov) / np.outer(sd, sd)).max() < 0.01


def test_draws_weigh_one_on_average_under_their_own_density(rng):
    """Draws and density tell of the same mixture: E[N(v; 0, I) / q(v)] = 1."""
    mixture = random_mixture(rng, 2)
    v = draw(mixture, *uniform_numbers(rng, 2, 2**14))
    ratio = normal_density(v) / density(mixture, v, normal_density(v))
    np.testing.assert_allclose(ratio.mean(axis=1), 1.0, atol=2e-3)


def test_selection_keeps_rows_together(rng):
    mixture = random_mixture(rng, 2, n=4)
    v, index = rng.standard_normal((4, 2, 6)), np.array([3, 1])
    prior = normal_density(v)
    found = density(select_mixture(mixture, index), v[index], prior[index])
    assert_close(found, density(mixture, v, prior)[index])


def test_a_blend_is_the_weighted_sum_of_two_mixtures(rng):
    first, second = random_mixture(rng, 2), random_mixture(rng, 2, n_components=5)
    v, share = rng.standard_normal((2, 2, 9)), np.array([0.3, 1.0])
    prior = normal_density(v)
    expected = [
        s * density(first, v, prior)[i] + (1 - s) * density(second, v, prior)[i]
        for i, s in enumerate(share)
    ]
    both = blend(first, second, share)
    assert_close(density(both, v, prior), expected)
    np.testing.assert_allclose(both.weights.sum(axis=1), 1.0)


def test_make_mixture_shares_out_what_the_prior_leaves(rng):
    covs = np.array([[[[2.0, 0.3], [0.3, 1.0]], [[1.0, 0.0], [0.0, 0.5]]]])
    mixture = make_mixture(0.2, np.array([[3.0, 1.0]]), rng.standard_normal((1, 2, 2)), covs)
    np.testing.assert_allclose(mixture.weights, [[0.2, 0.6, 0.2]])
    assert_close(mixture.factors @ np.swapaxes(mixture.factors, 2, 3), covs)


# ------------------------------------------------------------------------------------- resampling


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
    weights = np.array([[0.0, 0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(systematic(weights, 4), [[1, 1, 3, 3], [4, 4, 4, 4]])


def test_systematic_resampling_of_no_sequence(rng):
    assert systematic(np.empty((0, 5)), 3).shape == (0, 3)


# ---------------------------------------------------------------------------------------- weights


def test_effective_sample_size_is_the_squared_sum_over_the_sum_of_squares(rng):
    weights = rng.uniform(0.01, 1.0, (4, 3, 50))
    expected = weights.sum(axis=-1) ** 2 / (weights**2).sum(axis=-1)
    assert_close(effective_sample_size(np.log(weights)), expected)
    # Log weights far outside the range of exp, and a single point that takes everything.
    assert_close(effective_sample_size(np.log(weights) - 2000.0), expected)
    np.testing.assert_allclose(effective_sample_size(np.array([0.0, -1e4, -2e4])), 1.0)


def test_tempering_uses_the_largest_power_that_leaves_enough(rng):
    log_weights = np.array([[0.1], [3.0], [50.0], [1e5]]) * rng.standard_normal((4, 400))
    weights = tempered(log_weights, 100.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    plain = np.exp(log_weights[0])
    assert_close(weights[0], plain / plain.sum())  # enough already: as they are
    for row, log_w in zip(weights[1:], log_weights[1:], strict=True):
        # The power is the common slope of the logs.
        seen = row > 1e-200
        beta = np.polyfit(log_w[seen], np.log(row[seen]), 1)[0]
        assert 0.0 < beta < 1.0
        log_row = np.log(row[seen])
        assert_close(log_row - log_row.max(), beta * (log_w - log_w.max())[seen], 1e-7)
        assert 100.0 <= 1.0 / np.sum(row**2)
        assert effective_sample_size(1.05 * beta * log_w) < 100.0


# -------------------------------------------------------------------------------------------- fit


def wide_start(v, n_components, prior_weight):
    """Components at some of the points, as wide as all of them."""
    n, k, n_points = v.shape
    picks = np.linspace(0, n_points - 1, n_components).astype(int)
    covs = np.stack([np.cov(rows).reshape(k, k) for rows in v])[:, None]
    means = np.swapaxes(v[:, :, picks], 1, 2)
    return make_mixture(
        prior_weight, np.ones((n, n_components)), means, np.repeat(covs, n_components, axis=1)
    )


def test_a_fit_finds_two_weighted_clusters(rng, monkeypatch):
    monkeypatch.setattr(_mixture, "EM_STEPS", 40)
    centres = np.array([[-6.0, 2.0], [5.0, -3.0]])
    factors = np.array([[[0.5, 0.0], [0.3, 0.4]], [[0.8, 0.0], [-0.4, 0.6]]])
    which = np.repeat([0, 1], 3000)  # as many points of each, but not as much weight
    v = centres[which] + np.einsum("sij,sj->si", factors[which], rng.standard_normal((6000, 2)))
    v = v.T[None]
    weights = np.where(which == 0, 0.25, 0.75)[None] / 3000
    mixture = select_mixture(fit_mixture(wide_start(v, 2, 0.1), v, weights), 0)
    order = np.argsort(mixture.means[:, 0])
    np.testing.assert_allclose(mixture.weights[0], 0.1)
    np.testing.assert_allclose(mixture.weights[1:][order], [0.225, 0.675], atol=0.005)
    np.testing.assert_allclose(mixture.means[order], centres, atol=0.06)
    for j, factor in zip(order, factors, strict=True):
        cov = mixture.factors[j] @ mixture.factors[j].T
        np.testing.assert_allclose(cov, factor @ factor.T, atol=0.3)


def test_a_component_without_points_stays_where_it_was(rng):
    v = rng.standard_normal((1, 2, 300))
    covs = np.array([[[[1.0, 0.2], [0.2, 0.5]], np.eye(2)]])
    means = np.array([[[50.0, 50.0], [0.0, 0.0]]])
    start = make_mixture(0.05, np.ones((1, 2)), means, covs)
    fitted = fit_mixture(start, v, np.full((1, 300), 1.0 / 300))
    np.testing.assert_allclose(fitted.means[0, 0], means[0, 0], atol=0.01)
    cov = fitted.factors[0, 0] @ fitted.factors[0, 0].T
    np.testing.assert_allclose(cov, covs[0, 0], atol=0.01)
    assert fitted.weights[0, 1] < 0.01


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("n_effective", [1, 2, 4])
def test_a_fit_to_few_points_is_positive_definite(rng, k, n_effective):
    v = rng.standard_normal((3, k, 50))
    weights = np.zeros((3, 50))
    weights[:, :n_effective] = 1.0 / n_effective
    mixture = fit_mixture(wide_start(v, 6, 0.05), v, weights)
    assert np.isfinite(mixture.means).all()
    assert (np.einsum("njaa->nja", mixture.factors) > 0.0).all()
    np.testing.assert_allclose(mixture.weights.sum(axis=1), 1.0)
    assert np.isfinite(density(mixture, v, normal_density(v))).all()


@pytest.mark.parametrize("away", [1e3, 1e6])
def test_a_fit_knows_its_spread_wherever_it_is(rng, away):
    v = rng.standard_normal((1, 2, 300))
    weights, far = np.full((1, 300), 1.0 / 300), np.array([away, -2.0 * away])
    here, start = fit_mixture(wide_start(v, 3, 0.05), v, weights), wide_start(v, 3, 0.05)
    start = start._replace(means=start.means + far)
    there = fit_mixture(start, v + far[:, None], weights)
    np.testing.assert_allclose(there.means, here.means + far, rtol=1e-9)
    np.testing.assert_allclose(there.factors, here.factors, rtol=1e-6, atol=1e-6)


def test_a_direction_that_drowns_in_rounding_is_widened():
    cov = 1e11 * np.array([[1.0, 1.0], [1.0, 1.0 - 1e-13]])
    mixture = make_mixture(0.1, np.ones((1, 1)), np.zeros((1, 1, 2)), cov[None, None])
    found = mixture.factors[0, 0] @ mixture.factors[0, 0].T
    np.testing.assert_allclose(found, cov, rtol=1e-11)
    assert np.linalg.eigvalsh(found).min() > 0.0


def test_a_fit_treats_every_sequence_alone(rng):
    v = rng.standard_normal((3, 2, 200))
    weights = rng.dirichlet(np.ones(200), size=3)
    start = wide_start(v, 4, 0.05)
    together = fit_mixture(start, v, weights)
    for i in range(3):
        alone = fit_mixture(select_mixture(start, [i]), v[i : i + 1], weights[i : i + 1])
        for part, expected in zip(alone, together, strict=True):
            assert_close(part[0], expected[i])


def test_a_fit_comes_close_to_the_mixture_that_the_points_are_from(rng, monkeypatch):
    """Cross entropy: scales are the points' covariances, a third wider than Student t needs."""
    monkeypatch.setattr(_mixture, "EM_STEPS", 20)
    mixture = random_mixture(rng, 2)
    mixture = mixture._replace(weights=np.array([[0.05, 0.35, 0.3, 0.3]] * 2))
    v = draw(mixture, *uniform_numbers(rng, 2, 2**13))
    truth, start = density(mixture, v, normal_density(v)), wide_start(v, 6, 0.05)
    fitted = fit_mixture(start, v, np.full((2, 2**13), 2.0**-13))
    before, after = (
        np.mean(np.log(truth / density(q, v, normal_density(v))), axis=1) for q in (start, fitted)
    )
    assert (before > 0.3).all()
    assert (np.abs(after) < 0.12).all()
