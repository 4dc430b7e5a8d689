"""One system, fitted to one sequence or to all: its forecast, with the uncertainty of its parameters.

`PooledLDS` and `SingleTaskLDS` learn by the same growth as the family, with no latents: theta = b. What is left
uncertain about b, by Laplace's method, enters the forecasts as draws of theta.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats.qmc import Sobol

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._forecast import Forecast, Particles, forecast_rows
from mtds_sklearn.learning._growth import Learned, bias_factor
from mtds_sklearn.model._lds import Chart
from mtds_sklearn.model._likelihood import evaluations, log_likelihood

N_THETA_DRAWS = 256


class PointFit(NamedTuple):
    """One learned system: theta ~ N(mean, factor factor')."""

    chart: Chart
    mean: np.ndarray
    factor: np.ndarray
    noise_std: np.ndarray
    log_evidence: float


def point_fit(learned: Learned) -> PointFit:
    """Keep of a fit what forecasts need."""
    family = learned.family
    return PointFit(
        family.chart, family.bias, bias_factor(learned), family.noise_std, learned.evidence
    )


def forecast_with(
    fits: list, which: np.ndarray, sequences: PackedSequences, levels, targets
) -> Forecast:
    """Forecast sequence i with fits[which[i]]; all these fits have the same chart's shape."""
    chart = fits[0].chart
    n_theta = len(chart.entries)
    uniform = Sobol(n_theta, rng=np.random.default_rng(0)).random(N_THETA_DRAWS)
    unit = ndtri(np.clip(uniform, 1e-9, 1.0 - 1e-9))
    psi = np.stack(
        [f.chart.const + (f.mean + unit @ f.factor.T) @ f.chart.basis.T for f in fits]
    )
    noise_std = np.stack([f.noise_std for f in fits])
    log_weights = np.full((len(which), N_THETA_DRAWS), -np.log(N_THETA_DRAWS))
    particles = Particles(psi[which], log_weights, noise_std[which], chart)
    return forecast_rows(sequences, particles, levels, targets)


def fit_log_likelihood(fit: PointFit, sequences: PackedSequences) -> np.ndarray:
    """log p(y_i | theta at its mean) of every sequence, standardised."""
    run = evaluations(sequences)
    psi = np.tile(fit.chart.const + fit.chart.basis @ fit.mean, (len(sequences.labels), 1))
    return log_likelihood(psi, run, fit.chart, fit.noise_std)
