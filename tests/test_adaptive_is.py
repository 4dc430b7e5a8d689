"""Importance sampling of p(z | y), against quadrature over z and against its definitions."""

from functools import partial

import numpy as np
import pytest
import reference
from small_families import draw_sequences, each, make_family, make_rows
from systems import assert_close

from mtds_sklearn._sequences import pack_sequences, select_sequences
from mtds_sklearn.inference import _adaptive_is
from mtds_sklearn.inference._adaptive_is import (
    N_DRAWS,
    effective_sample_size,
    infer,
    log_target,
    make_draws,
    tempered,
)
from mtds_sklearn.model._latent_prior import LatentPrior, log_prior_density
from mtds_sklearn.model._task_map import latent_prior, natural_parameters

LENGTHS = (6, 1, 15, 9)


def skewed_prior(k):
    """A prior far from normal: rotated, off centre, skewed and with other tails."""
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((k, k)))
    return LatentPrior(rotation, np.array([[0.4, -0.5, 0.4, 0.3], [-0.3, 0.3, -0.6, -0.2]])[:k])


def slow_log_target(z, sequences, family, i):
    """log p(y_i, z) at one z."""
    psi = natural_parameters(family, z)
    rows = list(each(sequences))[i]
    shape = tuple(family.chart.shape)
    likelihood = reference.log_likelihood(psi, shape, *rows, family.noise_std)
    return likelihood + log_prior_density(latent_prior(family), z)


def grid_posterior(sequences, family, i):
    """Mean, covariance and log evidence of sequence i on an even grid over z.

    A coarse grid finds the box that holds the posterior, all modes of it, and a fine one fills it.
    """
    k = family.loadings.shape[1]
    one = select_sequences(sequences, np.array([i]))
    low, high = np.full(k, -8.0), np.full(k, 8.0)
    for n_nodes in (401, 2001 if k == 1 else 301):
        axes = [np.linspace(*ends, n_nodes) for ends in zip(low, high, strict=True)]
        z = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
        log_joint = log_target(z[None], one, family)[0]
        top = log_joint.max()
        inside = z[log_joint > top - 25.0]
        step = np.array([axis[1] - axis[0] for axis in axes])
        low, high = inside.min(axis=0) - 2.0 * step, inside.max(axis=0) + 2.0 * step
    probability = np.exp(log_joint - top)
    log_evidence = top + np.log(probability.sum()) + np.log(step).sum()
    probability /= probability.sum()
    mean = probability @ z
    centred = z - mean
    return mean, (probability[:, None] * centred).T @ centred, log_evidence


def assert_posterior(posterior, i, expected, *, tolerance=0.01):
    """Fail unless the moments agree to a share of the standard deviations, and the evidence."""
    mean, cov, log_evidence = expected
    sd = np.sqrt(np.diag(cov))
    assert np.abs((posterior.mean[i] - mean) / sd).max() < tolerance
    assert np.abs((posterior.cov[i] - cov) / np.outer(sd, sd)).max() < 1.5 * tolerance
    assert abs(posterior.log_evidence[i] - log_evidence) < tolerance


# The error of one set of draws has a standard deviation of 0.3 to 1 % under the skewed prior, whose
# corners are hard on quasi-random numbers; it is not biased over sets.
WITH_CORNERS = 0.03


@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("k", [1, 2])
def test_moments_and_evidence_agree_with_gauss_hermite(rng, k, gain):
    kinds = ("A", "B", "x0", "K", "C", "D", "offset") if gain else ("A", "B", "x0", "C", "D")
    family = make_family(rng, (2, 1, 1), k, free=kinds, varying=kinds, gain=gain)
    sequences, _ = draw_sequences(rng, family, LENGTHS, missing=0.2)
    posterior = infer(sequences, family, make_draws(k, 0))
    for i in range(len(LENGTHS)):
        # Where the nodes go is taken from the posterior; what they add up to is not.
        factor = np.linalg.cholesky(posterior.cov[i])
        expected = reference.gauss_hermite_posterior(
            partial(slow_log_target, sequences=sequences, family=family, i=i),
            k,
            posterior.mean[i],
            factor,
            n_nodes=24 if k == 2 else 60,
        )
        assert_posterior(posterior, i, expected)


