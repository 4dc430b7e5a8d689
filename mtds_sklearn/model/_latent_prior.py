"""The distribution of z over the family: normal while learning, better fitting afterwards.

z = axes @ r, and a coordinate of r is an increasing function of a score v, tabulated at `NODES`
and linear between them. Scores are standard normal, so that coordinates are independent and the
table of one holds its quantiles at the probabilities Phi(v); or, where a family has clusters or its
coordinates depend on each other, a mixture of N(0, I) and other Gaussians (`Components`). So every
distribution has one form, draws are a look-up, and

    log p(z) = log p(v) - sum_d log dr_d/dv_d - log |det axes|.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from mtds_sklearn._sequences import frozen

# Beyond so many standard deviations the prior has no mass; nodes of a table up to there.
FARTHEST, N_NODES = 8.0, 1025
NODES = frozen(np.linspace(-FARTHEST, FARTHEST, N_NODES))
SPACING = 2.0 * FARTHEST / (N_NODES - 1)


class Components(NamedTuple):
    """Mixture of N(0, I) and J Gaussians: a distribution of scores v.

    Attributes
    ----------
    weights : ndarray of shape (1 + J,)
        The first is that of N(0, I).
    means : ndarray of shape (J, latent_dim)
    factors : ndarray of shape (J, latent_dim, latent_dim)
        Lower Cholesky factors of the covariances.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray


class LatentPrior(NamedTuple):
    """p(z).

    Attributes
    ----------
    axes : ndarray of shape (latent_dim, latent_dim)
        Invertible; its columns are the directions of z in which coordinates of r move it.
    quantiles : ndarray of shape (latent_dim, N_NODES)
        Strictly increasing values of each coordinate of r at the nodes of v.
    components : Components or None
        p(v); None is N(0, I).
    """

    axes: np.ndarray
    quantiles: np.ndarray
    components: Components | None = None


def no_components(latent_dim: int) -> Components:
    """N(0, I) as a mixture."""
    return Components(np.ones(1), np.zeros((0, latent_dim)), np.zeros((0, latent_dim, latent_dim)))


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
    v, log_slopes = scores_of(prior, z)
    return log_score_density(prior.components, v[..., None])[..., 0] - log_slopes


def scores_of(prior: LatentPrior, z: np.ndarray) -> tuple:
    """Scores v (..., latent_dim) of latents z, and log |det dz/dv| (...,)."""
    v = z @ np.linalg.inv(prior.axes).T
    log_slopes = np.full(v.shape[:-1], np.linalg.slogdet(prior.axes)[1])
    for d in np.flatnonzero(bent_coordinates(prior)):
        table, r = prior.quantiles[d], v[..., d]
        node = np.clip(np.searchsorted(table, r) - 1, 0, N_NODES - 2)
        slope = (table[node + 1] - table[node]) / SPACING
        v[..., d] = NODES[node] + (r - table[node]) / slope  # beyond the table on the last line
        log_slopes += np.log(slope)
    return v, log_slopes


def table_slopes(prior: LatentPrior, v: np.ndarray) -> np.ndarray:
    """dr/dv of every coordinate at scores v (..., latent_dim), shape of v."""
    out = np.ones_like(v)
    for d in np.flatnonzero(bent_coordinates(prior)):
        node, _ = place(v[..., d])
        out[..., d] = (prior.quantiles[d, node + 1] - prior.quantiles[d, node]) / SPACING
    return out


def component_log_densities(components: Components, v: np.ndarray) -> np.ndarray:
    """log (weight times density) (..., 1 + J, n_points) of N(0, I), the first, and each component.

    Scores v are (..., latent_dim, n_points).
    """
    out = np.empty((*v.shape[:-2], len(components.weights), v.shape[-1]))
    out[..., 0, :] = -0.5 * np.einsum("...ks,...ks->...s", v, v)
    for j, (mean, factor) in enumerate(zip(components.means, components.factors, strict=True), 1):
        inverse = solve_triangular(factor, np.eye(len(factor)), lower=True)
        whitened = inverse @ (v - mean[:, None])
        out[..., j, :] = -0.5 * np.einsum("...ks,...ks->...s", whitened, whitened)
        out[..., j, :] -= np.sum(np.log(np.diag(factor)))
    constant = np.log(components.weights) - 0.5 * v.shape[-2] * np.log(2.0 * np.pi)
    return out + constant[:, None]


