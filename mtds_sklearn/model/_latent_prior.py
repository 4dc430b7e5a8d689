"""The distribution of z over the family: normal while learning, better fitting afterwards.

z = rotation @ r with independent coordinates. A coordinate is a two-piece generalised normal
(Fernandez & Steel 1998; Subbotin 1923), mixed with a little of the standard normal, so that no new
sequence is impossible:

    p(r) = (1 - FLOOR) exp(-u^b) / ((s1 + s2) Gamma(1 + 1/b)) + FLOOR N(r; 0, 1),
    u = (location - r) / s1 left of the location, (r - location) / s2 right of it,
    s1, s2 = sqrt(2) exp(log scales),  b = 2 exp(log power).

It is N(0, 1) when all four parameters are zero; unequal scales skew it, and a large power makes it
uniform.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv, gammaln, ndtr, ndtri

FLOOR = 0.05


class LatentPrior(NamedTuple):
    """p(z).

    Attributes
    ----------
    rotation : ndarray of shape (latent_dim, latent_dim)
        Orthogonal; r = z @ rotation.
    shape : ndarray of shape (latent_dim, 4)
        Location, log left scale, log right scale and log power of each coordinate of r.
    """

    rotation: np.ndarray
    shape: np.ndarray


def standard_prior(latent_dim: int) -> LatentPrior:
    """N(0, I)."""
    return LatentPrior(np.eye(latent_dim), np.zeros((latent_dim, 4)))


def log_normal_density(r: np.ndarray) -> np.ndarray:
    """log N(r; 0, 1), elementwise."""
    return -0.5 * (r**2 + np.log(2.0 * np.pi))


def coordinate_log_density(r: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Log density of coordinates r (..., latent_dim), each under its own row of `shape`."""
    location, left, right, power = _parameters(shape)
    u = np.where(r < location, (location - r) / left, (r - location) / right)
    # Far out the power overflows; there only the floor is left.
    with np.errstate(over="ignore"):
        piece = -(u**power) - np.log(left + right) - gammaln(1.0 + 1.0 / power)
    return np.logaddexp(np.log1p(-FLOOR) + piece, np.log(FLOOR) + log_normal_density(r))


def _parameters(shape: np.ndarray) -> tuple:
    location, log_left, log_right, log_power = np.moveaxis(shape, -1, 0)
    root = np.sqrt(2.0)
    return location, root * np.exp(log_left), root * np.exp(log_right), 2.0 * np.exp(log_power)


def log_prior_density(prior: LatentPrior, z: np.ndarray) -> np.ndarray:
    """log p(z) (...,) of latents z (..., latent_dim)."""
    return np.sum(coordinate_log_density(z @ prior.rotation, prior.shape), axis=-1)


def latents_from_normal(prior: LatentPrior, normal: np.ndarray) -> np.ndarray:
    """Latents z (..., latent_dim) of standard normal numbers: draws of p(z).

    Each number is turned into a uniform one, whose first FLOOR belongs to the floor and whose rest
    is the distribution function of the two pieces.
    """
    location, left, right, power = _parameters(prior.shape)
    uniform = ndtr(normal)
    rest = np.clip((uniform - FLOOR) / (1.0 - FLOOR), 1e-12, 1.0 - 1e-12)
    share = left / (left + right)
    is_left = rest < share
    beyond = np.where(is_left, 1.0 - rest / share, (rest - share) / (1.0 - share))
    u = gammaincinv(1.0 / power, np.clip(beyond, 0.0, 1.0 - 1e-12)) ** (1.0 / power)
    piece = np.where(is_left, location - left * u, location + right * u)
    floor = ndtri(np.clip(uniform / FLOOR, 1e-12, 1.0 - 1e-12))
    return np.where(uniform < FLOOR, floor, piece) @ prior.rotation.T
