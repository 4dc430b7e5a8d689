"""Noise levels that differ between sequences: densities, weights, draws, learning."""

import numpy as np
import pytest
import reference
from small_families import draw_sequences, make_family

from mtds_sklearn._sequences import frozen, select_sequences
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.inference._levels import draw_levels, with_levels
from mtds_sklearn.inference._moments import accurate_moments
from mtds_sklearn.learning._levels import fit_levels, weighted_by_level
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._likelihood import (
    evaluations,
    gaussian_log_density,
    level_weights,
    log_likelihood,
    predicted_outputs,
    squared_residuals,
    student_log_density,
)
from mtds_sklearn.model._task_map import natural_parameters


@pytest.mark.parametrize("dof", [1.5, 8.0])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_the_level_is_integrated_out(rng, dof, n):
    residuals, weights = rng.standard_normal(n), rng.uniform(0.2, 1.0, n)
    squared, noise_std = np.array([weights @ residuals**2]), np.array([0.7])
    actual = student_log_density(squared, np.array([float(n)]), noise_std, dof)
    actual += 0.5 * np.log(weights).sum()
    expected = reference.student_log_density(residuals, 0.7, dof, weights)
    assert actual == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_many_degrees_of_freedom_are_one_level(rng):
    squared, count, std = rng.uniform(1, 5, (4, 2)), np.full((4, 2), 6.0), np.array([0.7, 1.3])
    alike = gaussian_log_density(squared, count, std)
    np.testing.assert_allclose(student_log_density(squared, count, std, 1e9), alike, rtol=1e-6)
    np.testing.assert_array_equal(student_log_density(squared, count, std, np.inf), alike)
    np.testing.assert_array_equal(level_weights(squared, count, std, np.inf), np.ones(4))


def test_weights_are_the_slope_of_the_density(rng):
    """-1/2 of the weight is d log p / d Q: weighted least squares ascend the density."""
    squared, count, std = rng.uniform(1, 5, (3, 2)), np.full((3, 2), 6.0), np.array([0.7, 1.3])
    step = np.array([1e-5, 0.0])
    up, down = (student_log_density(squared + s, count, std, 4.0) for s in (step, -step))
    slope = (up - down) / (2e-5 / std[0] ** 2)
    np.testing.assert_allclose(level_weights(squared, count, std, 4.0), -2.0 * slope, rtol=1e-6)


def test_draws_are_those_of_the_posterior_of_the_level():
    """s^2 ~ (nu + Q) / chi^2(nu + n): the mean is (nu + Q) / (nu + n - 2)."""
    psi = np.zeros((2, 3, 20_000))
    total = np.tile([[3.0], [30.0]], (1, 20_000))
    drawn = draw_levels(psi, total, np.array([5.0, 40.0]), 6.0)
    s2 = np.exp(2.0 * drawn[:, -1])
    np.testing.assert_allclose(s2.mean(axis=1), [(6 + 3) / 9.0, (6 + 30) / 44.0], rtol=2e-3)
    assert np.all(drawn[:, :-1] == 0.0)
    assert np.all(psi == 0.0)


def make_case(rng, n=60, dof=4.0, n_rows=12):
    """A family, and sequences whose noise has levels of their own."""
    family = make_family(rng, (2, 0, 1), 2, noise_std=0.3)
    sequences, z = draw_sequences(rng, family, (n_rows,) * n, missing=0.0)
    psi = natural_parameters(family, z)
    run = evaluations(sequences)
    level = np.sqrt(dof / rng.chisquare(dof, n))
    yhat, _ = predicted_outputs(psi, run, family.chart)
    noise = np.repeat(level, n_rows)[:, None] * family.noise_std * rng.standard_normal(yhat.shape)
    return family, sequences._replace(outputs=frozen(yhat + noise)), z, level


def test_degrees_of_freedom_and_levels_are_found(rng):
    family, sequences, z, level = make_case(rng, n=300, n_rows=40)
    posterior = TaskPosterior(z, np.tile(1e-6 * np.eye(2), (300, 1, 1)))
    found = fit_levels(sequences, family, posterior)
    assert 2.8 < found.dof < 6.0
    assert found.noise_std == pytest.approx(family.noise_std, rel=0.1)
    assert np.corrcoef(found.weights**-0.5, level)[0, 1] > 0.9


def test_one_level_is_left_alone(rng):
    family, sequences, z, _ = make_case(rng, n=60, dof=1e9)
    posterior = TaskPosterior(z, np.tile(1e-6 * np.eye(2), (60, 1, 1)))
    found = fit_levels(sequences, family, posterior)
    assert np.isinf(found.dof)
    np.testing.assert_array_equal(found.weights, np.ones(60))


def test_weighted_sequences_have_weighted_squares(rng):
    family, sequences, z, _ = make_case(rng, n=3)
    weights = np.array([0.5, 2.0, 1.0])
    weighted = weighted_by_level(sequences, weights)
    psi = natural_parameters(family, z)
    plain, actual = (
        squared_residuals(psi, evaluations(each), family.chart) for each in (sequences, weighted)
    )
    np.testing.assert_allclose(actual, weights[:, None] * plain)
    densities = (
        log_likelihood(psi, evaluations(each), family.chart, family.noise_std)
        for each in (sequences, weighted)
    )
    before, after = densities
    precision = float(family.noise_std[0] ** -2)
    expected = before - 0.5 * (weights - 1) * plain[:, 0] * precision + 6.0 * np.log(weights)
    np.testing.assert_allclose(after, expected)


def test_posteriors_rest_on_the_student_density(rng):
    """Against quadrature over one latent."""
    family = make_family(rng, (1, 0, 1), 1, free=("A", "x0"), varying=("x0",), noise_std=0.3)
    family = family._replace(noise_dof=3.0)
    sequences, _ = draw_sequences(rng, family, (6, 2), missing=0.0)
    posterior = infer(sequences, family, make_draws(1, 0))
    z = np.linspace(-8, 8, 4001)[:, None]
    for i in range(2):
        run = evaluations(sequences, repeats=len(z), index=np.array([i]))
        squared = squared_residuals(natural_parameters(family, z), run, family.chart)
        log_joint = student_log_density(squared, run.n_observed, family.noise_std, 3.0)
        log_joint -= 0.5 * z[:, 0] ** 2 + 0.5 * np.log(2 * np.pi)
        density = np.exp(log_joint - log_joint.max())
        evidence = log_joint.max() + np.log(np.trapezoid(density, z[:, 0]))
        mean = np.average(z[:, 0], weights=density)
        sd = np.sqrt(np.average((z[:, 0] - mean) ** 2, weights=density))
        near = (posterior.z[i], posterior.log_weights[i])
        found = accurate_moments(select_sequences(sequences, [i]), family, 0, near)
        assert abs(found.mean[0] - mean) < 0.01 * sd
        assert abs(np.sqrt(found.cov[0, 0]) - sd) < 0.01 * sd
        assert abs(posterior.log_evidence[i] - evidence) < 0.01


def test_levels_come_from_what_is_observed(rng):
    family, sequences, z, level = make_case(rng, n=20, n_rows=40)
    psi = np.repeat(natural_parameters(family, z)[:, :, None], 500, axis=2)
    assert with_levels(psi, sequences, family) is psi
    drawn = with_levels(psi, sequences, family._replace(noise_dof=4.0))
    found = np.exp(drawn[:, -1]).mean(axis=1)
    assert np.corrcoef(found, level)[0, 1] > 0.9
