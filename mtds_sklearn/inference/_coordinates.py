"""Coordinates v of z in which the prior is standard normal; inference happens in them.

z = axes @ r, and each coordinate of r is the quantile of its prior at the probability Phi(v)
(`model._latent_prior`): a prior with thin tails or edges does not show in the posterior as a cliff.
Where the prior has clusters, it is a mixture of Gaussians in v, N(0, I) among them.
Coordinates that move no parameter come last: there the posterior is the prior, and nothing has to
be inferred.

Points stand side by side, (n_sequences, latent_dim, n_points): neighbours in memory are the same
coordinate of different points.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn.kernels import _points
from mtds_sklearn.model._latent_prior import (
    FARTHEST,
    NODES,
    SPACING,
    Components,
    bent_coordinates,
    place,
    scores_from_normal,
)
from mtds_sklearn.model._task_map import Family, latent_prior, natural_map

# A coordinate moves nothing if its loadings are below this share of the largest.
NEGLIGIBLE = 1e-8


class Way(NamedTuple):
    """From points to natural parameter vectors, as `kernels/_points.py` takes it.

    psi = loadings r + bias; r_i is v_i, or, where bent, the value of a table at v_i. There may be
    more coordinates than move parameters; these come first.

    Attributes
    ----------
    tables : ndarray of shape (latent_dim, N_NODES)
    bent : ndarray of bool, shape (latent_dim,)
    farthest : float
        Where the tables end, on both sides of zero.
    loadings : ndarray of shape (n_natural, n_moving)
    bias : ndarray of shape (n_natural,)
    """

    tables: np.ndarray
    bent: np.ndarray
    farthest: float
    loadings: np.ndarray
    bias: np.ndarray


def straight_way(loadings: np.ndarray, bias: np.ndarray) -> Way:
    """Nothing is bent."""
    k = loadings.shape[1]
    return Way(np.tile(NODES, (k, 1)), np.zeros(k, bool), FARTHEST, loadings, bias)


class Coordinates(NamedTuple):
    """How v makes z.

    Attributes
    ----------
    axes : ndarray of shape (latent_dim, latent_dim)
        Invertible; z = axes @ r.
    way : Way
        From v to r, and from there to natural parameter vectors. Coordinates that are normal under
        the prior are not bent.
    components : Components or None
        Prior of the coordinates that move parameters; None is N(0, I).
    """

    axes: np.ndarray
    way: Way
    components: Components | None = None

    @property
    def n_moving(self) -> int:
        """The first so many coordinates move parameters; at least 1."""
        return self.way.loadings.shape[1]


def coordinates_of(family: Family) -> Coordinates:
    """Coordinates of a family, those that move parameters first."""
    prior = latent_prior(family)
    bent = bent_coordinates(prior)
    axes, (loadings, bias) = prior.axes, natural_map(family)
    if not bent.any() and prior.components is None:
        # A normal prior looks the same from all sides: turn to where the loadings' null space is.
        axes = np.linalg.svd(loadings)[2].T
    order, n_moving = moving_first(loadings @ axes)
    axes, moving = axes[:, order], order[:n_moving]
    moved = np.ascontiguousarray(loadings @ axes[:, :n_moving])
    way = Way(prior.quantiles[order], bent[order], FARTHEST, moved, bias)
    return Coordinates(axes, way, _marginal(prior.components, moving))


def moving_first(loadings: np.ndarray) -> tuple:
    """Order of the columns (n_rows, k) with those last that are zero; and how many others."""
    size = np.linalg.norm(loadings, axis=0)
    still = size <= NEGLIGIBLE * size.max(initial=0.0)
    return np.argsort(still, kind="stable"), max(1, int(np.sum(~still)))


def _marginal(components: Components | None, chosen: np.ndarray) -> Components | None:
    """The mixture of some of the coordinates."""
    if components is None:
        return None
    rows = components.factors[:, chosen]
    factors = np.linalg.cholesky(rows @ np.swapaxes(rows, 1, 2))
    return Components(components.weights, components.means[:, chosen], factors)


def prior_points(
    coordinates: Coordinates, normal: np.ndarray, component: np.ndarray, share: float = 1.0
) -> np.ndarray:
    """Draws of the prior (n_moving, n_draws), from the numbers of a round (`Draws`).

    Where the prior is one component of a proposal, numbers below its share choose it; how far
    below, which component of the prior.
    """
    normal = normal[: coordinates.n_moving]
    if coordinates.components is None:
        return normal
    return scores_from_normal(coordinates.components, normal.T, component / share % 1.0).T


def latents(coordinates: Coordinates, v: np.ndarray) -> np.ndarray:
    """z (n_sequences, latent_dim, n_points) of v (n_sequences, n_coordinates, n_points).

    The last coordinates may be left out, and are zero then.
    """
    way = coordinates.way
    r = np.empty(v.shape)
    _points.bend(np.ascontiguousarray(v), (way.tables, way.bent, way.farthest), r)
    return coordinates.axes[:, : v.shape[1]] @ r


def normal_scores(coordinates: Coordinates, z: np.ndarray) -> np.ndarray:
    """Inverse of `latents`, no farther from zero than the prior has mass."""
    v = np.linalg.inv(coordinates.axes) @ z
    for i in np.flatnonzero(coordinates.way.bent):
        v[:, i] = np.interp(v[:, i], coordinates.way.tables[i], NODES)
    return np.clip(v, -FARTHEST, FARTHEST)


def bend(way: Way, v: np.ndarray) -> tuple:
    """r and dr / dv (n_sequences, k, n_points) of points v."""
    node, share = place(v)
    coordinate, bent = np.arange(v.shape[1])[:, None], way.bent[: v.shape[1], None]
    low = way.tables[coordinate, node]
    rise = way.tables[coordinate, node + 1] - low
    return np.where(bent, low + share * rise, v), np.where(bent, rise / SPACING, 1.0)
