"""The posterior p(z | y) of new sequences by adaptive mixture importance sampling.

Everything happens in the coordinates v of `_coordinates`, where the prior is N(0, I), or a mixture
of Gaussians. The first round weights quasi-random draws of the prior. Every further round draws
from the latest proposal and weights the points of the first and the latest rounds by the
deterministic mixture of their proposals (Cornuet et al. 2012),

    w(v) = p(y | v) p(v) / mean_r q_r(v),

so that no point weighs much that any proposal could have found. Until enough points are effective a
new proposal is fitted to the weighted points (Cappe et al. 2008; `_proposals`). The evidence is
the mean of the weights.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._coordinates import Coordinates, latents, normal_scores, prior_points
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.inference._draws import MAX_ROUNDS, Draws
from mtds_sklearn.inference._mixture import (
    Mixture,
    density,
    draw,
    effective_sample_size,
    select_mixture,
    systematic,
)
from mtds_sklearn.inference._proposals import PRIOR_WEIGHT, first_proposal, next_proposal
from mtds_sklearn.inference._target import (
    Target,
    log_likelihoods,
    log_prior,
    make_target,
    select_target,
)
from mtds_sklearn.model._task_map import Family

# Inference ends when this share of the draws of one round is effective: a smaller share often
# means that a tail is still to be found. After some rounds it ends as well when so many times the
# draws of a round are effective together.
TARGET_SHARE, PATIENCE, TARGET_TOGETHER = 0.75, 6, 1.5
# Moments that are right to 1 % of a standard deviation need this many, and so a second good round,
# unless so many of one are effective that the posterior is nearly what was drawn.
LEAST_TOGETHER, SHARE_ALONE = 1.25, 0.95
# Where the first proposals are given, a smaller share says that they missed the posterior.
LOST_SHARE = 0.05
# A proposal misses what it draws so many times too seldom; rounds go on, and the last one is not
# used alone, while it misses more than such a share of the posterior.
RARE, MOST_MISSED = 20.0, 2e-4
# Rounds whose points are used together.
WINDOW = 4
# Sequences that are worked on together: their points stay in the cache.
CHUNK_SEQUENCES = 16


class Posterior(NamedTuple):
    """Weighted points of p(z | y) of N sequences.

    Attributes
    ----------
    z : ndarray of shape (n_sequences, n_draws, k)
    log_weights : ndarray of shape (n_sequences, n_draws)
        Normalised.
    log_evidence : ndarray of shape (n_sequences,)
        log p(y), in nats.
    ess : ndarray of shape (n_sequences,)
        Effective sample size of all the points that moments and evidence rest on, which may be
        more than are kept.
    mean : ndarray of shape (n_sequences, k)
    cov : ndarray of shape (n_sequences, k, k)
    """

    z: np.ndarray
    log_weights: np.ndarray
    log_evidence: np.ndarray
    ess: np.ndarray
    mean: np.ndarray
    cov: np.ndarray


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


def infer(
    sequences: PackedSequences, family: Family, draws: Draws, near: tuple | None = None
) -> Posterior:
    """Posterior of every sequence given its observed values.

    Parameters
    ----------
    sequences : PackedSequences
        Standardised.
    family : Family
    draws : Draws
    near : tuple of z (n_sequences, n_points, k) and log weights (n_sequences, n_points), optional
        Weighted points near the posteriors; by default they are searched for.

    Returns
    -------
    posterior : Posterior
    """
    target = make_target(with_gap_weights(sequences, family), family)
    parts = []
    for start in range(0, len(sequences.labels), CHUNK_SEQUENCES):
        index = np.arange(start, min(start + CHUNK_SEQUENCES, len(sequences.labels)))
        given = None if near is None else tuple(array[index] for array in near)
        parts.append(_infer(select_target(target, index), draws, given))
    return Posterior(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _infer(target: Target, draws: Draws, near: tuple | None) -> Posterior:
    n, n_draws = len(target.sequences.labels), len(draws.points)
    out, active = _empty_posterior(n, draws), np.arange(n)
    pool, proposal = _prior_pool(target, draws), None
    for round_ in range(MAX_ROUNDS + 1):
        if proposal is not None:
            pool = _sample(pool, proposal, target, draws, round_)
        log_weights = _log_weights(pool)
        share = effective_sample_size(_last_log_weights(pool, n_draws)) / n_draws
        together = effective_sample_size(log_weights) / n_draws
        enough = (share >= SHARE_ALONE) | (together >= LEAST_TOGETHER) | (near is not None)
        enough &= share >= TARGET_SHARE
        done = enough & (_missed(pool) <= MOST_MISSED)
        done |= round_ == MAX_ROUNDS
        done |= (together >= TARGET_TOGETHER) & (round_ >= PATIENCE)
        _settle(out, active[done], _summary(_select(pool, done), target.coordinates, draws))
        lost = ~done & (share < LOST_SHARE)
        if near is not None and round_ == 1 and lost.any():
            anew = select_target(target, np.flatnonzero(lost))
            _settle(out, active[lost], _infer(anew, draws, None))
            done |= lost
        if done.all():
            break
        go = np.flatnonzero(~done)
        active, pool, target = active[go], _select(pool, go), select_target(target, go)
        if round_ > 0:
            proposal = next_proposal(pool.v, log_weights[go], target)
        elif near is None:
            proposal = first_proposal(pool.v, log_weights[go], target)
        else:
            v = normal_scores(target.coordinates, np.swapaxes(near[0][go], 1, 2))
            proposal = next_proposal(v[:, : pool.v.shape[1]], near[1][go], target, even=True)
    return out


def _empty_posterior(n: int, draws: Draws) -> Posterior:
    n_draws, k = draws.points.shape
    shapes = ((n, n_draws, k), (n, n_draws), (n,), (n,), (n, k), (n, k, k))
    return Posterior(*(np.empty(shape) for shape in shapes))


def _settle(out: Posterior, which: np.ndarray, found: Posterior) -> None:
    """Write what was found of the sequences `which`."""
    for whole, part in zip(out, found, strict=True):
        whole[which] = part


def _prior_pool(target: Target, draws: Draws) -> Pool:
    """Draws of the prior, the same for all sequences."""
    points = np.ascontiguousarray(prior_points(target.coordinates, draws))
    v = np.repeat(points[None], len(target.sequences.labels), axis=0)
    log_p = log_prior(v, target)
    prior = np.exp(log_p)
    return Pool(v, log_likelihoods(v, target) + log_p, prior, (None,), prior[None])


def _sample(pool: Pool, proposal: Mixture, target: Target, draws: Draws, round_: int) -> Pool:
    """The pool with one more round."""
    k, n_draws = pool.v.shape[1], len(draws.points)
    normal = draws.normal[round_, :k]
    from_prior = prior_points(target.coordinates, draws, round_, PRIOR_WEIGHT)
    v = draw(proposal, draws.component[round_], normal, draws.scale[round_], from_prior)
    log_p = log_prior(v, target)
    prior = np.exp(log_p)
    value = log_likelihoods(v, target) + log_p
    if len(pool.proposals) == WINDOW:
        pool = _without_second_round(pool, n_draws)
    proposals = (*pool.proposals, proposal)
    there = [*pool.densities, density(proposal, pool.v, pool.prior)]
    here = [prior if q is None else density(q, v, prior) for q in proposals]
    return Pool(
        np.concatenate([pool.v, v], axis=2),
        np.concatenate([pool.log_target, value], axis=1),
        np.concatenate([pool.prior, prior], axis=1),
        proposals,
        np.concatenate([np.stack(there), np.stack(here)], axis=2),
    )


def _without_second_round(pool: Pool, n_draws: int) -> Pool:
    """The first stays: draws of the prior hold down the weights of what all proposals miss."""
    keep = np.r_[0:n_draws, 2 * n_draws : pool.v.shape[2]]
    proposals = pool.proposals[:1] + pool.proposals[2:]
    densities = np.delete(pool.densities, 1, axis=0)[:, :, keep]
    parts = (pool.v[:, :, keep], pool.log_target[:, keep], pool.prior[:, keep])
    return Pool(*parts, proposals, densities)


def _select(pool: Pool, index: np.ndarray) -> Pool:
    """The pool of some of the sequences."""
    proposals = tuple(None if q is None else select_mixture(q, index) for q in pool.proposals)
    parts = (pool.v[index], pool.log_target[index], pool.prior[index])
    return Pool(*parts, proposals, pool.densities[:, index])


def _log_weights(pool: Pool) -> np.ndarray:
    """Log weights of all points, by the deterministic mixture of the proposals."""
    return pool.log_target - np.log(pool.densities.mean(axis=0))


def _last_log_weights(pool: Pool, n_draws: int) -> np.ndarray:
    """Log weights of the last round by itself."""
    return pool.log_target[:, -n_draws:] - np.log(pool.densities[-1, :, -n_draws:])


def _summary(pool: Pool, coordinates: Coordinates, draws: Draws) -> Posterior:
    """Moments and evidence from all points of the pool, and n_draws of them to keep."""
    (n, k, n_points), n_draws = pool.v.shape, len(draws.points)
    log_weights = _log_weights(pool)
    top = log_weights.max(axis=1, keepdims=True)
    weights = np.exp(log_weights - top)
    evidence = (top + np.log(weights.mean(axis=1, keepdims=True)))[:, 0]
    weights /= weights.sum(axis=1, keepdims=True)
    # Coordinates that move nothing keep their prior, whatever the weights.
    still = np.repeat(np.tile(draws.normal[0, k:], n_points // n_draws)[None], n, axis=0)
    z = latents(coordinates, np.concatenate([pool.v, still], axis=1))
    mean = z @ weights[:, :, None]
    centred = z - mean
    cov = (centred * weights[:, None]) @ np.swapaxes(centred, 1, 2)
    kept, kept_weights = _last_or_resampled(z, weights, pool)
    return Posterior(
        np.ascontiguousarray(np.swapaxes(kept, 1, 2)),
        np.log(np.maximum(kept_weights, 1e-300)),
        evidence,
        effective_sample_size(log_weights),
        mean[:, :, 0],
        cov,
    )


def _missed(pool: Pool) -> np.ndarray:
    """Share of the posterior, judged by all rounds, that the last proposal hardly draws."""
    log_weights = _log_weights(pool)
    top = log_weights.max(axis=1, keepdims=True)
    weights = np.exp(log_weights - top)
    log_evidence = top + np.log(weights.mean(axis=1, keepdims=True))
    rare = pool.log_target - np.log(pool.densities[-1]) > np.log(RARE) + log_evidence
    return np.sum(weights * rare, axis=1) / weights.sum(axis=1)


def _last_or_resampled(z: np.ndarray, weights: np.ndarray, pool: Pool) -> tuple:
    """The points of the last round where they are good alone, else points resampled from all."""
    n_draws = z.shape[2] // len(pool.proposals)
    last_log_weights = _last_log_weights(pool, n_draws)
    last = np.exp(last_log_weights - last_log_weights.max(axis=1, keepdims=True))
    last /= last.sum(axis=1, keepdims=True)
    points = z[:, :, -n_draws:].copy()
    poor = effective_sample_size(last_log_weights) < TARGET_SHARE * n_draws
    # A mode that earlier rounds found can be missing from the last without a trace in its weights.
    poor |= _missed(pool) > MOST_MISSED
    if poor.any():
        points[poor], last[poor] = _resampled(z[poor], weights[poor], n_draws)
    return points, last


def _resampled(z: np.ndarray, weights: np.ndarray, n_draws: int) -> tuple:
    """Weighted points drawn from all, light ones more often than their weight says.

    A rare mode far away can make half of the variance of a forecast: it must be many points. Half
    of the chance follows the weights, so that no point weighs more than two.
    """
    roots = np.sqrt(weights)
    chance = 0.5 * (weights + roots / roots.sum(axis=1, keepdims=True))
    picks = systematic(chance, n_draws)
    kept = np.take_along_axis(weights, picks, axis=1) / np.take_along_axis(chance, picks, axis=1)
    points = np.take_along_axis(z, picks[:, None], axis=2)
    return points, kept / kept.sum(axis=1, keepdims=True)
