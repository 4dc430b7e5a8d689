"""From posteriors and sequences to the components of p(z), and from those to forecasts."""

import pickle

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from small_families import (
    draw_sequences,
    log_likelihoods,
    make_family,
    make_posterior,
    oblique,
)
from systems import assert_close

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.estimators._known_family import _recall
from mtds_sklearn.inference._mixture import effective_sample_size
from mtds_sklearn.inference._target import make_target
from mtds_sklearn.learning._clusters import implied_quadratics, quadratics_at, with_components
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._latent_prior import (
    NODES,
    LatentPrior,
    latents_of,
    log_prior_density,
    scores_of,
    standard_prior,
)

N_SEQUENCES, N_STEPS = 40, 25


def bent_prior(rng, k):
    """Every coordinate is bent."""
    return LatentPrior(oblique(rng, k), np.tile(1.3 * np.sinh(0.4 * NODES) / 0.4, (k, 1)))


def value_at(quadratics, v):
    """Quadratics (n_sequences, n_places) at scores v (n_sequences, n_places, k)."""
    bent = np.einsum("njab,njb->nja", quadratics.stiffness, v)
    return quadratics.level + np.sum((quadratics.pull - 0.5 * bent) * v, axis=2)


# --------------------------------------------------------------------------------- quadratics


def test_posteriors_imply_their_likelihood(rng):
    """N(mean, cov) / N(0, I), up to a constant, where scores are an oblique z."""
    posterior = make_posterior(rng, 4, 3)
    factor = 0.5 * posterior.factor / np.linalg.norm(posterior.factor, axis=(1, 2), keepdims=True)
    posterior = posterior._replace(factor=factor)
    prior = standard_prior(3)._replace(axes=oblique(rng, 3))
    quadratics = implied_quadratics(prior, posterior, 3, np.ones(4))
    z = rng.standard_normal((4, 6, 3))
    standard = np.linalg.solve(factor, np.swapaxes(z - posterior.mean[:, None], 1, 2))
    expected = 0.5 * (np.sum(z**2, axis=2) - np.sum(standard**2, axis=1))
    found = value_at(quadratics, z @ np.linalg.inv(prior.axes).T)
    change = found - expected
    assert_close(change, np.repeat(change[:, :1], 6, axis=1), 1e-8)


def test_bent_scores_have_the_slope_of_the_likelihood_at_the_mean(rng):
    posterior = make_posterior(rng, 4, 2)
    posterior = posterior._replace(factor=0.2 * posterior.factor)
    prior = bent_prior(rng, 2)
    quadratics = implied_quadratics(prior, posterior, 2, np.ones(4))
    v, _ = scores_of(prior, posterior.mean)
    for step in 1e-3 * np.eye(2):
        ends = [v + step, v - step]
        found = [value_at(quadratics, end[:, None])[:, 0] for end in ends]
        # The gradient of log N(mean, cov) is zero at the mean: what is left is |z|^2 / 2.
        expected = [0.5 * np.sum(latents_of(prior, end) ** 2, axis=1) for end in ends]
        np.testing.assert_allclose(
            (found[0] - found[1]) / 2e-3, (expected[0] - expected[1]) / 2e-3, atol=0.05
        )


def test_quadratics_touch_the_log_likelihood(rng):
    family = make_family(rng, (3, 1, 2), 2)
    sequences, _ = draw_sequences(rng, family, (6, 9, 4), missing=0.2)
    prior = bent_prior(rng, 2)
    at = rng.standard_normal((3, 2, 2))
    target = make_target(sequences, family._replace(prior=prior))
    quadratics = quadratics_at(at, target, np.ones(3))
    for j in range(2):
        for step in (np.zeros(2), *(1e-4 * np.eye(2)), *(-1e-4 * np.eye(2))):
            v = at[:, j] + step
            expected = log_likelihoods(sequences, family, latents_of(prior, v))
            found = value_at(quadratics, np.repeat(v[:, None], 2, axis=1))[:, j]
            np.testing.assert_allclose(found, expected, atol=2e-6)


# -------------------------------------------------------------------------------- components


def clustered_posterior(rng, n=60):
    mean = np.where(np.arange(n) % 2, 1.0, -1.0)[:, None] * [1.0, 0.8, 0.0]
    mean = mean + 0.1 * rng.standard_normal((n, 3)) * [1.0, 1.0, 0.0]
    return TaskPosterior(mean, np.tile(np.diag([0.1, 0.1, 1.0]), (n, 1, 1)))


def three_coordinates(rng):
    """The first two coordinates are fitted and move something; a family and its prior."""
    family = make_family(rng, (2, 0, 1), 3)
    family.loadings[:, 2] = 0.0
    prior = standard_prior(3)
    prior.quantiles[:2] = 1.1 * NODES
    return prior, family


def test_components_leave_coordinates_alone_that_move_nothing(rng):
    prior = with_components(*three_coordinates(rng), clustered_posterior(rng))
    n = len(prior.components.means)
    assert n == 2
    assert_close(np.sort(prior.components.means[:, 0]), np.array([-1.0, 1.0]) / 1.1, 0.1)
    assert_close(prior.components.means[:, 2], np.zeros(n))
    assert_close(prior.components.factors[:, 2], np.tile([0.0, 0.0, 1.0], (n, 1)))


def test_coordinates_that_move_something_come_first(rng):
    prior, family = three_coordinates(rng)
    order = [2, 0, 1]
    turned = prior._replace(axes=prior.axes[:, order], quantiles=prior.quantiles[order])
    known = clustered_posterior(rng)
    z = rng.standard_normal((20, 3))
    expected = log_prior_density(with_components(prior, family, known), z)
    assert_close(log_prior_density(with_components(turned, family, known), z), expected, 1e-8)


