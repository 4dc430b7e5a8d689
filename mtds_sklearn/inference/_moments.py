"""Mean, covariance and evidence of one posterior, far closer than forecasts need them.

Forecasts rest on some thousand points where the posterior has its mass. Second moments do not: a
tail or a side mode of a thousandth of the mass, ten standard deviations away, makes a tenth of a
variance, and the draws there are few. So proposals are fitted to the points weighted by

    w (1 + d^2 / k),    d^2 = (z - mean)' cov^-1 (z - mean),

which is, up to a constant, the proposal of least variance for second moments (importance sampling
draws best in proportion to the absolute value of what is integrated). More components and a larger
share of the prior than in `_adaptive_is` let some of them stand in the tails. Batches of
quasi-random points, each component's share drawn from its own part of them, are weighted by the
last proposal alone, until the spread of the batches says that every moment is known.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._coordinates import Coordinates, latents, normal_scores
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.inference._draws import make_numbers
from mtds_sklearn.inference._mixture import Mixture, density
from mtds_sklearn.inference._pool import draw_round
from mtds_sklearn.inference._proposals import Fit, log_reach, next_proposal
from mtds_sklearn.inference._target import Target, make_target
from mtds_sklearn.model._latent_prior import NODES, log_normal_density
from mtds_sklearn.model._task_map import Family

FIT = Fit(n_components=40, prior_weight=0.2, reach=0.0)
# Points of each of the fits that come before the last proposal, and of each batch.
FITS, FIT_DRAWS = 4, 8192
BATCH_DRAWS, LEAST_BATCHES, MOST_BATCHES = 8192, 4, 16
# Standard errors of the moments, in standard deviations, at which the batches end.
TARGET_ERROR = 0.003


class Moments(NamedTuple):
    """Of the posterior of one sequence.

    Attributes
    ----------
    mean : ndarray of shape (k,)
    cov : ndarray of shape (k, k)
    log_evidence : float
        log p(y), in nats.
    """

    mean: np.ndarray
    cov: np.ndarray
    log_evidence: float


def accurate_moments(sequence: PackedSequences, family: Family, seed: int, near: tuple) -> Moments:
    """Moments of the posterior of one sequence, standardised.

    Parameters
    ----------
    near : tuple of z (n_points, k) and normalised log weights (n_points,)
        Weighted points of the posterior, such as those of `infer`.
    """
    target = make_target(with_gap_weights(sequence, family), family)
    k = target.coordinates.n_moving
    v = normal_scores(target.coordinates, near[0].T[None])[:, :k]
    proposal = _wide_proposal(v, near[1][None], target)
    for number in range(FITS):
        v, log_weights = _weighted(proposal, target, (k, seed + number, FIT_DRAWS))
        proposal = _wide_proposal(v, log_weights, target)
    batches = []
    for number in range(FITS, FITS + MOST_BATCHES):
        batches.append(_weighted(proposal, target, (k, seed + number, BATCH_DRAWS)))
        if len(batches) >= LEAST_BATCHES and _error(batches, target) < TARGET_ERROR:
            break
    moments = _moments(batches, target)
    mean, cov = _of_still_coordinates(target.coordinates)
    return moments._replace(mean=moments.mean + mean, cov=moments.cov + cov)


def _wide_proposal(v: np.ndarray, log_weights: np.ndarray, target: Target) -> Mixture:
    """A mixture fitted to weighted points, those whose z are far out counted more."""
    z = latents(target.coordinates, v)
    return next_proposal(v, log_weights + log_reach(z, log_weights), target, fit=FIT)


def _weighted(proposal: Mixture, target: Target, numbers: tuple) -> tuple:
    """Points (1, k, n_points) of the proposal and their log weights (1, n_points)."""
    v, log_target, prior = draw_round(proposal, make_numbers(*numbers), target)
    return v, log_target - np.log(density(proposal, v, prior))


def _moments(batches: list, target: Target) -> Moments:
    """Of all points of some batches, but for coordinates that move nothing."""
    v, log_weights = (np.concatenate(parts, axis=-1)[0] for parts in zip(*batches, strict=True))
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    evidence = float(top + np.log(weights.mean()))
    weights /= weights.sum()
    z = latents(target.coordinates, v[None])[0]
    mean = z @ weights
    centred = z - mean[:, None]
    return Moments(mean, (centred * weights) @ centred.T, evidence)


def _error(batches: list, target: Target) -> float:
    """Largest standard error of a moment, by the spread of the batches, in standard deviations."""
    parts = [_moments([batch], target) for batch in batches]
    cov = np.mean([part.cov for part in parts], axis=0)
    std = np.sqrt(np.diag(cov))
    means = [part.mean / std for part in parts]
    covs = [part.cov / np.outer(std, std) for part in parts]
    spread = max(np.std(values, axis=0, ddof=1).max() for values in (means, covs))
    return spread / np.sqrt(len(batches))


def _of_still_coordinates(coordinates: Coordinates) -> tuple:
    """Mean (latent_dim,) and covariance that coordinates add whose posterior is their prior."""
    n_moving = coordinates.n_moving
    probability = np.exp(log_normal_density(NODES))
    probability /= probability.sum()
    still = coordinates.way.tables[n_moving:]
    mean = still @ probability
    variance = (still - mean[:, None]) ** 2 @ probability
    axes = coordinates.axes[:, n_moving:]
    return axes @ mean, (axes * variance) @ axes.T
