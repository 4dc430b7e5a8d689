import numpy as np
import pytest
import reference
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis
from small_families import (
    ALL_KINDS,
    RAGGED,
    assert_never_falls,
    draw_sequences,
    make_family,
    make_posterior,
    make_rows,
    observed_outputs,
    pack,
)

from mtds_sklearn.learning import _em, _m_step
from mtds_sklearn.learning._e_step import e_step, sequence_bounds
from mtds_sklearn.learning._em import (
    MIN_NOISE,
    RELEVANCE_RANGE,
    best_noise,
    log_evidence,
    log_noise_prior,
    run_em,
    update_relevance,
)
from mtds_sklearn.learning._expansion import expand
from mtds_sklearn.learning._m_step import (
    curvature,
    expected_squares,
    log_prior,
    m_step,
    posterior_normal,
    prior_precision,
)
from mtds_sklearn.learning._posterior import cubature_points, prior_posterior
from mtds_sklearn.model._likelihood import evaluations, gaussian_log_density, log_likelihood
from mtds_sklearn.model._task_map import natural_parameters

LINEAR = ("B", "x0", "D", "offset")
ALL_AND_LEVEL = (*ALL_KINDS, "noise")
WITH_LEVEL = {"free": ALL_AND_LEVEL, "varying": ALL_AND_LEVEL}


@pytest.fixture
def without_priors(monkeypatch):
    """No prior on (W, b) or the noise that matters: EM then maximises the likelihood."""
    monkeypatch.setattr(_em, "NOISE_COUNT", 0.0)
    monkeypatch.setattr(_em, "update_relevance", lambda family, *_: (family, 0.0))
    monkeypatch.setattr(_m_step, "BIAS_PRECISION", 1e-12)


def start(rng, sequences, shape, latent_dim, **options):
    """A random family with a random posterior for each sequence, and points to search from."""
    family = make_family(rng, shape, latent_dim, noise_std=0.5, **options)
    family = family._replace(precision=np.where(np.isfinite(family.precision), 1.0, np.inf))
    posterior = prior_posterior(len(sequences.labels), latent_dim)
    return family, posterior, rng.standard_normal((64, latent_dim))


def oscillators(rng, n_sequences=8, length=25, *, shape=(2, 1, 2), missing=0.2):
    """Sequences of a random family with poles of half-lives that can be seen."""
    family = make_family(rng, shape, 2, noise_std=0.1)
    slow = [2.0 if kind == "A" and i % 2 == 0 else None for kind, i, _ in family.chart.entries]
    bias = np.array([b if s is None else s for b, s in zip(family.bias, slow, strict=True)])
    lengths = [length + 3 * (i % 3) for i in range(n_sequences)]
    return draw_sequences(rng, family._replace(bias=bias), lengths, missing=missing)[0]


# ------------------------------------------------------------------------------------ one step


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_expansion_moves_no_theta_and_whitens_the_posteriors(rng, latent_dim):
    family = make_family(rng, (3, 1, 2), latent_dim)
    family = family._replace(precision=1e-9 * family.precision)
    posterior = make_posterior(rng, 6, latent_dim)
    posterior = posterior._replace(mean=3.0 * posterior.mean + 1.0)
    expanded, moved = expand(make_rows(rng, (2,) * 6, n_inputs=1), family, posterior)
    np.testing.assert_allclose(
        natural_parameters(expanded, cubature_points(moved)),
        natural_parameters(family, cubature_points(posterior)),
        atol=1e-12,
    )
    points = cubature_points(moved).reshape(-1, latent_dim)
    np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(points.T @ points / len(points), np.eye(latent_dim), atol=1e-12)
    np.testing.assert_allclose(np.triu(moved.factor, 1), 0.0, atol=1e-15)


