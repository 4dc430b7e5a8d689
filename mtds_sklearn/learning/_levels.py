"""Noise levels that differ between sequences: degrees of freedom by evidence, weights for EM.

s_i^2 ~ inverse gamma(nu / 2, nu / 2) is integrated out, so that the values of a sequence together
are Student t. With Q_i the expected squares of sequence i in units of the noise and n_i its number
of values, -(nu + n_i)/2 log(1 + Q_i / nu) has the tangent -omega_i Q_i / 2 at the present Q_i,

    omega_i = E[1 / s_i^2 | y_i] = (nu + n_i) / (nu + Q_i):

E- and M-step are those of known levels, values weighted by omega_i (Lange, Little & Taylor, J. Am.
Stat. Assoc. 84, 1989).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from mtds_sklearn._sequences import PackedSequences, frozen, observed_counts, value_precision
from mtds_sklearn.learning._m_step import expected_squares
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._likelihood import level_weights, student_log_density
from mtds_sklearn.model._task_map import Family

DOF_RANGE = (1.0, 1000.0)
# Levels of their own must raise the log likelihood by so many nats.
LEAST_GAIN = 3.0
SCALE_STEPS = 50


class Levels(NamedTuple):
    """Noise of a family whose sequences have levels of their own.

    Attributes
    ----------
    noise_std : ndarray of shape (n_outputs,)
    dof : float
        inf where one level for all is as good.
    weights : ndarray of shape (n_sequences,)
        E[1 / s_i^2 | y_i].
    """

    noise_std: np.ndarray
    dof: float
    weights: np.ndarray


def fit_levels(sequences: PackedSequences, family: Family, posterior: TaskPosterior) -> Levels:
    """Noise and degrees of freedom of most likelihood, given the posteriors of z."""
    squared = expected_squares(posterior, sequences, family)
    count = observed_counts(sequences)

    def fitted(log_dof):
        return _scale(squared, count, family.noise_std, np.exp(log_dof))

    def cost(log_dof):
        return -np.sum(student_log_density(squared, count, fitted(log_dof), np.exp(log_dof)))

    found = minimize_scalar(cost, bounds=np.log(DOF_RANGE), method="bounded")
    dof = float(np.exp(found.x))
    before = np.sum(student_log_density(squared, count, family.noise_std, np.inf))
    if -found.fun < before + LEAST_GAIN or dof > 0.9 * DOF_RANGE[1]:
        return Levels(family.noise_std, np.inf, np.ones(len(squared)))
    noise_std = fitted(found.x)
    return Levels(noise_std, dof, level_weights(squared, count, noise_std, dof))


def _scale(squared, count, noise_std, dof) -> np.ndarray:
    """Noise that is most likely for given degrees of freedom, by the weights' fixed point."""
    total = np.maximum(count.sum(axis=0), 1.0)
    for _ in range(SCALE_STEPS):
        weights = level_weights(squared, count, noise_std, dof)
        new = np.sqrt(np.maximum(weights @ squared / total, 1e-300))
        if np.allclose(new, noise_std, rtol=1e-6):
            break
        noise_std = new
    return noise_std


def known_levels(
    sequences: PackedSequences, family: Family, posterior: TaskPosterior
) -> np.ndarray:
    """E[1 / s_i^2 | y_i] (n_sequences,) in a family whose noise is known; 1 without levels."""
    if np.isinf(family.noise_dof):
        return np.ones(len(sequences.labels))
    once = sequences._replace(weights=None)
    squared = expected_squares(posterior, once, family)
    count = observed_counts(once)
    return level_weights(squared, count, family.noise_std, family.noise_dof)


def weighted_by_level(sequences: PackedSequences, weights: np.ndarray) -> PackedSequences:
    """The sequences with every value weighted by what is known of its sequence's level."""
    weights = np.repeat(weights, np.diff(sequences.offsets))[:, None]
    return sequences._replace(precision=frozen(value_precision(sequences) * weights))