@pytest.mark.parametrize("name", ["standard", "skewed"])
@pytest.mark.parametrize("k", [1, 2])
def test_moments_and_evidence_agree_with_a_grid(rng, k, name):
    family = make_family(rng, (3, 1, 2), k, scale=0.6)
    family = family._replace(prior=None if name == "standard" else skewed_prior(k))
    sequences, _ = draw_sequences(rng, family, LENGTHS, missing=0.2)
    posterior = infer(sequences, family, make_draws(k, 0))
    for i in range(len(LENGTHS)):
        assert_posterior(
            posterior,
            i,
            grid_posterior(sequences, family, i),
            tolerance=0.01 if name == "standard" else WITH_CORNERS,
        )


@pytest.mark.parametrize("name", ["standard", "skewed"])
@pytest.mark.parametrize("k", [1, 2])
def test_no_observation_gives_back_the_prior(rng, k, name):
    family = make_family(rng, (2, 1, 1), k)
    prior = None if name == "standard" else skewed_prior(k)
    family = family._replace(prior=prior)
    inputs = rng.standard_normal((5, 1))
    nothing = pack_sequences(inputs, np.full((5, 1), np.nan), labels=[0, 0, 1, 1, 1])
    posterior = infer(nothing, family, make_draws(k, 0))
    if prior is None:
        expected = np.zeros(k), np.eye(k), 0.0
    else:
        mean, cov, _ = grid_posterior(nothing, family, 0)
        expected = mean, cov, 0.0
    for i in range(2):
        tolerance = 0.01 if prior is None else WITH_CORNERS
        assert_posterior(posterior, i, expected, tolerance=tolerance)


def test_weighted_points_are_the_posterior(rng):
    family = make_family(rng, (3, 1, 2), 2, scale=0.6)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    posterior = infer(sequences, family, make_draws(2, 0))
    weights = np.exp(posterior.log_weights)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert posterior.z.shape == (len(LENGTHS), N_DRAWS, 2)
    # Points of several rounds are resampled, which moves the moments a little.
    sd = np.sqrt(np.einsum("naa->na", posterior.cov))
    mean = np.einsum("ns,nsa->na", weights, posterior.z)
    assert (np.abs(mean - posterior.mean) / sd).max() < 0.03
    centred = posterior.z - mean[:, None]
    cov = np.einsum("ns,nsa,nsb->nab", weights, centred, centred)
    assert (np.abs(cov - posterior.cov) / (sd[:, :, None] * sd[:, None])).max() < 0.06
    # The effective sample size counts all rounds together.
    assert (posterior.ess > 0.2 * N_DRAWS).all()


def test_several_rounds_agree_with_one(rng, monkeypatch):
    family = make_family(rng, (3, 1, 2), 2, scale=0.6)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    monkeypatch.setattr(_adaptive_is, "TARGET_SHARE", 3.0)
    posterior = infer(sequences, family, make_draws(2, 0))
    assert (posterior.ess >= 3.0 * N_DRAWS).all()  # more than one round can have
    np.testing.assert_allclose(posterior.log_weights, -np.log(N_DRAWS))
    for i in range(len(LENGTHS)):
        assert_posterior(posterior, i, grid_posterior(sequences, family, i))


def test_starts_do_not_move_the_posterior(rng):
    family = make_family(rng, (3, 1, 2), 2)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    starts = rng.standard_normal((len(LENGTHS), 3, 2))
    posterior = infer(sequences, family, make_draws(2, 0), starts)
    for i in range(len(LENGTHS)):
        assert_posterior(posterior, i, grid_posterior(sequences, family, i))


def test_effective_sample_size_is_the_squared_sum_over_the_sum_of_squares(rng):
    weights = rng.uniform(0.01, 1.0, (4, 3, 50))
    expected = weights.sum(axis=-1) ** 2 / (weights**2).sum(axis=-1)
    assert_close(effective_sample_size(np.log(weights)), expected)
    # Log weights far outside the range of exp, and a single point that takes everything.
    assert_close(effective_sample_size(np.log(weights) - 2000.0), expected)
    np.testing.assert_allclose(effective_sample_size(np.array([0.0, -1e4, -2e4])), 1.0)


