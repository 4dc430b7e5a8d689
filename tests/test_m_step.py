import numpy as np
import pytest
import reference
from small_families import (
    ALL_KINDS,
    RAGGED,
    assert_never_falls,
    draw_sequences,
    log_likelihoods,
    make_family,
    make_posterior,
    make_rows,
    observed_outputs,
)
from systems import assert_close

from mtds_sklearn.learning import _m_step
from mtds_sklearn.learning._m_step import (
    BIAS_PRECISION,
    curvature,
    expected_squares,
    log_prior,
    m_step,
    objective,
    posterior_normal,
    prior_precision,
)
from mtds_sklearn.learning._posterior import TaskPosterior, cubature_points, prior_posterior
from mtds_sklearn.model._likelihood import evaluations
from mtds_sklearn.model._task_map import natural_parameters

LINEAR = ("B", "x0", "D", "offset")
WITH_GAIN = {"free": ("A", "B", "x0", "K", "C", "D", "offset"), "gain": True}
WITH_LEVEL = {"free": ("A", "B", "x0", "C", "D", "offset", "noise")}
OPTIONS = [{}, WITH_GAIN, WITH_LEVEL, {"block": 3}, {"varying": ("A", "offset")}]
NAMES = ["modal", "gain", "level", "cayley", "few-vary"]


def with_phi(family, phi):
    """The family with [W b] = phi, flat in the order of `Curvature`."""
    phi = phi.reshape(-1, len(family.bias))
    return family._replace(loadings=phi[:-1].T, bias=phi[-1])


def flat_phi(family):
    return np.vstack([family.loadings.T, family.bias]).ravel()


