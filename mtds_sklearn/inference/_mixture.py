"""Proposals: mixtures of Student t components and the prior, one mixture per sequence.

A proposal has J adapted Student t components, whose tails are heavier than any Gaussian's, and one
more: the prior itself, which keeps the importance weights bounded. Points stand side by
side, (n_sequences, k, n_points).
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from mtds_sklearn.kernels import _proposals

DEGREES_OF_FREEDOM = 8
# Pseudo-observations by which a component's first mean counts in a fit, and, for every dimension,
# its first covariance.
MEAN_STRENGTH, COV_STRENGTH = 1.0, 2.0
# Pseudo-observations of every component that has any weight.
SHARE_STRENGTH = 0.1
EM_STEPS = 3
# Bisection of the logarithm of a temperature.
LOG_LEAST_POWER, TEMPERING_STEPS = -20.0, 10
# Share of a matrix' size, all directions together, that is added where rounding could be more.
ROUNDING = 1e-12


class Mixture(NamedTuple):
    """Proposals of N sequences.

    Attributes
    ----------
    weights : ndarray of shape (n_sequences, 1 + n_components)
        The first is the prior's.
    means : ndarray of shape (n_sequences, n_components, k)
    factors : ndarray of shape (n_sequences, n_components, k, k)
        Lower Cholesky factors of the scale matrices.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray


def select_mixture(mixture: Mixture, index) -> Mixture:
    """Proposals of some of the sequences."""
    return Mixture(*(part[index] for part in mixture))


def make_mixture(prior_weight, shares: np.ndarray, means: np.ndarray, covs: np.ndarray) -> Mixture:
    """Components with shares (n_sequences, n_components), and the prior with its own weight."""
    prior = np.broadcast_to(prior_weight, len(shares))[:, None]
    shares = shares / shares.sum(axis=1, keepdims=True)
    weights = np.concatenate([prior, (1.0 - prior) * shares], axis=1)
    return Mixture(weights, means, _factors(0.5 * (covs + np.swapaxes(covs, -1, -2))))


def _factors(covs: np.ndarray) -> np.ndarray:
    """Lower Cholesky factors; where a direction drowns in rounding beside others, a wider one."""
    try:
        return np.linalg.cholesky(covs)
    except np.linalg.LinAlgError:
        return np.linalg.cholesky(beyond_rounding(covs))


def beyond_rounding(matrices: np.ndarray) -> np.ndarray:
    """Symmetric matrices (..., k, k), so much larger in all directions that rounding is less."""
    size = np.trace(matrices, axis1=-2, axis2=-1)[..., None, None]
    return matrices + ROUNDING * size * np.eye(matrices.shape[-1])


def blend(first: Mixture, second: Mixture, share: np.ndarray) -> Mixture:
    """The components of two mixtures, the first's with a share (n_sequences,) of the weight."""
    share = share[:, None]
    weights = np.concatenate([share * first.weights, (1.0 - share) * second.weights[:, 1:]], axis=1)
    weights[:, 0] += (1.0 - share[:, 0]) * second.weights[:, 0]
    means = np.concatenate([first.means, second.means], axis=1)
    return Mixture(weights, means, np.concatenate([first.factors, second.factors], axis=1))


def draw(
    mixture: Mixture,
    component: np.ndarray,
    normal: np.ndarray,
    scale: np.ndarray,
    from_prior: np.ndarray | None = None,
) -> np.ndarray:
    """Points of every mixture from the same numbers.

    Parameters
    ----------
    component : ndarray of shape (n_points,)
        Uniform and rising; chooses the component.
    normal : ndarray of shape (k, n_points)
        Standard normal.
    scale : ndarray of shape (n_points,)
        What makes a normal number Student t.
    from_prior : ndarray of shape (k, n_points), optional
        Draws of the prior; None: the normal numbers.

    Returns
    -------
    v : ndarray of shape (n_sequences, k, n_points)
    """
    v = np.empty((len(mixture.weights), *normal.shape))
    v[:] = normal if from_prior is None else from_prior
    edges = np.cumsum(mixture.weights, axis=1)
    edges /= edges[:, -1:]
    ends = np.searchsorted(component, edges, side="right")
    ends[:, -1] = len(component)
    _proposals.draw_components(ends, mixture.means, mixture.factors, normal * scale, v)
    return v


