"""Forecasts as mixtures over particles, against plain NumPy and SciPy."""

import numpy as np
import pytest
import reference
from scipy.integrate import trapezoid
from scipy.optimize import brentq
from scipy.stats import norm
from small_families import each, make_rows
from systems import assert_close, make_directions, make_natural

from mtds_sklearn._scaling import Scaling
from mtds_sklearn.inference import _forecast
from mtds_sklearn.inference._disturbance import spread_systems
from mtds_sklearn.inference._forecast import Forecast, Particles, forecast_rows, in_units
from mtds_sklearn.inference._paths import sample_paths
from mtds_sklearn.model._chart import make_chart
from mtds_sklearn.model._lds import KINDS, Shape, kind_slices

LENGTHS = (5, 1, 8)
LEVELS = np.array([0.001, 0.05, 0.3, 0.5, 0.9, 0.999])


def make_forecast_case(rng, *, n_particles=60, gain=False, equal=False):
    """Sequences with gaps, and particles with unequal weights, noise levels and noise."""
    shape = Shape(3, 1, 2, 2)
    chart = make_chart(shape, make_directions(rng, shape), KINDS, gain)
    n = len(LENGTHS)
    psi = make_natural(rng, shape, n * n_particles)
    if not gain:
        psi[:, kind_slices(shape)["K"]] = 0.0
    weights = rng.dirichlet(np.full(n_particles, 0.5), size=n)
    if equal:
        weights[:] = 1.0 / n_particles
    particles = Particles(
        psi.reshape(n, n_particles, -1), np.log(weights), rng.uniform(0.3, 0.9, (n, 2)), chart
    )
    return make_rows(rng, LENGTHS, n_inputs=1, n_outputs=2, missing=0.3), particles


def row_mixtures(sequences, particles):
    """Weights, means and standard deviations (n_particles, ...) of every row, by `reference`.

    What unseen innovations add is the mean over some of the particles, resampled.
    """
    shape, mixtures = tuple(particles.chart.shape), []
    chosen, _ = spread_systems(np.swapaxes(particles.psi, 1, 2), particles.log_weights)
    for i, rows in enumerate(each(sequences)):
        yhat = np.array([reference.simulate(psi, shape, *rows)[0] for psi in particles.psi[i]])
        level = np.exp(particles.psi[i, :, -1])
        std = level[:, None] * particles.noise_std[i]
        weights = np.exp(particles.log_weights[i])
        unseen = (rows[2], particles.noise_std[i])
        added = np.mean(
            [reference.unseen_variances(psi, shape, *unseen) for psi in chosen[i]], axis=0
        )
        assert np.any(added > 0.0) == (particles.chart.gain and len(rows[0]) > 1)
        mixtures += [
            (weights, yhat[:, t], np.sqrt(std**2 + added[t])) for t in range(yhat.shape[1])
        ]
    return mixtures


@pytest.mark.parametrize("gain", [False, True])
def test_mean_std_and_log_density_are_those_of_the_mixture(rng, gain):
    sequences, particles = make_forecast_case(rng, gain=gain)
    targets = rng.standard_normal(sequences.outputs.shape)
    targets[rng.uniform(size=targets.shape) < 0.3] = np.nan
    targets[0] = np.nan
    forecast = forecast_rows(sequences, particles, np.empty(0), targets)
    assert forecast.quantiles.shape == (*targets.shape, 0)
    for row, (weights, yhat, std) in enumerate(row_mixtures(sequences, particles)):
        mean = weights @ yhat
        assert_close(forecast.mean[row], mean)
        assert_close(forecast.std[row], np.sqrt(weights @ (yhat**2 + std**2) - mean**2), 1e-8)
        for o in range(2):
            density = weights @ norm.pdf(targets[row, o], yhat[:, o], std[:, o])
            np.testing.assert_allclose(forecast.log_density[row, o], np.log(density), rtol=1e-9)


