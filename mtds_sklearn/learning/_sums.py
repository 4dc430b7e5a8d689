"""What is kept of sequences that are not: sums.

The M-step maximises sum_i Q_i(phi) + log p(phi) with Q_i(phi) = w_i E_q log p(y_i | W z_i + b). A
minibatch B that was linearised at phi_B is kept as the quadratic

    sum_{i in B} Q_i(phi) ~ h_B' phi - 1/2 phi' H_B phi + const,    h_B = H_B phi_B + g_B,

with g_B and H_B its gradient and Gauss-Newton matrix there. Quadratics add up, so that (h, H),
summed over minibatches, is all that is needed of them; with prior precisions R their maximum is at
phi = (H + R)^-1 h. Squared residuals and counts of values (for the noise) and moments of z (for
the parameter expansion) are sums as well.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._m_step import (
    Curvature,
    curvature,
    log_prior,
    sequence_weights,
    weighted_counts,
)
from mtds_sklearn.learning._posterior import TaskPosterior, cubature_points
from mtds_sklearn.model._task_map import Family


class Sums(NamedTuple):
    """What is kept of the sequences seen so far, faded.

    Attributes
    ----------
    normal : ndarray of shape ((k + 1) n_theta, (k + 1) n_theta)
        Gauss-Newton matrices in [W b], indexed (column, entry of theta).
    pull : ndarray of shape ((k + 1) n_theta,)
        Gauss-Newton matrices times phi, plus gradients.
    squared, n_observed : ndarray of shape (n_outputs,)
        Expected squared residuals, and numbers of values.
    moments : ndarray of shape (k + 1, k + 1)
        Sum of E[(z, 1) (z, 1)']; its last entry is the effective number of sequences.
    """

    normal: np.ndarray
    pull: np.ndarray
    squared: np.ndarray
    n_observed: np.ndarray
    moments: np.ndarray


def sums_of(sequences: PackedSequences, family: Family, posterior: TaskPosterior) -> Sums:
    """The sums of a minibatch, linearised at the family."""
    last = curvature(cubature_points(posterior), sequences, family)
    weights = sequence_weights(sequences)
    z1 = np.column_stack([posterior.mean, np.ones(len(weights))])
    moments = (weights * z1.T) @ z1
    k = posterior.mean.shape[1]
    moments[:k, :k] += np.einsum("n,nij,nkj->ik", weights, posterior.factor, posterior.factor)
    return Sums(
        last.normal,
        last.normal @ stacked(family) + last.gradient.ravel(),
        last.squared.sum(axis=0),
        weighted_counts(sequences).sum(axis=0),
        moments,
    )


def stacked(family: Family) -> np.ndarray:
    """[W b] as a vector, indexed (column, entry of theta)."""
    return np.vstack([family.loadings.T, family.bias]).ravel()


def unstacked(family: Family, phi: np.ndarray) -> Family:
    """The family with [W b] from a vector."""
    columns = phi.reshape(-1, len(family.bias))
    return family._replace(loadings=np.ascontiguousarray(columns[:-1].T), bias=columns[-1])


def curvature_of(sums: Sums) -> Curvature:
    """The sums as the derivatives of all that was seen."""
    return Curvature(sums.pull, sums.normal, sums.squared)


def add(a: Sums, b: Sums) -> Sums:
    """Both together."""
    return Sums(*(one + other for one, other in zip(a, b, strict=True)))


def fade(sums: Sums, keep: float) -> Sums:
    """The sums as if every sequence had counted `keep` times."""
    return Sums(*(keep * part for part in sums))


def quadratic(sums: Sums, family: Family) -> float:
    """h' phi - 1/2 phi' H phi."""
    phi = stacked(family)
    return float(sums.pull @ phi - 0.5 * phi @ sums.normal @ phi)


def expand_sums(family: Family, sums: Sums) -> tuple:
    """The parameter expansion of `mtds_sklearn.learning._em.expand`, from the sums alone.

    [W b] becomes [W b] M with M = [[L, mu], [0, 1]], and the sums are rewritten for it.
    """
    k = family.loadings.shape[1]
    n = sums.moments[-1, -1]
    mu, spread = sums.moments[:k, k] / n, sums.moments[:k, :k] / n
    if k == 0:
        return family, sums, np.zeros(0), np.eye(0)
    L = np.linalg.cholesky(spread - np.outer(mu, mu))
    expanded = family._replace(
        loadings=family.loadings @ L, bias=family.bias + family.loadings @ mu
    )
    gain = n * (0.5 * (np.trace(spread) - k) - np.sum(np.log(np.diag(L))))
    if gain + log_prior(expanded) - log_prior(family) < 0.0:
        return family, sums, np.zeros(k), np.eye(k)
    M = np.eye(k + 1)
    M[:k, :k], M[:k, k] = L, mu
    back = np.linalg.inv(M)
    change = np.kron(back.T, np.eye(len(family.bias)))  # phi in terms of the new phi
    moved = sums._replace(
        normal=change.T @ sums.normal @ change,
        pull=change.T @ sums.pull,
        moments=back @ sums.moments @ back.T,
    )
    return expanded, moved, mu, L


def move(posterior: TaskPosterior, shift: np.ndarray, factor: np.ndarray) -> TaskPosterior:
    """Posteriors of factor^-1 (z - shift)."""
    if len(shift) == 0:
        return posterior
    mean = solve_triangular(factor, (posterior.mean - shift).T, lower=True).T
    shape = posterior.factor.shape
    return TaskPosterior(mean, np.linalg.solve(np.broadcast_to(factor, shape), posterior.factor))