def test_expansion_never_lowers_the_bound(rng):
    """Weak priors let it happen, strong ones on rows that would grow refuse it."""
    n_taken = 0
    for _ in range(40):
        family = make_family(rng, (2, 1, 1), 2)
        family = family._replace(precision=family.precision * 10.0 ** rng.uniform(-3.0, 3.0))
        posterior = make_posterior(rng, len(RAGGED), 2)
        posterior = posterior._replace(mean=posterior.mean * rng.uniform(0.3, 3.0))
        sequences = make_rows(rng, RAGGED, n_inputs=1)
        expanded, moved = expand(sequences, family, posterior)
        assert_never_falls(
            [
                sequence_bounds(posterior, sequences, family).sum() + log_prior(family),
                sequence_bounds(moved, sequences, expanded).sum() + log_prior(expanded),
            ]
        )
        n_taken += expanded is not family
    assert 10 < n_taken < 40


def test_expansion_has_nothing_to_do_without_latents(rng):
    family, posterior = make_family(rng, latent_dim=0), prior_posterior(3, 0)
    assert expand(make_rows(rng, (2,) * 3), family, posterior) == (family, posterior)


def test_the_best_noise_has_no_slope(rng):
    squared, n_free = rng.uniform(1.0, 9.0, 3), rng.uniform(5.0, 50.0, 3)

    def bound(log_std):
        std = np.exp(log_std)
        return gaussian_log_density(squared, n_free, std) + log_noise_prior(std)

    best = np.log(best_noise(squared, n_free))
    np.testing.assert_allclose(reference.finite_difference(bound, best), 0.0, atol=1e-6)
    assert bound(best) > max(bound(best + 0.1), bound(best - 0.1))


@pytest.mark.parametrize("options", [{}, WITH_LEVEL], ids=["plain", "level"])
def test_each_kind_of_step_raises_the_same_bound(rng, options):
    """E-step, M-step, noise and expansion in turn, the relevance precisions held."""
    sequences = oscillators(rng)
    family, posterior, points = start(rng, sequences, (2, 1, 2), 2, **options)
    n_observed = evaluations(sequences).n_observed.sum(axis=0)

    def bound():
        fit = sequence_bounds(posterior, sequences, family).sum()
        return fit + log_prior(family) + log_noise_prior(family.noise_std)

    bounds, damping = [bound()], 1e-4
    for iteration in range(8):
        posterior = e_step(sequences, family, posterior, None if iteration % 3 else points)
        bounds.append(bound())
        family, _, squared, damping = m_step(sequences, family, posterior, damping=damping)
        bounds.append(bound())
        family = family._replace(noise_std=best_noise(squared.sum(axis=0), n_observed))
        bounds.append(bound())
        family, posterior = expand(sequences, family, posterior)
        bounds.append(bound())
    assert_never_falls(bounds)
    assert bounds[-1] > bounds[0] + 100.0


def test_relevance_follows_the_formula(rng):
    family = make_family(rng, (2, 1, 1), 2, varying=("A", "x0"))
    sequences, _ = draw_sequences(rng, family)
    posterior = make_posterior(rng, len(RAGGED), 2)
    last = curvature(posterior, sequences, family)
    updated, n_determined = update_relevance(family, last)
    precision = prior_precision(family).ravel()
    free = np.flatnonzero(np.isfinite(precision))
    covariance = np.linalg.inv(last.normal[np.ix_(free, free)] + np.diag(precision[free]))
    variance = dict(zip(free.tolist(), np.diag(covariance), strict=True))
    n_theta = len(family.bias)
    for row, (kind, _, _) in enumerate(family.chart.entries):
        if kind in ("A", "x0"):
            size = np.sum(family.loadings[row] ** 2) + variance[row] + variance[n_theta + row]
            np.testing.assert_allclose(updated.precision[row], 2.0 / size, rtol=1e-8)
        else:
            assert updated.precision[row] == np.inf
    np.testing.assert_allclose(
        n_determined, np.sum(1.0 - precision[free] * np.diag(covariance)), rtol=1e-8
    )
    assert 0.0 < n_determined < len(free)


