"""Gaussian posterior q(z_i) = N(m_i, S_i) of every training sequence, and expectations over it."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular


class TaskPosterior(NamedTuple):
    """Posterior of the latents of N sequences.

    Attributes
    ----------
    mean : ndarray of shape (n_sequences, latent_dim)
    factor : ndarray of shape (n_sequences, latent_dim, latent_dim)
        Lower Cholesky factor of each covariance.
    """

    mean: np.ndarray
    factor: np.ndarray


def prior_posterior(n_sequences: int, latent_dim: int) -> TaskPosterior:
    """q = p = N(0, I) for every sequence."""
    return TaskPosterior(
        np.zeros((n_sequences, latent_dim)), np.tile(np.eye(latent_dim), (n_sequences, 1, 1))
    )


def beside_unknown(posterior: TaskPosterior, m: int) -> TaskPosterior:
    """Posteriors of z and, after it, of m latents of which nothing is known."""
    n, k = posterior.mean.shape
    factor = np.tile(np.eye(k + m), (n, 1, 1))
    factor[:, :k, :k] = posterior.factor
    return TaskPosterior(np.hstack([posterior.mean, np.zeros((n, m))]), factor)


def cubature_points(posterior: TaskPosterior) -> np.ndarray:
    """Points (n_sequences, n_points, latent_dim) of equal weight: m +- sqrt(k) L e_j.

    The spherical-radial rule of degree 3 (Arasaratnam & Haykin 2009): exact for means of cubics.
    With latent_dim 0 there is one point, the empty vector.
    """
    n, k = posterior.mean.shape
    if k == 0:
        return np.zeros((n, 1, 0))
    steps = np.sqrt(k) * np.swapaxes(posterior.factor, 1, 2)
    centre = posterior.mean[:, None, :]
    return np.concatenate([centre + steps, centre - steps], axis=1)


def divergence(posterior: TaskPosterior) -> np.ndarray:
    """KL(q_i || N(0, I)) of every sequence, in nats."""
    k = posterior.mean.shape[1]
    log_det = 2.0 * np.sum(np.log(np.einsum("ijj->ij", posterior.factor)), axis=1)
    trace = np.sum(posterior.factor**2, axis=(1, 2))
    return 0.5 * (trace + np.sum(posterior.mean**2, axis=1) - k - log_det)


def moments(posterior: TaskPosterior, weights: np.ndarray) -> np.ndarray:
    """Sum of w_i E[(z, 1) (z, 1)'], (k + 1, k + 1); its last entry is the sum of the weights."""
    k = posterior.mean.shape[1]
    z1 = np.column_stack([posterior.mean, np.ones(len(weights))])
    out = (weights * z1.T) @ z1
    out[:k, :k] += np.einsum("n,nij,nkj->ik", weights, posterior.factor, posterior.factor)
    return out


def whitening(total: np.ndarray, n_own: int = 0) -> tuple:
    """Mean mu (k,) and Cholesky factor L (k, k) of the aggregate with such `moments`.

    Also by how much the sum of the divergences from N(0, I) falls where z becomes L^-1 (z - mu).
    The last `n_own` coordinates lose what the others tell of them, and are scaled each by itself:
    what they have in common beyond that is left to them.
    """
    k = len(total) - 1
    n = total[-1, -1]
    mu, spread = total[:k, k] / n, total[:k, :k] / n
    L, own = np.linalg.cholesky(spread - np.outer(mu, mu)), slice(k - n_own, k)
    if n_own:
        L[own, own] = np.diag(np.linalg.norm(L[own, own], axis=1))
    return mu, L, n * (0.5 * (np.trace(spread) - k) - np.sum(np.log(np.diag(L))))


def move(posterior: TaskPosterior, shift: np.ndarray, factor: np.ndarray) -> TaskPosterior:
    """Posteriors of factor^-1 (z - shift), factor lower triangular (k, k)."""
    if len(shift) == 0:
        return posterior
    mean = solve_triangular(factor, (posterior.mean - shift).T, lower=True).T
    shape = posterior.factor.shape
    return TaskPosterior(mean, np.linalg.solve(np.broadcast_to(factor, shape), posterior.factor))


def select(posterior: TaskPosterior, other: TaskPosterior, take_other: np.ndarray) -> TaskPosterior:
    """`other` where the mask says so, `posterior` elsewhere."""
    return TaskPosterior(
        np.where(take_other[:, None], other.mean, posterior.mean),
        np.where(take_other[:, None, None], other.factor, posterior.factor),
    )