def log_score_density(components: Components | None, v: np.ndarray) -> np.ndarray:
    """log p(v) (..., n_points) of scores v (..., latent_dim, n_points)."""
    if components is None:
        return -0.5 * (np.einsum("...ks,...ks->...s", v, v) + v.shape[-2] * np.log(2.0 * np.pi))
    parts = component_log_densities(components, v)
    top = parts.max(axis=-2)
    return top + np.log(np.exp(parts - top[..., None, :]).sum(axis=-2))


def scores_from_normal(
    components: Components | None, normal: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """Scores v (..., latent_dim): draws of p(v).

    Parameters
    ----------
    normal : ndarray of shape (..., latent_dim)
        Standard normal.
    uniform : ndarray of shape (...,)
        Chooses the component.
    """
    v = np.array(normal, dtype=np.float64)
    if components is None:
        return v
    edges = np.cumsum(components.weights)
    which = np.searchsorted(edges[:-1], uniform * edges[-1], side="right")
    for j, (mean, factor) in enumerate(zip(components.means, components.factors, strict=True), 1):
        v[which == j] = mean + normal[which == j] @ factor.T
    return v


def latents_of(prior: LatentPrior, v: np.ndarray) -> np.ndarray:
    """Latents z (..., latent_dim) of scores v."""
    r = np.array(v, dtype=np.float64)
    for d in np.flatnonzero(bent_coordinates(prior)):
        r[..., d] = look_up(prior.quantiles[d], v[..., d])
    return r @ prior.axes.T


def latents_from_normal(prior: LatentPrior, normal: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Latents z (..., latent_dim): draws of p(z), from numbers as in `scores_from_normal`."""
    return latents_of(prior, scores_from_normal(prior.components, normal, uniform))


def place(v: np.ndarray) -> tuple:
    """The node of a table below v, and how far v is on the way to the next."""
    scaled = (np.clip(v, -FARTHEST, FARTHEST) + FARTHEST) / SPACING
    node = np.minimum(scaled.astype(np.int64), N_NODES - 2)
    return node, scaled - node


def look_up(table: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values (...) of a table (N_NODES,) at normal numbers v (...)."""
    node, share = place(v)
    return (1.0 - share) * table[node] + share * table[node + 1]


def beside_normal(prior: LatentPrior, n_more: int) -> LatentPrior:
    """The distribution of z and, after it, of `n_more` independent standard normal numbers."""
    if n_more == 0:
        return prior
    k, components = len(prior.axes), prior.components
    axes = np.eye(k + n_more)
    axes[:k, :k] = prior.axes
    quantiles = np.vstack([prior.quantiles, np.tile(NODES, (n_more, 1))])
    if components is not None:
        components = widened(components, k + n_more)
    return LatentPrior(axes, quantiles, components)


def first_of(prior: LatentPrior, k: int) -> LatentPrior:
    """The distribution of the first k coordinates of z, of which the others are independent."""
    components = prior.components
    if components is not None:
        components = Components(
            components.weights, components.means[:, :k], components.factors[:, :k, :k]
        )
    return LatentPrior(prior.axes[:k, :k], prior.quantiles[:k], components)


def widened(components: Components, latent_dim: int) -> Components:
    """The components with N(0, I) in the scores that come after theirs."""
    n, k = components.means.shape
    means, factors = np.zeros((n, latent_dim)), np.tile(np.eye(latent_dim), (n, 1, 1))
    means[:, :k], factors[:, :k, :k] = components.means, components.factors
    return Components(components.weights, means, factors)