def test_tempering_uses_the_largest_power_that_leaves_enough(rng):
    log_weights = np.array([[0.1], [3.0], [50.0]]) * rng.standard_normal((3, 400))
    weights = tempered(log_weights, 100.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    plain = np.exp(log_weights[0])
    assert_close(weights[0], plain / plain.sum())  # enough already: as they are
    for row, log_w in zip(weights[1:], log_weights[1:], strict=True):
        # The power is the common slope of the logs.
        beta = np.polyfit(log_w, np.log(row), 1)[0]
        assert 0.0 < beta < 1.0
        assert_close(np.log(row) - np.log(row).max(), beta * (log_w - log_w.max()), 1e-8)
        effective = 1.0 / np.sum(row**2)
        assert 100.0 <= effective < 101.0
        assert effective_sample_size((beta + 1e-4) * log_w) < 100.0 + 1e-6


@pytest.mark.parametrize(("n_inputs", "lengths"), [(0, (6, 1, 15, 9, 3)), (1, (6, 1, 15, 9))])
def test_chunks_change_nothing(rng, monkeypatch, n_inputs, lengths):
    family = make_family(rng, (3, n_inputs, 2), 2)
    sequences, _ = draw_sequences(rng, family, lengths)
    starts = rng.standard_normal((len(lengths), 3, 2))
    for given in (None, starts):
        expected = infer(sequences, family, make_draws(2, 0), given)
        with monkeypatch.context() as patch:
            patch.setattr(_adaptive_is, "CHUNK_POINTS", 2 * N_DRAWS)
            chunked = infer(sequences, family, make_draws(2, 0), given)
        assert_same(chunked, expected)


def test_a_sequence_alone_has_the_same_posterior(rng):
    # Alone it shares its inputs with every other sequence, so that more starts are tried: the
    # proposal differs, but what it estimates does not.
    family = make_family(rng, (3, 1, 2), 2)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    everything = infer(sequences, family, make_draws(2, 0))
    for i in range(len(LENGTHS)):
        alone = infer(select_sequences(sequences, np.array([i])), family, make_draws(2, 0))
        expected = alone.mean[0], alone.cov[0], alone.log_evidence[0]
        assert_posterior(everything, i, expected, tolerance=0.02)


def test_sequences_do_not_influence_each_other(rng):
    family = make_family(rng, (3, 1, 2), 2)
    sequences, _ = draw_sequences(rng, family, (6, 1, 15, 9, 3))
    draws, index = make_draws(2, 0), np.array([3, 1])
    everything = infer(sequences, family, draws)
    part = infer(select_sequences(sequences, index), family, draws)
    mixture = type(everything.mixture)(*(values[index] for values in everything.mixture))
    assert_same(part, type(everything)(*(values[index] for values in everything[:-1]), mixture))


def assert_same(actual, expected):
    for name in expected._fields[:-1]:
        assert_close(getattr(actual, name), getattr(expected, name), 1e-8)
    for part, values in zip(actual.mixture, expected.mixture, strict=True):
        assert_close(part, values, 1e-8)


@pytest.mark.parametrize("name", ["standard", "skewed"])
@pytest.mark.parametrize("gain", [False, True])
def test_log_target_is_log_likelihood_plus_log_prior(rng, gain, name):
    family = make_family(rng, (3, 2, 2), 2, gain=gain)
    family = family._replace(prior=None if name == "standard" else skewed_prior(2))
    sequences = make_rows(rng, n_inputs=2, n_outputs=2, missing=0.3)
    z = rng.standard_normal((len(sequences.labels), 4, 2))
    expected = [
        [slow_log_target(point, sequences, family, i) for point in points]
        for i, points in enumerate(z)
    ]
    assert_close(log_target(z, sequences, family), expected)


def test_draws_depend_on_the_seed_alone():
    first, again, other = make_draws(2, 3), make_draws(2, 3), make_draws(2, 4)
    for values, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(values, same)
        assert not np.array_equal(values, different)
        assert np.isfinite(values).all()
    np.testing.assert_allclose(first.points.mean(axis=0), 0.0, atol=5e-3)
    np.testing.assert_allclose(np.cov(first.points.T), np.eye(2), atol=2e-2)
