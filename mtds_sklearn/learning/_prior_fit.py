"""The distribution of z fitted to the aggregate posterior of the training sequences, after EM.

EM holds z ~ N(0, I). Frequencies or rates that are uniform over the family, or skewed, are not
normal, and a forecast after a few observations leans on the prior. Coordinates of r = rotation' z
are sought along which entries of theta vary independently: the rotation that brings W, rows scaled
to length one, closest to simple structure (varimax, started at the polar factor of W). Each
coordinate then gets its posterior predictive distribution, averaged over shapes (`_shapes`).

EM has whitened z: mean 0 and covariance I are those of the N sequences at hand, not of the family.
If z were normal with unknown mean and covariance (flat priors), a new one of k coordinates would be
Student t with N - k degrees of freedom and, in every direction, the squared scale
(1 + 1/N) N / (N - k); a coordinate whose own location and scale alone are unknown has N - 1 in the
place of N - k. What the other coordinates add, since the axes were chosen by the same sequences, is
thus a factor (N - 1) / (N - k) on the variance, and by it every coordinate is stretched.
"""

import numpy as np

from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._shapes import predictive_quantiles
from mtds_sklearn.model._latent_prior import LatentPrior, standard_prior
from mtds_sklearn.model._task_map import Family

# Mean posterior variance above which a coordinate stays normal.
MOST_UNCERTAIN = 0.5
# A coordinate moves nothing if its loadings are below this share of the largest.
NEGLIGIBLE = 1e-8
# The stretch of the variance is no more than this, however few the sequences.
MOST_STRETCH = 2.0
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
    sizes = np.linalg.norm(family.loadings @ rotation, axis=0)
    fitted = (np.mean(std**2, axis=0) < MOST_UNCERTAIN) & (sizes > NEGLIGIBLE * sizes.max())
    weights = np.ones(len(std)) if weights is None else weights[seen]
    stretch = np.sqrt(variance_stretch(weights.sum(), int(fitted.sum())))
    for d in np.flatnonzero(fitted):
        prior.quantiles[d] = predictive_quantiles(mean[:, d], std[:, d], stretch, weights)
    return prior._replace(rotation=rotation) if fitted.any() else prior


def variance_stretch(n_sequences: float, n_coordinates: int) -> float:
    """(N - 1) / (N - k), at most MOST_STRETCH."""
    spare = max(n_sequences - n_coordinates, (n_sequences - 1) / MOST_STRETCH)
    return (n_sequences - 1) / spare if n_sequences > 1 else 1.0


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