def test_relevance_stays_in_its_range(rng):
    family = make_family(rng, (2, 0, 1), 1)
    loadings = np.zeros_like(family.loadings)
    loadings[0] = 1e4
    last = _m_step.Curvature(np.zeros((2, 5)), 1e12 * np.eye(10), np.zeros((1, 1)))
    updated, _ = update_relevance(family._replace(loadings=loadings), last)
    np.testing.assert_array_equal(updated.precision[0], RELEVANCE_RANGE[0])
    np.testing.assert_array_equal(updated.precision[1:], RELEVANCE_RANGE[1])


# ---------------------------------------------------------------------------------- whole runs


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 0, 1), {}),
        ((2, 1, 2), {}),
        ((3, 1, 2), {"varying": ("A", "x0", "offset")}),
        ((3, 1, 1), {"block": 3}),
        ((2, 1, 1), {"free": ("A", "B", "x0", "K", "C", "D", "offset"), "gain": True}),
        ((2, 1, 2), WITH_LEVEL),
    ],
    ids=["plain", "inputs", "few-vary", "cayley", "gain", "level"],
)
def test_no_iteration_lowers_the_bound(rng, shape, options):
    sequences = oscillators(rng, shape=(2, *shape[1:]))
    family, posterior, points = start(rng, sequences, shape, 2, **options)
    result = run_em(sequences, family, posterior, points, max_iter=25, tol=0.0)
    gains = np.array(result.gains[1:])
    assert len(gains) == 24
    assert np.all(gains >= -1e-9 * np.abs(result.bounds).max())
    assert np.sum(gains) > 1.0


def test_the_bounds_never_fall_while_the_prior_is_held(rng, without_priors):
    sequences = oscillators(rng)
    family, posterior, points = start(rng, sequences, (2, 1, 2), 2)
    result = run_em(sequences, family, posterior, points, max_iter=25, tol=0.0)
    assert_never_falls(result.bounds)
    # `bounds` are those of the result: measured anew they are the same.
    bound = sequence_bounds(result.posterior, sequences, result.family).sum()
    np.testing.assert_allclose(result.bounds[-1], bound + log_prior(result.family), rtol=1e-9)


def test_the_floors_hold_the_noise_one_after_the_other(rng, monkeypatch):
    sequences = oscillators(rng)
    family, posterior, points = start(rng, sequences, (2, 1, 2), 2)
    seen = []
    monkeypatch.setattr(_em, "expand", lambda *args: seen.append(args[1].noise_std) or args[1:])
    floors = tuple(np.array([[40.0, 60.0], [35.0, 50.0], [30.0, 40.0]]))
    result = run_em(sequences, family, posterior, points, floors=floors, max_iter=2)
    np.testing.assert_array_equal(seen[:3], floors)
    assert np.all(np.array(seen[3:]) < 30.0)
    np.testing.assert_array_equal(np.isnan(result.gains), [True, True, True, False, False])


def test_outputs_without_noise_end_at_the_least_noise(rng, without_priors):
    family = make_family(rng, (0, 1, 1), 1, free=("D", "offset"), varying=("offset",))
    sequences, _ = draw_sequences(rng, family._replace(noise_std=np.zeros(1)), (20,) * 5)
    result = run_em(
        sequences, family, prior_posterior(5, 1), rng.standard_normal((64, 1)), max_iter=200
    )
    np.testing.assert_array_equal(result.family.noise_std, MIN_NOISE)


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_em_stops_after_three_still_iterations(rng, tol):
    sequences = oscillators(rng)
    family, posterior, points = start(rng, sequences, (2, 1, 2), 2)
    result = run_em(sequences, family, posterior, points, max_iter=400, tol=tol)
    assert result.converged
    still = np.abs(np.diff(result.bounds)) < tol * sequences.observed.sum()
    runs = [bool(np.all(still[i : i + 3])) for i in range(len(still) - 2)]
    assert runs == [False] * (len(runs) - 1) + [True]
    stopped = run_em(sequences, family, posterior, points, max_iter=len(runs), tol=tol)
    assert not stopped.converged
    assert len(stopped.bounds) == len(runs)


