"""Importance sampling of p(z | y), against quadrature over z and against its definitions."""

from functools import partial

import numpy as np
import pytest
import reference
from small_families import draw_sequences, each, make_family, oblique

from mtds_sklearn._sequences import pack_sequences, select_sequences
from mtds_sklearn.inference import _adaptive_is, _moments, _pool, _proposals
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._coordinates import coordinates_of, prior_points
from mtds_sklearn.inference._draws import N_DRAWS, Draws, first_draws, make_draws
from mtds_sklearn.inference._moments import accurate_moments
from mtds_sklearn.inference._pool import Pool, effective_size, last_or_resampled, weigh
from mtds_sklearn.inference._proposals import _modes
from mtds_sklearn.inference._target import (
    local_quadratics,
    log_likelihoods,
    log_target,
    make_target,
)
from mtds_sklearn.learning._shapes import quantiles_of, shape_density
from mtds_sklearn.model._latent_prior import (
    Components,
    LatentPrior,
    log_prior_density,
    scores_from_normal,
    standard_prior,
)
from mtds_sklearn.model._likelihood import evaluations, log_likelihood
from mtds_sklearn.model._task_map import latent_prior, natural_parameters

LENGTHS = (6, 1, 15, 9)


def skewed_prior(k):
    """A prior far from normal: oblique, off centre, skewed and with other tails."""
    axes = oblique(np.random.default_rng(1), k)
    r = np.linspace(-20.0, 20.0, 8001)
    shapes = np.array([[0.4, -0.5, 0.4, 0.3], [-0.3, 0.3, -0.6, -0.2]])[:k]
    densities = [shape_density(r, shape) for shape in shapes]
    return LatentPrior(axes, np.array([quantiles_of(r, density) for density in densities]))


def clustered_prior(k):
    """The same, with a narrow cluster, and one that is long in one direction."""
    means, stds = np.array([[1.2, -0.5], [-0.8, 0.4]])[:, :k], np.array([[0.15, 0.2], [0.9, 0.3]])
    factors = stds[:, :k, None] * np.array([[1.0, 0.0], [0.6, 0.8]])[:k, :k]
    return skewed_prior(k)._replace(
        components=Components(np.array([0.2, 0.5, 0.3]), means, factors)
    )


PRIORS = {"standard": lambda k: None, "skewed": skewed_prior, "clusters": clustered_prior}


def family_of(rng, name, k, scale=0.3):
    family = make_family(rng, (3, 1, 2), k, scale=scale)
    return family._replace(prior=PRIORS[name](k))


def slow_gap_weights(family, observed):
    """Weights of the values of one sequence, of the family's mean system."""
    mean = natural_parameters(family, np.zeros(family.loadings.shape[1]))
    return reference.gap_weights(mean, tuple(family.chart.shape), observed, family.noise_std)


def slow_log_target(z, family, rows, weights):
    """log p(y, z) of one sequence at one z."""
    shape = tuple(family.chart.shape)
    psi = natural_parameters(family, z)
    likelihood = reference.log_likelihood(psi, shape, *rows, family.noise_std, weights)
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
        psi = natural_parameters(family, z)
        run = evaluations(one, repeats=len(z))
        log_joint = log_likelihood(psi, run, family.chart, family.noise_std)
        log_joint = log_joint + log_prior_density(latent_prior(family), z)
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


def accurate(posterior, sequences, family, i, seed=0):
    """Moments of sequence i, from the points of its posterior."""
    near = (posterior.z[i], posterior.log_weights[i])
    return accurate_moments(select_sequences(sequences, [i]), family, seed, near)


def assert_moments(found, expected, tolerance=0.01):
    """Fail unless mean and covariance agree to a share of the standard deviations."""
    mean, cov, log_evidence = expected
    sd = np.sqrt(np.diag(cov))
    assert np.abs((found.mean - mean) / sd).max() < tolerance
    assert np.abs((found.cov - cov) / np.outer(sd, sd)).max() < tolerance
    assert abs(found.log_evidence - log_evidence) < tolerance


def assert_posteriors(posterior, sequences, family, expected):
    """Fail unless every posterior has the moments that `expected` gives for its number."""
    for i in range(len(sequences.labels)):
        exact = expected(i)
        assert_moments(accurate(posterior, sequences, family, i), exact)
        assert abs(posterior.log_evidence[i] - exact[2]) < 0.01


