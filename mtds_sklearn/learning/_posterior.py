"""Gaussian posterior q(z_i) = N(m_i, S_i) of every training sequence, and expectations over it."""

from typing import NamedTuple

import numpy as np


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


def select(posterior: TaskPosterior, other: TaskPosterior, take_other: np.ndarray) -> TaskPosterior:
    """`other` where the mask says so, `posterior` elsewhere."""
    return TaskPosterior(
        np.where(take_other[:, None], other.mean, posterior.mean),
        np.where(take_other[:, None, None], other.factor, posterior.factor),
    )
