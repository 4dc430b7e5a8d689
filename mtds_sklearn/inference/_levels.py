"""The noise level of a sequence, where it is not the same for all: one draw for every particle.

With s^2 ~ inverse gamma(nu / 2, nu / 2) the level of a sequence is integrated out of the likelihood
(`model._likelihood`). Given the parameters and n values with the weighted squares Q, it is again
inverse gamma, s^2 ~ (nu + Q) / chi^2(nu + n). A draw of it for each particle, written into the last
natural entry, makes forecasts, paths and updates those of known levels: the mixture over the
particles is the Student t.
"""

import numpy as np
from scipy.special import chdtri

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._coordinates import straight_way
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.kernels import _points
from mtds_sklearn.model._likelihood import MOST_SQUARED, evaluations
from mtds_sklearn.model._task_map import Family

# The golden ratio's fractions: evenly spread for any number of particles, and independent of the
# order in which quasi-random points came.
GOLDEN = 0.6180339887498949


def with_levels(psi: np.ndarray, sequences: PackedSequences, family: Family) -> np.ndarray:
    """Natural parameters (n_sequences, n_natural, n_particles) with drawn levels.

    Given what is observed of the sequences; all particles of a family without levels of its own
    stay as they are.
    """
    if np.isinf(family.noise_dof):
        return psi
    sequences = with_gap_weights(sequences, family)
    chart, run, n_natural = family.chart, evaluations(sequences), psi.shape[1]
    total = np.empty((len(psi), psi.shape[2]))
    way = straight_way(np.eye(n_natural), np.zeros(n_natural))  # they are their own points
    _points.point_squares(
        np.ascontiguousarray(psi), tuple(way), (run.first_row, run.n_rows), run.data,
        family.noise_std**-2.0, tuple(chart.shape), chart.gain, total, np.empty_like(total),
    )  # fmt: skip
    total = np.fmin(total, MOST_SQUARED)
    return draw_levels(psi, total, run.n_observed.sum(axis=1), family.noise_dof)


def draw_levels(psi: np.ndarray, total: np.ndarray, count: np.ndarray, dof: float) -> np.ndarray:
    """Levels given the weighted squares `total` (n_sequences, n_particles) of `count` values."""
    probability = (0.5 + GOLDEN * np.arange(psi.shape[2])) % 1.0
    chi2 = chdtri((dof + count)[:, None], probability)
    psi = psi.copy()
    psi[:, -1] = 0.5 * np.log((dof + total) / chi2)
    return psi


def with_new_levels(psi: np.ndarray, family: Family, rng: np.random.RandomState) -> np.ndarray:
    """Natural parameters (..., n_natural) with levels of sequences of which nothing is observed."""
    if np.isinf(family.noise_dof):
        return psi
    psi = psi.copy()
    chi2 = rng.chisquare(family.noise_dof, size=psi.shape[:-1])
    psi[..., -1] = 0.5 * np.log(family.noise_dof / chi2)
    return psi