def assert_grid(posterior, sequences, family):
    assert_posteriors(posterior, sequences, family, partial(grid_posterior, sequences, family))


# ------------------------------------------------------------------------------ against quadrature


@pytest.mark.parametrize("more", [(), ("K", "offset"), ("noise",)], ids=["plain", "gain", "level"])
@pytest.mark.parametrize("k", [1, 2])
def test_moments_and_evidence_agree_with_gauss_hermite(rng, k, more):
    kinds = ("A", "B", "x0", "C", "D", *more)
    family = make_family(rng, (2, 1, 1), k, free=kinds, varying=kinds, gain="K" in more)
    sequences, _ = draw_sequences(rng, family, LENGTHS, missing=0.2)
    posterior = infer(sequences, family, make_draws(k, 0))
    n_nodes = 60 if k == 1 else 40 if "noise" in more else 24  # of a level the tails are long

    def expected(i):
        # Where the nodes go is taken from the posterior; what they add up to is not.
        found = accurate(posterior, sequences, family, i)
        rows = list(each(sequences))[i]
        weights = slow_gap_weights(family, rows[2])
        return reference.gauss_hermite_posterior(
            partial(slow_log_target, family=family, rows=rows, weights=weights),
            k,
            found.mean,
            np.linalg.cholesky(found.cov),
            n_nodes=n_nodes,
        )

    assert_posteriors(posterior, sequences, family, expected)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("k", [1, 2])
def test_moments_and_evidence_agree_with_a_grid(rng, k, name):
    family = family_of(rng, name, k, scale=0.6)
    sequences, _ = draw_sequences(rng, family, LENGTHS, missing=0.2)
    posterior = infer(sequences, family, make_draws(k, 0))
    assert_grid(posterior, sequences, family)


def test_two_modes_are_found(rng):
    """An output that depends on the square of z says nothing of its sign."""
    family = make_family(rng, (1, 0, 1), 1, free=("A", "x0"), varying=("x0",), noise_std=0.05)
    family = family._replace(loadings=np.array([[0.0], [1.5]]), bias=np.array([0.5, 0.0]))
    # Two outputs that disagree on the first row's state: one wants it high, the other low.
    sequences = pack_sequences(np.zeros((2, 0)), [[0.5], [-0.2]], labels=[0, 0])
    posterior = infer(sequences, family, make_draws(1, 0))
    assert_grid(posterior, sequences, family)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("k", [1, 2])
def test_no_observation_gives_back_the_prior(rng, k, name):
    family = family_of(rng, name, k)
    nothing = pack_sequences(
        rng.standard_normal((5, 1)), np.full((5, 2), np.nan), labels=[0, 0, 1, 1, 1]
    )
    posterior = infer(nothing, family, make_draws(k, 0))
    np.testing.assert_allclose(posterior.ess, N_DRAWS)
    assert_grid(posterior, nothing, family)


def test_a_climb_from_its_centre_goes_along_a_narrow_component(rng):
    """A shortened step would leave it, and end in the wide one that lies around it."""
    family = make_family(rng, (2, 0, 1), 6, noise_std=0.02)
    along = np.array([0.2, 0.5, 0.1, -0.1, -0.4, 1.0])
    factor = np.linalg.cholesky(np.outer(along, along) + 1e-4 * np.eye(6))
    mean = np.array([0.1, 1.0, 1.1, -0.6, -1.0, 0.3])
    components = Components(np.array([0.5, 0.5]), mean[None], factor[None])
    prior = standard_prior(6)._replace(components=components)
    family, z = family._replace(prior=prior), mean - 2.5 * along
    nothing = (np.zeros((8, 0)), np.zeros((8, 1)), np.zeros((8, 1), dtype=bool))
    psi = natural_parameters(family, z)
    y, _ = reference.simulate(psi, tuple(family.chart.shape), *nothing)
    target = make_target(pack_sequences(np.zeros((8, 0)), y), family)
    points = rng.standard_normal((6, 64))  # of the wide one
    means, _, _ = _modes(points, log_likelihoods(points[None], target), target)
    assert np.abs(means[0] - z).max(axis=1).min() < 0.1


