"""The distribution of z fitted to the aggregate posterior of the training sequences, after EM.

EM holds z ~ N(0, I). Frequencies or rates that are uniform over the family, or skewed, are not
normal, and a forecast after a few observations leans on the prior. Coordinates of r = rotation' z
are sought along which entries of theta vary independently: the rotation that brings W, rows scaled
to length one, closest to simple structure (varimax, started at the polar factor of W). Each
coordinate then gets the shape (`model._latent_prior`) that maximises

    sum_i log E_{q_i}[ p(r_i) / N(r_i; 0, 1) ] + log p(shape),

the change of the marginal likelihood when the prior of that coordinate changes (q_i is the
likelihood times N(0, 1), normalised). A prior holds shapes near the normal when sequences are few,
and all stay normal where the fitted shapes together do not predict left-out sequences better
(cross-validation), or the coordinate is one that the sequences say little about.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._latent_prior import (
    LatentPrior,
    coordinate_log_density,
    log_normal_density,
    standard_prior,
)
from mtds_sklearn.model._task_map import Family

# Prior standard deviations of location, log scales and log power.
SHAPE_STD = np.array([0.5, 0.5, 0.5, 0.5])
QUADRATURE_NODES = 9
N_FOLDS = 5
# Mean posterior variance above which a coordinate stays normal.
MOST_UNCERTAIN = 0.5
VARIMAX_STEPS = 50


def fit_prior(
    family: Family,
    posterior: TaskPosterior,
    relevant: np.ndarray,
    weights: np.ndarray | None = None,
) -> LatentPrior:
    """p(z) for a learned family.

    Parameters
    ----------
    relevant : ndarray of bool, shape (n_theta,)
        Entries of theta that vary.
    weights : ndarray of shape (n_sequences,), default=None
        How often each sequence counts; None: once.
    """
    k = posterior.mean.shape[1]
    prior = standard_prior(k)
    relevant = relevant & np.any(family.loadings != 0.0, axis=1)
    seen = np.any(posterior.mean != 0.0, axis=1)  # of the others nothing was observed
    if not relevant.any() or not seen.any():  # as with no latents at all
        return prior
    rotation = simple_rotation(family.loadings[relevant])
    mean = posterior.mean[seen] @ rotation
    spread = np.swapaxes(posterior.factor[seen], 1, 2) @ rotation
    std = np.sqrt(np.sum(spread**2, axis=1))
    weights = np.ones(len(std)) if weights is None else weights[seen]
    shape, gain = np.zeros((k, 4)), 0.0
    for d in np.flatnonzero(np.mean(std**2, axis=0) < MOST_UNCERTAIN):
        shape[d], gain_d = fit_coordinate(mean[:, d], std[:, d], weights)
        gain += gain_d
    return LatentPrior(rotation, shape) if gain > 0.0 else prior


def simple_rotation(loadings: np.ndarray) -> np.ndarray:
    """Orthogonal (k, k): the rows of loadings (n_rows, k) @ rotation are as axis-like as can be.

    With at most k rows, the rotation closest to the length-normalised rows; else their varimax
    rotation (Kaiser 1958), ascended by the polar factor of its gradient.
    """
    rows = loadings / np.abs(loadings).max(axis=1, keepdims=True)  # squares of 1e-200 are zero
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
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


def fit_coordinate(mean: np.ndarray, std: np.ndarray, weights: np.ndarray | None = None) -> tuple:
    """Shape (4,) of one coordinate from the posteriors N(mean_i, std_i^2) of weighted sequences.

    Also how much better than the normal such a shape predicts left-out sequences, in nats in all.
    """
    nodes, share = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    r = mean[:, None] + std[:, None] * nodes
    weights = np.ones(len(r)) if weights is None else weights
    log_old = np.log(share / share.sum()) - log_normal_density(r)
    fold = np.argsort(np.argsort(mean)) % N_FOLDS  # by rank: sequences have no order
    gain = 0.0
    for left_out in range(min(N_FOLDS, len(r))):
        out = fold == left_out
        shape = _maximize(r[~out], log_old[~out], weights[~out])
        gain += _log_gain(shape, r[out], log_old[out], weights[out])
    return _maximize(r, log_old, weights), gain


def _log_gain(shape: np.ndarray, r: np.ndarray, log_old: np.ndarray, weights) -> float:
    """sum_i w_i log E_{q_i}[p(r_i) / N(r_i; 0, 1)] over nodes r (n_sequences, n_nodes)."""
    log_new = coordinate_log_density(r[..., None], shape[None])[..., 0]
    return float(weights @ logsumexp(log_new + log_old, axis=1))


def _maximize(r: np.ndarray, log_old: np.ndarray, weights: np.ndarray) -> np.ndarray:
    def cost(scaled):
        return 0.5 * np.sum(scaled**2) - _log_gain(scaled * SHAPE_STD, r, log_old, weights)

    return minimize(cost, np.zeros(4), method="BFGS").x * SHAPE_STD
