"""Rows whose outputs are mixtures of Gaussians over particles: what a forecast says of them.

Moments, quantiles and log density are exact up to the particles. Rows of all sequences stand below
each other, and each knows the weights of its sequence.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from mtds_sklearn.inference._image import Image, image_moments
from mtds_sklearn.kernels import _mixtures
from mtds_sklearn.model._likelihood import LOG_2PI

# Nodes that the particles of a row are gathered on before quantiles are solved for.
MAX_NODES = 512
# Particles of a smaller weight have no part in quantiles: they may be anywhere.
LEAST_WEIGHT = 1e-12
# Logarithms are taken of no smaller weights.
LEAST_LOGGED = 1e-300


class Forecast(NamedTuple):
    """Forecast of every row.

    Attributes
    ----------
    mean, std : ndarray of shape (n_rows, n_outputs)
        Of a new output, noise included; of its image if an `Image` was passed.
    quantiles : ndarray of shape (n_rows, n_outputs, n_levels)
    log_density : ndarray of shape (n_rows, n_outputs)
        Of the targets, in nats; NaN where there is none.
    """

    mean: np.ndarray
    std: np.ndarray
    quantiles: np.ndarray
    log_density: np.ndarray


class MixtureRows(NamedTuple):
    """Outputs of rows as mixtures of normals over particles.

    Attributes
    ----------
    yhat : ndarray of shape (n_rows, n_outputs, n_particles)
    variance : ndarray of shape (n_rows, n_outputs, n_particles) or (n_rows, n_outputs, 1)
        Given the particle.
    weights : ndarray of shape (n_mixtures, n_particles)
        Each row sums to 1.
    owner : ndarray of int, shape (n_rows,)
        Which of the weights are those of a row.
    """

    yhat: np.ndarray
    variance: np.ndarray
    weights: np.ndarray
    owner: np.ndarray


def mixture_forecast(
    rows: MixtureRows, levels: np.ndarray, targets: np.ndarray, image: Image | None = None
) -> Forecast:
    """Moments, quantiles and log density of rows.

    Parameters
    ----------
    targets : ndarray of shape (n_rows, n_outputs)
        NaN where no log density is wanted.
    image : Image, optional
        As in `forecast_rows`.
    """
    moments = _moments(rows) if image is None else _image_moments(rows, image)
    return Forecast(*moments, _quantiles(rows, levels), _log_density(rows, targets))


def _moments(rows: MixtureRows) -> tuple:
    mean, spread = np.empty(rows.yhat.shape[:2]), np.empty(rows.yhat.shape[:2])
    _mixtures.mixture_moments(*rows, mean, spread)
    return mean, np.sqrt(spread)


def _image_moments(rows: MixtureRows, image: Image) -> tuple:
    return image_moments(rows.yhat, rows.weights[rows.owner], rows.variance, image)


def _log_density(rows: MixtureRows, targets: np.ndarray) -> np.ndarray:
    out = np.full(targets.shape, np.nan)
    wanted = np.flatnonzero(np.isfinite(targets).any(axis=1))
    if len(wanted) == 0:
        return out
    yhat, variance = rows.yhat[wanted], rows.variance[wanted]
    exponent = (targets[wanted, :, None] - yhat) ** 2 / (-2.0 * variance)
    log_weights = np.log(np.maximum(rows.weights, LEAST_LOGGED))
    exponent += log_weights[rows.owner[wanted], None] - 0.5 * (np.log(variance) + LOG_2PI)
    top = exponent.max(axis=2)
    out[wanted] = top + np.log(np.sum(np.exp(exponent - top[..., None]), axis=2))
    return out


def _quantiles(rows: MixtureRows, levels: np.ndarray) -> np.ndarray:
    out = np.empty((*rows.yhat.shape[:2], len(levels)))
    if out.size:
        scores = np.stack([levels, ndtri(levels)])
        parts = (rows.yhat, np.sqrt(rows.variance), rows.weights, rows.owner)
        _mixtures.mixture_quantiles(*parts, scores, (MAX_NODES, LEAST_WEIGHT), out)
    return out
