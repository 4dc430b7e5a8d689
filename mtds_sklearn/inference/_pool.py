"""Points of several rounds of draws, and what they say of the posteriors together.

Points are weighted by the deterministic mixture of the proposals of all rounds (Cornuet et al.
2012): none weighs much that any proposal could have found.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn.inference._coordinates import prior_points
from mtds_sklearn.inference._draws import Draws
from mtds_sklearn.inference._mixture import (
    Mixture,
    density,
    draw,
    select_mixture,
    systematic,
)
from mtds_sklearn.inference._target import Target, log_likelihoods, log_prior, n_posteriors

# Rounds whose points are used together: the first, the second and the latest.
WINDOW = 4
# A last round is good by itself where such a share of its draws is effective, and
TARGET_SHARE = 0.6
# where its proposal misses (draws so many times too seldom) no more than a share of the posterior.
RARE, MOST_MISSED = 20.0, 2e-4


class Pool(NamedTuple):
    """Points of some rounds.

    Attributes
    ----------
    v : ndarray of shape (n_sequences, k, n_points)
    log_target : ndarray of shape (n_sequences, n_points)
    prior : ndarray of shape (n_sequences, n_points)
        p(v).
    proposals : tuple of (Mixture or None)
        One a round; None is the prior.
    densities : ndarray of shape (n_rounds, n_sequences, n_points)
        Of every proposal at every point.
    """

    v: np.ndarray
    log_target: np.ndarray
    prior: np.ndarray
    proposals: tuple
    densities: np.ndarray


class Weighed(NamedTuple):
    """What a pool says of the posteriors.

    Attributes
    ----------
    weights : ndarray of shape (n_sequences, n_points)
        By the deterministic mixture; normalised.
    last : ndarray of shape (n_sequences, n_draws)
        Weights of the last round by itself, normalised.
    log_evidence : ndarray of shape (n_sequences,)
    good : ndarray of bool, shape (n_sequences,)
        Whether the last round can do without the others.
    """

    weights: np.ndarray
    last: np.ndarray
    log_evidence: np.ndarray
    good: np.ndarray


def select_weighed(weighed: Weighed, index: np.ndarray) -> Weighed:
    """What a pool says of some of the posteriors."""
    return Weighed(*(part[index] for part in weighed))


def prior_pool(target: Target, draws: Draws) -> Pool:
    """Draws of the prior, the same for all sequences."""
    points = prior_points(target.coordinates, draws.points.T, draws.component)
    v = np.repeat(np.ascontiguousarray(points)[None], n_posteriors(target), axis=0)
    log_p = log_prior(v, target)
    prior = np.exp(log_p)
    return Pool(v, log_likelihoods(v, target) + log_p, prior, (None,), prior[None])


def draw_round(proposal: Mixture, numbers: tuple, target: Target) -> tuple:
    """Points of a proposal.

    Parameters
    ----------
    numbers : tuple of component (n_points,), normal (latent_dim, n_points) and scale (n_points,)
        As of `make_numbers`.

    Returns
    -------
    v : ndarray of shape (n_sequences, k, n_points)
    log_target, prior : ndarray of shape (n_sequences, n_points)
    """
    component, normal, scale = numbers
    share = float(proposal.weights[0, 0])
    from_prior = prior_points(target.coordinates, normal, component, share)
    v = draw(proposal, component, normal[: target.coordinates.n_moving], scale, from_prior)
    log_p = log_prior(v, target)
    return v, log_likelihoods(v, target) + log_p, np.exp(log_p)


def add_round(pool: Pool, proposal: Mixture, target: Target, draws: Draws, round_: int) -> Pool:
    """The pool with one more round."""
    numbers = (draws.component, draws.normal[round_], draws.scale[round_])
    drawn = draw_round(proposal, numbers, target)
    if len(pool.proposals) == WINDOW:
        pool = _without_third_round(pool, len(draws.points))
    return joined(pool, proposal, drawn)


def joined(pool: Pool, proposal: Mixture, drawn: tuple) -> Pool:
    """The pool with what was `drawn` from one more proposal, as of `draw_round`."""
    v, log_target, prior = drawn
    proposals = (*pool.proposals, proposal)
    there = [*pool.densities, density(proposal, pool.v, pool.prior)]
    here = [prior if q is None else density(q, v, prior) for q in proposals]
    return Pool(
        np.concatenate([pool.v, v], axis=2),
        np.concatenate([pool.log_target, log_target], axis=1),
        np.concatenate([pool.prior, prior], axis=1),
        proposals,
        np.concatenate([np.stack(there), np.stack(here)], axis=2),
    )


def _without_third_round(pool: Pool, n_draws: int) -> Pool:
    """The first two stay, so that nothing they found is lost without a trace.

    Draws of the prior hold down the weights of what all proposals miss. Those of the first proposal
    are at every mode of the search, also at light ones that a fit to weighted points leaves out.
    """
    keep = np.r_[0 : 2 * n_draws, 3 * n_draws : pool.v.shape[2]]
    proposals = pool.proposals[:2] + pool.proposals[3:]
    densities = np.delete(pool.densities, 2, axis=0)[:, :, keep]
    parts = (pool.v[:, :, keep], pool.log_target[:, keep], pool.prior[:, keep])
    return Pool(*parts, proposals, densities)


def select_pool(pool: Pool, index: np.ndarray) -> Pool:
    """The pool of some of the sequences."""
    if len(index) == len(pool.v):
        return pool
    proposals = tuple(None if q is None else select_mixture(q, index) for q in pool.proposals)
    parts = (pool.v[index], pool.log_target[index], pool.prior[index])
    return Pool(*parts, proposals, pool.densities[:, index])


def weigh(pool: Pool, n_draws: int) -> Weighed:
    """Weights of all points, by the deterministic mixture of the proposals."""
    mixture = pool.densities.mean(axis=0)
    top = pool.log_target.max(axis=1, keepdims=True)
    target = np.exp(pool.log_target - top)
    weights, total = _normalised(target / mixture)
    last, _ = _normalised(target[:, -n_draws:] / pool.densities[-1, :, -n_draws:])
    # target / evidence = weights x number of points x mixture.
    posterior = target * (weights.shape[1] / total)
    good = _is_good_alone(last, weights, posterior, pool.densities[-1])
    return Weighed(weights, last, top[:, 0] + np.log(total[:, 0] / weights.shape[1]), good)


def _normalised(weights: np.ndarray) -> tuple:
    """Weights that sum to one, and their sums (n_sequences, 1) before.

    A round of which nothing is left beside the others has one effective draw.
    """
    total = weights.sum(axis=1, keepdims=True)
    nothing = total[:, 0] == 0.0
    if nothing.any():
        total[nothing], weights[nothing, 0] = 1.0, 1.0
    return weights / total, total


def log_weights(pool: Pool) -> np.ndarray:
    """Logarithms (n_sequences, n_points) of the weights that `weigh` normalises."""
    return pool.log_target - np.log(pool.densities.mean(axis=0))


def effective_size(weights: np.ndarray) -> np.ndarray:
    """Effective sample sizes (n_sequences,) of normalised weights."""
    return 1.0 / np.einsum("ns,ns->n", weights, weights)


def _is_good_alone(last, weights, posterior, density) -> np.ndarray:
    """Whether the last round can do without the others, bool (n_sequences,).

    Its own weights say how even it is where it drew; what it missed, a mode that earlier rounds
    found, leaves no trace in them. That is the share of the `posterior` (n_sequences, n_points),
    judged by all rounds, that the last proposal hardly draws; `density` is that of its draws.
    """
    even = effective_size(last) >= TARGET_SHARE * last.shape[1]
    missed = np.sum(weights * (posterior > RARE * density), axis=1)
    return even & (missed <= MOST_MISSED)


def last_or_resampled(pool: Pool, weighed: Weighed) -> tuple:
    """The points of the last round where they are good alone, else points resampled from all.

    Returns v (n_sequences, k, n_draws) and their normalised weights (n_sequences, n_draws).
    """
    n_draws = weighed.last.shape[1]
    points, weights = pool.v[:, :, -n_draws:].copy(), weighed.last.copy()
    poor = ~weighed.good
    if poor.any():
        points[poor], weights[poor] = _resampled(pool.v[poor], weighed.weights[poor], n_draws)
    # Forecasts of a point without weight may be infinite: it stands where the best one is.
    best = np.take_along_axis(points, np.argmax(weights, axis=1)[:, None, None], axis=2)
    return np.where(weights[:, None] > 0.0, points, best), weights


def _resampled(v: np.ndarray, weights: np.ndarray, n_draws: int) -> tuple:
    """Weighted points drawn from all, light ones more often than their weight says.

    A rare mode far away can make half of the variance of a forecast: it must be many points. Half
    of the chance follows the weights, so that no point weighs more than two.
    """
    roots = np.sqrt(weights)
    chance = 0.5 * (weights + roots / roots.sum(axis=1, keepdims=True))
    picks = systematic(chance, n_draws)
    kept = np.take_along_axis(weights, picks, axis=1) / np.take_along_axis(chance, picks, axis=1)
    points = np.take_along_axis(v, picks[:, None], axis=2)
    return points, kept / kept.sum(axis=1, keepdims=True)