# ------------------------------------------------------------------------------- special cases


def test_a_random_offset_has_the_maximum_likelihood_of_one_way_random_effects(rng, without_priors):
    """Balanced: variances within and between in closed form (Searle, Casella & McCulloch 1992)."""
    N, T = 30, 6
    y = 0.3 * rng.standard_normal((N, T)) + 0.7 * rng.standard_normal((N, 1))
    y -= y.mean()
    within = np.sum((y - y.mean(axis=1, keepdims=True)) ** 2) / (N * (T - 1))
    between = np.mean(y.mean(axis=1) ** 2) - within / T
    sequences = pack(np.zeros((N * T, 0)), y.ravel(), (T,) * N)
    family, posterior, points = start(rng, sequences, (0, 0, 1), 1, free=("offset",))
    family = family._replace(precision=np.array([1e-12]))
    result = run_em(sequences, family, posterior, points, max_iter=500, tol=1e-15)
    np.testing.assert_allclose(result.family.noise_std**2, within, rtol=1e-6)
    np.testing.assert_allclose(result.family.loadings**2, between, rtol=1e-6)
    np.testing.assert_allclose(result.family.bias, 0.0, atol=1e-8)
    covariance = within * np.eye(T) + between
    expected = multivariate_normal(np.zeros(T), covariance).logpdf(y)
    found = sequence_bounds(result.posterior, sequences, result.family)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_priors_are_weak_where_sequences_are_many(rng):
    N, T = 200, 10
    y = 0.3 * rng.standard_normal((N, T)) + 0.7 * rng.standard_normal((N, 1))
    sequences = pack(np.zeros((N * T, 0)), y.ravel(), (T,) * N)
    within = np.sum((y - y.mean(axis=1, keepdims=True)) ** 2) / (N * (T - 1))
    between = np.mean((y.mean(axis=1) - y.mean()) ** 2) - within / T
    result = run_em(sequences, *start(rng, sequences, (0, 0, 1), 1, free=("offset",)))
    assert result.converged
    np.testing.assert_allclose(result.family.noise_std**2, within, rtol=0.01)
    np.testing.assert_allclose(result.family.loadings**2, between, rtol=0.02)


def test_offsets_of_many_outputs_are_factor_analysis(rng, without_priors):
    """One row each, theta = offset = W z + b: the model of scikit-learn's FactorAnalysis."""
    N, p, k = 200, 6, 2
    W = [[1.0, 0.0], [0.8, 0.3], [0.7, -0.4], [0.2, 0.9], [-0.3, 0.8], [0.5, 0.6]]
    y = rng.standard_normal((N, k)) @ np.transpose(W) + rng.standard_normal(p)
    y += rng.uniform(0.5, 0.7, p) * rng.standard_normal((N, p))
    exact = FactorAnalysis(k, tol=1e-12, max_iter=10000, svd_method="lapack").fit(y)
    sequences = pack(np.zeros((N, 0)), y, (1,) * N)
    family, posterior, points = start(rng, sequences, (0, 0, p), k, free=("offset",))
    family = family._replace(precision=np.full(p, 1e-12))
    result = run_em(sequences, family, posterior, points, max_iter=2000, tol=1e-8)
    found = sequence_bounds(result.posterior, sequences, result.family)
    np.testing.assert_allclose(found.sum(), exact.score_samples(y).sum(), atol=1e-3)
    W, noise_std = result.family.loadings, result.family.noise_std
    np.testing.assert_allclose(W @ W.T + np.diag(noise_std**2), exact.get_covariance(), atol=2e-3)
    np.testing.assert_allclose(result.family.bias, exact.mean_, atol=1e-6)