@pytest.mark.parametrize("name", PRIORS)
def test_quadratics_have_the_gradient_of_the_target(rng, name):
    family = family_of(rng, name, 2)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    target = make_target(sequences, family)
    v = rng.standard_normal((len(LENGTHS), 2, 3))
    value, gradient, curvature = local_quadratics(v, target)
    np.testing.assert_allclose(value, log_target(v, target), rtol=1e-10)
    for a, step in enumerate(1e-5 * np.eye(2)[:, :, None]):
        change = (log_target(v + step, target) - log_target(v - step, target)) / 2e-5
        # Tables are linear between their nodes: now and then a step crosses one.
        np.testing.assert_allclose(np.median(change / gradient[..., a]), 1.0, atol=1e-4)
    assert np.linalg.eigvalsh(curvature).min() > 0.0


def test_draws_of_the_prior_within_a_proposal_have_all_its_components(rng):
    coordinates, draws, share = coordinates_of(family_of(rng, "clusters", 2)), make_draws(2, 0), 0.1
    points = prior_points(coordinates, draws.normal[3], draws.component, share)
    points = points[:, draws.component < share]
    expected = scores_from_normal(
        coordinates.components, rng.standard_normal((2**16, 2)), rng.uniform(size=2**16)
    )
    np.testing.assert_allclose(points.mean(axis=1), expected.mean(axis=0), atol=0.12)
    np.testing.assert_allclose(np.cov(points), np.cov(expected.T), atol=0.25)


def test_moments_find_the_tails_that_their_first_proposal_left_out(rng, monkeypatch):
    """Their own spread tells, and what was drawn there shapes the next proposal."""
    family = family_of(rng, "skewed", 2, scale=0.6)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    found = infer(sequences, family, make_draws(2, 0))
    monkeypatch.setattr(_moments, "FITS", 0)
    for i in range(len(LENGTHS)):
        one = select_sequences(sequences, [i])
        mean = np.exp(found.log_weights[i]) @ found.z[i]
        near = (mean + 0.2 * (found.z[i] - mean), found.log_weights[i])
        moments = accurate_moments(one, family, 0, near)
        assert_moments(moments, grid_posterior(sequences, family, i))


# ------------------------------------------------------------------------------------ what is kept


@pytest.mark.parametrize("share", [None, 2.0], ids=["as it is", "resampled"])
def test_weighted_points_are_the_posterior(rng, monkeypatch, share):
    family = family_of(rng, "skewed", 2, scale=0.6)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    if share is not None:  # no round is good enough alone
        monkeypatch.setattr(_pool, "TARGET_SHARE", share)
    posterior = infer(sequences, family, make_draws(2, 0))
    weights = np.exp(posterior.log_weights)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert posterior.z.shape == (len(LENGTHS), N_DRAWS, 2)
    tolerance = 0.02 if share is None else 0.05
    for i in range(len(LENGTHS)):
        exact_mean, exact_cov, _ = grid_posterior(sequences, family, i)
        sd = np.sqrt(np.diag(exact_cov))
        mean = weights[i] @ posterior.z[i]
        assert (np.abs(mean - exact_mean) / sd).max() < tolerance
        cov = (weights[i, :, None] * (posterior.z[i] - mean)).T @ (posterior.z[i] - mean)
        assert (np.abs(cov - exact_cov) / np.outer(sd, sd)).max() < 2.0 * tolerance
    if share is None:
        assert (1.0 / np.sum(weights**2, axis=1) >= _pool.TARGET_SHARE * N_DRAWS).all()
    else:
        assert (1.0 / np.sum(weights**2, axis=1) >= 0.5 * N_DRAWS).all()
        assert weights.max() < 2.1 / N_DRAWS  # half of the chance follows the weights
        assert (posterior.ess > 1.5 * N_DRAWS).all()


