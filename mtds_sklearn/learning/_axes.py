"""Coordinates r of z, z = axes @ r, that are taken to be independent over the family.

EM learns the covariance of theta, W W', in full. With few sequences much of it is chance: entries
of theta that vary independently correlate by 1 / sqrt(N) in N sequences. So entries of theta that
most sequences tell well, and that do not nearly determine each other, are coordinates,

    f_e = (theta_e - b_e) / |w_e| = w_e' z / |w_e|,

with correlations C = (w_d' w_e / |w_d| |w_e|), since EM whitens z. What other directions z has are
orthogonal to them. A priori the covariance of the k coordinates f is inverse Wishart with mean I,
worth nu sequences. Given n sequences (one less than there are, for their mean) its mean is

    (1 - s) C + s I,        s = nu / (n + nu) the share of independence,

and with a = nu + k + 1 the evidence for nu is (Chen 1979)

    Gamma_k((a + n) / 2) / Gamma_k(a / 2)  |nu I|^(a / 2)  |nu I + n C|^(-(a + n) / 2).

s is averaged over, and r = ((1 - s) C + s I)^(-1/2) f. At s = 1 these are entries of theta, at
s = 0 the uncorrelated coordinates that come closest to them.
"""

import numpy as np
from scipy.linalg import block_diag
from scipy.special import expit, multigammaln

from mtds_sklearn.learning._posterior import TaskPosterior

# Shares of independence that are averaged over.
SHARES = expit(np.linspace(-5.0, 5.0, 11))
# Mean posterior variance above which an entry of theta is no coordinate.
MOST_UNCERTAIN = 0.5
# Least variance of a coordinate that those chosen before it leave open.
LEAST_OWN = 0.1
VARIMAX_STEPS = 50


def independent_axes(
    loadings: np.ndarray, posterior: TaskPosterior, n_sequences: float
) -> tuple[np.ndarray, float]:
    """Axes of z, and the share of independence.

    Parameters
    ----------
    loadings : ndarray of shape (n_rows, k)
        The rows of W of entries that vary; none is zero.
    posterior : TaskPosterior
        Of the sequences under N(0, I).
    n_sequences : float
        How many they count for.

    Returns
    -------
    axes : ndarray of shape (k, k)
        Invertible; orthogonal where no entry of theta is a coordinate.
    share : float
        s; 0 where fewer than two entries are coordinates.
    """
    rows = unit_rows(loadings)
    known = 1.0 - np.mean(np.sum((rows @ posterior.factor) ** 2, axis=2), axis=0)
    chosen = own_rows(rows, np.where(known > 1.0 - MOST_UNCERTAIN, known, 0.0))
    coordinates, others = rows[chosen], _complement(rows, rows[chosen])
    correlation, share = coordinates @ coordinates.T, 0.0
    if len(chosen) > 1:
        # A correlation is as well known as from so many sequences without noise.
        n = (n_sequences - 1.0) * np.mean(known[chosen]) ** 2
        share = share_of_independence(correlation, max(n, 1.0))
    shrunk = (1.0 - share) * correlation + share * np.eye(len(chosen))
    root = block_diag(_root(shrunk), np.eye(len(others)))
    return np.linalg.solve(np.vstack([coordinates, others]), root), share


def share_of_independence(correlation: np.ndarray, n: float) -> float:
    """Posterior mean of s, given correlations (k, k) in n sequences."""
    values = log_evidence(correlation, n, n * SHARES / (1.0 - SHARES))
    weights = np.exp(values - values.max())
    return float(weights @ SHARES / weights.sum())


def log_evidence(correlation: np.ndarray, n: float, nu: np.ndarray) -> np.ndarray:
    """log p(correlation (k, k) in n sequences) for each nu, up to a constant."""
    k, values = len(correlation), np.linalg.eigvalsh(correlation)
    a = nu + k + 1.0
    out = multigammaln(0.5 * (a + n), k) - multigammaln(0.5 * a, k) + 0.5 * a * k * np.log(nu)
    return out - 0.5 * (a + n) * np.sum(np.log(nu[:, None] + n * values), axis=1)


def own_rows(rows: np.ndarray, known: np.ndarray) -> list:
    """Indices of rows (n_rows, k) of length one that do not nearly depend on each other.

    The next is always that of which most is open and `known` (n_rows,).
    """
    chosen, left = [], rows.copy()
    for _ in range(rows.shape[1]):
        size = np.sum(left**2, axis=1)
        size[chosen] = 0.0
        best = int(np.argmax(size * known))
        if size[best] * known[best] < LEAST_OWN:
            break
        direction = left[best] / np.sqrt(size[best])
        left -= np.outer(left @ direction, direction)
        chosen.append(best)
    return chosen


def _complement(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Orthonormal rows (k - n_chosen, k) beside those chosen, as near to other rows as can be."""
    basis = np.linalg.qr(chosen.T, mode="complete")[0][:, len(chosen) :]
    left = rows @ basis
    left = left[np.sum(left**2, axis=1) > LEAST_OWN]
    return (basis @ simple_rotation(left)).T if left.size else basis.T


def _root(cov: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(values)) @ vectors.T


def unit_rows(loadings: np.ndarray) -> np.ndarray:
    """Rows of length one."""
    rows = loadings / np.abs(loadings).max(axis=1, keepdims=True)  # squares of 1e-200 are zero
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def simple_rotation(loadings: np.ndarray) -> np.ndarray:
    """Orthogonal (k, k): the rows of loadings (n_rows, k) @ rotation are as axis-like as can be.

    With at most k rows, the rotation closest to the length-normalised rows; else their varimax
    rotation (Kaiser 1958), ascended by the polar factor of its gradient.
    """
    rows = unit_rows(loadings)
    if len(rows) <= rows.shape[1]:
        return _polar(rows.T)
    rotation = np.eye(rows.shape[1])
    for _ in range(VARIMAX_STEPS):
        turned = rows @ rotation
        gradient = rows.T @ (turned**3 - turned * np.mean(turned**2, axis=0))
        rotation = _polar(gradient + 1e-9 * rotation)
    return rotation


def _polar(matrix: np.ndarray) -> np.ndarray:
    """Orthogonal matrix closest to a (k, n <= k) matrix, completed to a basis."""
    square = np.zeros((len(matrix), len(matrix)))
    square[:, : matrix.shape[1]] = matrix
    left, _, right = np.linalg.svd(square)
    return left @ right