@pytest.mark.parametrize("gain", [False, True])
def test_moments_of_an_image_are_those_of_the_mixture(rng, gain):
    """The image exp has log-normal components, whose moments are known."""
    sequences, particles = make_forecast_case(rng, gain=gain)
    forecast = forecast_rows(sequences, particles, LEVELS, None, np.exp)
    plain = forecast_rows(sequences, particles, LEVELS, None)
    np.testing.assert_array_equal(forecast.quantiles, plain.quantiles)
    for row, (weights, yhat, std) in enumerate(row_mixtures(sequences, particles)):
        mean = weights @ np.exp(yhat + std**2 / 2.0)
        square = weights @ np.exp(2.0 * yhat + 2.0 * std**2)
        np.testing.assert_allclose(forecast.mean[row], mean, rtol=1e-10)
        np.testing.assert_allclose(forecast.std[row], np.sqrt(square - mean**2), rtol=1e-5)


def test_a_small_spread_around_a_large_image_is_not_lost(rng):
    sequences, particles = make_forecast_case(rng)
    plain = forecast_rows(sequences, particles, LEVELS, None)
    shifted = forecast_rows(sequences, particles, LEVELS, None, lambda y: 1e9 + y)
    np.testing.assert_allclose(shifted.mean - 1e9, plain.mean, atol=1e-5)
    np.testing.assert_allclose(shifted.std, plain.std, rtol=1e-5)


def test_no_targets_give_no_density(rng):
    sequences, particles = make_forecast_case(rng)
    assert np.isnan(forecast_rows(sequences, particles, LEVELS, None).log_density).all()


@pytest.mark.parametrize("gain", [False, True])
def test_quantiles_solve_the_mixture_cdf(rng, gain):
    sequences, particles = make_forecast_case(rng, gain=gain, equal=True)
    forecast = forecast_rows(sequences, particles, LEVELS, None)
    for row, (weights, yhat, std) in enumerate(row_mixtures(sequences, particles)):
        for o, j in np.ndindex(2, len(LEVELS)):
            # The tails end where the cdf is within its tolerance of the level.
            exact = [
                solve(level, weights, yhat[:, o], std[:, o])
                for level in LEVELS[j] + np.array([-1e-4, 0.0, 1e-4])
            ]
            slack = 1e-3 * forecast.std[row, o]
            found = forecast.quantiles[row, o, j]
            assert exact[0] - slack <= found <= exact[2] + slack
            if 0.01 < LEVELS[j] < 0.99:
                assert abs(found - exact[1]) < slack


def solve(level, weights, means, stds):
    low, high = (means - 9.0 * stds).min(), (means + 9.0 * stds).max()
    return brentq(lambda x: weights @ norm.cdf(x, means, stds) - level, low, high, xtol=1e-12)


def test_quantiles_of_many_uneven_particles(rng):
    # Solved for on fewer particles, which is exact only up to their share of the weight.
    sequences, particles = make_forecast_case(rng, n_particles=700)
    forecast = forecast_rows(sequences, particles, np.array([0.1, 0.5, 0.9]), None)
    for row, (weights, yhat, std) in enumerate(row_mixtures(sequences, particles)):
        for o, level in enumerate([0.1, 0.9]):
            found = forecast.quantiles[row, o, 2 * o]
            assert abs(weights @ norm.cdf(found, yhat[:, o], std[:, o]) - level) < 0.01


def test_quantiles_of_particles_with_the_same_noise(rng):
    # These are gathered on a grid first.
    sequences, particles = make_forecast_case(rng, n_particles=700)
    psi = particles.psi.copy()
    psi[:, :, -1] = 0.0
    particles = particles._replace(psi=psi)
    levels = np.array([0.02, 0.3, 0.9])
    forecast = forecast_rows(sequences, particles, levels, None)
    for row, (weights, yhat, std) in enumerate(row_mixtures(sequences, particles)):
        for o, j in np.ndindex(2, 3):
            exact = solve(levels[j], weights, yhat[:, o], std[:, o])
            found = forecast.quantiles[row, o, j]
            assert abs(found - exact) < 1e-3 * forecast.std[row, o]


