"""One system for one sequence or for all, and its forecast.

`PooledLDS` and `SingleTaskLDS` learn by the same growth as the family, with no latents: theta = b.
What is left uncertain about b enters the forecasts as draws of theta: from the Gaussian of
Laplace's method, weighted by the posterior density itself, since poles that the data leave open are
anything but Gaussian.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtri
from scipy.stats.qmc import Sobol

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._forecast import Forecast, Particles, forecast_rows
from mtds_sklearn.inference._image import Image
from mtds_sklearn.inference._mixture import effective_sample_size
from mtds_sklearn.learning._growth import Learned, bias_factor
from mtds_sklearn.learning._m_step import BIAS_PRECISION, sequence_weights
from mtds_sklearn.learning._streaming import Stream
from mtds_sklearn.learning._sums import curvature_of
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._likelihood import evaluations, log_likelihood

N_THETA_DRAWS = 256
# The Gaussian is narrowed until this share of the draws counts.
EFFECTIVE_SHARE = 0.1
WIDTHS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.1, 0.03)


class PointFit(NamedTuple):
    """One learned system: weighted draws theta = mean + factor n; the first is the mean."""

    chart: Chart
    mean: np.ndarray
    factor: np.ndarray
    log_weights: np.ndarray
    noise_std: np.ndarray


def point_fit(learned: Learned, sequences: PackedSequences) -> PointFit:
    """Keep of a fit to the (standardised) sequences what forecasts need."""
    family = learned.family
    unit = _unit_draws(len(family.bias))
    for width in WIDTHS:
        factor = width * bias_factor(family, learned.curvature)
        theta = family.bias + unit @ factor.T
        psi = family.chart.const + theta @ family.chart.basis.T
        log_posterior = -0.5 * BIAS_PRECISION * np.sum(theta**2, axis=1)
        for i in range(0, len(psi), 32):
            log_posterior[i : i + 32] += _joint_log_likelihood(psi[i : i + 32], learned, sequences)
        log_weights = log_posterior + 0.5 * np.sum(unit**2, axis=1)
        if effective_sample_size(log_weights) >= EFFECTIVE_SHARE * len(log_weights):
            break
    return PointFit(
        family.chart, family.bias, factor, log_weights - logsumexp(log_weights), family.noise_std
    )  # fmt: skip


def gaussian_fit(stream: Stream) -> PointFit:
    """The fit where only the curvature of the data is left: draws of equal weight."""
    family = stream.family
    factor = bias_factor(family, curvature_of(stream.sums))
    log_weights = np.full(N_THETA_DRAWS, -np.log(N_THETA_DRAWS))
    return PointFit(family.chart, family.bias, factor, log_weights, family.noise_std)


def _unit_draws(n_theta: int) -> np.ndarray:
    """Quasi-random normal draws (N_THETA_DRAWS, n_theta), always the same; the first is zero."""
    uniform = Sobol(n_theta, rng=np.random.default_rng(0)).random(N_THETA_DRAWS)
    unit = ndtri(np.clip(uniform, 1e-9, 1.0 - 1e-9))
    unit[0] = 0.0
    return unit


def _joint_log_likelihood(psi, learned: Learned, sequences: PackedSequences) -> np.ndarray:
    """log p(all sequences, each as often as its weight says | psi) of each row of psi."""
    n = len(sequences.labels)
    run = evaluations(sequences, repeats=len(psi))
    values = log_likelihood(
        np.tile(psi, (n, 1)), run, learned.family.chart, learned.family.noise_std
    )
    return sequence_weights(sequences) @ values.reshape(n, -1)


def forecast_with(
    fits: list,
    which: np.ndarray,
    sequences: PackedSequences,
    levels: np.ndarray,
    targets: np.ndarray | None,
    image: Image | None,
) -> Forecast:
    """Forecast sequence i with fits[which[i]]; all these fits have charts of the same shape.

    `levels`, `targets` and `image` as in `forecast_rows`.
    """
    chart = fits[0].chart
    unit = _unit_draws(len(chart.entries))
    psi = np.stack([f.chart.const + (f.mean + unit @ f.factor.T) @ f.chart.basis.T for f in fits])
    noise_std = np.stack([f.noise_std for f in fits])
    log_weights = np.stack([f.log_weights for f in fits])
    particles = Particles(psi[which], log_weights[which], noise_std[which], chart)
    return forecast_rows(sequences, particles, levels, targets, image)


def fit_log_likelihood(fit: PointFit, sequences: PackedSequences) -> np.ndarray:
    """log p(y_i | theta at its mean) of every sequence, standardised."""
    run = evaluations(sequences)
    psi = np.tile(fit.chart.const + fit.chart.basis @ fit.mean, (len(sequences.labels), 1))
    return log_likelihood(psi, run, fit.chart, fit.noise_std)
