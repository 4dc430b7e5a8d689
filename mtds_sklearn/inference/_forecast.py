"""Forecasts: weighted particles run through the rows of their sequences.

Given a particle, a row's output is N(yhat, (s sigma)^2), times what the noise grows by; over the
particles it is a mixture (`_mixture_rows`).
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._scaling import Scaling
from mtds_sklearn._sequences import PackedSequences, select_sequences
from mtds_sklearn.inference._adaptive_is import Posterior
from mtds_sklearn.inference._disturbance import after, spread_systems, unseen_variances
from mtds_sklearn.inference._image import Image
from mtds_sklearn.inference._levels import with_levels
from mtds_sklearn.inference._mixture_rows import Forecast, MixtureRows, mixture_forecast
from mtds_sklearn.inference._target import particle_parameters, particle_transitions
from mtds_sklearn.kernels import _particles
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._lds import kind_slices
from mtds_sklearn.model._likelihood import hold
from mtds_sklearn.model._noise import Growth, noise_factor
from mtds_sklearn.model._task_map import Family

# Values (row, output, particle) of all sequences that are held at a time.
CHUNK_VALUES = 1_000_000


class Particles(NamedTuple):
    """Weighted natural parameter vectors of N sequences.

    Attributes
    ----------
    psi : ndarray of shape (n_sequences, n_particles, n_natural)
    log_weights : ndarray of shape (n_sequences, n_particles)
        Normalised.
    noise_std : ndarray of shape (n_sequences, n_outputs)
    chart : Chart
    growth : Growth or None
    """

    psi: np.ndarray
    log_weights: np.ndarray
    noise_std: np.ndarray
    chart: Chart
    growth: Growth | None = None


def posterior_particles(
    posterior: Posterior, sequences: PackedSequences, family: Family
) -> Particles:
    """Particles of posteriors of z, with drawn noise levels, given what is observed."""
    psi = particle_parameters(family, np.swapaxes(posterior.z, 1, 2))
    psi = np.swapaxes(with_levels(psi, sequences, family), 1, 2)
    noise_std = np.broadcast_to(family.noise_std, (len(psi), len(family.noise_std)))
    return Particles(psi, posterior.log_weights, noise_std, family.chart, family.growth)


class Run(NamedTuple):
    """Particles side by side, (n_sequences, entries, n_particles), and the states on their way.

    Attributes
    ----------
    psi : ndarray of shape (n_sequences, n_natural, n_particles)
    transition : ndarray of shape (n_sequences, n_entries, n_particles)
    state : ndarray of shape (n_sequences, n_states, n_particles)
        Handed to the next row.
    chart : Chart
    growth : Growth or None
    """

    psi: np.ndarray
    transition: np.ndarray
    state: np.ndarray
    chart: Chart
    growth: Growth | None = None


def start_run(psi: np.ndarray, chart: Chart, growth: Growth | None = None) -> Run:
    """Particles (n_sequences, n_natural, n_particles) before the first row."""
    psi = np.ascontiguousarray(psi)
    state = psi[:, kind_slices(chart.shape)["x0"]].copy()
    return Run(psi, particle_transitions(psi, chart.shape), state, chart, growth)


def run_through(run: Run, sequences: PackedSequences, skip: np.ndarray | None = None) -> tuple:
    """Run the particles through all rows of their sequences.

    Parameters
    ----------
    skip : ndarray of int, shape (n_sequences,), optional
        Rows of each sequence whose outputs are not wanted.

    Returns
    -------
    yhat : ndarray of shape (n_rows - sum of skip, n_outputs, n_particles)
    run : Run
        With the states after the last rows.
    """
    n_rows, shape = np.diff(sequences.offsets), run.chart.shape
    if skip is None:
        skip, start = np.zeros_like(n_rows), sequences.offsets.copy()
    else:
        start = np.concatenate([[0], np.cumsum(n_rows - skip)])
    yhat = np.empty((start[-1], shape.n_outputs, run.psi.shape[2]))
    state = run.state.copy()
    _particles.simulate(
        run.transition, run.psi, state, (sequences.offsets[:-1], n_rows, skip, start),
        (sequences.inputs, sequences.outputs, sequences.observed), tuple(shape), run.chart.gain,
        yhat,
    )  # fmt: skip
    if run.chart.gain:  # innovations that are fed back may grow without bound
        hold(yhat)
        hold(state)
    return yhat, run._replace(state=state)


def noise_variances(psi: np.ndarray, noise_std: np.ndarray) -> np.ndarray:
    """Variances (..., n_outputs, n_particles) of the noise, psi (..., n_natural, n_particles).

    (..., n_outputs, 1) if the particles of every sequence have one noise level.
    """
    level = psi[..., -1:, :]
    if np.all(level == level[..., :1]):
        level = level[..., :1]
    return (noise_std[..., None] * np.exp(level)) ** 2


def forecast_rows(
    sequences: PackedSequences,
    particles: Particles,
    levels: np.ndarray,
    targets: np.ndarray | None,
    image: Image | None = None,
) -> Forecast:
    """Forecast every packed row of the sequences from their particles.

    Parameters
    ----------
    levels : ndarray of shape (n_levels,)
    targets : ndarray of shape (n_rows, n_outputs) or None
        NaN where no log density is wanted.
    image : Image, optional
        What mean and standard deviation are wanted of, instead of the output.
    """
    parts = []
    for index in chunks(sequences, CHUNK_VALUES // particles.psi.shape[1]):
        rows = slice(sequences.offsets[index[0]], sequences.offsets[index[-1] + 1])
        psi, log_weights, noise_std = (part[index] for part in particles[:3])
        run = start_run(np.swapaxes(psi, 1, 2), *particles[3:])
        wanted = None if targets is None else targets[rows]
        part = select_sequences(sequences, index)
        parts.append(forecast_run(run, (log_weights, noise_std), part, levels, wanted, image))
    return join_forecasts(parts)


def chunks(sequences: PackedSequences, most: int) -> list:
    """Consecutive runs of sequences with at most so many outputs of rows, or one sequence."""
    parts, first, offsets = [], 0, sequences.offsets
    while first < len(offsets) - 1:
        end = offsets[first] + most // sequences.outputs.shape[1]
        fits = int(np.searchsorted(offsets, end, side="right")) - 1
        last = max(fits, first + 1)
        parts.append(np.arange(first, last))
        first = last
    return parts


def join_forecasts(parts: list) -> Forecast:
    """Forecasts of rows one after the other."""
    return Forecast(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def forecast_run(
    run: Run,
    weighed: tuple,
    sequences: PackedSequences,
    levels: np.ndarray,
    targets: np.ndarray | None,
    image: Image | None = None,
    before: np.ndarray | None = None,
) -> Forecast:
    """Forecast every packed row from the states of the particles before the first.

    Parameters
    ----------
    weighed : tuple of log weights (n_sequences, n_particles) and noise_std (n_sequences, n_outputs)
    levels, targets, image
        As in `forecast_rows`.
    before : ndarray of bool, shape (n_before, n_outputs), optional
        What was observed of the one sequence on the way to these states; None: everything.
    """
    yhat, _ = run_through(run, sequences)
    owner = np.repeat(np.arange(len(run.psi)), np.diff(sequences.offsets))
    variance = noise_variances(run.psi, weighed[1])[owner]
    added = _added_variances(run, weighed, after(sequences, before))[-len(yhat) :]
    if len(added):
        variance += added[..., None]
    rows = MixtureRows(yhat, variance * noise_factor(run.growth, yhat), np.exp(weighed[0]), owner)
    targets = np.full(sequences.outputs.shape, np.nan) if targets is None else targets
    return mixture_forecast(rows, levels, targets, image)


def _added_variances(run: Run, weighed: tuple, rows: tuple) -> np.ndarray:
    """What unseen innovations add to the variances, (n_rows, n_outputs); empty without a gain."""
    if not run.chart.gain:
        return np.empty((0, weighed[1].shape[1]))
    systems, share = spread_systems(run.psi, weighed[0])
    return unseen_variances(systems, share, weighed[1], run.chart, rows)


def in_units(forecast: Forecast, scaling: Scaling) -> Forecast:
    """A forecast of standardised outputs in the units of y."""
    scale, mean = scaling.output_scale, scaling.output_mean
    return Forecast(
        forecast.mean * scale + mean,
        forecast.std * scale,
        forecast.quantiles * scale[:, None] + mean[:, None],
        forecast.log_density - np.log(scale),
    )
