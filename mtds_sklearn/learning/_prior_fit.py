"""The distribution of z fitted to the aggregate posterior of the training sequences, after EM.

EM holds z ~ N(0, I). Frequencies or rates that are uniform over the family, or skewed, are not
normal, and a forecast after a few observations leans on the prior. Coordinates r of z are sought
that vary independently (`_axes`). Each then gets its posterior predictive distribution, averaged
over shapes (`_shapes`).

EM has whitened z: mean 0 and covariance I are those of the N sequences at hand, not of the family.
If z were normal with unknown mean and covariance (flat priors), a new one of k coordinates would be
Student t with N - k degrees of freedom and, in every direction, the squared scale
(1 + 1/N) N / (N - k); a coordinate whose own location and scale alone are unknown has N - 1 in the
place of N - k. What the other coordinates add, since the axes were chosen by the same sequences, is
thus a factor (N - 1) / (N - k) on the variance, and by it every coordinate is stretched. As far as
coordinates are taken to be independent, nothing is learned of how they go together, and the others
do not count: k is then 1 + (1 - s) (k - 1), with s the share of independence.
"""

import numpy as np

from mtds_sklearn.learning._axes import MOST_UNCERTAIN, independent_axes
from mtds_sklearn.learning._poles import loadings_free_of_states
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._shapes import predictive_quantiles
from mtds_sklearn.model._latent_prior import LatentPrior, standard_prior
from mtds_sklearn.model._lds import is_modal
from mtds_sklearn.model._task_map import Family

# A coordinate moves nothing if its loadings are below this share of the largest.
NEGLIGIBLE = 1e-8
# The stretch of the variance is no more than this, however few the sequences.
MOST_STRETCH = 2.0


def fit_prior(
    family: Family,
    posterior: TaskPosterior,
    relevant: np.ndarray,
    weights: np.ndarray | None = None,
) -> LatentPrior:
    """p(z) for a learned family without specific variances.

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
    rows = family.loadings[relevant]
    if not is_modal(family.chart.shape):
        rows = loadings_free_of_states(family, relevant)
    seen = np.any(posterior.mean != 0.0, axis=1)  # of the others nothing was observed
    if len(rows) == 0 or not seen.any():  # as with no latents at all
        return prior
    mean, factor = posterior.mean[seen], posterior.factor[seen]
    weights = np.ones(len(mean)) if weights is None else weights[seen]
    known = TaskPosterior(mean, factor)
    axes, share = independent_axes(rows, known, weights.sum())
    inverse = np.linalg.inv(axes)
    mean = mean @ inverse.T
    std = np.sqrt(np.sum((inverse @ factor) ** 2, axis=2))
    sizes = np.linalg.norm(family.loadings @ axes, axis=0)
    fitted = (np.mean(std**2, axis=0) < MOST_UNCERTAIN) & (sizes > NEGLIGIBLE * sizes.max())
    n_others = (1.0 - share) * (fitted.sum() - 1)
    stretch = np.sqrt(variance_stretch(weights.sum(), 1.0 + n_others))
    for d in np.flatnonzero(fitted):
        prior.quantiles[d] = predictive_quantiles(mean[:, d], std[:, d], stretch, weights)
    return prior._replace(axes=axes) if fitted.any() else prior


def variance_stretch(n_sequences: float, n_coordinates: float) -> float:
    """(N - 1) / (N - k), at most MOST_STRETCH."""
    spare = max(n_sequences - n_coordinates, (n_sequences - 1) / MOST_STRETCH)
    return (n_sequences - 1) / spare if n_sequences > 1 else 1.0
