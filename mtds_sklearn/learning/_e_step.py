"""E-step: the posterior of each sequence's latent z, given the shared parameters.

A mode of log p(y_i | z) + log p(z) is found by Levenberg-Marquardt; the posterior there is the
Gaussian whose precision is the Gauss-Newton matrix I + J' R^-1 J (Laplace). The posterior of a
short or oscillating sequence has several modes, so that now and then the modes are looked for from
several starts: the current mean and what `search_starts` proposes.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences, observed_counts
from mtds_sklearn.inference._modes import (
    SEARCH_STEPS,
    SEARCH_TOLERANCE,
    TRACK_STEPS,
    climb,
    inverse_factor,
    search_starts,
)
from mtds_sklearn.learning._chunks import Kept, Reweighted, alike, map_by_chunk, whole
from mtds_sklearn.learning._m_step import expected_squares, sequence_weights
from mtds_sklearn.learning._posterior import (
    TaskPosterior,
    divergence,
    select,
)
from mtds_sklearn.model._likelihood import (
    evaluations,
    gaussian_log_density,
    log_likelihood,
    log_weights,
)
from mtds_sklearn.model._task_map import Family, log_levels, natural_parameters


def laplace(z: np.ndarray, hessian: np.ndarray) -> TaskPosterior:
    """Gaussian with the given modes and precisions."""
    return TaskPosterior(z, inverse_factor(hessian))


def sequence_bounds(
    posterior: TaskPosterior, sequences: PackedSequences, family: Family
) -> np.ndarray:
    """Lower bound of log p(y_i) of every sequence: E_q log p(y_i | z_i) - KL(q_i || p)."""
    squared = expected_squares(posterior, sequences, family)
    return _bounds_from(squared, posterior, sequences, family)


def _bounds_from(
    squared: np.ndarray, posterior: TaskPosterior, sequences: PackedSequences, family: Family
) -> np.ndarray:
    """The bounds, from the expected squared residuals times the weights of the sequences."""
    count = observed_counts(sequences)
    squared = squared / sequence_weights(sequences)[:, None]
    level = log_levels(family, posterior.mean)  # linear in z, so that this is its mean
    fit = gaussian_log_density(squared, count, family.noise_std)
    fit += log_weights(sequences) - count.sum(axis=1) * level
    return fit - divergence(posterior)


def e_step(
    sequences: PackedSequences | Reweighted,
    family: Family,
    posterior: TaskPosterior | Kept,
    points: np.ndarray | None = None,
    squared: np.ndarray | Kept | None = None,
) -> TaskPosterior | Kept:
    """New posteriors; a sequence keeps its old one where the new one would lower its bound.

    Parameters
    ----------
    points : ndarray of shape (n_points, k) or None
        Shared quasi-random prior points; every sequence also starts from the best of them.
    squared : ndarray of shape (n_sequences, n_outputs), Kept or None
        Expected squared residuals under the old posteriors, as of `expected_squares`, if known.
    """
    if family.loadings.shape[1] == 0:
        return posterior
    found = map_by_chunk(_e_step, sequences, (posterior, squared), (family, points))
    return alike(found, posterior)


def _e_step(sequences, posterior, squared, family, points) -> TaskPosterior:
    if squared is None:
        squared = expected_squares(posterior, sequences, family)
    bounds = _bounds_from(squared, posterior, sequences, family)
    if points is None:
        z, _, hessian = climb(posterior.mean, evaluations(sequences), family, TRACK_STEPS)
    else:
        z, hessian = _search(sequences, family, posterior, points)
    proposal = laplace(z, hessian)
    better = sequence_bounds(proposal, sequences, family) > bounds
    return select(posterior, proposal, better)


def _search(sequences, family, posterior, points) -> tuple:
    """Best mode of each sequence over its starts, and the Gauss-Newton matrix there."""
    n, k = posterior.mean.shape
    starts = search_starts(sequences, family, points)
    starts = np.concatenate([posterior.mean[:, None, :], starts], axis=1)
    run = evaluations(sequences, repeats=starts.shape[1])
    z, objective, _ = climb(starts.reshape(-1, k), run, family, SEARCH_STEPS, SEARCH_TOLERANCE)
    best = np.argmax(objective.reshape(n, -1), axis=1)
    z = z.reshape(n, -1, k)[np.arange(n), best]
    z, _, hessian = climb(z, evaluations(sequences), family, TRACK_STEPS)
    return z, hessian


def laplace_terms(
    sequences: PackedSequences, family: Family, posterior: TaskPosterior
) -> tuple[np.ndarray, np.ndarray]:
    """log p(y_i, z_i) and log |S_i| at the modes next to the posterior means, times the weights."""
    found = map_by_chunk(_laplace_terms, sequences, (posterior.mean,), (family,))
    log_joint, log_det = whole(found)
    weights = sequence_weights(sequences)
    return weights * log_joint, weights * log_det


def _laplace_terms(sequences, z, family) -> tuple:
    run = evaluations(sequences)
    log_det = np.zeros(len(z))
    if z.shape[1] > 0:
        z, _, hessian = climb(z, run, family, SEARCH_STEPS)
        log_det = -np.linalg.slogdet(hessian)[1]
    psi = natural_parameters(family, z)
    log_joint = log_likelihood(psi, run, family.chart, family.noise_std)
    return log_joint - 0.5 * np.sum(z**2, axis=1), log_det