def test_sequences_without_observations_tell_of_no_cluster(rng):
    known = clustered_posterior(rng)
    empty = TaskPosterior(
        np.concatenate([known.mean, np.zeros((90, 3))]),
        np.concatenate([known.factor, np.tile(np.eye(3), (90, 1, 1))]),
    )
    prior, family = three_coordinates(rng)
    expected = with_components(prior, family, known)
    found = with_components(prior, family, empty)
    for one, other in zip(found.components, expected.components, strict=True):
        assert_close(one, other)


def test_nothing_fitted_has_no_components(rng):
    family = three_coordinates(rng)[1]
    assert with_components(standard_prior(3), family, clustered_posterior(rng)).components is None


# --------------------------------------------------------------------------------- estimators


@pytest.fixture(scope="module")
def kinds():
    """Sequences of two kinds, that rise or fall by the same steps, with offsets of their own."""
    rng = np.random.default_rng(0)
    sign = np.where(np.arange(N_SEQUENCES) % 2, 1.0, -1.0)[:, None]
    u = rng.standard_normal((N_SEQUENCES, N_STEPS))
    state, y = np.zeros((N_SEQUENCES, 1)), []
    for t in range(N_STEPS):
        state = 0.8 * state + u[:, t : t + 1]
        y.append(sign * state)
    y = np.hstack(y) + rng.standard_normal((N_SEQUENCES, 1))
    y = y + 0.3 * rng.standard_normal(y.shape)
    groups = np.repeat(np.arange(N_SEQUENCES), N_STEPS)
    return u.reshape(-1, 1), y.ravel(), groups, sign[:, 0]


@pytest.fixture(scope="module")
def fitted(kinds):
    X, y, groups, _ = kinds
    return MTLDSRegressor(2, 2, disturbance="none", random_state=0).fit(X, y, groups=groups)


def test_kinds_become_components(fitted, kinds):
    components = fitted.task_map_.prior.components
    assert components is not None
    u = np.zeros((N_STEPS, 1))
    u[0] = 1.0  # the response to a pulse says of which kind a sequence is
    y, z = fitted.sample_sequences(u, 400, random_state=0)
    response, _ = fitted.sample_sequences(u, z=z)
    gain = response[:, 0] - response[:, -1]
    assert np.mean(np.abs(np.abs(gain) - 1.0) < 0.2) > 0.9
    assert 0.35 < np.mean(gain > 0.0) < 0.65
    assert y.shape == (400, N_STEPS)


def test_two_rows_tell_the_kind(fitted, kinds):
    X, y, groups, _ = kinds
    rows = {"groups": groups + 1000, "times": np.tile(np.arange(N_STEPS), N_SEQUENCES)}
    known = np.where(rows["times"] < 4, y, np.nan)
    density = fitted.forecast_log_density(X, y, y_context=known, **rows)[rows["times"] >= 4]
    plain = pickle.loads(pickle.dumps(fitted))
    prior = plain.task_map_.prior._replace(components=None)
    plain.task_map_ = plain.task_map_._replace(prior=prior)
    without = plain.forecast_log_density(X, y, y_context=known, **rows)[rows["times"] >= 4]
    assert density.mean() > without.mean() + 0.05


def test_what_fit_learned_of_a_sequence_agrees_with_its_rows(fitted, kinds):
    X, y, groups, _ = kinds
    hidden = np.full(len(y), np.nan)
    recalled, spread = fitted.predict(X, groups=groups, y_context=hidden, return_std=True)
    seen = fitted.predict(X, groups=groups + 1000, y_context=y)
    assert np.sqrt(np.mean((recalled - seen) ** 2)) < 0.1
    assert np.all(np.isfinite(spread))


@pytest.mark.parametrize("clustered", [True, False])
def test_what_is_recalled_is_what_was_learned_under_the_prior(fitted, clustered):
    """N(mean, cov) p(z) / N(0, I), on a grid."""
    known = fitted._known_family()
    if not clustered:
        prior = known.family.prior._replace(components=None)
        known = known._replace(family=known.family._replace(prior=prior))
    z, log_weights = _recall(known, np.arange(4))
    assert effective_sample_size(log_weights).min() > 600.0
    weights = np.exp(log_weights)
    for i in range(4):
        mean = weights[i] @ z[i]
        sd = np.sqrt(weights[i] @ (z[i] - mean) ** 2)
        axes = [np.linspace(m - 8.0 * s, m + 8.0 * s, 401) for m, s in zip(mean, sd, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        log_p = multivariate_normal.logpdf(grid, known.mean[i], known.cov[i])
        log_p += 0.5 * np.sum(grid**2, axis=1) + log_prior_density(known.family.prior, grid)
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        np.testing.assert_allclose(mean / sd, p @ grid / sd, atol=0.05)
        np.testing.assert_allclose(sd, np.sqrt(p @ (grid - p @ grid) ** 2), rtol=0.05)


def test_a_posterior_of_a_clustered_family_is_updated(fitted, kinds):
    X, y, _, _ = kinds
    posterior = fitted.sequence_posterior(X[:5], y[:5], groups=np.zeros(5) + 1000)[1000.0]
    for u, value in zip(X[5:15], y[5:15], strict=True):
        posterior = posterior.update(u, value)
    whole = fitted.sequence_posterior(X[:15], y[:15], groups=np.zeros(15) + 1000)[1000.0]
    sd = np.sqrt(np.diag(whole.cov))
    np.testing.assert_allclose(posterior.mean / sd, whole.mean / sd, atol=0.15)