def expected_fit(phi, points, sequences, family):
    """Mean over the points of sum_i log p(y_i | W z + b), by `reference`."""
    family = with_phi(family, phi)
    n_points = points.shape[1]
    return np.mean(
        [log_likelihoods(sequences, family, points[:, c]).sum() for c in range(n_points)]
    )


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
@pytest.mark.parametrize("latent_dim", [0, 2])
def test_the_gradient_is_that_of_the_expected_log_likelihood(rng, options, latent_dim):
    family = make_family(rng, (3, 1, 2), latent_dim, **options)
    sequences = make_rows(rng, (6, 1, 9), n_inputs=1, n_outputs=2, missing=0.2)
    posterior = make_posterior(rng, 3, latent_dim)
    points = cubature_points(posterior)
    slope = reference.finite_difference(
        lambda phi: expected_fit(phi, points, sequences, family), flat_phi(family)
    )
    found = curvature(posterior, sequences, family)
    np.testing.assert_allclose(found.gradient.ravel(), slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_the_normal_matrix_is_the_sum_of_kronecker_products(rng, options):
    family = make_family(rng, (3, 1, 2), 2, **options)
    sequences = make_rows(rng, (6, 1, 9), n_inputs=1, n_outputs=2, missing=0.2)
    posterior = make_posterior(rng, 3, 2)
    points = cubature_points(posterior)
    n_phi = 3 * len(family.bias)
    expected, squared = np.zeros((n_phi, n_phi)), np.zeros((3, 2))
    for i, own_points in enumerate(points):
        observed = sequences.observed[sequences.offsets[i] : sequences.offsets[i + 1]]
        outputs = sequences.outputs[sequences.offsets[i] : sequences.offsets[i + 1]]
        column = np.broadcast_to(np.arange(2), observed.shape)[observed]
        for z in own_points:
            theta = family.loadings @ z + family.bias

            def predicted(theta, i=i):
                psi = family.chart.const + family.chart.basis @ theta
                return observed_outputs(psi, sequences, family, i)

            level = np.exp(natural_parameters(family, z)[-1])
            G = reference.finite_difference(predicted, theta)
            G /= level * family.noise_std[column, None]
            information = G.T @ G
            if "noise" in family.chart.free:  # Fisher: 2 for each value
                information[-1, -1] += 2.0 * len(column)
            z1 = np.append(z, 1.0)
            expected += np.kron(np.outer(z1, z1), information) / len(own_points)
            residuals = (outputs[observed] - predicted(theta)) / level
            squared[i] += np.bincount(column, residuals**2, minlength=2) / len(own_points)
    found = curvature(posterior, sequences, family)
    np.testing.assert_allclose(found.normal, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.squared, squared, rtol=1e-9)
    np.testing.assert_allclose(
        expected_squares(posterior, sequences, family), found.squared, rtol=1e-12
    )


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_derivatives_of_what_moves_do_not_depend_on_what_is_held(rng, options):
    family = make_family(rng, (3, 1, 2), 2, **options)
    sequences = make_rows(rng, (6, 1, 9), n_inputs=1, n_outputs=2, missing=0.2)
    posterior = make_posterior(rng, 3, 2)
    moving = rng.random((3, len(family.bias))) < 0.2
    whole, part = (curvature(posterior, sequences, family, some) for some in (None, moving))
    at = np.flatnonzero(moving)
    assert_close(part.gradient[moving], whole.gradient[moving])
    assert_close(part.normal[np.ix_(at, at)], whole.normal[np.ix_(at, at)])
    assert_close(part.squared, whole.squared)
    assert np.abs(part.normal).sum() < np.abs(whole.normal).sum()


@pytest.mark.parametrize("size", [1, 500, 3000])
def test_chunks_change_nothing(rng, monkeypatch, size):
    family = make_family(rng, (3, 1, 2), 2)
    sequences = make_rows(rng, RAGGED, n_inputs=1, n_outputs=2, missing=0.2)
    posterior = make_posterior(rng, len(RAGGED), 2)
    whole = curvature(posterior, sequences, family)
    monkeypatch.setattr(_m_step, "CHUNK_SIZE", size)
    for part, expected in zip(curvature(posterior, sequences, family), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("options", [{"varying": ("A", "x0")}, WITH_LEVEL], ids=["few", "level"])
def test_the_objective_is_the_expected_log_likelihood_and_the_prior(rng, options):
    varying = options.get("varying", options.get("free"))
    family = make_family(rng, (3, 1, 2), 2, **(options | {"varying": varying}))
    sequences = make_rows(rng, RAGGED, n_inputs=1, n_outputs=2, missing=0.2)
    posterior = make_posterior(rng, len(RAGGED), 2)
    points = cubature_points(posterior)
    n_observed = evaluations(sequences).n_observed.sum(axis=0)
    squared = expected_squares(posterior, sequences, family)
    found = objective(squared, n_observed, sequences, family, posterior)
    fit = expected_fit(flat_phi(family), points, sequences, family)
    np.testing.assert_allclose(found, fit + log_prior(family), rtol=1e-10)


def test_the_prior_is_gaussian_with_a_precision_for_each_row(rng):
    family = make_family(rng, (3, 1, 2), 2, varying=("A", "x0"))
    expected = -0.5 * BIAS_PRECISION * family.bias @ family.bias
    for row, precision in zip(family.loadings, family.precision, strict=True):
        if np.isfinite(precision):
            expected -= 0.5 * precision * row @ row
    np.testing.assert_allclose(log_prior(family), expected)
    precision = prior_precision(family)
    assert precision.shape == (3, len(family.bias))
    np.testing.assert_array_equal(precision[0], family.precision)
    np.testing.assert_array_equal(precision[1], family.precision)
    np.testing.assert_array_equal(precision[2], BIAS_PRECISION)


def test_a_noise_level_of_all_is_left_to_the_noise(rng):
    family = make_family(rng, (3, 1, 2), 2, varying=WITH_LEVEL["free"], **WITH_LEVEL)
    sequences, _ = draw_sequences(rng, family, (12, 20, 1, 5))
    fitted, *_ = m_step(sequences, family, make_posterior(rng, 4, 2))
    row = [kind for kind, _, _ in family.chart.entries].index("noise")
    moved = fitted.bias != family.bias
    assert not moved[row]
    assert np.delete(moved, row).all()
    assert np.all(fitted.loadings[row] != family.loadings[row])


def test_the_posterior_of_phi_leaves_out_what_may_not_vary(rng):
    family = make_family(rng, (3, 1, 2), 2, varying=("A", "x0"))
    sequences = make_rows(rng, RAGGED, n_inputs=1, n_outputs=2)
    posterior = make_posterior(rng, len(RAGGED), 2)
    last = curvature(posterior, sequences, family)
    kept = last.normal.copy()
    normal, free = posterior_normal(family, last)
    np.testing.assert_array_equal(last.normal, kept)
    varies = [entry[0] in ("A", "x0") for entry in family.chart.entries]
    np.testing.assert_array_equal(free, [*varies, *varies, *([True] * len(varies))])
    expected = (kept + np.diag(np.where(free, prior_precision(family).ravel(), 0.0)))[free][:, free]
    np.testing.assert_allclose(normal, expected)


def test_the_posterior_of_phi_is_definite_where_noise_is_next_to_nothing(rng):
    """Rounding of a matrix of rank one and size 1e22 is far larger than the prior."""
    family = make_family(rng, latent_dim=0)
    row = rng.standard_normal(len(family.bias))
    last = _m_step.Curvature(np.zeros((1, len(row))), 1e22 * np.outer(row, row), np.zeros((1, 1)))
    np.linalg.cholesky(posterior_normal(family, last)[0])


@pytest.mark.parametrize(
    "options", [{}, WITH_GAIN, WITH_LEVEL, {"block": 3}], ids=["modal", "gain", "level", "cayley"]
)
def test_no_step_lowers_the_objective(rng, options):
    """From far away, where undamped steps would fail."""
    options = options | {"varying": (*ALL_KINDS, "noise")}
    for _ in range(5):
        family = make_family(rng, (3, 1, 2), 2, **options)
        sequences, _ = draw_sequences(rng, family, (12, 20, 1, 5), missing=0.2)
        family = make_family(rng, (3, 1, 2), 2, **options)
        posterior = make_posterior(rng, 4, 2)
        damping = 1e-4
        n_observed = evaluations(sequences).n_observed.sum(axis=0)
        squared = expected_squares(posterior, sequences, family)
        values = [objective(squared, n_observed, sequences, family, posterior)]
        for _ in range(5):
            family, _, squared, damping = m_step(sequences, family, posterior, damping=damping)
            np.testing.assert_array_equal(squared, expected_squares(posterior, sequences, family))
            values.append(objective(squared, n_observed, sequences, family, posterior))
        assert_never_falls(values)
        assert values[-1] > values[0] + 1.0


def test_steps_end_where_the_slope_is_zero(rng):
    family = make_family(rng, (2, 1, 1), 1, noise_std=0.3)
    sequences, z = draw_sequences(rng, family, (20, 20, 20))
    # Posteriors are narrow: residuals that no parameters remove make Gauss-Newton slow.
    posterior = TaskPosterior(z, np.full((3, 1, 1), 0.1))
    for _ in range(40):
        family, _, _, _ = m_step(sequences, family, posterior)
    points = cubature_points(posterior)
    last = curvature(posterior, sequences, family)
    slope = last.gradient.ravel() - prior_precision(family).ravel() * flat_phi(family)
    normal, _ = posterior_normal(family, last)
    assert 0.5 * slope @ np.linalg.solve(normal, slope) < 1e-5
    # `objective` says the same, by finite differences.
    by_differences = reference.finite_difference(
        lambda phi: expected_fit(phi, points, sequences, family) + log_prior(with_phi(family, phi)),
        flat_phi(family),
    )
    np.testing.assert_allclose(slope, by_differences, atol=1e-4)


@pytest.mark.parametrize("latent_dim", [0, 2])
def test_one_step_solves_a_linear_family(rng, latent_dim):
    """With A and C held, the step is ridge regression on the products of (z, 1) and the inputs."""
    shape = (2, 1, 1)
    family = make_family(rng, shape, latent_dim, free=LINEAR, varying=LINEAR)
    sequences, _ = draw_sequences(rng, family, missing=0.2)
    posterior = prior_posterior(len(RAGGED), latent_dim)
    points = cubature_points(posterior)

    def predicted(phi):
        moved = with_phi(family, phi)
        return np.concatenate(
            [
                observed_outputs(natural_parameters(moved, z), sequences, moved, i)
                for i, own_points in enumerate(points)
                for z in own_points
            ]
        )

    size = (latent_dim + 1) * len(family.bias)
    base = predicted(np.zeros(size))
    design = reference.finite_difference(predicted, np.zeros(size), step=1.0)
    n_points = points.shape[1]
    outputs = np.concatenate(
        [
            np.tile(rows[observed], n_points)
            for rows, observed in zip(
                np.split(sequences.outputs, sequences.offsets[1:-1]),
                np.split(sequences.observed, sequences.offsets[1:-1]),
                strict=True,
            )
        ]
    )
    weight = 1.0 / (n_points * family.noise_std[0] ** 2)
    ridge = np.diag(prior_precision(family).ravel())
    expected = np.linalg.solve(
        weight * design.T @ design + ridge, weight * design.T @ (outputs - base)
    )
    fitted, _, _, _ = m_step(sequences, family, posterior, n_steps=1, damping=1e-12)
    np.testing.assert_allclose(flat_phi(fitted), expected, rtol=1e-6, atol=1e-9)


def test_what_may_not_vary_stays_shared(rng):
    family = make_family(rng, (3, 1, 2), 2, varying=("x0",))
    sequences, _ = draw_sequences(rng, family)
    fitted, _, _, _ = m_step(sequences, family, make_posterior(rng, len(RAGGED), 2))
    shared = [entry[0] != "x0" for entry in family.chart.entries]
    np.testing.assert_array_equal(fitted.loadings[shared], 0.0)
    assert np.all(fitted.bias != family.bias)
    assert np.all(fitted.loadings[~np.array(shared)] != family.loadings[~np.array(shared)])
    np.testing.assert_array_equal(fitted.noise_std, family.noise_std)


def test_the_damping_of_a_success_falls_and_no_success_keeps_the_family(rng, monkeypatch):
    family = make_family(rng, (2, 1, 1), 1)
    sequences, _ = draw_sequences(rng, family)
    posterior = make_posterior(rng, len(RAGGED), 1)
    _, _, _, damping = m_step(sequences, family, posterior, n_steps=1, damping=1e-2)
    np.testing.assert_allclose(damping, 3e-3)
    values = iter(range(0, -100, -1))
    monkeypatch.setattr(_m_step, "objective", lambda *_: float(next(values)))
    same, last, squared, damping = m_step(sequences, family, posterior, damping=1e-2)
    assert same is family
    np.testing.assert_array_equal(squared, last.squared)
    np.testing.assert_allclose(damping, 1e6)