def test_quantiles_rise_with_the_level(rng):
    sequences, particles = make_forecast_case(rng)
    levels = np.linspace(0.01, 0.99, 50)
    quantiles = forecast_rows(sequences, particles, levels, None).quantiles
    assert np.diff(quantiles, axis=2).min() > 0.0


def test_density_integrates_to_one(rng):
    sequences, particles = make_forecast_case(rng)
    moments = forecast_rows(sequences, particles, np.empty(0), None)
    steps = np.linspace(-15.0, 15.0, 1501)
    grid = moments.mean + steps[:, None, None] * moments.std
    density = np.exp(
        [forecast_rows(sequences, particles, np.empty(0), y).log_density for y in grid]
    )
    np.testing.assert_allclose(trapezoid(density, grid, axis=0), 1.0, rtol=1e-6)


def test_in_units_is_the_forecast_of_rescaled_outputs(rng):
    forecast = Forecast(
        rng.standard_normal((4, 2)), rng.uniform(0.5, 1.0, (4, 2)),
        rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2)),
    )  # fmt: skip
    scale, mean = np.array([2.0, 0.1]), np.array([-3.0, 40.0])
    blank = Scaling(*[np.zeros(2)] * len(Scaling._fields))
    found = in_units(forecast, blank._replace(output_scale=scale, output_mean=mean))
    for o in range(2):
        assert_close(found.mean[:, o], forecast.mean[:, o] * scale[o] + mean[o])
        assert_close(found.std[:, o], forecast.std[:, o] * scale[o])
        assert_close(found.quantiles[:, o], forecast.quantiles[:, o] * scale[o] + mean[o])
        density = np.exp(forecast.log_density[:, o]) / scale[o]  # per unit of y
        assert_close(np.exp(found.log_density[:, o]), density)


def test_sample_paths_have_the_moments_of_the_forecast(rng):
    sequences, particles = make_forecast_case(rng)
    n = 20_000
    paths = sample_paths(sequences, particles, n, np.random.RandomState(0))
    forecast = forecast_rows(sequences, particles, np.empty(0), None)
    assert paths.shape == (*sequences.outputs.shape, n)
    assert (np.abs(paths.mean(axis=2) - forecast.mean) / forecast.std).max() < 4.5 / np.sqrt(n)
    np.testing.assert_allclose(paths.std(axis=2), forecast.std, rtol=0.03)


def test_a_sample_path_keeps_its_particle(rng):
    sequences, particles = make_forecast_case(rng)
    particles = particles._replace(noise_std=np.full((len(LENGTHS), 2), 1e-9))
    paths = sample_paths(sequences, particles, 7, np.random.RandomState(0))
    yhat = np.stack([yhat for _, yhat, _ in row_mixtures(sequences, particles)])
    for first, last in zip(sequences.offsets, sequences.offsets[1:], strict=False):
        for path in np.moveaxis(paths[first:last], 2, 0):
            gaps = np.abs(np.moveaxis(yhat[first:last], 1, 0) - path).max(axis=(1, 2))
            assert gaps.min() < 1e-6


@pytest.mark.parametrize("rows", [1, 6])
def test_chunks_change_nothing(rng, monkeypatch, rows):
    sequences, particles = make_forecast_case(rng)
    targets = rng.standard_normal(sequences.outputs.shape)
    expected = forecast_rows(sequences, particles, LEVELS, targets)
    monkeypatch.setattr(_forecast, "CHUNK_VALUES", rows * 60 * 2)
    for part, values in zip(
        forecast_rows(sequences, particles, LEVELS, targets), expected, strict=True
    ):
        assert_close(part, values)