def density(mixture: Mixture, v: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Densities (n_sequences, n_points) of mixtures at their points; `prior` is p(v)."""
    k, nu = v.shape[1], DEGREES_OF_FREEDOM
    constant = gammaln(0.5 * (nu + k)) - gammaln(0.5 * nu) - 0.5 * k * np.log(nu * np.pi)
    out = np.empty((len(v), v.shape[2]))
    _proposals.mixture_densities(
        np.ascontiguousarray(v), *mixture, np.ascontiguousarray(prior),
        (nu, float(np.exp(constant))), out,
    )  # fmt: skip
    return out


def fit_mixture(start: Mixture, v: np.ndarray, weights: np.ndarray) -> Mixture:
    """Mixtures fitted to weighted points by EM with a conjugate prior around the start.

    A component's mean and covariance at the start count like a few observations, so that a
    component held by few points keeps a proper covariance (Cappe et al. 2008, with a
    normal-inverse-Wishart prior).

    Parameters
    ----------
    start : Mixture
        Its prior's weight is kept, and so are weights of 0.
    v : ndarray of shape (n_sequences, k, n_points)
    weights : ndarray of shape (n_sequences, n_points)
        Each row sums to 1.
    """
    size = (1.0 / np.sum(weights**2, axis=1))[:, None]
    there = start.weights[:, 1:] > 0.0
    # Around their mean: a posterior far out would lose its spread among squares of where it is.
    origin = v @ weights[:, :, None]
    k, v, weights = v.shape[1], np.ascontiguousarray(v - origin), np.ascontiguousarray(weights)
    origin = np.swapaxes(origin, 1, 2)
    start = start._replace(means=start.means - origin)
    shares, first_covs = start.weights[:, 1:], start.factors @ np.swapaxes(start.factors, 2, 3)
    mixture, strength = start, COV_STRENGTH * k
    sums = np.empty((*shares.shape, 1 + k + k * (k + 1) // 2))
    for _ in range(EM_STEPS):
        parts = (np.ascontiguousarray(shares), mixture.means, mixture.factors)
        _proposals.component_sums(v, weights, *parts, DEGREES_OF_FREEDOM, sums)
        mass, centre, scatter = _central_moments(sums, k)
        count = size * mass
        gap = centre - start.means
        pull = MEAN_STRENGTH / (count + MEAN_STRENGTH)
        covs = strength * first_covs + (count * pull)[..., None, None] * _outer(gap)
        covs = (size[..., None, None] * scatter + covs) / (count + strength)[..., None, None]
        shares = (count + SHARE_STRENGTH) * there
        mixture = make_mixture(start.weights[:, 0], shares, centre - pull[..., None] * gap, covs)
    return mixture._replace(means=mixture.means + origin)


def _central_moments(sums: np.ndarray, k: int) -> tuple:
    """Mass, mean and scatter about the mean of every component from its sums of monomials."""
    mass = sums[..., 0]
    centre = sums[..., 1 : k + 1] / np.maximum(mass, 1e-300)[..., None]
    rows, columns = np.triu_indices(k)
    second = np.empty((*mass.shape, k, k))
    second[..., rows, columns] = second[..., columns, rows] = sums[..., k + 1 :]
    return mass, centre, second - mass[..., None, None] * _outer(centre)


def _outer(x: np.ndarray) -> np.ndarray:
    return x[..., :, None] * x[..., None, :]


def systematic(weights: np.ndarray, n: int) -> np.ndarray:
    """Indices (n_sequences, n) of systematic resampling with the offset 1/2."""
    return points_at(weights, np.tile((np.arange(n) + 0.5) / n, (len(weights), 1)))


def points_at(weights: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Indices (n_sequences, n) of the points with which cumulative weights reach the shares."""
    # One search for all rows: each row's cumulative weights are moved to an interval of their own.
    rows, n_points = np.arange(len(weights))[:, None], weights.shape[1]
    edges = np.cumsum(weights, axis=1)
    edges = rows + edges / edges[:, -1:]
    picks = np.searchsorted(edges.ravel(), (rows + shares).ravel())
    return np.clip(picks.reshape(shares.shape) - rows * n_points, 0, n_points - 1)


def effective_sample_size(log_weights: np.ndarray) -> np.ndarray:
    """(sum w)^2 / sum w^2 over the last axis."""
    weights = np.exp(log_weights - log_weights.max(axis=-1, keepdims=True))
    return weights.sum(axis=-1) ** 2 / np.sum(weights**2, axis=-1)


def tempered(log_weights: np.ndarray, least: float) -> np.ndarray:
    """Normalised weights w^beta, beta <= 1 the largest with `least` effective draws."""
    log_weights = log_weights - log_weights.max(axis=1, keepdims=True)
    powers = np.empty(len(log_weights))
    _proposals.tempering_powers(log_weights, least, LOG_LEAST_POWER, TEMPERING_STEPS, powers)
    weights = np.exp(powers[:, None] * log_weights)
    return weights / weights.sum(axis=1, keepdims=True)
