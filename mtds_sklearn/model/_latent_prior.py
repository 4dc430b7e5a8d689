"""The distribution of z over the family: normal while learning, better fitting afterwards.

z = rotation @ r with independent coordinates. A coordinate of r is an increasing function of a
standard normal number v, its quantile at the probability Phi(v), tabulated at `NODES` and linear
between them. So every distribution of a coordinate has one form, draws are a look-up, and

    log p(r) = log N(v(r); 0, 1) - log dr/dv.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import frozen

# Beyond so many standard deviations the prior has no mass; nodes of a table up to there.
FARTHEST, N_NODES = 8.0, 1025
NODES = frozen(np.linspace(-FARTHEST, FARTHEST, N_NODES))
SPACING = 2.0 * FARTHEST / (N_NODES - 1)


class LatentPrior(NamedTuple):
    """p(z).

    Attributes
    ----------
    rotation : ndarray of shape (latent_dim, latent_dim)
        Orthogonal; r = z @ rotation.
    quantiles : ndarray of shape (latent_dim, N_NODES)
        Strictly increasing values of each coordinate of r at the nodes of v.
    """

    rotation: np.ndarray
    quantiles: np.ndarray


def standard_prior(latent_dim: int) -> LatentPrior:
    """N(0, I)."""
    return LatentPrior(np.eye(latent_dim), np.tile(NODES, (latent_dim, 1)))


def bent_coordinates(prior: LatentPrior) -> np.ndarray:
    """Which coordinates of r are not standard normal, bool (latent_dim,)."""
    return np.any(prior.quantiles != NODES, axis=1)


def log_normal_density(r: np.ndarray) -> np.ndarray:
    """log N(r; 0, 1), elementwise."""
    return -0.5 * (r**2 + np.log(2.0 * np.pi))


def log_prior_density(prior: LatentPrior, z: np.ndarray) -> np.ndarray:
    """log p(z) (...,) of latents z (..., latent_dim)."""
    r = z @ prior.rotation
    total = np.zeros(r.shape[:-1])
    for value, table, bent in zip(
        np.moveaxis(r, -1, 0), prior.quantiles, bent_coordinates(prior), strict=True
    ):
        if not bent:
            total += log_normal_density(value)
            continue
        node = np.clip(np.searchsorted(table, value) - 1, 0, N_NODES - 2)
        slope = (table[node + 1] - table[node]) / SPACING
        v = NODES[node] + (value - table[node]) / slope  # beyond the table on the last line
        total += log_normal_density(v) - np.log(slope)
    return total


def latents_from_normal(prior: LatentPrior, normal: np.ndarray) -> np.ndarray:
    """Latents z (..., latent_dim) of standard normal numbers: draws of p(z)."""
    r = np.array(normal, dtype=np.float64)
    for d in np.flatnonzero(bent_coordinates(prior)):
        r[..., d] = look_up(prior.quantiles[d], normal[..., d])
    return r @ prior.rotation.T


def place(v: np.ndarray) -> tuple:
    """The node of a table below v, and how far v is on the way to the next."""
    scaled = (np.clip(v, -FARTHEST, FARTHEST) + FARTHEST) / SPACING
    node = np.minimum(scaled.astype(np.int64), N_NODES - 2)
    return node, scaled - node


def look_up(table: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values (...) of a table (N_NODES,) at normal numbers v (...)."""
    node, share = place(v)
    return (1.0 - share) * table[node] + share * table[node + 1]
