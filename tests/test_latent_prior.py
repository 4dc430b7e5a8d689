import numpy as np
import pytest
import reference
from scipy.integrate import cumulative_trapezoid
from scipy.stats import kstest, norm
from scipy.stats.qmc import Sobol
from small_families import make_family, oblique
from systems import assert_close

from mtds_sklearn.model._latent_prior import (
    NODES,
    Components,
    LatentPrior,
    latents_from_normal,
    latents_of,
    log_prior_density,
    scores_from_normal,
    scores_of,
    standard_prior,
)
from mtds_sklearn.model._task_map import latent_prior

# Values of a coordinate at the nodes of a standard normal number, and the density they imply.
QUANTILES = {
    "moved and wide": (0.7 + 1.5 * NODES, lambda r: norm.pdf(r, 0.7, 1.5)),
    "log-normal": (np.exp(0.5 * NODES), lambda r: norm.pdf(2.0 * np.log(r)) * 2.0 / r),
    "uniform": (
        4.0 * norm.cdf(NODES) + 1e-9 * NODES,
        lambda r: np.where((r > 0.0) & (r < 4.0), 0.25, 0.0),
    ),
}
N_NUMBERS = 40_000
# One standard normal number from each of many equal shares: the tests below need no luck.
SHARES = (np.arange(N_NUMBERS) + 0.5) / N_NUMBERS
NUMBERS = norm.ppf(SHARES)[:, None]


def make_prior(rng, latent_dim):
    slopes = rng.uniform(0.2, 3.0, (latent_dim, len(NODES)))
    return LatentPrior(oblique(rng, latent_dim), np.cumsum(slopes, axis=1) / 64.0 - 8.0)


def make_components(rng, latent_dim, n=2):
    factors = np.tril(0.3 * rng.standard_normal((n, latent_dim, latent_dim)))
    diagonal = np.arange(latent_dim)
    factors[:, diagonal, diagonal] = rng.uniform(0.1, 0.8, (n, latent_dim))
    weights = rng.dirichlet(np.ones(1 + n))
    return Components(weights, rng.standard_normal((n, latent_dim)), factors)


def one_coordinate(kind):
    return LatentPrior(np.eye(1), QUANTILES[kind][0][None])


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


@pytest.mark.parametrize("kind", QUANTILES)
def test_the_density_is_the_one_that_the_quantiles_imply(kind):
    """Up to the table's linear pieces, of which there are 64 to a standard deviation."""
    r = np.interp(np.linspace(-3.0, 3.0, 997), NODES, QUANTILES[kind][0])
    found = np.exp(log_prior_density(one_coordinate(kind), r[:, None]))
    np.testing.assert_allclose(found, QUANTILES[kind][1](r), rtol=0.03)


@pytest.mark.parametrize("kind", QUANTILES)
def test_draws_have_the_density(kind):
    """Exactly that of `log_prior_density`, so that draws and weights fit together."""
    prior = one_coordinate(kind)
    r = latents_from_normal(prior, NUMBERS, SHARES)[:, 0]
    grid = np.linspace(*prior.quantiles[0, [0, -1]], 400_001)
    p = np.exp(log_prior_density(prior, grid[:, None]))
    cumulative = cumulative_trapezoid(p, grid, initial=0.0)
    assert cumulative[-1] == pytest.approx(1.0, abs=2e-4)
    distance = kstest(r, lambda value: np.interp(value, grid, cumulative)).statistic
    assert distance < 2e-4  # random draws would be 0.004 away


def test_draws_follow_the_axes(rng):
    prior = make_prior(rng, 3)
    upright = prior._replace(axes=np.eye(3))
    normal, uniform = rng.standard_normal((5, 4, 3)), rng.uniform(size=(5, 4))
    r = latents_from_normal(upright, normal, uniform)
    z = latents_from_normal(prior, normal, uniform)
    assert_close(z, r @ prior.axes.T, 1e-13)
    expected = log_prior_density(upright, r) - np.linalg.slogdet(prior.axes)[1]
    assert_close(log_prior_density(prior, z), expected, 1e-9)


