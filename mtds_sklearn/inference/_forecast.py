"""Forecasts: mixtures of Gaussians over weighted particles, one mixture per row and output.

Given a particle, a row's output is N(yhat, (s sigma)^2); over the particles it is a mixture, whose
mean, standard deviation, quantiles and log density are exact up to the particles.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from mtds_sklearn._scaling import Scaling
from mtds_sklearn._sequences import PackedSequences, select_sequences
from mtds_sklearn.inference._mixture import systematic
from mtds_sklearn.model._lds import Chart
from mtds_sklearn.model._likelihood import LOG_2PI, particle_outputs

# Values (row, particle, output) of all sequences that are held at a time.
CHUNK_VALUES = 500_000
# Quantiles are solved for on this many particles, resampled by weight.
QUANTILE_PARTICLES = 512
QUANTILE_STEPS, QUANTILE_TOLERANCE = 30, 1e-4


class Forecast(NamedTuple):
    """Forecast of every row.

    Attributes
    ----------
    mean : ndarray of shape (n_rows, n_outputs)
    std : ndarray of shape (n_rows, n_outputs)
        Of a new output, noise included.
    quantiles : ndarray of shape (n_rows, n_outputs, n_levels)
    log_density : ndarray of shape (n_rows, n_outputs)
        Of the targets, in nats; NaN where there is none.
    """

    mean: np.ndarray
    std: np.ndarray
    quantiles: np.ndarray
    log_density: np.ndarray


class Particles(NamedTuple):
    """Weighted natural parameter vectors of N sequences.

    Attributes
    ----------
    psi : ndarray of shape (n_sequences, n_particles, n_natural)
    log_weights : ndarray of shape (n_sequences, n_particles)
        Normalised.
    noise_std : ndarray of shape (n_sequences, n_outputs)
    chart : Chart
    """

    psi: np.ndarray
    log_weights: np.ndarray
    noise_std: np.ndarray
    chart: Chart


def forecast_rows(
    sequences: PackedSequences,
    particles: Particles,
    levels: np.ndarray,
    targets: np.ndarray | None,
) -> Forecast:
    """Forecast every packed row of the sequences from their particles.

    Parameters
    ----------
    levels : ndarray of shape (n_levels,)
    targets : ndarray of shape (n_rows, n_outputs) or None
        NaN where no log density is wanted.
    """
    n_rows, p = sequences.outputs.shape
    if targets is None:
        targets = np.full((n_rows, p), np.nan)
    per_row = particles.psi.shape[1] * p
    parts = []
    for index in _chunks(np.diff(sequences.offsets), max(1, CHUNK_VALUES // per_row)):
        part = select_sequences(sequences, index)
        rows = slice(sequences.offsets[index[0]], sequences.offsets[index[-1] + 1])
        yhat, _ = particle_outputs(particles.psi[index], part, particles.chart)
        sequence = np.repeat(index, np.diff(part.offsets))
        parts.append(mixture_forecast(yhat, particles, sequence, levels, targets[rows]))
    return Forecast(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _chunks(lengths: np.ndarray, most_rows: int) -> list:
    """Consecutive runs of sequences with at most `most_rows` rows, or one sequence."""
    number = np.cumsum(lengths) // most_rows
    return np.split(np.arange(len(lengths)), np.flatnonzero(np.diff(number)) + 1)


def mixture_forecast(
    yhat: np.ndarray, particles: Particles, sequence: np.ndarray, levels, targets
) -> Forecast:
    """Moments, quantiles and log density of rows whose particles' outputs are yhat.

    Parameters
    ----------
    yhat : ndarray of shape (n_rows, n_particles, n_outputs)
    sequence : ndarray of int, shape (n_rows,)
        Which sequence's weights, noise level and noise each row has.
    """
    log_weights = particles.log_weights[sequence][..., None]
    level = np.exp(particles.psi[..., -1])[sequence][..., None]
    std = level * particles.noise_std[sequence][:, None, :]
    weights = np.exp(log_weights)
    mean = np.sum(weights * yhat, axis=1)
    variance = np.sum(weights * ((yhat - mean[:, None]) ** 2 + std**2), axis=1)
    return Forecast(
        mean,
        np.sqrt(variance),
        _quantiles(yhat, std, particles, sequence, levels),
        _log_density(yhat, std, log_weights, targets),
    )


def _log_density(yhat, std, log_weights, targets) -> np.ndarray:
    wanted = np.flatnonzero(np.isfinite(targets).any(axis=1))
    out = np.full(targets.shape, np.nan)
    standard = (targets[wanted, None] - yhat[wanted]) / std[wanted]
    parts = log_weights[wanted] - 0.5 * (standard**2 + LOG_2PI) - np.log(std[wanted])
    out[wanted] = logsumexp(parts, axis=1)
    return out


def _quantiles(yhat, std, particles, sequence, levels) -> np.ndarray:
    """Solve mixture cdf = level for every row by Newton steps kept inside a shrinking bracket."""
    n_rows, n_particles, p = yhat.shape
    out = np.empty((n_rows, p, len(levels)))
    if len(levels) == 0 or n_rows == 0:
        return out
    keep = systematic(np.exp(particles.log_weights), min(QUANTILE_PARTICLES, n_particles))[sequence]
    centre = np.take_along_axis(yhat, keep[..., None], axis=1)
    scale = np.take_along_axis(np.broadcast_to(std, yhat.shape), keep[..., None], axis=1)
    for j, level in enumerate(levels):
        for o in range(p):
            out[:, o, j] = _solve_level(level, centre[..., o], scale[..., o])
    return out


def _solve_level(level: float, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Solve mean_s Phi((x - centre_s) / scale_s) = level; arrays (n_rows, n_particles)."""
    shifted = centre + scale * ndtri(level)
    low, high = shifted.min(axis=1), shifted.max(axis=1)
    x = shifted.mean(axis=1)
    todo = np.arange(len(x))
    for _ in range(QUANTILE_STEPS):
        here = x[todo]
        standard = (here[:, None] - centre[todo]) / scale[todo]
        excess = ndtr(standard).mean(axis=1) - level
        slope = np.mean(np.exp(-0.5 * standard**2) / scale[todo], axis=1) / np.sqrt(2.0 * np.pi)
        low[todo] = np.where(excess > 0.0, low[todo], here)
        high[todo] = np.where(excess > 0.0, here, high[todo])
        newton = here - excess / np.maximum(slope, 1e-300)
        inside = (newton > low[todo]) & (newton < high[todo])
        x[todo] = np.where(inside, newton, 0.5 * (low[todo] + high[todo]))
        todo = todo[np.abs(excess) > QUANTILE_TOLERANCE]
        if len(todo) == 0:
            break
    return x


