"""Coordinates v of z in which the prior is standard normal; inference happens in them.

z = rotation @ r, and each coordinate of r is the quantile of its prior at the probability Phi(v):
a prior with thin tails or edges does not show in the posterior as a cliff. The quantiles are
tabulated; since v ~ N(0, I) by definition, the table rounds the prior and nothing else.
Coordinates that move no parameter come last: there the posterior is the prior, and nothing has to
be inferred.

Points stand side by side, (n_sequences, latent_dim, n_points): neighbours in memory are the same
coordinate of different points.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.special import ndtri

from mtds_sklearn._sequences import frozen
from mtds_sklearn.model._latent_prior import coordinate_log_density
from mtds_sklearn.model._task_map import Family, latent_prior, natural_map

# A coordinate moves nothing if its loadings are below this share of the largest.
NEGLIGIBLE = 1e-8
# Beyond so many standard deviations the prior has no mass; nodes of a table up to there.
FARTHEST, N_NODES = 8.0, 4097
# Nodes of the integral of a density.
N_FINE = 40_001


class Coordinates(NamedTuple):
    """How v makes z.

    Attributes
    ----------
    rotation : ndarray of shape (latent_dim, latent_dim)
        Orthogonal; z = rotation @ r.
    bent : tuple of (int, ndarray of shape (N_NODES,))
        Each coordinate of r that is not normal under the prior, and its values at the nodes of v.
    n_moving : int
        The first so many coordinates move parameters; at least 1.
    """

    rotation: np.ndarray
    bent: tuple
    n_moving: int


def coordinates_of(family: Family) -> Coordinates:
    """Coordinates of a family, those that move parameters first."""
    prior = latent_prior(family)
    bent = np.any(prior.shape != 0.0, axis=1)
    rotation, loadings = prior.rotation, natural_map(family)[0]
    if not bent.any():
        # A normal prior looks the same from all sides: turn to where the loadings' null space is.
        rotation = np.linalg.svd(loadings)[2].T
    size = np.linalg.norm(loadings @ rotation, axis=0)
    still = size <= NEGLIGIBLE * size.max(initial=0.0)
    order = np.argsort(still, kind="stable")
    tables = tuple((i, _table(tuple(prior.shape[d]))) for i, d in enumerate(order) if bent[d])
    return Coordinates(rotation[:, order], tables, max(1, int(np.sum(~still))))


@lru_cache(maxsize=256)
def _table(shape: tuple) -> np.ndarray:
    """Quantiles of a coordinate of r at the probabilities Phi(v) of the nodes of v."""
    r = np.linspace(-2.0 * FARTHEST, 2.0 * FARTHEST, N_FINE)
    density = np.exp(coordinate_log_density(r[:, None], np.array([shape]))[:, 0])
    below = cumulative_trapezoid(density, r, initial=0.0)
    above = cumulative_trapezoid(density[::-1], r, initial=0.0)[::-1]
    total = below[-1]
    # Each tail by its own sum: the other's rounding would drown it.
    v = np.where(below < above, ndtri(below / total), -ndtri(above / total))
    inside = np.flatnonzero(np.abs(v) < FARTHEST + 1.0)
    nodes = np.linspace(-FARTHEST, FARTHEST, N_NODES)
    return frozen(np.interp(nodes, v[inside], r[inside]))


def latents(coordinates: Coordinates, v: np.ndarray) -> np.ndarray:
    """z (n_sequences, latent_dim, n_points) of v (n_sequences, n_coordinates, n_points).

    The last coordinates may be left out, and are zero then.
    """
    bent = [(i, table) for i, table in coordinates.bent if i < v.shape[1]]
    r = v.copy() if bent else v
    for i, table in bent:
        node, share = _place(v[:, i])
        r[:, i] = (1.0 - share) * table[node] + share * table[node + 1]
    return coordinates.rotation[:, : v.shape[1]] @ r


def _place(v: np.ndarray) -> tuple:
    """The node of a table below v, and how far v is on the way to the next."""
    place = (np.clip(v, -FARTHEST, FARTHEST) + FARTHEST) * ((N_NODES - 1) / (2.0 * FARTHEST))
    node = np.minimum(place.astype(np.int64), N_NODES - 2)
    return node, place - node


def normal_scores(coordinates: Coordinates, z: np.ndarray) -> np.ndarray:
    """Inverse of `latents`, no farther from zero than the prior has mass."""
    v = coordinates.rotation.T @ z
    nodes = np.linspace(-FARTHEST, FARTHEST, N_NODES)
    for i, table in coordinates.bent:
        v[:, i] = np.interp(v[:, i], table, nodes)
    return np.clip(v, -FARTHEST, FARTHEST)


def slopes(coordinates: Coordinates, v: np.ndarray) -> np.ndarray:
    """dr / dv, coordinate by coordinate, shape of v."""
    out, step = np.ones_like(v), 2.0 * FARTHEST / (N_NODES - 1)
    for i, table in coordinates.bent:
        if i < v.shape[1]:
            node, _ = _place(v[:, i])
            out[:, i] = (table[node + 1] - table[node]) / step
    return out
