"""The map from a sequence's latent z to its system: theta = W z + b, z ~ p(z).

As in factor analysis entries may have specific variances, theta = W z + b + e with independent
e_j ~ N(0, psi_j). They stand in W as columns of their own, each with one entry, sqrt(psi_j), whose
latents are N(0, 1) and independent of the others: (z, e / sqrt(psi)) is what is called z where
nothing else is said.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._latent_prior import LatentPrior, first_of, standard_prior
from mtds_sklearn.model._noise import Growth


class Family(NamedTuple):
    """Shared parameters phi of a family of sequences.

    Attributes
    ----------
    chart : Chart
        What theta means.
    loadings : ndarray of shape (n_theta, latent_dim)
        W, the columns of specific variances last; rows of entries that do not vary are zero.
    bias : ndarray of shape (n_theta,)
        b, the theta of the family's mean.
    noise_std : ndarray of shape (n_outputs,)
        Standard deviation of the observation noise.
    precision : ndarray of shape (n_theta,)
        Relevance precision of each row of W (large: the entry does not vary); inf where it may not.
    prior : LatentPrior or None
        p(z), fitted after learning; None is N(0, I).
    noise_dof : float
        Degrees of freedom of the noise level of a sequence; inf: all sequences have the same.
    growth : Growth or None
        How the noise grows with the outputs; None: it does not.
    specific : tuple of int
        Entries of theta with specific variances, in the order of their columns.
    """

    chart: Chart
    loadings: np.ndarray
    bias: np.ndarray
    noise_std: np.ndarray
    precision: np.ndarray
    prior: LatentPrior | None = None
    noise_dof: float = np.inf
    growth: Growth | None = None
    specific: tuple = ()


def n_shared(family: Family) -> int:
    """Number of latents without those of specific variances."""
    return family.loadings.shape[1] - len(family.specific)


def learned_columns(family: Family) -> np.ndarray:
    """Which entries of W may be learned as far as its structure goes, bool (n_theta, latent_dim).

    The column of a specific variance has one.
    """
    free = np.ones(family.loadings.shape, dtype=bool)
    if family.specific:
        k = n_shared(family)
        free[:, k:] = False
        free[family.specific, k + np.arange(len(family.specific))] = True
    return free


def specific_variances(family: Family) -> np.ndarray:
    """psi (n_theta,), zero where theta is W z + b."""
    psi = np.zeros(len(family.bias))
    columns = n_shared(family) + np.arange(len(family.specific))
    psi[list(family.specific)] = family.loadings[list(family.specific), columns] ** 2
    return psi


def without_specific(family: Family) -> Family:
    """The family of W z + b, with the distribution of z alone."""
    if not family.specific:
        return family
    k = n_shared(family)
    prior = None if family.prior is None else first_of(family.prior, k)
    return family._replace(
        loadings=np.ascontiguousarray(family.loadings[:, :k]), prior=prior, specific=()
    )


def latent_prior(family: Family) -> LatentPrior:
    """p(z): N(0, I) while the family is being learned."""
    if family.prior is None:
        return standard_prior(family.loadings.shape[1])
    return family.prior


def natural_map(family: Family) -> tuple:
    """Loadings (n_natural, latent_dim) and bias (n_natural,) of psi = loadings z + bias."""
    chart = family.chart
    return chart.basis @ family.loadings, chart.const + chart.basis @ family.bias


def log_levels(family: Family, z: np.ndarray) -> np.ndarray:
    """Log noise levels (...) of latents z (..., latent_dim): the last natural entry."""
    row = family.chart.basis[-1]
    return z @ (row @ family.loadings) + family.chart.const[-1] + row @ family.bias


def mean_noise(family: Family) -> np.ndarray:
    """Noise (n_outputs,) at z = 0."""
    level = log_levels(family, np.zeros(family.loadings.shape[1]))
    return family.noise_std * np.exp(level)


def relative_levels(family: Family, z: np.ndarray) -> np.ndarray:
    """Noise levels (...) at latents z (..., latent_dim), as multiples of that at z = 0."""
    return np.exp(log_levels(family, z) - log_levels(family, np.zeros_like(z)))


def natural_parameters(family: Family, z: np.ndarray) -> np.ndarray:
    """psi (..., n_natural) of latents z (..., latent_dim)."""
    loadings, bias = natural_map(family)
    return z @ loadings.T + bias
