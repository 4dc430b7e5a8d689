"""Sample paths of forecasts: one particle and one course of the noise for each."""

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._disturbance import after, drive_paths
from mtds_sklearn.inference._forecast import (
    Particles,
    Run,
    noise_variances,
    run_through,
    start_run,
)
from mtds_sklearn.inference._mixture import points_at
from mtds_sklearn.model._noise import noise_factor


def sample_paths(
    sequences: PackedSequences, particles: Particles, n_samples: int, rng: np.random.RandomState
) -> np.ndarray:
    """Sample paths (n_rows, n_outputs, n_samples), noise included, one particle a path."""
    run = start_run(np.swapaxes(particles.psi, 1, 2), particles.chart, particles.growth)
    return sample_run(run, (particles.log_weights, particles.noise_std), sequences, n_samples, rng)


def sample_run(
    run: Run,
    weighed: tuple,
    sequences: PackedSequences,
    n_samples: int,
    rng: np.random.RandomState,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """As `sample_paths`, from the states of the particles before the first row.

    `weighed` and `before` as in `forecast_run`.
    """
    uniform = rng.uniform(size=(len(sequences.labels), n_samples))
    picks = points_at(np.exp(weighed[0]), uniform)[:, None]
    chosen = [np.take_along_axis(part, picks, axis=2) for part in run[:3]]
    yhat, _ = run_through(Run(*chosen, run.chart), sequences)
    variance = noise_variances(chosen[0], weighed[1])
    observed, offsets = after(sequences, before if run.chart.gain else None)
    noise = rng.standard_normal((len(observed), *yhat.shape[1:]))
    noise *= np.sqrt(np.repeat(variance, np.diff(offsets), axis=0))
    noise[-len(yhat) :] *= np.sqrt(noise_factor(run.growth, yhat))
    if run.chart.gain:
        noise = drive_paths(noise, chosen[0], run.chart, (observed, offsets))
    return yhat + noise[-len(yhat) :]
