"""Specific variances: entries of theta that differ in ways of their own, integrated out."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from small_families import draw_sequences, each, make_family, make_posterior, make_rows
from systems import assert_close

from mtds_sklearn._sequences import select_sequences
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._coordinates import latents
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.inference._moments import accurate_moments
from mtds_sklearn.inference._specific import draws_given, mean_covariance
from mtds_sklearn.inference._target import (
    departures_at,
    local_quadratics,
    log_likelihoods,
    log_prior,
    make_target,
)
from mtds_sklearn.learning import _specific
from mtds_sklearn.learning._e_step import e_step
from mtds_sklearn.learning._em import EMResult, run_em, update_relevance
from mtds_sklearn.learning._gain import with_noise_states
from mtds_sklearn.learning._growth import with_evidence
from mtds_sklearn.learning._initialization import Block, add_block
from mtds_sklearn.learning._learned import Options
from mtds_sklearn.learning._m_step import curvature, posterior_normal
from mtds_sklearn.learning._posterior import (
    divergence,
    moments,
    move,
    prior_posterior,
    whitening,
)
from mtds_sklearn.learning._specific import (
    LINEAR_KINDS,
    are_missing,
    learn_specific,
    likely_variances,
    linear_entries,
    log_likelihood,
    scores_of,
)
from mtds_sklearn.model._latent_prior import NODES, LatentPrior, beside_normal, first_of
from mtds_sklearn.model._task_map import (
    learned_columns,
    natural_parameters,
    specific_variances,
    without_specific,
)

N_POINTS = 70  # more than one group of lanes, and one that is not full
ALL = ("A", "B", "x0", "C", "D", "offset")
CASES = {
    "modal": {"shape": (4, 2, 2)},
    "odd": {"shape": (3, 1, 1)},
    "one state": {"shape": (1, 1, 2)},
    "no inputs": {"shape": (2, 0, 1), "free": ("A", "x0", "offset")},
    "cayley": {"shape": (3, 2, 2), "block": 3},
    "gain": {"shape": (4, 1, 2), "gain": True, "free": (*ALL, "K")},
    "gain, cayley": {"shape": (3, 1, 2), "gain": True, "free": (*ALL, "K"), "block": 3},
    "level": {"shape": (2, 1, 2), "free": (*ALL, "noise")},
    "no states": {"shape": (0, 2, 2), "free": ("D", "offset")},
}


def with_own(rng, family, n_own=None):
    """The family with specific variances of some entries, or of all that may have any."""
    entries = linear_entries(family)
    entries = entries if n_own is None else np.sort(rng.choice(entries, n_own, replace=False))
    columns = np.zeros((len(family.bias), len(entries)))
    columns[entries, np.arange(len(entries))] = rng.uniform(0.2, 0.8, len(entries))
    loadings = np.hstack([family.loadings, columns])
    return family._replace(loadings=loadings, specific=tuple(entries.tolist()))


def make_case(rng, case):
    """Sequences with gaps, points of each, and a family with specific variances."""
    options = {"free": ALL} | CASES[case]
    options["varying"] = options["free"]
    family = with_own(rng, make_family(rng, latent_dim=2, **options))
    _, m, p = options["shape"]
    sequences = make_rows(rng, n_inputs=m, n_outputs=p, missing=0.3)
    return family, sequences, rng.standard_normal((len(sequences.labels), 2, N_POINTS))


def target_of(sequences, family):
    return make_target(with_gap_weights(sequences, family), family)


def natural_directions(family):
    """Natural entries and sizes of the columns of specific variances."""
    columns = (family.chart.basis @ family.loadings)[:, -len(family.specific) :]
    return np.argmax(np.abs(columns), axis=0), columns.max(axis=0)


@pytest.mark.parametrize("case", CASES)
def test_likelihoods_are_those_of_a_dense_gaussian(rng, case):
    family, sequences, v = make_case(rng, case)
    target = target_of(sequences, family)
    z = np.swapaxes(latents(target.coordinates, v), 1, 2)
    psi = natural_parameters(without_specific(family), z)
    shape, along = tuple(family.chart.shape), natural_directions(family)
    mean = natural_parameters(family, np.zeros(family.loadings.shape[1]))
    expected = np.empty(psi.shape[:2])
    for i, rows in enumerate(each(sequences)):
        weights = reference.gap_weights(mean, shape, rows[2], family.noise_std)
        for s in range(N_POINTS):
            expected[i, s] = reference.marginal_log_likelihood(
                psi[i, s], shape, rows, family.noise_std, *along, weights
            )
    assert_close(log_likelihoods(v, target), expected, 1e-10)
    few = np.ascontiguousarray(v[..., :3])
    value, _, curvature_there = local_quadratics(few, target)
    assert_close(value, expected[:, :3] + log_prior(few, target), 1e-10)
    assert (np.linalg.eigvalsh(curvature_there) >= 1.0 - 1e-9).all()


@pytest.mark.parametrize("case", ["modal", "level", "cayley"])
def test_departures_have_their_conditional_moments(rng, case):
    family, sequences, v = make_case(rng, case)
    target = target_of(sequences, family)
    found, shape = departures_at(v, target), tuple(family.chart.shape)
    psi = natural_parameters(
        without_specific(family), np.swapaxes(latents(target.coordinates, v), 1, 2)
    )
    m, along = len(family.specific), natural_directions(family)
    means, units = draws_given(found, np.zeros(1)), np.eye(m)[:, :, None]
    weights = np.zeros((len(v), N_POINTS))
    weights[:, 3] = 1.0
    covs = mean_covariance(found, weights)
    for i, rows in enumerate(each(sequences)):
        mean, cov = reference.departure_posterior(psi[i, 3], shape, rows, family.noise_std, *along)
        assert_allclose(means[i, :, 3], mean, atol=1e-9)
        assert_allclose(covs[i], cov, atol=1e-9)
        factor = np.stack([draws_given(found, unit)[i, :, 3] - mean for unit in units], axis=1)
        assert_allclose(factor @ factor.T, cov, atol=1e-9)


def test_no_variance_changes_nothing(rng):
    family, sequences, v = make_case(rng, "modal")
    family.loadings[:, 2:] = 0.0
    plain = without_specific(family)
    assert_allclose(
        log_likelihoods(v, target_of(sequences, family)),
        log_likelihoods(v, target_of(sequences, plain)),
        rtol=1e-12,
    )


def test_gradients_are_those_of_the_likelihood_where_sensitivities_stay(rng):
    """Without inputs or gain the offset departs by a constant: then nothing is left out."""
    family = make_family(rng, (2, 0, 2), free=("A", "x0", "offset"), varying=("A", "x0", "offset"))
    family = with_specific_offset(family)
    sequences = make_rows(rng, (9, 14), n_outputs=2)
    target, v = target_of(sequences, family), 0.3 * rng.standard_normal((2, 2, 1))
    _, gradient, curvature_there = local_quadratics(v, target)
    for i in range(2):

        def value(x, i=i):
            moved = v.copy()
            moved[i, :, 0] = x
            return log_likelihoods(moved, target)[i, 0] - 0.5 * x @ x

        assert_allclose(
            gradient[i, 0], reference.finite_difference(value, v[i, :, 0]), rtol=1e-5, atol=1e-6
        )
    assert (np.linalg.eigvalsh(curvature_there) >= 1.0 - 1e-9).all()


def with_specific_offset(family):
    row = [kind for kind, *_ in family.chart.entries].index("offset")
    column = np.zeros((len(family.bias), 1))
    column[row] = 0.7
    loadings = np.hstack([family.loadings, column])
    return family._replace(loadings=loadings, specific=(row,))


@pytest.mark.parametrize("prior", ["normal", "bent"])
def test_posteriors_are_those_of_sampled_departures(rng, prior):
    """What is integrated out is sampled as further latents in place of that."""
    family = with_own(rng, make_family(rng, (2, 1, 1), 1, free=ALL, varying=("A", "x0")), 2)
    if prior == "bent":
        table = LatentPrior(np.eye(1), np.sinh(NODES / 2.0)[None])
        family = family._replace(prior=beside_normal(table, 2))
    sequences, _ = draw_sequences(rng, family, (3, 8, 15))
    draws = make_draws(3, 0)
    plain = family._replace(specific=())
    exact, sampled = (infer(sequences, one, draws) for one in (family, plain))
    assert_allclose(exact.log_evidence, sampled.log_evidence, atol=0.02)
    for i in range(3):
        one = select_sequences(sequences, [i])
        near = (exact.z[i], exact.log_weights[i])
        found = accurate_moments(one, family, 0, near)
        expected = accurate_moments(one, plain, 0, near)
        std = np.sqrt(np.diag(expected.cov))
        assert_allclose(found.mean, expected.mean, atol=0.015 * std.max())
        assert_allclose(
            found.cov / np.outer(std, std), expected.cov / np.outer(std, std), atol=0.03
        )
        weights = np.exp(exact.log_weights[i])
        assert_allclose(weights @ exact.z[i], expected.mean, atol=0.1 * std.max())


def learned_from(sequences, family, posterior):
    last = curvature(posterior, sequences, family)
    return with_evidence(sequences, EMResult(family, posterior, last, [0.0], [0.0], True))


def linear_problem(rng, n_sequences=30):
    """Sequences of a family of which linear entries alone vary, and the exact posteriors of z."""
    family = make_family(rng, (2, 1, 2), 2, varying=("B", "x0", "D", "offset"))
    truth = with_own(rng, family)
    sequences, _ = draw_sequences(rng, truth, (12,) * n_sequences, missing=0.2)
    posterior = prior_posterior(n_sequences, 2)
    for _ in range(2):  # the mode of a quadratic
        posterior = e_step(sequences, family, posterior)
    return sequences, family, truth, posterior


def test_the_likelihood_of_variances_is_that_of_a_dense_gaussian(rng):
    sequences, family, _, posterior = linear_problem(rng)
    # Also beside the modes: what z could still do is not the departures'.
    posterior = posterior._replace(mean=posterior.mean + 0.3 * rng.standard_normal((30, 2)))
    scores = scores_of(sequences, family, posterior)
    psi = rng.uniform(0.0, 1.0, len(scores.entries)) * (rng.uniform(size=len(scores.entries)) < 0.7)
    natural, shape = family.chart.basis @ family.loadings, tuple(family.chart.shape)
    bias = natural_parameters(family, np.zeros(2))

    def dense(psi):
        own = family.chart.basis[:, scores.entries] * (scores.unit * np.sqrt(psi))
        columns = np.hstack([natural, own])
        total = 0.0
        for rows in each(sequences):
            residuals, J = linear_departures(bias, shape, rows, columns)
            noise = np.broadcast_to(family.noise_std, rows[2].shape)[rows[2]] ** 2
            cov = np.diag(noise) + J @ J.T
            total -= 0.5 * residuals @ np.linalg.solve(cov, residuals)
            total -= 0.5 * np.linalg.slogdet(cov)[1]
        return total

    assert_allclose(log_likelihood(scores, psi), dense(psi) - dense(0.0 * psi), rtol=1e-6)


def linear_departures(psi, shape, rows, columns):
    base, _ = reference.simulate(psi, shape, *rows)
    moved = [reference.simulate(psi + column, shape, *rows)[0] - base for column in columns.T]
    return (rows[1] - base)[rows[2]], np.stack([each[rows[2]] for each in moved], axis=1)


def test_likely_variances_are_the_most_likely_and_pay_for_themselves(rng):
    sequences, family, _, posterior = linear_problem(rng)
    scores = scores_of(sequences, family, posterior)
    psi = likely_variances(scores)
    best = log_likelihood(scores, psi)
    assert psi.any()
    for j in np.flatnonzero(psi):
        for factor, least in ((0.9, 0.0), (1.1, 0.0), (0.0, 5.0)):
            other = psi.copy()
            other[j] *= factor
            assert log_likelihood(scores, other) < best - least


def test_sums_over_parts_tell_whether_anything_is_missing(rng, monkeypatch):
    """The first entry that exceeds chance, whatever the size of the parts."""
    sequences, family, _, posterior = linear_problem(rng)
    scores = scores_of(sequences, family, posterior)
    diagonal = np.einsum("njj->nj", scores.information)
    excess = np.sum(scores.score**2 - diagonal, axis=0) / np.sqrt(2.0 * np.sum(diagonal**2, axis=0))
    for size in (7, 100):
        monkeypatch.setattr(_specific, "CHUNK_SEQUENCES", size)
        for least, found in ((0.99 * excess.max(), True), (1.01 * excess.max(), False)):
            monkeypatch.setattr(_specific, "LEAST_SCORE", least)
            assert are_missing(sequences, family, posterior) is found


def test_nothing_is_found_where_nothing_is_missing(rng):
    family = linear_problem(rng)[1]
    fitting, _ = draw_sequences(rng, family, (12,) * 30)
    posterior = e_step(fitting, family, e_step(fitting, family, prior_posterior(30, 2)))
    assert_array_equal(likely_variances(scores_of(fitting, family, posterior)), 0.0)
    assert not are_missing(fitting, family, posterior)
    learned = learned_from(fitting, family, posterior)
    assert learn_specific(fitting, learned, OPTIONS, draw_points) is learned


def draw_points(k):
    return make_draws(k, 0).points


OPTIONS = Options(2, 2, (), (), cayley=False, max_iter=8, tol=1e-5, specific="auto")


def assert_own_columns_alone(family):
    """Columns of specific variances have one entry each, where they should."""
    assert_array_equal(family.loadings[~learned_columns(family)], 0.0)
    assert_array_equal(np.flatnonzero(specific_variances(family)), np.sort(family.specific))


def test_learning_keeps_the_columns_apart(rng):
    sequences, family, truth, posterior = linear_problem(rng)
    learned = learned_from(sequences, family, posterior)
    found = learn_specific(sequences, learned, OPTIONS, draw_points)
    assert found.evidence > learned.evidence + 100.0
    assert found.family.specific
    assert_own_columns_alone(found.family)
    assert (np.asarray(found.gains[1:]) > -1e-6).all()
    assert found.posterior.mean.shape == (30, 2 + len(found.family.specific))
    held = run_em(
        sequences, truth, prior_posterior(30, truth.loadings.shape[1]), draw_points(10), max_iter=3
    )
    assert_own_columns_alone(held.family)


def test_the_entries_that_have_them_are_found(rng):
    family = make_family(rng, (2, 1, 1), 1, varying=("A", "B", "x0", "offset"))
    names = [entry[:2] for entry in family.chart.entries]
    rows = [names.index(("x0", 0)), names.index(("offset", 0))]
    columns = np.zeros((len(names), 2))
    columns[rows, [0, 1]] = 0.6
    truth = family._replace(
        loadings=np.hstack([family.loadings, columns]),
        specific=tuple(rows),
        noise_std=np.full(1, 0.1),
    )
    sequences, _ = draw_sequences(rng, truth, (25,) * 60)
    posterior = e_step(sequences, family, prior_posterior(60, 1), draw_points(1))
    learned = learned_from(sequences, family, posterior)
    found = learn_specific(sequences, learned, OPTIONS._replace(max_iter=40), draw_points)
    assert set(found.family.specific) == set(rows)
    assert_allclose(specific_variances(found.family)[rows], 0.36, rtol=0.5)


def test_the_expansion_leaves_to_departures_what_z_does_not_tell(rng):
    posterior = make_posterior(rng, 50, 4)
    posterior = posterior._replace(mean=posterior.mean @ rng.standard_normal((4, 4)))
    mu, L, gain = whitening(moments(posterior, np.ones(50)), 2)
    moved = move(posterior, mu, L)
    total = moments(moved, np.ones(50)) / 50
    assert_allclose(total[:, 4], [0.0, 0.0, 0.0, 0.0, 1.0], atol=1e-12)
    assert_allclose(np.diag(total), 1.0)
    assert_allclose(total[:2, :4], np.eye(4)[:2], atol=1e-12)
    assert_array_equal(L[2:, 2:], np.diag(np.diag(L[2:, 2:])))
    assert_allclose(gain, np.sum(divergence(posterior) - divergence(moved)))


def test_relevance_counts_the_entries_of_a_row_that_are_learned(rng):
    sequences, _, truth, _ = linear_problem(rng, 10)
    last = curvature(prior_posterior(10, truth.loadings.shape[1]), sequences, truth)
    normal, free = posterior_normal(truth, last)
    variance = np.zeros(len(free))
    variance[free] = np.diag(np.linalg.inv(normal))
    size = np.sum(truth.loadings**2, axis=1) + variance.reshape(-1, len(truth.bias))[:-1].sum(
        axis=0
    )
    counts = 2 + np.isin(np.arange(len(size)), truth.specific)
    family, _ = update_relevance(truth, last)
    rows = np.isfinite(truth.precision)
    assert_allclose(family.precision[rows] * size[rows], counts[rows], rtol=1e-6)


def test_every_entry_that_may_has_one_if_asked(rng):
    sequences, family, _, posterior = linear_problem(rng)
    learned = learned_from(sequences, family, posterior)
    found = learn_specific(
        sequences, learned, OPTIONS._replace(specific="all", max_iter=2), draw_points
    )
    kinds = {family.chart.entries[row][0] for row in found.family.specific}
    assert kinds == set(LINEAR_KINDS)


def named_variances(family):
    psi = specific_variances(family)
    return {family.chart.entries[row]: psi[row] for row in np.flatnonzero(psi)}


def test_entries_take_their_variances_along_as_the_state_grows(rng):
    family = with_own(rng, make_family(rng, (2, 1, 2), 2, varying=ALL), 4)
    named = named_variances(family)
    block = Block(
        np.array([1.0, 0.5]), np.array([0.6, 0.8]), rng.standard_normal((5, 2, 2)),
        np.zeros((2, 1)), 1.0,
    )  # fmt: skip
    larger = add_block(family, block, ALL, rng.standard_normal((40, 6)))
    noisy = with_noise_states(family)
    for grown, shift in ((larger, 0), (noisy, 4)):
        assert_own_columns_alone(grown)
        moved = {
            (kind, i + shift if kind in ("B", "x0") else i, j): psi
            for (kind, i, j), psi in named.items()
        }
        assert named_variances(grown) == moved


def test_a_prior_beside_normal_numbers_is_taken_apart_again(rng):
    prior = LatentPrior(
        np.linalg.qr(rng.standard_normal((2, 2)))[0], np.stack([NODES, 2.0 * NODES])
    )
    both = beside_normal(prior, 3)
    assert both.axes.shape == (5, 5)
    assert_array_equal(both.quantiles[2:], np.tile(NODES, (3, 1)))
    for whole, part in zip(prior, first_of(both, 2), strict=True):
        assert whole is part is None or np.array_equal(whole, part)
    assert beside_normal(prior, 0) is prior