def sample_paths(
    sequences: PackedSequences, particles: Particles, n_samples: int, rng: np.random.RandomState
) -> np.ndarray:
    """Sample paths (n_rows, n_outputs, n_samples), noise included, one particle a path."""
    n, p = len(sequences.labels), sequences.outputs.shape[1]
    edges = np.cumsum(np.exp(particles.log_weights), axis=1)
    uniform = rng.uniform(size=(n, n_samples, 1)) * edges[:, None, -1:]
    picks = np.minimum(np.sum(uniform > edges[:, None], axis=2), edges.shape[1] - 1)
    psi = particles.psi[np.arange(n)[:, None], picks]
    yhat, _ = particle_outputs(psi, sequences, particles.chart)
    sequence = np.repeat(np.arange(n), np.diff(sequences.offsets))
    std = np.exp(psi[..., -1])[sequence][..., None] * particles.noise_std[sequence][:, None]
    noise = rng.standard_normal((len(sequence), n_samples, p))
    return np.moveaxis(yhat + std * noise, 1, 2)


def in_units(forecast: Forecast, scaling: Scaling) -> Forecast:
    """A forecast of standardised outputs in the units of y."""
    scale, mean = scaling.output_scale, scaling.output_mean
    return Forecast(
        forecast.mean * scale + mean,
        forecast.std * scale,
        forecast.quantiles * scale[:, None] + mean[:, None],
        forecast.log_density - np.log(scale),
    )