@pytest.mark.parametrize("missed", [0.0, 0.01])
def test_a_mode_that_the_last_round_missed_is_kept(missed):
    """Its weights alone would never tell: all that it drew is weighted evenly."""
    n = 200
    found = np.where(np.arange(n) < n // 2, 0.0, 10.0)  # by the first round
    z = np.concatenate([found, np.zeros(n)])[None, None]
    there = z[0, 0] > 5.0
    target = np.where(there, 2.0 * missed / (1.0 - missed), 1.0)
    densities = np.stack([np.ones(2 * n), np.where(there, 1e-12, 2.0)])[:, None]
    pool = Pool(
        z, np.log(np.maximum(target, 1e-300))[None], np.ones((1, 2 * n)), (None, None), densities
    )
    weighed = weigh(pool, n)
    points, kept = last_or_resampled(pool, weighed)
    share = kept[points[:, 0] > 5.0].sum()
    expected = weighed.weights[0, there].sum()
    assert share == pytest.approx(expected, rel=0.2)
    assert (share > 0.0) == (missed > 0.0)


def test_a_round_that_is_lost_counts_as_one_draw():
    """All of its draws are so unlikely beside those of the first that nothing is left of them."""
    n, densities = 50, np.ones((2, 1, 100))
    z, log_target = np.arange(2.0 * n)[None, None], np.where(np.arange(2 * n) < n, 0.0, -2000.0)
    pool = Pool(z, log_target[None], np.ones((1, 2 * n)), (None, None), densities)
    weighed = weigh(pool, n)
    assert not weighed.good.any()
    np.testing.assert_allclose(weighed.last.sum(axis=1), 1.0)
    np.testing.assert_allclose(effective_size(weighed.last), 1.0)
    np.testing.assert_allclose(weighed.weights[0], np.repeat([1.0 / n, 0.0], n))
    np.testing.assert_allclose(weighed.log_evidence, np.log(0.5))


def test_many_rounds_agree_with_the_grid(rng, monkeypatch):
    """The window slides, and the weights are still those of a deterministic mixture."""
    family = family_of(rng, "standard", 2, scale=0.6)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    monkeypatch.setattr(_pool, "TARGET_SHARE", 2.0)
    monkeypatch.setattr(_adaptive_is, "TARGET_TOGETHER", 9.0)
    posterior = infer(sequences, family, make_draws(2, 0))
    assert_grid(posterior, sequences, family)


@pytest.mark.parametrize("distance", [0.0, 30.0], ids=["near", "lost"])
def test_points_near_the_posterior_do_not_move_it(rng, distance):
    family = family_of(rng, "standard", 2)
    sequences, _ = draw_sequences(rng, family, LENGTHS, missing=0.2)
    found = infer(sequences, family, make_draws(2, 1))
    # Points that are far away are noticed, and the posterior is searched for.
    near = (found.z[:, ::4] + distance, np.full((len(LENGTHS), N_DRAWS // 4), -np.log(N_DRAWS / 4)))
    posterior = infer(sequences, family, make_draws(2, 0), near)
    assert_grid(posterior, sequences, family)


def test_a_latent_that_moves_nothing_keeps_its_prior(rng):
    """The posterior is that of the family without it, and independent of it."""
    family = make_family(rng, (3, 1, 2), 2)
    sequences, _ = draw_sequences(rng, family, LENGTHS)
    wide = family._replace(loadings=family.loadings @ [[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    posterior = infer(sequences, wide, make_draws(3, 0))
    other = infer(sequences, family, make_draws(2, 0))
    np.testing.assert_allclose(posterior.log_evidence, other.log_evidence, atol=0.01)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, -0.8, 0.6]])
    for i in range(len(LENGTHS)):
        found = accurate(posterior, sequences, wide, i)
        plain = accurate(other, sequences, family, i)
        expected = (np.append(plain.mean, 0.0), np.eye(3), plain.log_evidence)
        expected[1][:2, :2] = plain.cov
        turned = found._replace(mean=turn @ found.mean, cov=turn @ found.cov @ turn.T)
        assert_moments(turned, expected)
        # So do the points that are kept.
        weights, z = np.exp(posterior.log_weights[i]), posterior.z[i] @ turn[2]
        assert abs(weights @ z) < 0.03
        assert weights @ z**2 == pytest.approx(1.0, abs=0.05)


# ------------------------------------------------------------------------------- one among others


@pytest.mark.parametrize(("n_inputs", "lengths"), [(0, (6, 1, 15, 9, 3)), (1, (6, 1, 15, 9))])
def test_sequences_do_not_influence_each_other(rng, monkeypatch, n_inputs, lengths):
    family = make_family(rng, (3, n_inputs, 2), 2)
    sequences, _ = draw_sequences(rng, family, lengths)
    draws, index = make_draws(2, 0), np.array([3, 1])
    expected = infer(sequences, family, draws)
    for part, whole in zip(
        infer(select_sequences(sequences, index), family, draws), expected, strict=True
    ):
        np.testing.assert_allclose(part, whole[index], rtol=1e-6, atol=1e-8)
    monkeypatch.setattr(_adaptive_is, "CHUNK_SEQUENCES", 2)
    for part, whole in zip(infer(sequences, family, draws), expected, strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-6, atol=1e-8)


def test_a_sequence_that_is_done_early_does_not_move_the_others(rng):
    """One without observations needs the first round alone."""
    family = family_of(rng, "standard", 2)
    sequences, _ = draw_sequences(rng, family, (6, 9, 15))
    outputs = np.where(sequences.observed, sequences.outputs, np.nan)
    outputs[:6] = np.nan
    labels = np.repeat([0, 1, 2], [6, 9, 15])
    sequences = pack_sequences(sequences.inputs, outputs, labels=labels)
    draws = make_draws(2, 0)
    together = infer(sequences, family, draws)
    for i in range(3):
        alone = infer(select_sequences(sequences, [i]), family, draws)
        for part, whole in zip(alone, together, strict=True):
            np.testing.assert_allclose(part[0], whole[i], rtol=1e-6, atol=1e-8)


def test_rows_without_observations_at_the_end_change_nothing(rng):
    family = family_of(rng, "skewed", 2)
    sequences, _ = draw_sequences(rng, family, (6, 9))
    outputs = np.where(sequences.observed, sequences.outputs, np.nan)
    labels = np.repeat([0, 1], [6, 9])
    more = pack_sequences(
        np.vstack([sequences.inputs, rng.standard_normal((7, 1))]),
        np.vstack([outputs, np.full((7, 2), np.nan)]),
        labels=np.append(labels, np.repeat([0, 1], [3, 4])),
    )
    draws = make_draws(2, 0)
    for part, whole in zip(
        infer(more, family, draws), infer(sequences, family, draws), strict=True
    ):
        np.testing.assert_allclose(part, whole, rtol=1e-6, atol=1e-8)


# ----------------------------------------------------------------------------------------- numbers


def test_draws_depend_on_the_arguments_alone():
    first, other, wider = make_draws(2, 3), make_draws(2, 4), make_draws(3, 3)
    make_draws.cache_clear()
    again = make_draws(2, 3)
    for name, values, same, different in zip(Draws._fields, first, again, other, strict=True):
        np.testing.assert_array_equal(values, same)
        assert np.array_equal(values, different) == (name == "component")
        assert np.isfinite(values).all()
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0.0
    assert wider.normal.shape[1] == 3
    np.testing.assert_allclose(first.points.mean(axis=0), 0.0, atol=5e-3)
    np.testing.assert_allclose(np.cov(first.points.T), np.eye(2), atol=2e-2)
    np.testing.assert_allclose(np.histogram(first.component, 8, (0, 1))[0], N_DRAWS / 8)
    for normal in first.normal:
        np.testing.assert_allclose(np.cov(normal), np.eye(2), atol=2e-2)
        # So are the draws of each component, which are consecutive.
        for part in np.split(normal, 8, axis=1):
            np.testing.assert_allclose(np.cov(part), np.eye(2), atol=8e-2)


def test_fewer_draws_and_rounds_say_roughly_the_same(rng):
    family = family_of(rng, "standard", 2, scale=0.6)
    sequences, _ = draw_sequences(rng, family, LENGTHS, missing=0.2)
    draws = make_draws(2, 0)
    rough = first_draws(draws, 256, 1)
    found, expected = infer(sequences, family, rough), infer(sequences, family, draws)
    assert found.z.shape[1] == 256
    np.testing.assert_allclose(found.log_evidence, expected.log_evidence, atol=0.2)
    assert not np.allclose(found.log_evidence, expected.log_evidence, atol=1e-6)
    assert rough.component.mean() == pytest.approx(0.5)
    assert len(rough.normal) == len(rough.scale) == 2  # what the first round holds still, and one


def test_a_climb_that_ends_where_outputs_run_away_is_no_error(rng, monkeypatch):
    """The curvature there is one large square, beside which rounding drowns the prior's."""
    k = 4
    family = family_of(rng, "standard", k, scale=0.6)
    sequences, _ = draw_sequences(rng, family, LENGTHS, missing=0.2)
    found = _proposals._modes

    def one_runs_away(*arguments):
        means, curvature, value = found(*arguments)
        curvature[:, -1] = 1e20
        value[:, -1] = -1e15
        return means, curvature, value

    monkeypatch.setattr(_proposals, "_modes", one_runs_away)
    draws = first_draws(make_draws(k, 0), 256, 2)
    posterior = infer(sequences, family, draws)
    assert all(np.isfinite(part).all() for part in posterior)
