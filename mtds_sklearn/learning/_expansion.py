"""Parameter expansion: what z is measured in, so that its aggregate posterior fits its prior.

With mean mu and covariance L L' of the (weighted) aggregate posterior of the sequences,
z -> L^-1 (z - mu), b -> b + W mu, W -> W L leaves every theta_i, at every cubature point, as it was
(PX-EM; Liu, Rubin & Wu 1998).

With specific variances L is the factor of the covariance that the aggregate would have if their
latents u depended on each other through z alone. So W L keeps the columns of u apart, and what z
tells of u goes over to the columns of z, where it belongs: without that step a row of W and its
specific variance undo each other, which EM takes hundreds of iterations to end.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._chunks import Kept, Reweighted, alike, map_by_chunk, sum_by_chunk
from mtds_sklearn.learning._m_step import log_prior, sequence_weights
from mtds_sklearn.learning._posterior import TaskPosterior, moments, move, whitening
from mtds_sklearn.model._task_map import Family


def expanded_family(family: Family, total: np.ndarray) -> tuple[Family, np.ndarray, np.ndarray]:
    """The family in terms of z -> L^-1 (z - mu), with mu and L of the sums `moments`.

    The family itself, zeros and the identity, unless the divergence from the prior of z falls by
    more than the log prior of (W, b) does.
    """
    k = family.loadings.shape[1]
    if k:
        mu, L, gain = whitening(total, len(family.specific))
        loadings, bias = family.loadings @ L, family.bias + family.loadings @ mu
        expanded = family._replace(loadings=loadings, bias=bias)
        if gain + log_prior(expanded) - log_prior(family) >= 0.0:
            return expanded, mu, L
    return family, np.zeros(k), np.eye(k)


def expand(
    sequences: PackedSequences | Reweighted, family: Family, posterior: TaskPosterior | Kept
) -> tuple:
    """The family and the posteriors after the expansion, or before it where that is better."""
    if family.loadings.shape[1] == 0:
        return family, posterior
    (total,) = sum_by_chunk(_moments, sequences, (posterior,))
    expanded, mu, L = expanded_family(family, total)
    if expanded is family:
        return family, posterior
    return expanded, alike(map_by_chunk(_move, sequences, (posterior,), (mu, L)), posterior)


def _moments(sequences, posterior) -> tuple:
    return (moments(posterior, sequence_weights(sequences)),)


def _move(sequences, posterior, shift, factor) -> TaskPosterior:
    return move(posterior, shift, factor)