def test_without_latents_and_states_em_is_ridge_regression(rng):
    sequences = make_rows(rng, RAGGED, n_inputs=2, missing=0.2)
    family, posterior, _ = start(rng, sequences, (0, 2, 1), 0, free=("D", "offset"))
    result = run_em(sequences, family, posterior, np.zeros((1, 0)), max_iter=300, tol=1e-14)
    seen = sequences.observed[:, 0]
    design = np.column_stack([sequences.inputs, np.ones(len(seen))])[seen]
    y = sequences.outputs[seen, 0]
    variance = result.family.noise_std[0] ** 2
    ridge = _m_step.BIAS_PRECISION * variance * np.eye(3)
    expected = np.linalg.solve(design.T @ design + ridge, design.T @ y)
    np.testing.assert_allclose(result.family.bias, expected, rtol=1e-6)
    # The noise: squares over what the parameters leave of the values, with its prior.
    hat = design @ np.linalg.solve(design.T @ design + ridge, design.T)
    n_free = len(y) - np.trace(hat)
    squares = np.sum((y - design @ expected) ** 2)
    np.testing.assert_allclose(variance, best_noise(squares, n_free) ** 2, rtol=1e-6)


def test_the_evidence_of_a_linear_model_is_exact(rng):
    """Without latents phi is Gaussian: N(y; mean, noise + design prior design')."""
    family = make_family(rng, (2, 2, 1), 0, free=LINEAR)
    sequences = make_rows(rng, RAGGED, n_inputs=2, missing=0.2)
    posterior = prior_posterior(len(RAGGED), 0)
    family, last, _, _ = m_step(sequences, family, posterior, n_steps=4, damping=1e-12)
    last = curvature(posterior, sequences, family)
    result = _em.EMResult(family, posterior, last, [], [], True)
    psi = natural_parameters(family, posterior.mean)
    fit = log_likelihood(psi, evaluations(sequences), family.chart, family.noise_std)
    found = log_evidence(result, fit, np.zeros(len(RAGGED)))

    def predicted(theta):
        psi = family.chart.const + family.chart.basis @ theta
        parts = [observed_outputs(psi, sequences, family, i) for i in range(len(RAGGED))]
        return np.concatenate(parts)

    zero = np.zeros(len(family.bias))
    design = reference.finite_difference(predicted, zero, step=1.0)
    y = sequences.outputs[sequences.observed]
    covariance = design @ design.T / _m_step.BIAS_PRECISION
    covariance += family.noise_std[0] ** 2 * np.eye(len(y))
    expected = multivariate_normal(predicted(zero), covariance).logpdf(y)
    np.testing.assert_allclose(found, expected + log_noise_prior(family.noise_std), rtol=1e-9)


def test_rows_that_do_not_vary_are_switched_off(rng):
    """Only the offset differs between sequences; one chance finding in seven is let pass."""
    family = make_family(rng, (2, 1, 1), 2, varying=("offset",), noise_std=0.1)
    sequences, _ = draw_sequences(rng, family, (20,) * 20)
    first, posterior, points = start(rng, sequences, (2, 1, 1), 2)
    first = first._replace(bias=family.bias, loadings=0.1 * first.loadings)
    result = run_em(sequences, first, posterior, points, max_iter=100)
    relevant = [
        entry
        for entry, precision in zip(
            result.family.chart.entries, result.family.precision, strict=True
        )
        if precision < 1000.0
    ]
    assert ("offset", 0, 0) in relevant
    assert len(relevant) <= 2


def test_the_last_curvature_is_near_the_end(rng):
    """What evidence and relevance use is taken one step before: by then steps are small."""
    sequences = oscillators(rng)
    family, posterior, points = start(rng, sequences, (2, 1, 2), 2)
    result = run_em(sequences, family, posterior, points, max_iter=400, tol=1e-4)
    anew = curvature(result.posterior, sequences, result.family)
    before = posterior_normal(result.family, result.last)[0]
    now = posterior_normal(result.family, anew)[0]
    assert abs(np.linalg.slogdet(before)[1] - np.linalg.slogdet(now)[1]) < 0.5
    np.testing.assert_allclose(
        expected_squares(result.posterior, sequences, result.family), anew.squared, rtol=1e-10
    )
