"""The distribution of z over the family: normal while learning, better fitting afterwards.

z = rotation @ r, with independent coordinates r_d of sinh-arcsinh distribution (Jones & Pewsey 2009),

    r_d = location_d + exp(log_scale_d) sinh((arcsinh(n_d) + skew_d) exp(-log_tail_d)),   n_d ~ N(0, 1),

which is N(0, 1) when all four are zero, skewed when skew is not, and lighter in its tails than a normal, almost
uniform, when log_tail is positive.
"""

from typing import NamedTuple

import numpy as np


class LatentPrior(NamedTuple):
    """p(z).

    Attributes
    ----------
    rotation : ndarray of shape (latent_dim, latent_dim)
        Orthogonal; r = z @ rotation.
    shape : ndarray of shape (latent_dim, 4)
        Location, log scale, skew and log tail of each coordinate of r.
    """

    rotation: np.ndarray
    shape: np.ndarray


def standard_prior(latent_dim: int) -> LatentPrior:
    """N(0, I)."""
    return LatentPrior(np.eye(latent_dim), np.zeros((latent_dim, 4)))


def coordinate_log_density(r: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Log density of coordinates r (..., latent_dim), each under its own row of `shape`."""
    location, log_scale, skew, log_tail = np.moveaxis(shape, -1, 0)
    standard = (r - location) * np.exp(-log_scale)
    # Far out sinh overflows; there the density is zero for every purpose.
    argument = np.clip(np.exp(log_tail) * np.arcsinh(standard) - skew, -300.0, 300.0)
    normal = np.sinh(argument)
    return (
        log_tail
        - log_scale
        + np.log(np.cosh(argument))
        - 0.5 * (normal**2 + np.log1p(standard**2) + np.log(2.0 * np.pi))
    )


def log_prior_density(prior: LatentPrior, z: np.ndarray) -> np.ndarray:
    """log p(z) (...,) of latents z (..., latent_dim)."""
    return np.sum(coordinate_log_density(z @ prior.rotation, prior.shape), axis=-1)


def latents_from_normal(prior: LatentPrior, normal: np.ndarray) -> np.ndarray:
    """Latents z (..., latent_dim) of standard normal numbers: draws of p(z)."""
    location, log_scale, skew, log_tail = prior.shape.T
    stretched = np.sinh((np.arcsinh(normal) + skew) * np.exp(-log_tail))
    return (location + np.exp(log_scale) * stretched) @ prior.rotation.T
