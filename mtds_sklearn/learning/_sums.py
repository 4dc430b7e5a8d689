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

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._expansion import expanded_family
from mtds_sklearn.learning._m_step import (
    Curvature,
    curvature,
    sequence_weights,
    weighted_counts,
)
from mtds_sklearn.learning._posterior import TaskPosterior, moments
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
    last = curvature(posterior, sequences, family)
    return Sums(
        last.normal,
        last.normal @ stacked(family) + last.gradient.ravel(),
        last.squared.sum(axis=0),
        weighted_counts(sequences).sum(axis=0),
        moments(posterior, sequence_weights(sequences)),
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
    """The parameter expansion of `mtds_sklearn.learning._expansion`, from the sums alone.

    [W b] becomes [W b] M with M = [[L, mu], [0, 1]], and the sums are rewritten for it.
    """
    k = family.loadings.shape[1]
    expanded, mu, L = expanded_family(family, sums.moments)
    if expanded is family:
        return family, sums, mu, L
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
