"""Mean, covariance and evidence of one posterior, far closer than forecasts need them.

Forecasts rest on some thousand points where the posterior has its mass. Second moments do not: a
tail or a side mode of a thousandth of the mass, ten standard deviations away, makes a tenth of a
variance, and the draws there are few. So proposals are fitted to the points weighted by

    w (1 + d^2 / k),    d^2 = (z - mean)' cov^-1 (z - mean),

which is, up to a constant, the proposal of least variance for second moments (importance sampling
draws best in proportion to the absolute value of what is integrated). More components and a larger
share of the prior than in `_adaptive_is` let some of them stand in the tails. Then comes a stage of
a few batches of quasi-random points, each component's share drawn from its own part of them. Where
the spread of the batches says that a moment is not known, since some points far out weigh more than
they would if the proposal drew there often enough, a proposal is fitted to all points of the stages
so far, and another stage follows. Points are weighted by the deterministic mixture of the stages'
proposals (Cornuet et al. 2012).
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._coordinates import Coordinates, latents, normal_scores
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.inference._draws import make_numbers
from mtds_sklearn.inference._mixture import Mixture, density
from mtds_sklearn.inference._pool import Pool, draw_round, joined, log_weights
from mtds_sklearn.inference._proposals import Fit, log_reach, next_proposal
from mtds_sklearn.inference._specific import draws_given, mean_covariance
from mtds_sklearn.inference._target import Target, departures_at, make_target
from mtds_sklearn.model._latent_prior import NODES, log_normal_density
from mtds_sklearn.model._task_map import Family

FIT = Fit(n_components=40, prior_weight=0.2, reach=0.0)
# Points of each of the fits that come before the first stage, and of each batch.
FITS, FIT_DRAWS = 4, 8192
BATCH_DRAWS, STAGE_BATCHES, MOST_STAGES = 8192, 4, 4
# Standard errors of the moments, in standard deviations, at which the stages end.
TARGET_ERROR = 0.0025


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
    z = near[0][:, : len(target.coordinates.axes)]
    v = normal_scores(target.coordinates, z.T[None])[:, :k]
    proposal = _wide_proposal(v, near[1][None], target)
    for number in range(FITS):
        v, weights = _weighted(proposal, target, (k, seed + number, FIT_DRAWS))
        proposal = _wide_proposal(v, weights, target)
    stages = None
    for number in range(MOST_STAGES):
        stages = _with_stage(stages, proposal, target, (k, seed + FITS + number * STAGE_BATCHES))
        weights = log_weights(stages)
        if _error(stages.v[0], weights[0], target) < TARGET_ERROR:
            break
        proposal = _wide_proposal(stages.v, weights, target)
    moments = _moments(stages.v[0], weights[0], target)
    mean, cov = _of_still_coordinates(target.coordinates)
    k = len(mean)  # the latents of specific variances, integrated out, come after these
    moments.mean[:k] += mean
    moments.cov[:k, :k] += cov
    return moments


def _wide_proposal(v: np.ndarray, log_weights: np.ndarray, target: Target) -> Mixture:
    """A mixture fitted to weighted points, those whose z are far out counted more."""
    z = latents(target.coordinates, v)
    return next_proposal(v, log_weights + log_reach(z, log_weights), target, fit=FIT)


def _weighted(proposal: Mixture, target: Target, numbers: tuple) -> tuple:
    """Points (1, k, n_points) of the proposal and their log weights (1, n_points)."""
    v, log_target, prior = draw_round(proposal, make_numbers(*numbers), target)
    return v, log_target - np.log(density(proposal, v, prior))


def _with_stage(stages: Pool | None, proposal: Mixture, target: Target, numbers: tuple) -> Pool:
    """The stages and one more, of points from numbers of latent_dim and the first seed."""
    latent_dim, seed = numbers
    batches = [
        draw_round(proposal, make_numbers(latent_dim, seed + batch, BATCH_DRAWS), target)
        for batch in range(STAGE_BATCHES)
    ]
    drawn = tuple(np.concatenate(parts, axis=-1) for parts in zip(*batches, strict=True))
    if stages is None:
        v, _, prior = drawn
        return Pool(*drawn, (proposal,), density(proposal, v, prior)[None])
    return joined(stages, proposal, drawn)


def _moments(v: np.ndarray, log_weights: np.ndarray, target: Target) -> Moments:
    """Of weighted points v (k, n_points), but for coordinates that move nothing."""
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    evidence = float(top + np.log(weights.mean()))
    weights /= weights.sum()
    z, spread = _latents_given(v[None], weights[None], target)
    mean = z @ weights
    centred = z - mean[:, None]
    return Moments(mean, (centred * weights) @ centred.T + spread, evidence)


def _latents_given(v: np.ndarray, weights: np.ndarray, target: Target) -> tuple:
    """All latents (k, n_points) at their means given v, and the mean of their covariance."""
    z = latents(target.coordinates, v)[0]
    if target.along is None:
        return z, 0.0
    found = departures_at(v, target)
    z = np.concatenate([z, draws_given(found, np.zeros(1))[0]])
    m = len(target.along.std)
    spread = np.zeros((len(z), len(z)))
    spread[-m:, -m:] = mean_covariance(found, weights)[0]
    return z, spread


def _error(v: np.ndarray, log_weights: np.ndarray, target: Target) -> float:
    """Largest standard error of a moment, by the spread of the batches, in standard deviations.

    A batch of one stage is taken together with those of the same number of the others.
    """
    v = v.reshape(len(v), -1, STAGE_BATCHES, BATCH_DRAWS)
    log_weights = log_weights.reshape(v.shape[1:])
    parts = [
        _moments(v[:, :, batch].reshape(len(v), -1), log_weights[:, batch].ravel(), target)
        for batch in range(STAGE_BATCHES)
    ]
    cov = np.mean([part.cov for part in parts], axis=0)
    std = np.sqrt(np.diag(cov))
    means = [part.mean / std for part in parts]
    covs = [part.cov / np.outer(std, std) for part in parts]
    spread = max(np.std(values, axis=0, ddof=1).max() for values in (means, covs))
    return spread / np.sqrt(STAGE_BATCHES)


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
