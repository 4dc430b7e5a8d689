"""Moments of a function of an output whose forecast is a mixture of Gaussians."""

from collections.abc import Callable

import numpy as np

# A function of arrays (n_rows, n_outputs) or (n_rows, n_outputs, n), elementwise within an output.
Image = Callable[[np.ndarray], np.ndarray]

# E g(N(m, s^2)) is the sum of share g(m + node s), exactly for polynomials g of degree 31. For exp
# at s = 2 (a factor of 7 either way) the mean is off by 1e-13 of itself, the deviation by 1e-5.
_nodes, _shares = np.polynomial.hermite_e.hermegauss(16)
_shares /= _shares.sum()


def image_moments(
    yhat: np.ndarray, weights: np.ndarray, variance: np.ndarray, image: Image
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of image(y), by a Gauss-Hermite rule within each particle.

    Parameters
    ----------
    yhat : ndarray of shape (n_rows, n_outputs, n_particles)
    weights : ndarray of shape (n_rows, n_particles) or (1, n_particles)
        Each row sums to 1.
    variance : ndarray that broadcasts to the shape of yhat
        Of y around yhat.
    image : Image

    Returns
    -------
    mean, std : ndarray of shape (n_rows, n_outputs)
        In the units of the image.
    """
    columns, std = weights[:, :, None], np.sqrt(variance)
    # Squares are summed around a value near the mean, so that a small spread is not lost in them.
    centre = image((yhat @ columns)[..., 0])
    first, second = np.zeros_like(centre), np.zeros_like(centre)
    for node, share in zip(_nodes, _shares, strict=True):
        excess = image(yhat + node * std) - centre[..., None]
        first += share * (excess @ columns)[..., 0]
        second += share * (excess**2 @ columns)[..., 0]
    mean, spread = centre + first, np.sqrt(np.maximum(second - first**2, 0.0))
    # Beside a large constant the spread of its noise may be less than numbers can tell.
    return mean, np.maximum(spread, np.spacing(np.abs(mean)))