def test_the_standard_coordinates_are_the_same_in_every_direction(rng):
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    prior = standard_prior(3)._replace(axes=turn)
    z = rng.standard_normal((20, 3))
    assert_close(log_prior_density(prior, z), log_prior_density(standard_prior(3), z), 1e-12)


def test_draws_and_densities_may_be_stacked(rng):
    prior = make_prior(rng, 2)._replace(components=make_components(rng, 2))
    normal, uniform = rng.standard_normal((3, 4, 2)), rng.uniform(size=(3, 4))
    z = latents_from_normal(prior, normal, uniform)
    log_p = log_prior_density(prior, z)
    assert log_p.shape == (3, 4)
    for i in np.ndindex(3, 4):
        assert_close(z[i], latents_from_normal(prior, normal[i], uniform[i]), 1e-13)
        assert log_p[i] == pytest.approx(log_prior_density(prior, z[i]))


def test_numbers_given_are_not_changed(rng):
    normal = rng.standard_normal((4, 2))
    before = normal.copy()
    prior = make_prior(rng, 2)._replace(components=make_components(rng, 2))
    latents_from_normal(prior, normal, rng.uniform(size=4))
    np.testing.assert_array_equal(normal, before)


@pytest.mark.parametrize("kind", QUANTILES)
def test_far_out_values_stay_finite_and_unlikely(kind):
    log_p = log_prior_density(one_coordinate(kind), np.array([[-1e3], [1e3]]))
    assert np.isfinite(log_p).all()
    assert (log_p < -20.0).all()


@pytest.mark.parametrize("kind", QUANTILES)
def test_far_out_numbers_give_finite_draws(kind):
    far = np.array([[-40.0], [-9.0], [9.0], [40.0]])
    z = latents_from_normal(one_coordinate(kind), far, np.full(4, 0.5))
    assert np.isfinite(z).all()
    assert np.abs(z).max() < 500.0


# ------------------------------------------------------------------------------------- components


def test_the_density_of_components_is_that_of_scipy(rng):
    prior = standard_prior(3)._replace(components=make_components(rng, 3))
    z = rng.standard_normal((7, 5, 3))
    assert_close(
        log_prior_density(prior, z), reference.log_mixture_density(z, *prior.components), 1e-10
    )


def test_scores_of_components_have_their_share_mean_and_covariance(rng):
    components = make_components(rng, 2)
    numbers = Sobol(3, rng=rng).random(2**14)
    normal, uniform = norm.ppf(numbers[:, :2]), numbers[:, 2]
    v = scores_from_normal(components, normal, uniform)
    order = np.argsort(uniform)
    ends = np.round(np.cumsum(components.weights) * len(v)).astype(int)
    parts = np.split(v[order], ends[:-1])
    means = np.vstack([np.zeros(2), components.means])
    factors = np.concatenate([np.eye(2)[None], components.factors])
    for part, mean, factor in zip(parts, means, factors, strict=True):
        np.testing.assert_allclose(part.mean(axis=0), mean, atol=0.02)
        np.testing.assert_allclose(np.cov(part.T), factor @ factor.T, atol=0.03)


def test_scores_and_latents_are_each_others_inverse(rng):
    prior = make_prior(rng, 3)
    v = rng.standard_normal((5, 4, 3))
    z = latents_of(prior, v)
    assert_close(scores_of(prior, z)[0], v, 1e-9)


def test_a_change_of_variables_takes_components_along(rng):
    """p(z) = p(v) |dv/dz|, the derivative by differences."""
    prior = make_prior(rng, 2)._replace(components=make_components(rng, 2))
    z = latents_of(prior, rng.standard_normal((6, 2)))
    step = 1e-6 * np.eye(2)
    jacobian = [(scores_of(prior, z + e)[0] - scores_of(prior, z - e)[0]) / 2e-6 for e in step]
    log_det = np.linalg.slogdet(np.stack(jacobian, axis=1))[1]
    expected = reference.log_mixture_density(scores_of(prior, z)[0], *prior.components) + log_det
    assert_close(log_prior_density(prior, z), expected, 1e-6)
