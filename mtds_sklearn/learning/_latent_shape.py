"""The distribution of z that inference takes, once a family is learned.

Independent coordinates (`_prior_fit`), and clusters and dependence where the evidence speaks for
them (`_clusters`). Latents of specific variances stay what they are: standard normal, independent
of the others and of each other.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._clusters import with_components
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._prior_fit import fit_prior
from mtds_sklearn.model._latent_prior import LatentPrior, beside_normal
from mtds_sklearn.model._task_map import (
    Family,
    learned_columns,
    n_shared,
    without_specific,
)

# Above this standard deviation over the family an entry of theta counts as varying.
RELEVANT_STD = 0.03


def varying_entries(family: Family) -> np.ndarray:
    """Which entries of theta differ between sequences, bool (n_theta,).

    The precision is that of each entry of a row of W that is learned.
    """
    n_learned = learned_columns(family).sum(axis=1)
    return n_learned / family.precision > RELEVANT_STD**2


def fit_latent_shape(
    family: Family,
    posterior: TaskPosterior,
    weights: np.ndarray | None = None,
    sequences: PackedSequences | None = None,
) -> LatentPrior:
    """p(z) of a learned family.

    Parameters
    ----------
    family : Family
        With z ~ N(0, I).
    posterior : TaskPosterior
    weights, sequences : ndarray and PackedSequences, or None
        As in `with_components`.
    """
    k, m = n_shared(family), len(family.specific)
    shared, varies = without_specific(family), varying_entries(family)
    # An entry that differs by its specific variance alone tells nothing of z.
    own = list(family.specific)
    varies[own] &= np.linalg.norm(shared.loadings[own], axis=1) > RELEVANT_STD
    known = TaskPosterior(posterior.mean[:, :k], posterior.factor[:, :k, :k])
    prior = fit_prior(shared, known, varies, weights)
    return beside_normal(with_components(prior, family, known, weights, sequences), m)
